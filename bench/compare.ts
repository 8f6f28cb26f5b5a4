/**
 * Two commits side by side: `npm run bench -- compare --old REF` (docs/BENCHMARKS.md; `--help` lists the options).
 *
 * Each round runs three full nodes of the one commit and then of the other, and each cluster serves three loads: many
 * clients at all nodes, one client at the leader, one at a follower. A commit's cluster and clients are of its own code; how
 * long they are measured, and what is counted, is this checkout's for both.
 * Machines are noisy: the order changes from round to round, and medians and their ratio are what counts.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, symlinkSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BenchOption, BenchUsageError, benchArguments } from './arguments.ts'
import { checkoutHere, importOf } from './checkout.ts'
import { generateLoad } from './cluster.ts'
import type { GeneratorResult } from './load-generator.ts'
import type { ClusterNode, LocalCluster } from './local-cluster.ts'
import { machineLine } from './machine.ts'

const seed = 'compare'

export const compareOptions = {
  old: { default: '', meaning: 'commit that this checkout is compared with' },
  rounds: { default: 5, meaning: 'rounds; each runs both commits' },
  seconds: { default: 5, meaning: 'how long each load is measured' },
  clients: { default: 256, meaning: 'clients of the first load' },
  'warm-up': { default: 30_000, meaning: 'transactions of the first load before it is measured' },
} as const satisfies Record<string, BenchOption>

const versions = ['old', 'new'] as const
type Version = (typeof versions)[number]

/** The many come first: they warm the nodes up, and a lone commit is one of a node that runs. */
const loads = ['many clients', 'one client at the leader', 'one client at a follower'] as const
type Load = (typeof loads)[number]

interface Figures {
  readonly p50Ms: number
  readonly cpuMsPerTransaction: number
  readonly perSecond: number
}

type Measured = Readonly<Record<Load, Figures>> & { readonly settings: string }

export async function benchCompare(args: readonly string[]): Promise<void> {
  const { old, rounds, seconds, clients, 'warm-up': warmUp } = benchArguments(args, compareOptions)
  const commit = commitOf(old)
  const tree = await checkOut(commit)
  try {
    process.stdout.write(`${machineLine()}\nold: ${commit.slice(0, 12)}; new: this checkout\n`)
    const results: Record<Version, Measured[]> = { old: [], new: [] }
    for (let round = 0; round < rounds; round++)
      for (const version of round % 2 === 0 ? versions : versions.toReversed()) {
        results[version].push(
          await measure({
            root: version === 'old' ? tree : checkoutHere,
            measureMs: seconds * 1_000,
            clients,
            warmUp,
          }),
        )
        process.stderr.write(`round ${round + 1} of ${rounds}: ${version} done\n`)
      }
    for (const version of versions) process.stdout.write(`${version}: ${results[version][0]?.settings}\n`)
    process.stdout.write(`${table(results)}\n`)
  } finally {
    await rm(tree, { recursive: true, force: true })
    execFileSync('git', ['worktree', 'prune'], { cwd: checkoutHere })
  }
}

/** Throws `BenchUsageError`. */
function commitOf(ref: string): string {
  if (ref === '') throw new BenchUsageError('--old: expected a commit')
  try {
    return execFileSync('git', ['rev-parse', '--verify', '--quiet', `${ref}^{commit}`], {
      cwd: checkoutHere,
      encoding: 'utf8',
    }).trim()
  } catch {
    throw new BenchUsageError(`--old: no commit '${ref}' here`)
  }
}

/** A work tree of the commit with its own packages, or these where its lock file is the same. */
async function checkOut(commit: string): Promise<string> {
  const tree = await mkdtemp(join(tmpdir(), 'mote-compare-'))
  const git = (...words: string[]) => execFileSync('git', words, { cwd: checkoutHere, stdio: 'pipe' })
  git('worktree', 'add', '--detach', '--force', tree, commit)
  const sameLock = git('diff', '--name-only', commit, '--', 'package-lock.json').length === 0
  if (sameLock && existsSync(join(checkoutHere, 'node_modules')))
    symlinkSync(join(checkoutHere, 'node_modules'), join(tree, 'node_modules'))
  else
    execFileSync('npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts'], {
      cwd: tree,
      stdio: 'pipe',
    })
  return tree
}

