/**
 * The settings that node/config.ts, consensus/config.ts and node/replica/producer.ts choose, each beside its neighbours, on
 * loopback and over links that delay: `npm run bench -- defaults` (docs/BENCHMARKS.md; `--help` lists the options). Prints the Markdown tables of that page.
 *
 * Every cell is a cluster of its own: a calm time with many clients, for throughput, latency and elections that nobody
 * needed; then rounds of leader loss with few clients. Compare within one run only: a ratio says more than a number.
 */
import { nowMs, type Spread, spreadOf } from '../devnet/chaos/timing.ts'
import { parseDelay } from '../devnet/link-faults.ts'
import type { NodeConfigFile } from '../node/config.ts'
import { type BenchOption, BenchUsageError, benchArguments } from './arguments.ts'
import { generateLoad } from './cluster.ts'
import { countElectionsSince, loseLeaders, runTransfers, TimedLoad } from './fault-rounds.ts'
import type { GeneratorResult } from './load-generator.ts'
import { createCluster, type LocalCluster } from './local-cluster.ts'
import { machineLine } from './machine.ts'

interface Setting {
  readonly name: string
  readonly raft?: NodeConfigFile['raft']
  readonly producer?: NodeConfigFile['producer']
}

const timing = (tickMs: number, heartbeatTicks: number, electionTimeoutTicks: number): Setting => ({
  name: `${tickMs * heartbeatTicks} ms / ${tickMs * electionTimeoutTicks} ms`,
  raft: { tickMs, heartbeatTicks, electionTimeoutTicks },
})

/** Heartbeat interval / election timeout. The first is the default. */
const timings: readonly Setting[] = [
  timing(50, 1, 10),
  timing(25, 1, 10),
  timing(50, 1, 20),
  timing(100, 1, 10),
]

/** What a block and an append may hold, and how many may be under way. The first row is the default. */
const limits: readonly Setting[] = [
  { name: 'default' },
  { name: 'blocks of 64 transactions', producer: { transactionsPerBlock: 64 } },
  { name: 'eight in flight, of any size', producer: { blocksInFlight: 8, pipelinedTransactions: 1 } },
  { name: 'appends of 16 KiB', raft: { maxBytesPerAppend: 16 * 1024 } },
  { name: 'one append in flight', raft: { maxAppendsInFlight: 1 } },
]

const seed = 'defaults'
/** Clients during leader loss and transfer: enough to see every gap, too few to fill the machine. */
const writers = 16
const warmUpTransactions = 1_500

interface Amounts {
  readonly clients: number
  readonly rounds: number
  readonly seconds: number
  readonly transfers: number
}

interface Cell {
  /** That take effect in the nodes. */
  readonly settings: string
  readonly setting: string
  readonly delay: string
  readonly timeoutMs: number
  /** Leader killed. */
  readonly withoutCommitsMs: Spread
  /** Leader stopped in its tracks. */
  readonly silentMs: Spread
  /** Terms that began with nobody gone: during the calm time, and beyond one for each kill and each transfer. */
  readonly falseElections: { readonly calm: number; readonly rounds: number }
  readonly seconds: number
  readonly transactionsPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly transferMs: Spread
  /** Longest gap of the same load with no transfer. */
  readonly calmGapMs: Spread
  /** Transactions that a client had to send again because of a transfer. */
  readonly resends: number
}

export const defaultsOptions = {
  delays: { default: '0,20±10', meaning: 'delays of the links in ms, one table each' },
  rounds: { default: 4, meaning: 'leaders lost per neighbour, by a kill and by silence each' },
  seconds: { default: 6, meaning: 'calm time of a neighbour of the timing' },
  'limit-seconds': { default: 5, meaning: 'calm time of a row of the limits' },
  'default-rounds': { default: 10, meaning: 'the same as --rounds for the default itself' },
  'default-seconds': { default: 15, meaning: 'the same as --seconds for the default itself' },
  'hand-overs': { default: 20, least: 0, meaning: 'leadership transfers of the default' },
  clients: { default: 256, meaning: 'clients during the calm time' },
  only: { default: '', meaning: 'timing or limits: one table alone' },
  json: { default: false, meaning: 'JSON on standard output' },
} as const satisfies Record<string, BenchOption>

