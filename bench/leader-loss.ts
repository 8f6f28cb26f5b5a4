/**
 * What the loss of a leader costs, and what handing over costs, on real processes under load:
 * `npm run bench -- leader-loss [--rounds 20] [--delays 0,20±10] [--tick 50] [--election 10] [--heartbeat 1] [--json]`.
 *
 * Each round kills the leader and restarts it when another serves. Times are also given in election timeouts (ticks of
 * a tick's length): a follower waits for one to two of them before it stands, so with two survivors the median of the
 * first one's wait is 1.29 of them, before anything is sent.
 *
 * - election: from the kill until a node has written in its log that it leads.
 * - without commits: from the kill until the first acknowledgement of a transaction that a later term ordered.
 * - hand-over: longest time between two acknowledgements around a SIGTERM to the leader.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { ChainId } from '../chain/brands.ts'
import { nowMs, pause, type Spread, spreadOf } from '../cli/chaos-clock.ts'
import { type FullNode, fullNodesOf, rolesOf } from '../cli/chaos-faults.ts'
import { changeLinks } from '../cli/chaos-links.ts'
import { ChaosLoad } from '../cli/chaos-load.ts'
import { electionsSince } from '../cli/chaos-observation.ts'
import { longestGap } from '../cli/chaos-run.ts'
import { KeyDirectory } from '../client/key-directory.ts'
import { askControl, type ControlRequest } from '../devnet/control.ts'
import { type DevnetDescription, layout, readDescription } from '../devnet/layout.ts'
import { parseDelay } from '../devnet/link-faults.ts'
import { runMote } from '../test/support/mote-command.ts'

interface Timing {
  readonly tickMs: number
  readonly electionTimeoutTicks: number
  readonly heartbeatTicks: number
}

interface Row {
  readonly delay: string
  readonly rounds: number
  readonly electionMs: Spread
  readonly withoutCommitsMs: Spread
  readonly handOverMs: Spread
  /** Codes that clients met while leadership was handed over. */
  readonly handOverMet: Readonly<Record<string, number>>
  /** Terms that began without a fault. */
  readonly needlessElections: number
}

const writers = 8
/** Load between rounds. */
const calmMs = 1_000

export async function benchLeaderLoss(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: 'string', default: '20' },
      delays: { type: 'string', default: '0,20±10' },
      tick: { type: 'string', default: '50' },
      election: { type: 'string', default: '10' },
      heartbeat: { type: 'string', default: '1' },
      json: { type: 'boolean', default: false },
    },
  })
  const timing = {
    tickMs: Number(values.tick),
    electionTimeoutTicks: Number(values.election),
    heartbeatTicks: Number(values.heartbeat),
  }
  const loadBefore = loadavg()[0]
  const directory = mkdtempSync(join(tmpdir(), 'mote-leader-loss-'))
  const rows: Row[] = []
  try {
    const description = await startDevnet(directory, timing)
    for (const delay of values.delays.split(','))
      rows.push(await measure({ directory, description, delay, rounds: Number(values.rounds) }))
  } finally {
    await mote(directory, 'devnet', 'down')
    rmSync(directory, { recursive: true, force: true })
  }
  const machine = { cores: availableParallelism(), load: loadBefore, node: process.version }
  if (values.json) process.stdout.write(`${JSON.stringify({ machine, timing, rows })}\n`)
  else process.stdout.write(`${reportText(machine, timing, rows)}\n`)
}

async function mote(directory: string, ...args: string[]): Promise<void> {
  const { code, stderr } = await runMote(args, { MOTE_DIR: directory })
  if (code !== 0) throw new Error(`mote ${args.join(' ')}: exit ${code}\n${stderr}`)
}

/** Generates a devnet, sets the timing in its nodes' files, and starts it again. */
async function startDevnet(directory: string, timing: Timing): Promise<DevnetDescription> {
  const up = ['devnet', 'up', '--detach', '--seed', 'bench', '--lightweight', '0', '--devices', '0']
  await mote(directory, ...up)
  const description = await readDescription(directory)
  if (!description) throw new Error(`${directory}: no devnet`)
  await mote(directory, 'devnet', 'down')
  for (const { name, label } of description.nodes) {
    if (label !== 'full') continue
    const path = layout.nodeConfig(directory, name)
    const config = JSON.parse(readFileSync(path, 'utf8')) as object
    writeFileSync(path, JSON.stringify({ ...config, raft: timing }))
  }
  await mote(directory, ...up)
  return description
}

interface Measurement {
  readonly directory: string
  readonly description: DevnetDescription
  readonly delay: string
  readonly rounds: number
}

