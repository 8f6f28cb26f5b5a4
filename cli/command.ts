/**
 * What a command of `mote` is: its words, its options, and a function from context, arguments and options to an exit
 * code.
 */
import { type Command, InvalidArgumentError } from 'commander'
import { exitCodes } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'
import {
  type Context,
  type Environment,
  type GlobalOptions,
  makeContext,
  parseSeconds,
  withinDeadline,
} from './context.ts'

/** What a command ends with: an exit code. */
export type Action<Options> = (
  context: Context,
  args: readonly string[],
  options: Options & GlobalOptions,
) => Promise<number>

export interface CommandSpec<Options = object> {
  readonly parent: Command
  /** Name and arguments as commander writes them: `trust <device>`. */
  readonly usage: string
  readonly description: string
  /** Flags, description, and optionally a reader of the value and a default. */
  readonly options?: readonly OptionSpec[]
  /**
   * `deadline` (the default): ends at `--timeout`. `listens`: runs until a signal, which ends it at once, or until a
   * `--timeout` that was given. `drains`: the same, but the action itself ends in order when `context.signal` fires.
   */
  readonly lifetime?: 'deadline' | 'listens' | 'drains'
  readonly hidden?: boolean
  /** Runs when its family is named without a command. */
  readonly isDefault?: boolean
  /** What an exit code means here, where that is more than its name. Codes that cannot come are left out of the help. */
  readonly exits?: Readonly<Partial<Record<ExitCode, string>>>
  /** An argument may begin with a minus sign, as -70s, and is no option then. */
  readonly signedArguments?: boolean
  /** More for `--help`, below the options. */
  readonly notes?: string
  readonly action: Action<Options>
}

export interface OptionSpec {
  readonly flags: string
  readonly description: string
  readonly read?: (text: string) => unknown
  readonly default?: unknown
  readonly required?: boolean
}

type ExitCode = (typeof exitCodes)[keyof typeof exitCodes]

/** What every command may end with. */
const commonExits = {
  [exitCodes.ok]: 'done',
  [exitCodes.failure]: 'failed',
  [exitCodes.usage]: 'wrong command line or configuration',
  [exitCodes.notFound]: 'no such device, group, transaction, block, node or devnet',
  [exitCodes.notAuthorised]: 'not authorised',
  [exitCodes.noLeader]: 'no leader, or too much work: try again',
  [exitCodes.timeout]: 'no answer in time',
  [exitCodes.interrupted]: 'stopped by a signal',
} as const satisfies Partial<Record<ExitCode, string>>

function exitsText(exits: CommandSpec['exits']): string {
  const all = Object.entries({ ...commonExits, ...exits }).sort(([a], [b]) => Number(a) - Number(b))
  return ['Exit codes:', ...all.map(([code, meaning]) => `  ${code.padEnd(3)}  ${meaning}`)].join('\n')
}

/** Adds a command; the families of commands are built with it. */
export type AddCommand = <Options = object>(spec: CommandSpec<Options>) => void

/** Turns a refusal of an option's reader into commander's own, which names the option. */
function reader(read: (text: string) => unknown): (text: string) => unknown {
  return text => {
    try {
      return read(text)
    } catch (error) {
      throw new InvalidArgumentError(error instanceof MoteError ? error.detail : String(error))
    }
  }
}

/** Where the exit code of the command that ran ends up. */
export interface CommandExit {
  code: number
}

/** Commands added with it share the common options and end by the same rules. */
export function addCommand(environment: Environment, outcome: CommandExit): AddCommand {
  return spec => {
    const command = spec.parent
      .command(spec.usage, { hidden: spec.hidden ?? false, isDefault: spec.isDefault ?? false })
      .description(spec.description)
      .allowUnknownOption(spec.signedArguments ?? false)
      .option('--dir <directory>', 'the devnet or node to talk to (MOTE_DIR)')
      .option('--timeout <seconds>', 'give up after this long (MOTE_TIMEOUT; 30)', reader(parseSeconds))
      .option('--json', 'JSON on standard output (MOTE_JSON)')
      .addHelpText(
        'after',
        `${spec.notes === undefined ? '' : `\n${spec.notes}\n`}\n${exitsText(spec.exits)}`,
      )
    for (const { flags, description, read, default: fallback, required } of spec.options ?? []) {
      const option = command.createOption(flags, description)
      if (read) option.argParser(reader(read))
      if (fallback !== undefined) option.default(fallback)
      option.makeOptionMandatory(required ?? false)
      command.addOption(option)
    }
    command.action(async (...values: unknown[]) => {
      const options = command.opts<never>() as GlobalOptions
      const args = values
        .slice(0, -2)
        .flat()
        .filter(value => value !== undefined) as string[]
      const lifetime = spec.lifetime ?? 'deadline'
      const context = makeContext(environment, options, lifetime === 'deadline')
      const work = () => spec.action(context, args, options as never)
      outcome.code = lifetime === 'drains' ? await work() : await withinDeadline(context, work)
    })
  }
}
