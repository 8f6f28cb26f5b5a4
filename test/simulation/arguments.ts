/** The arguments of `npm run sim`, and what a failing run prints to be run again. */
import { execFileSync } from 'node:child_process'
import { parseArgs } from 'node:util'

export interface SimArguments {
  readonly seeds: number
  readonly from: number
  readonly events: number | undefined
  /** One seed, with its trace. */
  readonly seed: number | undefined
  readonly trace: boolean
  readonly mutants: boolean
  readonly mutant: string | undefined
  readonly jobs: number
}

export const usage = `npm run sim -- [--seeds N] [--from S] [--events M] [--jobs J]   runs seeds S to S+N-1
npm run sim -- --seed S [--events M] [--trace]                 runs one seed, and prints what happened
npm run sim -- --mutants [--mutant NAME] [--seeds N]           puts known bugs back in, one at a time
`

export class UsageError extends Error {}

export function simArguments(argv: readonly string[]): SimArguments {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: {
        seeds: { type: 'string' },
        from: { type: 'string' },
        events: { type: 'string' },
        seed: { type: 'string' },
        trace: { type: 'boolean' },
        mutants: { type: 'boolean' },
        mutant: { type: 'string' },
        jobs: { type: 'string' },
      },
    })
    return {
      seeds: natural('seeds', values.seeds) ?? (values.mutants || values.mutant ? 600 : 200),
      from: natural('from', values.from) ?? 1,
      events: natural('events', values.events),
      seed: natural('seed', values.seed),
      trace: values.trace ?? false,
      mutants: (values.mutants ?? false) || values.mutant !== undefined,
      mutant: values.mutant,
      jobs: Math.max(1, natural('jobs', values.jobs) ?? 2),
    }
  } catch (error) {
    throw error instanceof UsageError ? error : new UsageError((error as Error).message)
  }
}

function natural(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0)
    throw new UsageError(`--${name}: expected a natural number, got ${text}`)
  return value
}

/** The commit that a seed belongs to: another one may behave otherwise. */
export function commitName(): string {
  try {
    const git = (...args: string[]) => execFileSync('git', args, { encoding: 'utf8' }).trim()
    const changed = git('status', '--porcelain', '--untracked-files=no') === '' ? '' : ' with changes'
    return `${git('rev-parse', '--short=12', 'HEAD')}${changed}`
  } catch {
    return 'unknown commit'
  }
}

export function replayCommand(seed: number, events: number | undefined): string {
  return `npm run sim -- --seed ${seed}${events === undefined ? '' : ` --events ${events}`} --trace`
}
