/** `npm run bench -- NAME [options]`: each benchmark prints what it measured; `--help` prints its options. */
import { type BenchOption, BenchUsageError, benchUsage } from './arguments.ts'
import { benchCluster, clusterOptions } from './cluster.ts'
import { benchCompare, compareOptions } from './compare.ts'
import { benchDefaults, defaultsOptions } from './defaults.ts'
import { benchEnvelopes, envelopesOptions } from './envelopes.ts'
import { benchLeaderLoss, leaderLossOptions } from './leader-loss.ts'

interface Benchmark {
  readonly meaning: string
  readonly options: Record<string, BenchOption>
  readonly run: (args: readonly string[]) => Promise<void>
}

const benchmarks: ReadonlyMap<string, Benchmark> = new Map([
  [
    'cluster',
    {
      meaning: 'certified transactions per second of three full nodes, and what they cost',
      options: clusterOptions,
      run: benchCluster,
    },
  ],
  [
    'compare',
    {
      meaning: 'this checkout beside an older commit: one client and many, in turns',
      options: compareOptions,
      run: benchCompare,
    },
  ],
  [
    'envelopes',
    {
      meaning: 'CPU time of sealing and opening a message, and its bytes, by suite',
      options: envelopesOptions,
      run: benchEnvelopes,
    },
  ],
  [
    'leader-loss',
    {
      meaning:
        'time without commits when the leader is killed, falls silent, transfers leadership, is drained',
      options: leaderLossOptions,
      run: benchLeaderLoss,
    },
  ],
  [
    'defaults',
    {
      meaning: 'the same, and throughput, for each default beside its neighbours',
      options: defaultsOptions,
      run: benchDefaults,
    },
  ],
])

const usageExitCode = 2
const interruptedExitCode = 130
const command = (name: string): string => `npm run bench -- ${name}`

function usage(): string {
  const rows = [...benchmarks].map(([name, { meaning }]) => `  ${command(name).padEnd(28)}  ${meaning}`)
  return `usage: npm run bench -- NAME [options]\n\n${rows.join('\n')}\n\n--help after a name prints its options.\n`
}

async function main([name = '', ...args]: readonly string[]): Promise<number> {
  const benchmark = benchmarks.get(name)
  const helpAsked = [name, ...args].some(word => word === '--help' || word === '-h')
  if (helpAsked) {
    const text = benchmark ? benchUsage(command(name), benchmark.meaning, benchmark.options) : usage()
    process.stdout.write(text)
    return 0
  }
  if (!benchmark) {
    process.stderr.write(usage())
    return usageExitCode
  }
  try {
    await benchmark.run(args)
    return 0
  } catch (error) {
    if (!(error instanceof BenchUsageError)) throw error
    process.stderr.write(
      `${error.message}\n\n${benchUsage(command(name), benchmark.meaning, benchmark.options)}`,
    )
    return usageExitCode
  }
}

// An exit in order, so that no node is left behind.
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => process.exit(interruptedExitCode))

process.exitCode = await main(process.argv.slice(2))
