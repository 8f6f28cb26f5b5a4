/**
 * The load generator as a process of its own, so that its share of the machine can be told from that of the nodes.
 * Reads one JSON line of options from standard input, prints one JSON line of results.
 */
import { createInterface } from 'node:readline'
import { ChainId } from '../chain/brands.ts'
import { LoadClients } from './load-clients.ts'
import { derivedKeys } from './local-cluster.ts'

export interface GeneratorOptions {
  readonly chainId: string
  readonly apis: readonly string[]
  readonly seed: string
  readonly clients: number
  readonly wait: 'committed' | 'certified'
  readonly warmUpMs: number
  readonly measureMs: number
}

export interface GeneratorResult {
  readonly transactions: number
  /** Acknowledged in all, warm-up included. */
  readonly total: number
  readonly seconds: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly resends: number
  readonly failures: readonly string[]
  /** CPU seconds of this process per second of the measurement. */
  readonly cpuShare: number
}

function percentile(sorted: readonly number[], fraction: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? Number.NaN
}

async function generate(options: GeneratorOptions): Promise<GeneratorResult> {
  const devices = Array.from({ length: options.clients }, (_, i) =>
    derivedKeys(options.seed, `device-${i + 1}`),
  )
  let latencies: number[] = []
  let total = 0
  const clients = new LoadClients({
    chainId: ChainId(options.chainId),
    apis: options.apis,
    devices,
    wait: options.wait,
    onAcknowledged: ({ latencyMs }) => {
      total++
      latencies.push(latencyMs)
    },
  })
  const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))
  await clients.start()
  await pause(options.warmUpMs)
  latencies = []
  const cpu = process.cpuUsage()
  const startedAt = performance.now()
  await pause(options.measureMs)
  const measured = latencies
  const seconds = (performance.now() - startedAt) / 1000
  const { user, system } = process.cpuUsage(cpu)
  latencies = []
  const resends = clients.resends
  await clients.stop()
  const sorted = [...measured].sort((a, b) => a - b)
  return {
    transactions: measured.length,
    total,
    seconds,
    p50Ms: percentile(sorted, 0.5),
    p99Ms: percentile(sorted, 0.99),
    resends,
    failures: clients.failures.slice(0, 5),
    cpuShare: (user + system) / 1e6 / seconds,
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const result = await generate(JSON.parse(line) as GeneratorOptions)
  process.stdout.write(`${JSON.stringify(result)}\n`)
  process.exit(0)
}
