/**
 * What the loss of a leader costs, and what transferring leadership costs, on real processes under load:
 * `npm run bench -- leader-loss` (docs/BENCHMARKS.md; `--help` lists the options). fault-rounds.ts says what each time is measured from and to.
 *
 * Times are also given in election timeouts (ticks of a tick's length). A follower that hears nothing waits for one to two
 * of them before it stands, so with two survivors the median of the first one's wait is 1.29 of them, before anything is
 * sent; one whose connection breaks waits for nought to one, and the median is 0.29.
 */
import { nowMs, type Spread, spreadOf } from '../devnet/chaos/timing.ts'
import { parseDelay } from '../devnet/link-faults.ts'
import { type BenchOption, benchArguments } from './arguments.ts'
import { countElectionsSince, loseLeaders, runTransfers, TimedLoad } from './fault-rounds.ts'
import { createCluster } from './local-cluster.ts'
import { machineLine } from './machine.ts'

interface Timing {
  readonly tickMs: number
  readonly electionTimeoutTicks: number
  readonly heartbeatTicks: number
}

interface Row {
  readonly settings: string
  readonly delay: string
  readonly rounds: number
  readonly transfers: number
  readonly electionMs: Spread
  readonly withoutCommitsMs: Spread
  /** The same when the leader falls silent and no connection closes. */
  readonly silentMs: Spread
  readonly transferMs: Spread
  readonly drainMs: Spread
  /** Longest gaps of the same load when nothing happens. */
  readonly calmMs: Spread
  /** Times that clients had to send the same bytes again because of a transfer. */
  readonly resends: { readonly transfer: number; readonly drain: number }
  /** Terms that began without a fault. */
  readonly needlessElections: number
}

const writers = 16

export const leaderLossOptions = {
  rounds: { default: 20, meaning: 'leaders lost, by a kill and by silence each' },
  'hand-overs': { default: 20, least: 0, meaning: 'leadership transfers, on request and by drain each' },
  delays: { default: '0,20±10', meaning: 'delays of the links in ms, one table each' },
  tick: { default: 50, meaning: 'ms of a tick' },
  election: { default: 10, meaning: 'ticks of an election timeout' },
  heartbeat: { default: 1, meaning: 'ticks between heartbeats' },
  json: { default: false, meaning: 'JSON on standard output' },
} as const satisfies Record<string, BenchOption>

export async function benchLeaderLoss(args: readonly string[]): Promise<void> {
  const values = benchArguments(args, leaderLossOptions)
  const timing = {
    tickMs: values.tick,
    electionTimeoutTicks: values.election,
    heartbeatTicks: values.heartbeat,
  }
  const machine = machineLine()
  const rows: Row[] = []
  for (const delay of values.delays.split(','))
    rows.push(
      await measure({
        delay,
        timing,
        rounds: values.rounds,
        transfers: values['hand-overs'],
      }),
    )
  if (values.json) process.stdout.write(`${JSON.stringify({ machine, timing, rows })}\n`)
  else process.stdout.write(`${reportText(machine, timing, rows)}\n`)
}

async function measure({
  delay,
  timing,
  rounds,
  transfers: changes,
}: {
  readonly delay: string
  readonly timing: Timing
  readonly rounds: number
  readonly transfers: number
}): Promise<Row> {
  const link = parseDelay(delay)
  const options = { devices: writers, seed: 'leader loss', raft: timing }
  const cluster = await createCluster(link.delayMs > 0 ? { ...options, delay: link } : options)
  const progress = (what: string) => (done: number) =>
    process.stderr.write(`\r${delay} ms: ${what} ${done}  `)
  try {
    await cluster.start()
    const settings = await cluster.settings()
    const load = new TimedLoad(cluster, cluster.devices)
    await load.start()
    const sinceMs = nowMs()
    const lost = await loseLeaders(cluster, load, { rounds, by: 'kill', onRound: progress('kill') })
    const silent = await loseLeaders(cluster, load, { rounds, by: 'silence', onRound: progress('silence') })
    const resent = [load.resends]
    const transferred = await runTransfers(cluster, load, {
      rounds: changes,
      by: 'transfer',
      onRound: progress('transfer'),
    })
    resent.push(load.resends)
    const drains = await runTransfers(cluster, load, {
      rounds: changes,
      by: 'drain',
      onRound: progress('drain'),
    })
    resent.push(load.resends)
    process.stderr.write('\n')
    await load.stop()
    if (load.failures.length > 0) throw new Error(`clients were refused: ${load.failures.join('; ')}`)
    const [before = 0, between = 0, after = 0] = resent
    return {
      settings,
      delay,
      rounds,
      transfers: changes,
      electionMs: spreadOf(lost.map(({ electionMs }) => electionMs)),
      withoutCommitsMs: spreadOf(lost.map(({ withoutCommitsMs }) => withoutCommitsMs)),
      silentMs: spreadOf(silent.map(({ withoutCommitsMs }) => withoutCommitsMs)),
      transferMs: spreadOf(transferred.map(({ gapMs }) => gapMs)),
      drainMs: spreadOf(drains.map(({ gapMs }) => gapMs)),
      calmMs: spreadOf(transferred.map(({ calmGapMs }) => calmGapMs)),
      resends: { transfer: between - before, drain: after - between },
      needlessElections: countElectionsSince(cluster, sinceMs) - 2 * rounds - 2 * changes,
    }
  } finally {
    await cluster.stop({ signal: 'SIGKILL' })
  }
}

function reportText(
  machine: string,
  { tickMs, electionTimeoutTicks, heartbeatTicks }: Timing,
  rows: readonly Row[],
): string {
  const timeoutMs = tickMs * electionTimeoutTicks
  const units = (ms: number | null): string =>
    ms === null ? '-' : `${ms} ms (${(ms / timeoutMs).toFixed(2)})`
  const plain = ({ median, p99 }: Spread): string => `median ${median} ms, p99 ${p99} ms`
  return [
    machine,
    rows[0]?.settings,
    `3 full nodes, ${writers} writers; heartbeat ${tickMs * heartbeatTicks} ms, election timeout ${timeoutMs} ms (in brackets: in election timeouts)`,
    ...rows.flatMap(row => [
      `links delayed by ${row.delay} ms, ${row.rounds} kills and silences, ${row.transfers} transfers, ${row.transfers} drains:`,
      `  election         median ${units(row.electionMs.median)}, p99 ${units(row.electionMs.p99)}`,
      `  without commits  median ${units(row.withoutCommitsMs.median)}, p99 ${units(row.withoutCommitsMs.p99)}`,
      `  of a silent one  median ${units(row.silentMs.median)}, p99 ${units(row.silentMs.p99)}`,
      `  transfer         ${plain(row.transferMs)}; sent again ${row.resends.transfer}`,
      `  drain            ${plain(row.drainMs)}; sent again ${row.resends.drain}`,
      `  (nothing)        ${plain(row.calmMs)}`,
      `  needless elections ${row.needlessElections}`,
    ]),
  ].join('\n')
}
