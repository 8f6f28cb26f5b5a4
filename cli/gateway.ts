/**
 * `mote gateway start --config FILE`: the MQTT gateway in the foreground; what a Mosquitto that it stands beside is started with; and the
 * certificate of a TLS port.
 */
import { userInfo } from 'node:os'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { exitCodes } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'
import type { MosquittoTls } from '../mqtt-gateway/server/mosquitto-files.ts'
import { gatewayCertificateCommand } from './certificates.ts'
import type { AddCommand } from './command.ts'
import { type Context, parseCount } from './context.ts'
import { runProgram } from './run-program.ts'

export function gatewayCommands(family: Command, add: AddCommand): void {
  gatewayCertificateCommand(family, add)
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
  add<MosquittoOptions>({
    parent: family,
    usage: 'mosquitto',
    description:
      'write what a Mosquitto beside this gateway is started with: configuration, access rules, accounts',
    options: [
      { flags: '--config <file>', description: "the gateway's configuration, with `broker`", required: true },
      { flags: '--out <directory>', description: 'where to', required: true },
      { flags: '--listen <host>', description: 'address to listen on; that of the configuration by default' },
      { flags: '--certificate <file>', description: 'PEM, for TLS; with --key' },
      { flags: '--key <file>', description: 'PEM of its key, which Mosquitto has to be able to read' },
      {
        flags: '--client-ca <file>',
        description:
          'PEM of the authorities of client certificates: a second port takes devices by theirs, and by no password',
      },
      {
        flags: '--client-port <port>',
        description: `that port (default: ${defaultClientPort})`,
        read: parseCount('client-port', 1, 65_535),
      },
      {
        flags: '--plugin <file>',
        description: 'mosquitto_dynamic_security.so, where it is in an unusual place',
      },
      {
        flags: '--user <name>',
        description: 'who Mosquitto runs as if root starts it',
        default: userInfo().username,
      },
    ],
    notes:
      'The accounts are read from the chain once; the gateway keeps them equal to it from then on. Accounts that are there already stay as they are.',
    action: mosquitto,
  })
}

/** Where brokers commonly have the port that wants a client certificate. */
const defaultClientPort = 8884

interface MosquittoOptions {
  readonly config: string
  readonly out: string
  readonly listen?: string
  readonly certificate?: string
  readonly key?: string
  readonly clientCa?: string
  readonly clientPort?: number
  readonly plugin?: string
  readonly user: string
}

async function mosquitto(
  { output }: Context,
  _args: readonly string[],
  options: MosquittoOptions,
): Promise<number> {
  const { config, out, listen, plugin, user } = options
  const tls = tlsOf(options)
  const { prepareMosquitto } = await import('../mqtt-gateway/mosquitto-setup.ts')
  const log = { level: 'warn' } as const
  const written = await prepareMosquitto({ config, directory: out, listen, plugin, tls, user, log })
  const { configuration, accounts = null } = written
  output.data({ configuration, accounts }, () =>
    [
      accounts === null ? 'the accounts that were there stay' : `${accounts} accounts`,
      `start it with: mosquitto -c ${configuration}`,
    ].join('\n'),
  )
  return exitCodes.ok
}

/** Absolute: Mosquitto is started elsewhere. Throws `usage`. */
function tlsOf({ certificate, key, clientCa, clientPort }: MosquittoOptions): MosquittoTls | undefined {
  if ((certificate === undefined) !== (key === undefined))
    throw new MoteError('usage', 'certificate, key: expected both, or none')
  if (clientCa === undefined && clientPort !== undefined)
    throw new MoteError('usage', 'client-port: expected --client-ca beside it')
  if (certificate === undefined || key === undefined) {
    if (clientCa !== undefined)
      throw new MoteError('usage', 'client-ca: expected --certificate and --key beside it')
    return undefined
  }
  const clients = clientCa ? { ca: resolve(clientCa), port: clientPort ?? defaultClientPort } : undefined
  return { certificate: resolve(certificate), key: resolve(key), clients }
}