export async function benchDefaults(args: readonly string[]): Promise<void> {
  const values = benchArguments(args, defaultsOptions)
  if (!['', 'timing', 'limits'].includes(values.only))
    throw new BenchUsageError(`--only: expected timing or limits, got '${values.only}'`)
  const machine = machineLine()
  const startedAt = performance.now()
  const clients = values.clients
  const others = { clients, rounds: values.rounds, seconds: values.seconds, transfers: 0 }
  const first = {
    clients,
    rounds: values['default-rounds'],
    seconds: values['default-seconds'],
    transfers: values['hand-overs'],
  }
  const unharmed = { clients, rounds: 0, seconds: values['limit-seconds'], transfers: 0 }
  const timingCells: Cell[] = []
  const limitCells: Cell[] = []
  for (const delay of values.delays.split(',')) {
    if (values.only !== 'limits')
      for (const setting of timings)
        timingCells.push(await measure(setting, delay, setting === timings[0] ? first : others))
    if (values.only !== 'timing')
      for (const setting of limits) limitCells.push(await measure(setting, delay, unharmed))
  }
  const minutes = (performance.now() - startedAt) / 60_000
  if (values.json) process.stdout.write(`${JSON.stringify({ machine, timingCells, limitCells })}\n`)
  else process.stdout.write(`${report({ machine, clients, minutes, timingCells, limitCells })}\n`)
}

async function measure(setting: Setting, delay: string, amounts: Amounts): Promise<Cell> {
  process.stderr.write(`${delay} ms, ${setting.name}\n`)
  const link = parseDelay(delay)
  const options = {
    seed,
    devices: amounts.clients + writers,
    ...(setting.raft && { raft: setting.raft }),
    ...(setting.producer && { producer: setting.producer }),
    ...(link.delayMs > 0 && { delay: link }),
  }
  const cluster = await createCluster(options)
  try {
    await cluster.start()
    const settings = await cluster.settings()
    const calmFromMs = nowMs()
    const calm = await calmTime(cluster, amounts)
    const calmElections = countElectionsSince(cluster, calmFromMs)
    const { raft } = setting
    return {
      settings,
      setting: setting.name,
      delay,
      timeoutMs: (raft?.tickMs ?? 50) * (raft?.electionTimeoutTicks ?? 10),
      seconds: amounts.seconds,
      transactionsPerSecond: Math.round(calm.transactions / calm.seconds),
      p50Ms: Math.round(calm.p50Ms),
      p99Ms: Math.round(calm.p99Ms),
      ...(await faults(cluster, amounts, calmElections)),
    }
  } finally {
    await cluster.stop({ signal: 'SIGKILL' })
  }
}

async function calmTime(cluster: LocalCluster, { clients, seconds }: Amounts): Promise<GeneratorResult> {
  const result = await generateLoad({
    chainId: cluster.chainId,
    apis: cluster.nodes.map(node => node.api),
    seed,
    clients,
    wait: 'certified',
    warmUpTransactions,
    measureMs: seconds * 1_000,
    measureTransactions: 0,
    pids: [],
  })
  if (result.failures.length > 0) throw new Error(`clients were refused: ${result.failures.join('; ')}`)
  return result
}

async function faults(cluster: LocalCluster, { clients, rounds, transfers: changes }: Amounts, calm: number) {
  const load = new TimedLoad(cluster, cluster.devices.slice(clients))
  if (rounds + changes > 0) await load.start()
  const sinceMs = nowMs()
  const progress = (what: string) => (done: number) => process.stderr.write(`\r  ${what} ${done} `)
  const lost = await loseLeaders(cluster, load, { rounds, by: 'kill', onRound: progress('kill') })
  const silent = await loseLeaders(cluster, load, { rounds, by: 'silence', onRound: progress('silence') })
  const { resends } = load
  const given = await runTransfers(cluster, load, {
    rounds: changes,
    by: 'transfer',
    onRound: progress('transfer'),
  })
  if (rounds + changes > 0) process.stderr.write('\n')
  const resent = load.resends - resends
  await load.stop()
  if (load.failures.length > 0) throw new Error(`clients were refused: ${load.failures.join('; ')}`)
  return {
    withoutCommitsMs: spreadOf(lost.map(({ withoutCommitsMs }) => withoutCommitsMs)),
    silentMs: spreadOf(silent.map(({ withoutCommitsMs }) => withoutCommitsMs)),
    falseElections: { calm, rounds: countElectionsSince(cluster, sinceMs) - 2 * rounds - changes },
    transferMs: spreadOf(given.map(({ gapMs }) => gapMs)),
    calmGapMs: spreadOf(given.map(({ calmGapMs }) => calmGapMs)),
    resends: resent,
  }
}

