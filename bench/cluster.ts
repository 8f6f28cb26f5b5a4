/**
 * Committed signed transactions per second of three full-node processes on this machine:
 * `npm run bench -- cluster [--clients 256] [--seconds 10] [--transactions N] [--warm-up 10000] [--wait certified] [--nodes 3]
 * [--profile DIR] [--node-arguments='…'] [--json]` (docs/BENCHMARKS.md).
 *
 * The workload is real: every client is an active device that re-keys a group of its own, a signed transaction that
 * every node verifies, executes and stores, synced. The load generator is one more process and shares the cores; its
 * part is printed beside the result.
 */
import { spawn } from 'node:child_process'
import { mkdir, readdir } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { GeneratorOptions, GeneratorResult } from './load-generator.ts'
import { createCluster } from './local-cluster.ts'

const seed = 'bench'

export async function benchCluster(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      clients: { type: 'string', default: '256' },
      seconds: { type: 'string', default: '10' },
      transactions: { type: 'string', default: '0' },
      'warm-up': { type: 'string', default: '10000' },
      wait: { type: 'string', default: 'certified' },
      nodes: { type: 'string', default: '3' },
      profile: { type: 'string' },
      'node-arguments': { type: 'string', default: '' },
      json: { type: 'boolean', default: false },
    },
  })
  const clients = Number(values.clients)
  const wait = values.wait === 'committed' ? 'committed' : 'certified'
  if (values.profile) await mkdir(values.profile, { recursive: true })
  const cluster = await createCluster({
    fullNodes: Number(values.nodes),
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
    const result = await generate({
      chainId: cluster.chainId,
      apis: cluster.nodes.map(node => node.api),
      seed,
      clients,
      wait,
      warmUpTransactions: Number(values['warm-up']),
      measureMs: Number(values.seconds) * 1_000,
      measureTransactions: Number(values.transactions),
      pids: cluster.nodes.flatMap(node => node.pid ?? []),
    })
    const statuses = await Promise.all(cluster.nodes.map(node => node.status()))
    report(result, { clients, wait, statuses }, values.json)
  } finally {
    await cluster.stop()
  }
  if (values.profile) process.stderr.write(`profiles: ${(await readdir(values.profile)).join(' ')}\n`)
}

interface Circumstances {
  readonly clients: number
  readonly wait: string
  readonly statuses: readonly { readonly name: string; readonly role: string; readonly height: number }[]
}

function report(result: GeneratorResult, circumstances: Circumstances, json: boolean): void {
  const { clients, wait, statuses } = circumstances
  const { cpuSeconds } = result
  const rate = result.transactions / result.seconds
  const height = Math.max(...statuses.map(status => status.height))
  const summary = {
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
export function generate(options: GeneratorOptions): Promise<GeneratorResult> {
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
