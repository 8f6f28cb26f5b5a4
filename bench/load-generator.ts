/**
 * The load generator as a process of its own, so that its share of the machine can be told from that of the nodes.
 * Reads one JSON line of options from standard input, prints one JSON line of results.
 */

import { readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { ChainId } from '../chain/brands.ts'
import { Deadline, pause } from '../client/deadline.ts'
import { checkoutHere, importOf } from './checkout.ts'

export interface GeneratorOptions {
  /** Checkout whose clients run: of the version of the nodes. Default: this one. */
  readonly root?: string
  readonly chainId: string
  readonly apis: readonly string[]
  readonly seed: string
  readonly clients: number
  /** The number of the first client's device. Default 1. */
  readonly firstDevice?: number
  readonly wait: 'committed' | 'certified'
  /** Acknowledged before the measurement begins, so that code is compiled by then. */
  readonly warmUpTransactions: number
  /** The measurement ends after this time, but not before it has seen `measureTransactions`. */
  readonly measureMs: number
  readonly measureTransactions: number
  /** Processes whose CPU time is told. */
  readonly pids: readonly number[]
}

export interface GeneratorResult {
  readonly transactions: number
  readonly seconds: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly resends: number
  readonly failures: readonly string[]
  /** CPU seconds of this process per second of the measurement. */
  readonly cpuShare: number
  /** CPU seconds of the processes asked for, during the measurement. */
  readonly cpuSeconds: readonly number[]
}

/** The longest a warm-up or a measurement by number waits. */
const patienceMs = 120_000

function percentile(sorted: readonly number[], fraction: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? Number.NaN
}

async function generate(options: GeneratorOptions): Promise<GeneratorResult> {
  const { firstDevice = 1, root = checkoutHere } = options
  const { LoadClients } = await importOf<typeof import('./load-clients.ts')>(root, 'bench/load-clients.ts')
  const { derivedKeys } = await importOf<typeof import('./local-cluster.ts')>(root, 'bench/local-cluster.ts')
  const devices = Array.from({ length: options.clients }, (_, i) =>
    derivedKeys(options.seed, `device-${firstDevice + i}`),
  )
  let latencies: number[] = []
  const clients = new LoadClients({
    chainId: ChainId(options.chainId),
    apis: options.apis,
    devices,
    wait: options.wait,
    onAcknowledged: ({ latencyMs }) => {
      latencies.push(latencyMs)
    },
  })
  const acknowledged = async (count: number, leastMs: number) => {
    await pause(leastMs)
    await new Deadline(patienceMs - leastMs).until(() => latencies.length >= count, 10)
  }
  await clients.start()
  await acknowledged(options.warmUpTransactions, 0)
  latencies = []
  const before = await cpuSecondsOf(options.pids)
  const cpu = process.cpuUsage()
  const startedAt = performance.now()
  await acknowledged(options.measureTransactions, options.measureMs)
  const measured = latencies
  latencies = []
  const seconds = (performance.now() - startedAt) / 1000
  const { user, system } = process.cpuUsage(cpu)
  const after = await cpuSecondsOf(options.pids)
  const resends = clients.resends
  await clients.stop()
  const sorted = [...measured].sort((a, b) => a - b)
  return {
    transactions: measured.length,
    seconds,
    p50Ms: percentile(sorted, 0.5),
    p99Ms: percentile(sorted, 0.99),
    resends,
    failures: clients.failures.slice(0, 5),
    cpuShare: (user + system) / 1e6 / seconds,
    cpuSeconds: after.map((used, i) => used - (before[i] ?? 0)),
  }
}

/** CPU time that each process has used so far (Linux; zeros elsewhere). */
async function cpuSecondsOf(pids: readonly number[]): Promise<number[]> {
  const ticksPerSecond = 100
  return Promise.all(
    pids.map(async pid => {
      const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / ticksPerSecond
    }),
  )
}

for await (const line of createInterface({ input: process.stdin })) {
  const result = await generate(JSON.parse(line) as GeneratorOptions)
  process.stdout.write(`${JSON.stringify(result)}\n`)
  process.exit(0)
}