function row(cells: readonly (string | number)[]): string {
  return `| ${cells.join(' | ')} |`
}

function table(heads: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  return [row(heads), row(heads.map(() => '---')), ...rows.map(row)].join('\n')
}

function report({
  machine,
  clients,
  minutes,
  timingCells,
  limitCells,
}: {
  readonly machine: string
  readonly clients: number
  readonly minutes: number
  readonly timingCells: readonly Cell[]
  readonly limitCells: readonly Cell[]
}): string {
  const parts = [
    `${machine}; 3 full nodes, ${clients} clients in the calm time, ${writers} during faults; ${minutes.toFixed(1)} minutes in all.`,
  ]
  const settings = new Map([...timingCells, ...limitCells].map(cell => [cell.setting, cell.settings]))
  parts.push([...settings].map(([name, line]) => `- ${name}: ${line}`).join('\n'))
  if (timingCells.length > 0) parts.push(timingTable(timingCells))
  const withTransfers = timingCells.filter(({ transferMs }) => transferMs.count > 0)
  if (withTransfers.length > 0) parts.push(transferTable(withTransfers))
  if (limitCells.length > 0) parts.push(limitTable(limitCells))
  return parts.join('\n\n')
}

/** A time in milliseconds, and in election timeouts. */
function units(ms: number | null, timeoutMs: number): string {
  return ms === null ? '-' : `${ms} ms, ${(ms / timeoutMs).toFixed(2)}`
}

function timingTable(cells: readonly Cell[]): string {
  return table(
    [
      'heartbeat / election timeout',
      'links',
      'leader killed: without commits, median (ms, timeouts)',
      'p99',
      'leader silent: median',
      'p99',
      'rounds of each',
      'false elections, calm',
      'false elections, faults',
      'tx/s',
      'p50',
      'p99',
    ],
    cells.map(cell => [
      cell.setting,
      `${cell.delay} ms`,
      units(cell.withoutCommitsMs.median, cell.timeoutMs),
      units(cell.withoutCommitsMs.p99, cell.timeoutMs),
      units(cell.silentMs.median, cell.timeoutMs),
      units(cell.silentMs.p99, cell.timeoutMs),
      cell.withoutCommitsMs.count,
      `${cell.falseElections.calm} in ${cell.seconds} s`,
      cell.falseElections.rounds,
      ...throughput(cell, cells),
    ]),
  )
}

function transferTable(cells: readonly Cell[]): string {
  return table(
    [
      'transfer',
      'links',
      'longest gap, median',
      'p99',
      'of',
      'same load, no transfer: median',
      'p99',
      'sent again',
    ],
    cells.map(({ setting, delay, transferMs, calmGapMs, resends }) => [
      setting,
      `${delay} ms`,
      `${transferMs.median} ms`,
      `${transferMs.p99} ms`,
      transferMs.count,
      `${calmGapMs.median} ms`,
      `${calmGapMs.p99} ms`,
      resends,
    ]),
  )
}

function limitTable(cells: readonly Cell[]): string {
  return table(
    ['limits', 'links', 'false elections', 'tx/s', 'p50', 'p99'],
    cells.map(cell => [
      cell.setting,
      `${cell.delay} ms`,
      `${cell.falseElections.calm} in ${cell.seconds} s`,
      ...throughput(cell, cells),
    ]),
  )
}

/** Throughput, with its ratio to the default of the same links, and latency. */
function throughput(cell: Cell, cells: readonly Cell[]): readonly string[] {
  const reference = cells.find(({ delay }) => delay === cell.delay)?.transactionsPerSecond ?? Number.NaN
  const ratio = (cell.transactionsPerSecond / reference).toFixed(2)
  return [`${cell.transactionsPerSecond} (${ratio})`, `${cell.p50Ms} ms`, `${cell.p99Ms} ms`]
}
