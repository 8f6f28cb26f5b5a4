/** `npm run bench -- NAME [options]`: each benchmark prints what it measured; `--help` prints its options. */
import { type BenchOption, BenchUsageError, benchUsage } from './arguments.ts'

interface Benchmark {
  readonly meaning: string
  /** What is asked for alone is loaded. */
  readonly load: () => Promise<{
    readonly options: Record<string, BenchOption>
    readonly run: (args: readonly string[]) => Promise<void>
  }>
}

const benchmarks: ReadonlyMap<string, Benchmark> = new Map([
  [
    'cluster',
    {
      meaning: 'certified transactions per second of three full nodes, and what they cost',
      load: async () => {
        const { clusterOptions: options, benchCluster: run } = await import('./cluster.ts')
        return { options, run }
      },
    },
  ],
  [
    'compare',
    {
      meaning: 'this checkout beside an older commit: one client and many, in turns',
      load: async () => {
        const { compareOptions: options, benchCompare: run } = await import('./compare.ts')
        return { options, run }
      },
    },
  ],
  [
    'envelopes',
    {
      meaning: 'CPU time of sealing and opening a message, and its bytes, by suite',
      load: async () => {
        const { envelopesOptions: options, benchEnvelopes: run } = await import('./envelopes.ts')
        return { options, run }
      },
    },
  ],
  [
    'leader-loss',
    {
      meaning:
        'time without commits when the leader is killed, falls silent, transfers leadership, is drained',
      load: async () => {
        const { leaderLossOptions: options, benchLeaderLoss: run } = await import('./leader-loss.ts')
        return { options, run }
      },
    },
  ],
  [
    'defaults',
    {
      meaning: 'the same, and throughput, for each default beside its neighbours',
      load: async () => {
        const { defaultsOptions: options, benchDefaults: run } = await import('./defaults.ts')
        return { options, run }
      },
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
  if (!benchmark) {
    ;(helpAsked ? process.stdout : process.stderr).write(usage())
    return helpAsked ? 0 : usageExitCode
  }
  const { options, run } = await benchmark.load()
  const help = benchUsage(command(name), benchmark.meaning, options)
  if (helpAsked) {
    process.stdout.write(help)
    return 0
  }
  try {
    await run(args)
    return 0
  } catch (error) {
    if (!(error instanceof BenchUsageError)) throw error
    process.stderr.write(`${error.message}\n\n${help}`)
    return usageExitCode
  }
}

// An exit in order, so that no node is left behind.
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => process.exit(interruptedExitCode))

process.exitCode = await main(process.argv.slice(2))
