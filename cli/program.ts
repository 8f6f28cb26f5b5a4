/**
 * The command tree of `mote` and the way from an outcome to an exit code (docs/ERRORS.md).
 *
 * Nothing else ends the program: a refusal becomes its code from the table, a wrong command line 2.
 */
import { Command, CommanderError } from 'commander'
import { errorTable, exitCodes } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'
import { chainCommands } from './chain.ts'
import { chaosCommands } from './chaos.ts'
import { addCommand, type CommandExit } from './command.ts'
import type { Environment } from './context.ts'
import { contractCommands } from './contract.ts'
import { deviceCommands } from './device.ts'
import { devnetCommands } from './devnet.ts'
import { gatewayCommands } from './gateway.ts'
import { groupCommands } from './group.ts'
import { nodeCommands } from './node.ts'
import { Output } from './output.ts'
import { recordCommands } from './record.ts'
import { transactionCommands } from './transaction.ts'

function buildProgram(environment: Environment, outcome: CommandExit): Command {
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
  const family = (name: string, description: string): Command =>
    program.command(name).description(description)
  devnetCommands(family('devnet', 'a local network of real processes'), add)
  deviceCommands(family('device', 'identities, trust, and messages between devices'), add)
  groupCommands(family('group', 'who may read what is sent to a group'), add)
  contractCommands(family('contract', 'what is decided about what devices report'), add)
  recordCommands(family('record', 'what devices report, on the chain'), add)
  transactionCommands(program, family('tx', 'transactions'), add)
  chainCommands(family('chain', 'who certifies the chain'), add)
  chaosCommands(family('chaos', 'faults on the processes of a devnet'), add)
  nodeCommands(family('node', 'one node'), add)
  gatewayCommands(family('gateway', 'the MQTT gateway'), add)
  return program
}

/** Runs one command line (without the program's own name) and returns the exit code. Never throws. */
export async function run(args: readonly string[], environment: Environment): Promise<number> {
  const outcome: CommandExit = { code: exitCodes.ok }
  try {
    await buildProgram(environment, outcome).parseAsync(args, { from: 'user' })
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