async function measure({ directory, description, delay, rounds }: Measurement): Promise<Row> {
  await changeLinks(description, { type: 'delay', nodes: [], ...parseDelay(delay) })
  const nodes = fullNodesOf(description)
  const ask = (request: ControlRequest) => askControl(description.controlSocket, request)
  const operator = await (await KeyDirectory.open(layout.operator(directory))).load('operator')
  const load = new ChaosLoad({
    sources: nodes.map(({ source }) => source),
    chainId: ChainId(description.chainId),
    operator,
    writers,
    racers: 0,
    groups: [],
  })
  const sinceMs = nowMs()
  const lost: { term: number; atMs: number; servedAtMs: number }[] = []
  const handOvers: number[] = []
  load.start()
  try {
    for (let round = 0; round < rounds; round++) {
      // A random part, so that kills do not keep step with heartbeats.
      await pause(calmMs + Math.random() * 200)
      const { leader, term } = await leaderOf(nodes)
      const atMs = nowMs()
      await ask({ command: 'signal', node: leader, signal: 'SIGKILL' })
      lost.push({ term, atMs, servedAtMs: await servedAfter(load, term) })
      await ask({ command: 'restart', node: leader })
      process.stderr.write(`\r${delay} ms: kill ${round + 1}/${rounds}`)
    }
    const metBefore = load.met
    for (let round = 0; round < rounds; round++) {
      await pause(calmMs + Math.random() * 200)
      const { leader, term } = await leaderOf(nodes)
      const fromMs = nowMs()
      await ask({ command: 'signal', node: leader, signal: 'SIGTERM' })
      await servedAfter(load, term)
      const untilMs = nowMs()
      await pause(calmMs / 4)
      handOvers.push(
        longestGap(
          load.acknowledged.map(({ atMs }) => atMs),
          { fromMs, untilMs },
        ) ?? 0,
      )
      await ask({ command: 'restart', node: leader })
      process.stderr.write(`\r${delay} ms: hand-over ${round + 1}/${rounds}`)
    }
    process.stderr.write('\n')
    await load.finish(30_000)
    const elections = await electionsSince(
      directory,
      nodes.map(({ name }) => name),
      sinceMs,
    )
    const wonAfter = ({ term }: { term: number }) =>
      elections.find(election => election.term > term)?.atMs ?? 0
    return {
      delay,
      rounds,
      electionMs: spreadOf(lost.map(each => wonAfter(each) - each.atMs)),
      withoutCommitsMs: spreadOf(lost.map(({ atMs, servedAtMs }) => servedAtMs - atMs)),
      handOverMs: spreadOf(handOvers),
      handOverMet: difference(load.met, metBefore),
      needlessElections: new Set(elections.map(({ term }) => term)).size - 2 * rounds,
    }
  } finally {
    await load.stop()
  }
}

async function leaderOf(
  nodes: readonly FullNode[],
): Promise<{ readonly leader: string; readonly term: number }> {
  const { leader, term } = await rolesOf(nodes)
  if (leader === undefined) throw new Error('no full node leads')
  return { leader, term }
}

/** When the first transaction of a later term was acknowledged. */
async function servedAfter({ acknowledged }: ChaosLoad, term: number): Promise<number> {
  const deadline = performance.now() + 30_000
  while (performance.now() < deadline) {
    if ((acknowledged.at(-1)?.term ?? 0) > term) return acknowledged.find(each => each.term > term)?.atMs ?? 0
    await pause(5)
  }
  throw new Error(`nothing acknowledged after term ${term}`)
}

function difference(
  after: Readonly<Record<string, number>>,
  before: Readonly<Record<string, number>>,
): Readonly<Record<string, number>> {
  return Object.fromEntries(
    Object.entries(after)
      .map(([code, count]) => [code, count - (before[code] ?? 0)] as const)
      .filter(([, count]) => count > 0),
  )
}

function reportText(
  { cores, load, node }: { readonly cores: number; readonly load: number | undefined; readonly node: string },
  { tickMs, electionTimeoutTicks, heartbeatTicks }: Timing,
  rows: readonly Row[],
): string {
  const timeoutMs = tickMs * electionTimeoutTicks
  const units = (ms: number | null): string =>
    ms === null ? '-' : `${ms} ms (${(ms / timeoutMs).toFixed(2)})`
  return [
    `3 full nodes, ${writers} writers, ${cores} cores, load ${load?.toFixed(1)} before, Node ${node}`,
    `heartbeat ${tickMs * heartbeatTicks} ms, election timeout ${timeoutMs} ms (in brackets: in election timeouts)`,
    ...rows.flatMap(
      ({ delay, rounds, electionMs, withoutCommitsMs, handOverMs, handOverMet, needlessElections }) => [
        `links delayed by ${delay} ms, ${rounds} kills and ${rounds} hand-overs:`,
        `  election         median ${units(electionMs.median)}, p99 ${units(electionMs.p99)}`,
        `  without commits  median ${units(withoutCommitsMs.median)}, p99 ${units(withoutCommitsMs.p99)}`,
        `  hand-over        median ${handOverMs.median} ms, p99 ${handOverMs.p99} ms; clients met ${JSON.stringify(handOverMet)}`,
        `  needless elections ${needlessElections}`,
      ],
    ),
  ].join('\n')
}
