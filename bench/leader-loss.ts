/**
 * What the loss of a leader costs, and what handing over costs, on real processes under load:
 * `npm run bench -- leader-loss [--rounds 20] [--hand-overs 20] [--delays 0,20±10] [--tick 50] [--election 10] [--heartbeat 1] [--json]`
 * (docs/BENCHMARKS.md). fault-rounds.ts says what each time is measured from and to.
 *
 * Times are also given in election timeouts (ticks of a tick's length). A follower that hears nothing waits for one to two
 * of them before it stands, so with two survivors the median of the first one's wait is 1.29 of them, before anything is
 * sent; one whose connection breaks waits for nought to one, and the median is 0.29.
 */
import { parseArgs } from 'node:util'
import { nowMs, type Spread, spreadOf } from '../cli/chaos-clock.ts'
import { parseDelay } from '../devnet/link-faults.ts'
import { electionsSince, handOvers, loseLeaders, TimedLoad } from './fault-rounds.ts'
import { createCluster } from './local-cluster.ts'
import { machineLine } from './machine.ts'

interface Timing {
  readonly tickMs: number
  readonly electionTimeoutTicks: number
  readonly heartbeatTicks: number
}

interface Row {
  readonly delay: string
  readonly rounds: number
  readonly handOvers: number
  readonly electionMs: Spread
  readonly withoutCommitsMs: Spread
  /** The same when the leader falls silent and no connection closes. */
  readonly silentMs: Spread
  readonly transferMs: Spread
  readonly drainMs: Spread
  /** Longest gaps of the same load when nothing happens. */
  readonly calmMs: Spread
  /** Times that clients had to send the same bytes again because of a hand-over. */
  readonly resends: { readonly transfer: number; readonly drain: number }
  /** Terms that began without a fault. */
  readonly needlessElections: number
}

const writers = 16

export async function benchLeaderLoss(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: 'string', default: '20' },
      'hand-overs': { type: 'string', default: '20' },
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
  const machine = machineLine()
  const rows: Row[] = []
  for (const delay of values.delays.split(','))
    rows.push(
      await measure({
        delay,
        timing,
        rounds: Number(values.rounds),
        handOvers: Number(values['hand-overs']),
      }),
    )
  if (values.json) process.stdout.write(`${JSON.stringify({ machine, timing, rows })}\n`)
  else process.stdout.write(`${reportText(machine, timing, rows)}\n`)
}

async function measure({
  delay,
  timing,
  rounds,
  handOvers: changes,
}: {
  readonly delay: string
  readonly timing: Timing
  readonly rounds: number
  readonly handOvers: number
}): Promise<Row> {
  const link = parseDelay(delay)
  const options = { devices: writers, seed: 'leader loss', raft: timing }
  const cluster = await createCluster(link.delayMs > 0 ? { ...options, delay: link } : options)
  const progress = (what: string) => (done: number) =>
    process.stderr.write(`\r${delay} ms: ${what} ${done}  `)
  try {
    await cluster.start()
    const load = new TimedLoad(cluster, cluster.devices)
    await load.start()
    const sinceMs = nowMs()
    const lost = await loseLeaders(cluster, load, { rounds, by: 'kill', onRound: progress('kill') })
    const silent = await loseLeaders(cluster, load, { rounds, by: 'silence', onRound: progress('silence') })
    const resent = [load.resends]
    const transfers = await handOvers(cluster, load, {
      rounds: changes,
      by: 'transfer',
      onRound: progress('transfer'),
    })
    resent.push(load.resends)
    const drains = await handOvers(cluster, load, {
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
      delay,
      rounds,
      handOvers: changes,
      electionMs: spreadOf(lost.map(({ electionMs }) => electionMs)),
      withoutCommitsMs: spreadOf(lost.map(({ withoutCommitsMs }) => withoutCommitsMs)),
      silentMs: spreadOf(silent.map(({ withoutCommitsMs }) => withoutCommitsMs)),
      transferMs: spreadOf(transfers.map(({ gapMs }) => gapMs)),
      drainMs: spreadOf(drains.map(({ gapMs }) => gapMs)),
      calmMs: spreadOf(transfers.map(({ calmGapMs }) => calmGapMs)),
      resends: { transfer: between - before, drain: after - between },
      needlessElections: electionsSince(cluster, sinceMs) - 2 * rounds - 2 * changes,
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
    `3 full nodes, ${writers} writers; heartbeat ${tickMs * heartbeatTicks} ms, election timeout ${timeoutMs} ms (in brackets: in election timeouts)`,
    ...rows.flatMap(row => [
      `links delayed by ${row.delay} ms, ${row.rounds} kills and silences, ${row.handOvers} transfers, ${row.handOvers} drains:`,
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
