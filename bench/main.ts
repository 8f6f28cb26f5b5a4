/** `npm run bench -- NAME [options]`: each benchmark prints what it measured. */
import { benchCluster } from './cluster.ts'
import { benchDefaults } from './defaults.ts'
import { benchLeaderLoss } from './leader-loss.ts'

const benchmarks: Readonly<Record<string, (args: readonly string[]) => Promise<void>>> = {
  cluster: benchCluster,
  defaults: benchDefaults,
  'leader-loss': benchLeaderLoss,
}

// An exit in order, so that no node is left behind.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130))

const [name = '', ...args] = process.argv.slice(2)
const benchmark = benchmarks[name]
if (benchmark) await benchmark(args)
else {
  process.stderr.write(`usage: npm run bench -- ${Object.keys(benchmarks).join('|')} [options]\n`)
  process.exitCode = 2
}