interface Setting {
  readonly root: string
  readonly measureMs: number
  readonly clients: number
  readonly warmUp: number
}

async function measure({ root, measureMs, clients, warmUp }: Setting): Promise<Measured> {
  const { createCluster } = await importOf<typeof import('./local-cluster.ts')>(
    root,
    'bench/local-cluster.ts',
  )
  const cluster = await createCluster({ root, fullNodes: 3, devices: clients + 2, seed })
  try {
    await cluster.start()
    const leader = await cluster.leader()
    const follower = cluster.nodes.find(node => node !== leader) as ClusterNode
    const load = loadOn(cluster, { root, measureMs })
    return {
      settings: await settingsOf(cluster),
      // One after another: each load has devices of its own.
      'many clients': await load({ nodes: cluster.nodes, clients, firstDevice: 3, warmUp }),
      'one client at the leader': await load({ nodes: [leader], clients: 1, firstDevice: 1, warmUp: 300 }),
      'one client at a follower': await load({ nodes: [follower], clients: 1, firstDevice: 2, warmUp: 300 }),
    }
  } finally {
    await cluster.stop()
  }
}

/** An older commit's cluster cannot be asked. */
async function settingsOf(cluster: Partial<Pick<LocalCluster, 'settings'>>): Promise<string> {
  return (await cluster.settings?.()) ?? 'settings: this version of the nodes does not say'
}

function loadOn(cluster: LocalCluster, { root, measureMs }: Pick<Setting, 'root' | 'measureMs'>) {
  return async (load: {
    readonly nodes: readonly ClusterNode[]
    readonly clients: number
    readonly firstDevice: number
    readonly warmUp: number
  }): Promise<Figures> => {
    const result = await generateLoad({
      root,
      chainId: cluster.chainId,
      apis: load.nodes.map(node => node.api),
      seed,
      clients: load.clients,
      firstDevice: load.firstDevice,
      wait: 'certified',
      warmUpTransactions: load.warmUp,
      measureMs,
      measureTransactions: 0,
      pids: cluster.nodes.flatMap(node => node.pid ?? []),
    })
    return figuresOf(result)
  }
}

function figuresOf(result: GeneratorResult): Figures {
  const [failure] = result.failures
  if (failure !== undefined) throw new Error(`a client was refused: ${failure}`)
  const cpuSeconds = result.cpuSeconds.reduce((sum, used) => sum + used, 0)
  return {
    p50Ms: result.p50Ms,
    cpuMsPerTransaction: (1_000 * cpuSeconds) / result.transactions,
    perSecond: result.transactions / result.seconds,
  }
}

const figures = [
  ['p50, ms', 'p50Ms'],
  ['CPU of the nodes, ms per transaction', 'cpuMsPerTransaction'],
  ['certified per second', 'perSecond'],
] as const

/** Markdown: medians, and new ÷ old. */
function table(results: Readonly<Record<Version, readonly Measured[]>>): string {
  const rows = loads.flatMap(load =>
    figures.map(([name, key]) => {
      const [before, after] = versions.map(version => median(results[version].map(each => each[load][key])))
      return `| ${load} | ${name} | ${rounded(before)} | ${rounded(after)} | ${((after ?? 0) / (before ?? 0)).toFixed(2)} |`
    }),
  )
  return ['| load | figure | old | new | new ÷ old |', '| --- | --- | --- | --- | --- |', ...rows].join('\n')
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}

function rounded(value = Number.NaN): string {
  return value >= 100 ? String(Math.round(value)) : value.toFixed(2)
}
