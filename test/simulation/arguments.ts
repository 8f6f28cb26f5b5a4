/** The arguments of `npm run sim`, and what a failing run prints to be run again. */
import { execFileSync } from 'node:child_process'
import { parseArgs } from 'node:util'

export interface SimArguments {
  readonly help: boolean
  readonly seeds: number
  readonly from: number
  readonly events: number | undefined
  /** One seed alone. */
  readonly seed: number | undefined
  readonly trace: boolean
  readonly mutants: boolean
  /** Names; none means all. */
  readonly chosen: readonly string[]
  readonly jobs: number
}

export const usage = `npm run sim -- [--seeds N] [--from S] [--events M] [--jobs J]   runs N seeds from S on (200 from 1)
npm run sim -- --seed S [--events M] [--trace]                 runs one seed, and prints what happened
npm run sim -- --mutants [--seeds N] [--jobs J]                puts known bugs back in, one at a time; each must be caught
npm run sim -- --mutant NAME[,NAME…] [--seeds N]               some of them
npm run sim -- --mutant NAME --seed S [--trace]                one seed with that bug

--events M   events before the faults of a run end (2500)
--jobs J     processes (2)
--trace      every event of the run, with its time in simulated milliseconds

Exit codes: 0 all as it should be, 1 a failed seed or an uncaught bug, 2 usage, 130 interrupted.
`

export class UsageError extends Error {}

const most = 2 ** 31

export function simArguments(argv: readonly string[]): SimArguments {
  const values = parsed(argv)
  const { seed, events, trace, mutant } = values
  const mutants = (values.mutants ?? false) || mutant !== undefined
  if (seed !== undefined)
    for (const other of ['seeds', 'from', 'jobs', 'mutants'] as const)
      if (values[other] !== undefined) throw new UsageError(`--seed: runs alone, got --${other} as well`)
  if (trace && seed === undefined) throw new UsageError('--trace: expected --seed with it')
  return {
    help: values.help ?? false,
    seeds: natural('seeds', values.seeds, 1) ?? (mutants ? 1_500 : 200),
    from: natural('from', values.from, 0) ?? 1,
    events: natural('events', events, 1),
    seed: natural('seed', seed, 0),
    trace: trace ?? false,
    mutants,
    chosen: mutant?.split(',') ?? [],
    jobs: natural('jobs', values.jobs, 1) ?? 2,
  }
}

function parsed(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        help: { type: 'boolean', short: 'h' },
        seeds: { type: 'string' },
        from: { type: 'string' },
        events: { type: 'string' },
        seed: { type: 'string' },
        trace: { type: 'boolean' },
        mutants: { type: 'boolean' },
        mutant: { type: 'string' },
        jobs: { type: 'string' },
      },
    }).values
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

function natural(name: string, text: string | undefined, least: number): number | undefined {
  if (text === undefined) return undefined
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (!(value >= least && value < most))
    throw new UsageError(`--${name}: expected a whole number from ${least} to ${most - 1}, got ${text}`)
  return value
}

/** The commit that a seed belongs to: another one may behave otherwise. */
export function commitName(): string {
  try {
    const git = (...args: string[]) =>
      execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
    const changed = git('status', '--porcelain', '--untracked-files=no') === '' ? '' : ' with changes'
    return `${git('rev-parse', '--short=12', 'HEAD')}${changed}`
  } catch {
    return 'unknown commit'
  }
}

/** What a person types to see a run again. */
export function replayCommand({ seed, events, mutant }: Replayed): string {
  const more = [
    ...(events === undefined ? [] : [`--events ${events}`]),
    ...(mutant === undefined ? [] : [`--mutant ${mutant}`]),
  ]
  return ['npm run sim --', `--seed ${seed}`, ...more, '--trace'].join(' ')
}

/** One run, as it was asked for. */
export interface Replayed {
  readonly seed: number
  readonly events?: number | undefined
  readonly mutant?: string | undefined
}

/** What is said of a failed seed: what, at which commit, and how to see it. */
export function failureText(commit: string, violation: string, run: Replayed): string {
  return `seed ${run.seed} at ${commit}: ${violation}\n  again: ${replayCommand(run)}`
}
