/**
 * `mote gateway start --config FILE`: the MQTT gateway in the foreground.
 */
import type { Command } from 'commander'
import type { AddCommand } from './command.ts'
import { runProgram } from './run-program.ts'

export function gatewayCommands(family: Command, add: AddCommand): void {
  add<{ config: string }>({
    parent: family,
    usage: 'start',
    description:
      'run the gateway until SIGTERM or Ctrl-C, which drain it; prints one JSON line when it is ready',
    options: [{ flags: '--config <file>', description: 'its configuration', required: true }],
    lifetime: 'drains',
    action: async (context, _args, { config }) =>
      runProgram(context, async signal => {
        const { startGateway } = await import('../mqtt-gateway/main.ts')
        return startGateway(config, signal)
      }),
  })
}
