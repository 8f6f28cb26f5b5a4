/**
 * Committed signed transactions per second of three full-node processes on this machine:
 * `npm run bench -- cluster` (docs/BENCHMARKS.md; `--help` lists the options).
 *
 * The workload is real: every client is an active device that re-keys a group of its own, a signed transaction that
 * every node verifies, executes and stores, synced. The load generator is one more process and shares the cores; its
 * part is printed beside the result.
 */
import { spawn } from 'node:child_process'
import { mkdir, readdir } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { type BenchOption, BenchUsageError, benchArguments } from './arguments.ts'
import type { GeneratorOptions, GeneratorResult } from './load-generator.ts'
import { createCluster } from './local-cluster.ts'

const seed = 'bench'

export const clusterOptions = {
  clients: { default: 256, meaning: 'clients at the same time, each an active device' },
  seconds: { default: 10, meaning: 'how long it measures' },
  transactions: { default: 0, least: 0, meaning: 'measure so many transactions instead; 0: go by --seconds' },
  'warm-up': { default: 10_000, least: 0, meaning: 'transactions before it measures' },
  wait: { default: 'certified', meaning: 'what a client waits for: certified or committed' },
  nodes: { default: 3, meaning: 'full nodes' },
  profile: { default: '', meaning: 'directory for CPU profiles of the nodes' },
  'node-arguments': { default: '', meaning: "arguments for each node's process, in one word" },
  json: { default: false, meaning: 'JSON on standard output' },
} as const satisfies Record<string, BenchOption>

export async function benchCluster(args: readonly string[]): Promise<void> {
  const values = benchArguments(args, clusterOptions)
  const { clients } = values
  if (values.wait !== 'committed' && values.wait !== 'certified')
    throw new BenchUsageError(`--wait: expected certified or committed, got '${values.wait}'`)
  const { wait } = values
  if (values.profile) await mkdir(values.profile, { recursive: true })
  const cluster = await createCluster({
    fullNodes: values.nodes,
    devices: clients,
    seed,
    raft: { tickMs: 50, electionTimeoutTicks: 40, heartbeatTicks: 2 },
    nodeArguments: [
      ...values['node-arguments'].split(' ').filter(argument => argument !== ''),
      ...(values.profile ? ['--cpu-prof', `--cpu-prof-dir=${values.profile}`] : []),
    ],
  })
  try {
    await cluster.start()
    const result = await generateLoad({
      chainId: cluster.chainId,
      apis: cluster.nodes.map(node => node.api),
      seed,
      clients,
      wait,
      warmUpTransactions: values['warm-up'],
      measureMs: values.seconds * 1_000,
      measureTransactions: values.transactions,
      pids: cluster.nodes.flatMap(node => node.pid ?? []),
    })
    const settings = await cluster.settings()
    const statuses = await Promise.all(cluster.nodes.map(node => node.status()))
    report(result, { settings, clients, wait, statuses }, values.json)
  } finally {
    await cluster.stop()
  }
  if (values.profile) process.stderr.write(`profiles: ${(await readdir(values.profile)).join(' ')}\n`)
}

interface Circumstances {
  readonly settings: string
  readonly clients: number
  readonly wait: string
  readonly statuses: readonly { readonly name: string; readonly role: string; readonly height: number }[]
}

function report(result: GeneratorResult, circumstances: Circumstances, json: boolean): void {
  const { settings, clients, wait, statuses } = circumstances
  const { cpuSeconds } = result
  const rate = result.transactions / result.seconds
  const height = Math.max(...statuses.map(status => status.height))
  const summary = {
    settings,
    transactionsPerSecond: Math.round(rate),
    p50Ms: round(result.p50Ms),
    p99Ms: round(result.p99Ms),
    wait,
    clients,
    seconds: round(result.seconds),
    blocks: height,
    resends: result.resends,
    failures: result.failures,
    cores: availableParallelism(),
    nodeCpuMsPerTransaction: round(
      (cpuSeconds.reduce((sum, used) => sum + used, 0) * 1000) / result.transactions,
    ),
    generatorCpuShare: round(result.cpuShare),
    nodeCpuSeconds: statuses.map(({ name, role }, i) => ({ name, role, seconds: round(cpuSeconds[i] ?? 0) })),
  }
  if (json) {
    process.stdout.write(`${JSON.stringify(summary)}\n`)
    return
  }
  const lines = [
    settings,
    `${summary.transactionsPerSecond} ${wait} signed transactions per second (${clients} clients, ${statuses.length} full nodes, ${summary.cores} cores)`,
    `latency p50 ${summary.p50Ms} ms, p99 ${summary.p99Ms} ms; ${summary.blocks} blocks; ${summary.resends} sent again`,
    `CPU: load generator ${summary.generatorCpuShare} of a core; nodes together ${summary.nodeCpuMsPerTransaction} ms per transaction, in seconds ${summary.nodeCpuSeconds.map(node => `${node.name} (${node.role}) ${node.seconds}`).join(', ')}`,
    ...result.failures.map(failure => `FAILED: ${failure}`),
  ]
  process.stdout.write(`${lines.join('\n')}\n`)
}

function round(value: number): number {
  return Math.round(value * 100) / 100
}

/** Runs the load generator in a process of its own. */
export function generateLoad(options: GeneratorOptions): Promise<GeneratorResult> {
  const path = fileURLToPath(new URL('./load-generator.ts', import.meta.url))
  const child = spawn(process.execPath, [path], { stdio: ['pipe', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.on('data', chunk => {
    output += String(chunk)
  })
  child.stdin.end(`${JSON.stringify(options)}\n`)
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', code => {
      if (code === 0) resolve(JSON.parse(output) as GeneratorResult)
      else reject(new Error(`load generator: exit code ${code}`))
    })
  })
}
