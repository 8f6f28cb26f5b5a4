/**
 * `mote node start --config FILE`: one node in the foreground, as an operator starts it and as a devnet does.
 */
import type { Command } from 'commander'
import type { AddCommand } from './command.ts'
import { runProgram } from './run-program.ts'

export function nodeCommands(family: Command, add: AddCommand): void {
  add<{ config: string }>({
    parent: family,
    usage: 'start',
    description: 'run a node until SIGTERM or Ctrl-C, which drain it; prints one JSON line when it is ready',
    options: [{ flags: '--config <file>', description: 'its configuration', required: true }],
    lifetime: 'drains',
    action: async (context, _args, { config }) =>
      runProgram(context, async signal => {
        const { startNode } = await import('../node/main.ts')
        return startNode(config, signal)
      }),
  })
}
