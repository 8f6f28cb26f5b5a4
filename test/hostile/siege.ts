/**
 * A cluster of real processes with clients that work all the time, and what they see before, while and after somebody is
 * hostile. `MOTE_SIEGE_SECONDS` is how long each of the three is measured; unless given it is short enough for every test run.
 */

import { LoadClients } from '../../bench/load-clients.ts'
import {
  type ClusterNode,
  type ClusterOptions,
  createCluster,
  type LocalCluster,
} from '../../bench/local-cluster.ts'
import { Deadline, pause } from '../../client/deadline.ts'
import { multiaddrOf } from '../../devnet/chaos/hostile/coordination.ts'
import type { Address } from '../../devnet/layout.ts'
import { readNodeConfig } from '../../node/config.ts'
import type { PeerAddress } from '../../node/ports.ts'

const givenSeconds = process.env['MOTE_SIEGE_SECONDS']
/** How long it is measured while somebody is hostile. */
export const phaseMs = 1_000 * Number(givenSeconds ?? 1.5)
/** And before, and after. */
const quietMs = givenSeconds === undefined ? 500 : phaseMs
/** A siege by all at once begins when every peer is at work, which takes longer than a short phase. */
export const isLong = phaseMs >= 5_000
const clientCount = 2
/** An attack that takes longer to begin has failed. */
const beginsWithinMs = 20_000

/** What is measured for so long: how long each of the answers took, in milliseconds. */
type Measurement = (forMs: number) => Promise<readonly number[]>

/** Goes on until the signal fires. */
type Attack = (over: AbortSignal) => Promise<void>

export interface Damage {
  readonly beforeMs: number
  readonly duringMs: number
  readonly afterMs: number
  /** Acknowledged while somebody was hostile. */
  readonly acknowledged: number
  /** What was measured after it. */
  readonly after: readonly number[]
}

export class Siege {
  readonly cluster: LocalCluster
  readonly #clients: LoadClients
  #latencies: number[] = []
  /** What was measured after the attack before this one. */
  #calm: readonly number[] | undefined

  private constructor(cluster: LocalCluster) {
    this.cluster = cluster
    this.#clients = new LoadClients({
      chainId: cluster.chainId,
      apis: cluster.nodes.map(({ api }) => api),
      devices: cluster.devices.slice(0, clientCount),
      wait: 'certified',
      thinkMs: 100,
      onAcknowledged: ({ latencyMs }) => this.#latencies.push(latencyMs),
    })
  }

  static async begin(options: Omit<ClusterOptions, 'devices'>): Promise<Siege> {
    const cluster = await createCluster({ ...options, devices: clientCount + 1 })
    await cluster.start()
    const siege = new Siege(cluster)
    await siege.#clients.start()
    return siege
  }

  /**
   * What the clients see around `attack`, which goes on until the signal says that it is over. After it they have as long as
   * it was measured to be served again; only then is it measured how fast. What was seen after the attack before this one is
   * what is seen before it.
   */
  async damageOf(what: string, attack: Attack, isUnderWay?: () => boolean): Promise<Damage> {
    const attackAndRecover: Attack = async over => {
      await attack(over)
      this.#latencies = []
      await new Deadline(phaseMs).until(() => this.#latencies.length > 0, 5)
    }
    const measure: Measurement = forMs => this.#measure(forMs)
    const damage = await measureDamage(what, { measure, before: this.#calm }, attackAndRecover, isUnderWay)
    this.#calm = damage.after
    return damage
  }

  async #measure(forMs: number): Promise<readonly number[]> {
    this.#latencies = []
    await pause(forMs)
    return this.#latencies
  }

  async end(): Promise<void> {
    await this.#clients.stop()
    await this.cluster.stop()
  }
}

/** Where these nodes listen for peers. */
export function portsOf(nodes: readonly ClusterNode[]): Promise<readonly Address[]> {
  return Promise.all(
    nodes.map(async ({ directory }) => {
      const { p2p } = await readNodeConfig(`${directory}/config.json`)
      if (!p2p) throw new Error(`${directory}: listens nowhere`)
      return p2p
    }),
  )
}

/** The same, to be dialled. */
export async function addressesOf(nodes: readonly ClusterNode[]): Promise<readonly PeerAddress[]> {
  const ports = await portsOf(nodes)
  return nodes.map(({ id }, i) => ({ id, address: multiaddrOf(ports[i] as Address) }))
}

/**
 * What `measure` gives before, while and after `attack` goes on; `before` is that of an earlier attack, if given. It is
 * measured as soon as the attack is under way.
 */
export async function measureDamage(
  what: string,
  { measure, before }: { readonly measure: Measurement; readonly before?: readonly number[] | undefined },
  attack: Attack,
  isUnderWay: () => boolean = () => true,
): Promise<Damage> {
  const calm = before ?? (await measure(quietMs))
  const ending = new AbortController()
  const attacking = attack(ending.signal)
  const begun = new Deadline(beginsWithinMs).until(isUnderWay, 10)
  if (!(await Promise.race([begun, attacking]))) throw new Error(`${what}: did not begin`)
  const during = await measure(phaseMs)
  ending.abort()
  await attacking
  const after = await measure(quietMs)
  const damage = {
    beforeMs: median(calm),
    duringMs: median(during),
    afterMs: median(after),
    acknowledged: during.length,
    after,
  }
  const figures = [damage.beforeMs, damage.duringMs, damage.afterMs].map(ms => `${ms.toFixed(1)} ms`)
  process.stdout.write(`${what}: p50 ${figures.join(', ')} before, during, after\n`)
  return damage
}

/** Does something again and again for this time, at least once, with a pause after each; how long each took. */
export async function timesOf(
  what: () => Promise<unknown>,
  forMs: number,
  thinkMs = 0,
): Promise<readonly number[]> {
  const times: number[] = []
  const beganAt = performance.now()
  while (performance.now() - beganAt < forMs) {
    const startedAt = performance.now()
    await what()
    times.push(performance.now() - startedAt)
    if (thinkMs > 0) await pause(thinkMs)
  }
  return times
}

/** Without end for nothing: nobody was answered. */
function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.POSITIVE_INFINITY
}
