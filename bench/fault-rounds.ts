/**
 * Rounds of leader loss and of planned transfer of leadership on a local cluster under load, and what each of them cost. Shared by
 * the benchmarks `leader-loss` and `defaults`.
 *
 * - without commits: from the signal until the first acknowledgement of a transaction that a later term ordered.
 * - election: from the signal until a node has written in its log that it leads.
 * - transfer: the longest time between two acknowledgements that reaches from the request to the next leader's first one.
 */

import { Deadline, pause } from '../client/deadline.ts'
import type { IdentityKeys } from '../client/key-directory.ts'
import { longestGap } from '../devnet/chaos/scenario-run.ts'
import { nowMs } from '../devnet/chaos/timing.ts'
import { LoadClients } from './load-clients.ts'
import type { LocalCluster } from './local-cluster.ts'

/** Load between rounds: long enough for a restarted node to be in step again. */
const calmMs = 600
/** Kills must not keep step with heartbeats. */
const randomCalmMs = 200
const servedWithinMs = 30_000
/** After a transfer, so that a gap that begins late is seen whole. */
const lookOnMs = 250
const pollMs = 2
const requestTimeoutMs = 5_000

export interface Loss {
  readonly electionMs: number
  readonly withoutCommitsMs: number
}

export interface LeadershipTransfer {
  readonly gapMs: number
  /** Longest gap of the calm before it, for comparison. */
  readonly calmGapMs: number
}

/** Closed-loop clients that note when each acknowledgement came, and out of which term. */
export class TimedLoad {
  readonly acknowledged: { readonly atMs: number; readonly term: number }[] = []
  readonly #clients: LoadClients

  constructor(cluster: LocalCluster, devices: readonly IdentityKeys[]) {
    this.#clients = new LoadClients({
      chainId: cluster.chainId,
      apis: cluster.nodes.map(node => node.api),
      devices,
      wait: 'certified',
      requestTimeoutMs,
      onAcknowledged: ({ term }) => this.acknowledged.push({ atMs: nowMs(), term }),
    })
  }

  start(): Promise<void> {
    return this.#clients.start()
  }

  stop(): Promise<void> {
    return this.#clients.stop()
  }

  /** Times the same bytes went out again. */
  get resends(): number {
    return this.#clients.resends
  }

  /** Answers that no client should ever get. */
  get failures(): readonly string[] {
    return this.#clients.failures
  }

  /** When the first transaction of a later term was acknowledged. Throws if none is in time. */
  async servedAfter(term: number): Promise<number> {
    const isServed = () => (this.acknowledged.at(-1)?.term ?? 0) > term
    if (await new Deadline(servedWithinMs).until(isServed, pollMs))
      return this.acknowledged.find(each => each.term > term)?.atMs ?? Number.NaN
    throw new Error(`nothing acknowledged after term ${term} within ${servedWithinMs} ms`)
  }

  /** Longest time between two acknowledgements that reaches into the interval. */
  longestGap(fromMs: number, untilMs: number): number {
    const times = this.acknowledged.map(({ atMs }) => atMs)
    return longestGap(times, { fromMs, untilMs }) ?? Number.NaN
  }
}

export interface LossRounds {
  readonly rounds: number
  /** `kill`: SIGKILL, and its connections close. `silence`: SIGSTOP, and nobody is told anything. */
  readonly by: 'kill' | 'silence'
  readonly onRound: (done: number) => void
}

/** Takes the leader away and brings it back when another serves, so many times. */
export async function loseLeaders(
  cluster: LocalCluster,
  load: TimedLoad,
  { rounds, by, onRound }: LossRounds,
): Promise<readonly Loss[]> {
  const losses: Loss[] = []
  for (let round = 1; round <= rounds; round++) {
    await pause(calmMs + Math.random() * randomCalmMs)
    const leader = await cluster.leader()
    const { term } = await leader.status()
    const atMs = nowMs()
    if (by === 'kill') await leader.end('SIGKILL')
    else leader.signal('SIGSTOP')
    const servedAtMs = await load.servedAfter(term)
    const won = cluster.nodes.flatMap(node => node.won).filter(each => each.term > term)
    const electionMs = Math.min(...won.map(each => each.atMs)) - atMs
    losses.push({ electionMs, withoutCommitsMs: servedAtMs - atMs })
    if (by === 'kill') await leader.start()
    else leader.signal('SIGCONT')
    onRound(round)
  }
  return losses
}

/** Has the leader transfer its leadership to another node, so many times. `drain`: by SIGTERM, and it is started again. */
export async function runTransfers(
  cluster: LocalCluster,
  load: TimedLoad,
  {
    rounds,
    by,
    onRound,
  }: { readonly rounds: number; readonly by: 'transfer' | 'drain'; readonly onRound: (done: number) => void },
): Promise<readonly LeadershipTransfer[]> {
  const done: LeadershipTransfer[] = []
  for (let round = 1; round <= rounds; round++) {
    const calmFromMs = nowMs()
    await pause(calmMs + Math.random() * randomCalmMs)
    const leader = await cluster.leader()
    const { term } = await leader.status()
    const fromMs = nowMs()
    if (by === 'drain') await leader.end('SIGTERM')
    else {
      const answer = await leader.transfer()
      if (!answer.ok) throw new Error(`transfer: ${answer.status} ${await answer.text()}`)
    }
    const untilMs = await load.servedAfter(term)
    await pause(lookOnMs)
    done.push({
      gapMs: load.longestGap(fromMs, untilMs),
      calmGapMs: load.longestGap(calmFromMs + lookOnMs, fromMs - lookOnMs),
    })
    if (by === 'drain') await leader.start()
    onRound(round)
  }
  return done
}

/** Terms that began with a leader since. */
export function countElectionsSince(cluster: LocalCluster, sinceMs: number): number {
  const won = cluster.nodes.flatMap(node => node.won).filter(({ atMs }) => atMs >= sinceMs)
  return new Set(won.map(({ term }) => term)).size
}
