/** One run: the gateway in a process of its own, attackers here, and what must hold of it. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { SeededRandom } from '../simulation/random.ts'
import { type AttackedGateway, type GatewayFigures, hostileNames } from './attacked-gateway.ts'
import { type AttackCounts, Attackers } from './attackers.ts'

export interface MalformedReport {
  readonly counts: AttackCounts
  /** Taken at even distances; the last one at the end. */
  readonly figures: readonly GatewayFigures[]
  readonly seconds: number
}

export interface MalformedOptions {
  readonly packets: number
  readonly seed: number
  readonly onFigures?: (sent: number, figures: GatewayFigures) => void
}

const gatewayProgram = new URL('./gateway-process.ts', import.meta.url)
/** The gateway is looked at so often, or after this many packets: each look collects its garbage. */
const partsMax = 20
const packetsPerPart = 100
const mebibyte = 1024 * 1024
/** What the gateway may have more of in the second half than in the first, where a run is long enough for halves. */
const growth = { factor: 1.15, heapBytes: 16 * mebibyte, rssBytes: 48 * mebibyte }
/** What it may have at all. */
const rssBytesMax = 700 * mebibyte

async function ask(child: ChildProcess, what: 'figures' | 'end'): Promise<GatewayFigures> {
  child.send(what)
  const [figures] = (await once(child, 'message')) as [GatewayFigures]
  return figures
}

/** Throws if the gateway's process ends by itself. */
export async function runMalformed({ packets, seed, onFigures }: MalformedOptions): Promise<MalformedReport> {
  const child = fork(gatewayProgram, [], {
    execArgv: ['--expose-gc'],
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  const exited = once(child, 'exit')
  const crashed = exited.then(([code, signal]) => {
    throw new Error(`the gateway's process ended: ${code ?? signal}`)
  })
  crashed.catch(() => {})
  try {
    const [started] = (await Promise.race([once(child, 'message'), crashed])) as [AttackedGateway]
    const attackers = await Attackers.make(started, hostileNames, new SeededRandom(seed, 'malformed'))
    const startedAt = performance.now()
    const figures: GatewayFigures[] = []
    const parts = Math.min(partsMax, Math.ceil(packets / packetsPerPart))
    for (let part = 1; part <= parts; part++) {
      await Promise.race([attackers.run(Math.ceil((packets * part) / parts)), crashed])
      const now = await Promise.race([ask(child, part === parts ? 'end' : 'figures'), crashed])
      figures.push(now)
      onFigures?.(attackers.total, now)
    }
    const seconds = (performance.now() - startedAt) / 1000
    // It clears up after itself.
    const [code, signal] = await exited
    if (code !== 0) throw new Error(`the gateway's process ended: ${code ?? signal}`)
    return { counts: attackers.counts, figures, seconds }
  } finally {
    child.kill()
    await exited
  }
}

/** What does not hold; empty if all is well. */
export function failuresOf({ counts, figures }: MalformedReport): readonly string[] {
  const last = figures.at(-1)
  if (!last) return ['no figures']
  const { honest, errors, lines } = last
  const logged = Object.entries(lines)
    .filter(([name]) => /^(message|boxes|ask|watch|vote|plain) /.test(name))
    .reduce((sum, [, count]) => sum + count, 0)
  const checks: readonly (readonly [boolean, string])[] = [
    [errors.length === 0, `thrown: ${errors.slice(0, 3).join('; ')}`],
    [honest.checked === honest.sent, `honest messages: ${honest.checked} of ${honest.sent} were checked`],
    [honest.read >= honest.sent - 1, `honest messages: ${honest.read} of ${honest.sent} were read`],
    [counts.answered === counts.sent.payload, `answered: ${counts.answered} of ${counts.sent.payload}`],
    [logged >= counts.toBeLogged, `decision log: ${logged} lines for ${counts.toBeLogged} payloads`],
    [(lines['cut malformed'] ?? 0) > 0, 'decision log: no line of a session that was cut'],
    [counts.ended > 0, 'no connection was ended for a packet'],
    [last.rssBytes < rssBytesMax, `memory: ${last.rssBytes} bytes`],
  ]
  return [...checks.filter(([holds]) => !holds).map(([, what]) => what), ...growthOf(figures)]
}

function growthOf(figures: readonly GatewayFigures[]): readonly string[] {
  // The first part warms up.
  const [, ...warm] = figures
  const half = warm.length >> 1
  return (['heapBytes', 'rssBytes'] as const).flatMap(name => {
    const most = (some: readonly GatewayFigures[]) => Math.max(...some.map(each => each[name]))
    const [before, after] = [most(warm.slice(0, half)), most(warm.slice(half))]
    return after <= before * growth.factor + growth[name] ? [] : [`${name}: ${before}, then ${after}`]
  })
}
