/**
 * `mote devnet up|down|status|logs`: a local network of real processes.
 */

import { randomBytes } from 'node:crypto'
import { userInfo } from 'node:os'
import type { Command } from 'commander'
import { ChainId } from '../chain/brands.ts'
import { exitCodes } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'
import { pause } from '../client/deadline.ts'
import { readKeyFile } from '../client/key-directory.ts'
import { isRunning } from '../client/running-process.ts'
import { brokerDirectory } from '../devnet/broker-child.ts'
import { askControl } from '../devnet/control.ts'
import { removeDirectory } from '../devnet/generate.ts'
import { type DevnetDescription, layout, readDescription } from '../devnet/layout.ts'
import { isLive, startDevnet } from '../devnet/run.ts'
import { agentsCommand } from './agents.ts'
import type { AddCommand } from './command.ts'
import { type Context, parseCount } from './context.ts'
import { startDetached } from './detached-devnet.ts'
import { devnetLogs } from './devnet-logs.ts'
import { mappedTopics, seedWarning, type UpOptions, upOptions } from './devnet-options.ts'
import { devnetStatus, printStatus } from './devnet-status.ts'
import { thisProgram } from './this-program.ts'

export function devnetCommands(family: Command, add: AddCommand): void {
  add<UpOptions>({
    parent: family,
    usage: 'up',
    description: 'start a devnet; ready when every node and the gateway have answered a query',
    options: [
      ...upOptions,
      { flags: '--detach', description: 'return when it is ready and leave it running' },
    ],
    exits: {
      0: 'it was up, and was stopped in order: by Ctrl-C, SIGTERM or `mote devnet down`; with --detach, it is up',
      130: 'stopped by a signal before it was up, or a second time while it stopped',
    },
    lifetime: 'drains',
    action: (context, _args, options) =>
      options.detach ? startDetached(context, options) : up(context, options),
  })
  add<UpOptions>({
    parent: family,
    usage: 'supervise',
    description: 'what `up --detach` leaves running',
    options: [...upOptions, { flags: '--temporary', description: 'remove the directory at the end' }],
    lifetime: 'drains',
    hidden: true,
    action: (context, _args, options) => up(context, options),
  })
  agentsCommand(family, add)
  add({ parent: family, usage: 'down', description: 'stop the devnet', action: down })
  add({
    parent: family,
    usage: 'status',
    description: 'every node, the gateway and the devices',
    notes:
      "Nodes are those of the supervisor, and those that somebody has started by hand from this directory's configurations, while they\n" +
      'answer. Devices are the identities whose keys are here, whether or not they run a node.',
    action: devnetStatus,
  })
  add<{ follow?: boolean; lines: number }>({
    parent: family,
    usage: 'logs [node]',
    description: 'the end of the logs of one node, or of all',
    options: [
      { flags: '-f, --follow', description: 'go on as they grow' },
      {
        flags: '-n, --lines <n>',
        description: 'how many lines of each',
        default: 50,
        read: parseCount('lines', 0, 100_000),
      },
    ],
    lifetime: 'listens',
    action: devnetLogs,
  })
}

/** Tells the process that asked for a detached devnet, if that is how this one was started. */
function report(message: object): void {
  if (process.connected) process.send?.(message)
}

async function up(context: Context, options: UpOptions): Promise<number> {
  const { output, directory, signal } = context
  if (options.devices > 0 && options.coordination === 0)
    throw new MoteError(
      'usage',
      'coordination: devices join through a coordination node; expected at least 1',
    )
  if (options.tls && options.broker !== 'embedded')
    throw new MoteError(
      'usage',
      "tls: the port for it is the gateway's own broker's; expected --broker embedded",
    )
  if (mappedTopics(options) && options.broker !== 'embedded')
    throw new MoteError(
      'usage',
      "plain-in, plain-out: topics are mapped at the gateway's own broker; expected --broker embedded",
    )
  if (options.seed !== undefined) output.note(seedWarning)
  const onProgress = (text: string): void => {
    output.note(text)
    report({ type: 'progress', text })
  }
  const devnet = await startDevnet({
    directory,
    temporary: options.temporary ?? !context.directoryNamed,
    size: options,
    seed: options.seed ?? randomBytes(16).toString('hex'),
    ports: options.ports,
    suites: options.suites,
    tls: options.tls ?? false,
    plain: mappedTopics(options),
    agents: options.agents ?? false,
    prepareBroker: options.broker === 'mosquitto' ? prepareBroker : undefined,
    program: thisProgram(),
    probeGateway: async (description, probeSignal) => {
      const { probeGateway } = await import('./gateway-probe.ts')
      await probeGateway(directory, description, probeSignal)
    },
    makeEpochs: async access => {
      const { withFirstEpochs } = await import('./group-epochs.ts')
      const { timeoutMs } = context
      await withFirstEpochs({ timeoutMs, output: { note: onProgress } }, access)
    },
    onProgress,
    signal,
  }).catch((error: unknown) => {
    const { code, detail } = error instanceof MoteError ? error : new MoteError('internal', String(error))
    report({ type: 'failed', code, detail })
    throw error
  })
  report({ type: 'ready' })
  if (process.connected) process.disconnect()
  else await printStatus(context, devnet.description, await devnet.supervisor.status(), { banner: true })
  const stopAsked = new Promise<void>(resolve => {
    if (signal.aborted) resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
  await Promise.race([stopAsked, devnet.supervisor.closed])
  output.note('stopping; once more to force')
  await devnet.stop()
  return exitCodes.ok
}

/** The accounts are the gateway's to make: there is no chain yet. */
async function prepareBroker(directory: string, { chainId, gateway }: DevnetDescription): Promise<void> {
  const { writeMosquittoDirectory } = await import('../mqtt-gateway/mosquitto-directory.ts')
  const { host, port } = gateway.mqtt
  await writeMosquittoDirectory({
    directory: brokerDirectory(directory),
    listen: { host, port },
    user: userInfo().username,
    chainId: ChainId(chainId),
    keys: await readKeyFile(layout.nodeKey(directory, gateway.name)),
    accounts: async () => [],
  })
}

const downPollMs = 20

async function down(context: Context): Promise<number> {
  const { directory, output } = context
  const description = await readDescription(directory)
  if (!description) throw new MoteError('not-running', `${directory}: no devnet here`)
  const live = await isLive(description)
  if (live) {
    await askControl(description.controlSocket, { command: 'down' }, context.signal)
    while (isRunning(description.supervisorPid) && !context.signal.aborted)
      await pause(downPollMs, context.signal)
  } else if (!description.temporary) throw new MoteError('not-running', `${directory}: no devnet runs here`)
  if (description.temporary) await removeDirectory(directory)
  const removed = description.temporary
  output.data({ stopped: live, directory, removed }, () =>
    removed
      ? `stopped, ${directory} removed`
      : `stopped; ${directory} is kept, \`mote devnet up --dir\` goes on with it`,
  )
  return exitCodes.ok
}
