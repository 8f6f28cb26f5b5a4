/**
 * The options of a benchmark: one table gives the parser, the checks and the text of `--help`.
 *
 * A wrong word is the caller's mistake: it is answered with a sentence and exit code 2, never with a stack.
 */
import { parseArgs } from 'node:util'
import { exitCodes } from '../chain/errors.ts'

/** An option: its default, whose type the given value must have, and what it is for. */
export interface BenchOption<T extends string | number | boolean = string | number | boolean> {
  readonly default: T
  readonly meaning: string
  /** Whole numbers only, from here on. Default 1. */
  readonly least?: number
}

type Widened<T> = T extends number ? number : T extends boolean ? boolean : string
export type BenchValues<Options extends Record<string, BenchOption>> = {
  readonly [Name in keyof Options]: Widened<Options[Name]['default']>
}

/** The command line is wrong; the message says where. */
export class BenchUsageError extends Error {}

/** The values of `args`, with the defaults for what is not given. Throws `BenchUsageError`. */
export function benchArguments<Options extends Record<string, BenchOption>>(
  args: readonly string[],
  options: Options,
): BenchValues<Options> {
  const given = parsed(args, options)
  const values = Object.entries(options).map(([name, option]) => {
    const text = given[name]
    if (text === undefined || typeof option.default !== 'number') return [name, text ?? option.default]
    return [name, natural(name, String(text), option.least ?? 1)]
  })
  return Object.fromEntries(values) as BenchValues<Options>
}

function parsed(args: readonly string[], options: Record<string, BenchOption>) {
  const config = Object.entries(options).map(([name, option]) => {
    const type = typeof option.default === 'boolean' ? 'boolean' : 'string'
    return [name, { type }] as const
  })
  try {
    return parseArgs({ args: [...args], options: Object.fromEntries(config) }).values
  } catch (error) {
    throw new BenchUsageError((error as Error).message)
  }
}

function natural(name: string, text: string, least: number): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN
  if (value >= least) return value
  throw new BenchUsageError(`--${name}: expected a whole number from ${least} on, got '${text}'`)
}

/** What `--help` prints of a benchmark. */
export function benchUsage(command: string, meaning: string, options: Record<string, BenchOption>): string {
  const rows = Object.entries(options).map(([name, option]) => {
    const value =
      typeof option.default === 'boolean' ? '' : ` ${typeof option.default === 'number' ? 'N' : 'TEXT'}`
    const fallback = option.default === '' || option.default === false ? '' : ` (${option.default})`
    return [`--${name}${value}`, `${option.meaning}${fallback}`] as const
  })
  const width = Math.max(...rows.map(([flag]) => flag.length))
  const lines = rows.map(([flag, text]) => `  ${flag.padEnd(width)}  ${text}`)
  return `${command} [options]   ${meaning}\n\n${lines.join('\n')}\n`
}

/** A program of this repository that has options. */
export interface OptionsProgram<Options extends Record<string, BenchOption>> {
  /** As people type it, `npm run test:faults --` say. */
  readonly command: string
  readonly meaning: string
  readonly options: Options
  /** Gives the exit code. Throws `BenchUsageError` for values that do not go together. */
  readonly run: (values: BenchValues<Options>) => Promise<number>
}

/** Runs it: `--help` is a text, and a wrong word a sentence and exit code 2. Gives the exit code. */
export async function runWithOptions<Options extends Record<string, BenchOption>>(
  args: readonly string[],
  { command, meaning, options, run }: OptionsProgram<Options>,
): Promise<number> {
  const usage = benchUsage(command, meaning, options)
  if (args.includes('--help') || args.includes('-h')) {
    process.stdout.write(usage)
    return exitCodes.ok
  }
  try {
    return await run(benchArguments(args, options))
  } catch (error) {
    if (!(error instanceof BenchUsageError)) throw error
    process.stderr.write(`${error.message}\n\n${usage}`)
    return exitCodes.usage
  }
}
