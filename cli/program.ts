/**
 * The command tree of `mote` and the way from an outcome to an exit code (docs/ERRORS.md).
 *
 * Nothing else ends the program: a refusal becomes its code from the table, a wrong command line 2. A family of commands is loaded
 * only if the command line has its name: a start is mostly the loading of modules.
 */
import { Command, CommanderError } from 'commander'
import { errorTable, exitCodes } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'
import { type AddCommand, addCommand, type CommandExit } from './command.ts'
import type { Environment } from './context.ts'
import { Output } from './output.ts'

/** What one word after `mote` stands for. */
interface Family {
  readonly description: string
  /** Gives what adds its commands to it. */
  readonly load: () => Promise<(family: Command, add: AddCommand) => void>
}

const families: Readonly<Record<string, Family>> = {
  devnet: {
    description: 'a local network of real processes',
    load: async () => (await import('./devnet.ts')).devnetCommands,
  },
  device: {
    description: 'identities, trust, and messages between devices',
    load: async () => (await import('./device.ts')).deviceCommands,
  },
  group: {
    description: 'who may read what is sent to a group',
    load: async () => (await import('./group.ts')).groupCommands,
  },
  contract: {
    description: 'what is decided about what devices report',
    load: async () => (await import('./contract.ts')).contractCommands,
  },
  record: {
    description: 'what devices report, on the chain',
    load: async () => (await import('./record.ts')).recordCommands,
  },
  tx: {
    description: 'transactions',
    load: async () => (await import('./transaction.ts')).transactionCommands,
  },
  chain: {
    description: 'who certifies the chain',
    load: async () => (await import('./chain.ts')).chainCommands,
  },
  chaos: {
    description: 'faults on the processes of a devnet',
    load: async () => (await import('./chaos.ts')).chaosCommands,
  },
  node: { description: 'one node', load: async () => (await import('./node.ts')).nodeCommands },
  gateway: {
    description: 'the MQTT gateway',
    load: async () => (await import('./gateway.ts')).gatewayCommands,
  },
}

async function buildProgram(
  args: readonly string[],
  environment: Environment,
  outcome: CommandExit,
): Promise<Command> {
  const { streams } = environment
  const program = new Command('mote')
    .description(
      'motechain: a permissioned chain that says who an IoT device is, which keys are valid, and whom to trust',
    )
    .version('0.1.0')
    .exitOverride()
    .configureOutput({
      writeOut: text => void streams.stdout.write(text),
      writeErr: text => void streams.stderr.write(text),
    })
    .showSuggestionAfterError()
    .addHelpText(
      'after',
      '\nExit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 not authorised, 5 predicate false, 6 no leader (retry),\n' +
        '124 timeout, 130 interrupted. Every command takes --json, --dir and --timeout.',
    )
  const add = addCommand(environment, outcome)
  // `mote help device` names it second; to load one for an argument that happens to be its name does no harm.
  const isNamed = (name: string) => args.includes(name)
  for (const [name, { description, load }] of Object.entries(families)) {
    const family = program.command(name).description(description)
    if (isNamed(name)) (await load())(family, add)
  }
  add({
    parent: program,
    usage: 'block <height>',
    description: "a block by its height, or 'latest', and its transactions, proven under its certificate",
    action: async (context, args) => (await import('./transaction.ts')).showBlock(context, args),
  })
  return program
}

/** Runs one command line (without the program's own name) and returns the exit code. Never throws. */
export async function run(args: readonly string[], environment: Environment): Promise<number> {
  const outcome: CommandExit = { code: exitCodes.ok }
  try {
    const program = await buildProgram(args, environment, outcome)
    await program.parseAsync(args, { from: 'user' })
    return outcome.code
  } catch (error) {
    if (error instanceof CommanderError) return exitOfCommander(error)
    const json = args.includes('--json')
    const output = new Output({ streams: environment.streams, json, environment: environment.variables })
    const known =
      error instanceof MoteError
        ? error
        : new MoteError('internal', error instanceof Error ? (error.stack ?? error.message) : String(error))
    output.failure(known)
    return errorTable[known.code].exit
  }
}

/** Commander has printed help or what is wrong already. */
function exitOfCommander({ code }: CommanderError): number {
  if (code === 'commander.helpDisplayed' || code === 'commander.version') return exitCodes.ok
  return exitCodes.usage
}
