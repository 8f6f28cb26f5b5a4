/**
 * A devnet from nothing to answering, and down again: the composition root of `mote devnet up`.
 */

import { isDeepStrictEqual } from 'node:util'
import type { EnvelopeSuite } from '../chain/envelope-suites.ts'
import { checkpointFromGenesis } from '../chain/genesis.ts'
import { MoteError } from '../chain/result.ts'
import { ChainClient } from '../client/chain-client.ts'
import { Deadline } from '../client/deadline.ts'
import { readGenesisFile } from '../client/genesis-file.ts'
import { httpSource } from '../client/http-source.ts'
import { httpContact } from '../client/join.ts'
import { KeyDirectory } from '../client/key-directory.ts'
import type { ChainAccess } from './access.ts'
import { requireMosquitto } from './broker-child.ts'
import type { Program } from './child.ts'
import { askControl } from './control.ts'
import { type DevnetSize, generateDevnet, removeDirectory } from './generate.ts'
import {
  apiUrl,
  chooseControlSocket,
  type DevnetDescription,
  layout,
  readDescription,
  removeControlSocket,
  writeDescription,
} from './layout.ts'
import { populate } from './population.ts'
import { Supervisor } from './supervisor.ts'

export interface DevnetOptions {
  readonly directory: string
  /** Nobody named the directory: it is removed when the devnet goes down. */
  readonly temporary: boolean
  readonly size: DevnetSize
  readonly seed: string
  readonly ports: number | 'auto'
  readonly suites?: readonly EnvelopeSuite[] | undefined
  /** The gateway has a port for TLS too. */
  readonly tls?: boolean
  /** Topics that the gateway maps for plain clients. */
  readonly plain?: DevnetDescription['gateway']['plain'] | undefined
  /** Connect all devices, in one agent process. */
  readonly agents?: boolean
  /** A Mosquitto stands before the gateway: writes what it is started with. Throws `not-installed`. */
  readonly prepareBroker?: ((directory: string, description: DevnetDescription) => Promise<void>) | undefined
  readonly program: Program
  readonly probeGateway: (description: DevnetDescription, signal: AbortSignal) => Promise<void>
  /** Has the groups' owners make the first epoch of each over the gateway, where there is none that fits its members. */
  readonly makeEpochs: (access: ChainAccess) => Promise<void>
  readonly onProgress: (message: string) => void
  /** Ends the start when it fires. */
  readonly signal: AbortSignal
}

export interface RunningDevnet {
  readonly description: DevnetDescription
  readonly supervisor: Supervisor
  /** Stops everything; removes a temporary directory. Safe to call twice. */
  stop(): Promise<void>
}

/** Everything must have answered by then, and so much later for each device, which joins by some transactions. */
const readyDeadlineMs = 60_000
const readyPerDeviceMs = 240

/** As many devices as there may be have connected by then, or have had their turn. */
const agentsDeadlineMs = 180_000

/** True if a supervisor answers on this devnet's control socket. */
export async function isLive(description: DevnetDescription): Promise<boolean> {
  try {
    await askControl(description.controlSocket, { command: 'ping' }, AbortSignal.timeout(5_000))
    return true
  } catch (error) {
    // A supervisor that is too busy to answer is there.
    return error instanceof MoteError && error.code === 'timeout'
  }
}

/** Starts a devnet. Throws `in-use` if one lives in the directory, `start-failed` if a part does not come up. */
export async function startDevnet(options: DevnetOptions): Promise<RunningDevnet> {
  const { directory, program, probeGateway, makeEpochs, onProgress } = options
  const description = await prepare(options)
  const supervisor = await Supervisor.open({ directory, description, program, probeGateway, onProgress })
  process.once('exit', () => supervisor.killAll())
  const withinMs = readyDeadlineMs + readyPerDeviceMs * description.devices.length
  const deadline = new Deadline(withinMs, { signal: options.signal })
  const { signal } = deadline
  try {
    await Promise.all([supervisor.startNodes(signal), supervisor.startBroker(signal)])
    const [access] = await Promise.all([
      settle(options, description, signal),
      supervisor.startGateway(signal).then(() => supervisor.waitForGateway(signal)),
      supervisor.startJoined(signal),
    ])
    const late = () => new MoteError('timeout', 'the groups have no epoch keys')
    await deadline.within(makeEpochs(access), late)
    await supervisor.startAgents(new Deadline(agentsDeadlineMs, { signal: options.signal }).signal)
  } catch (error) {
    await supervisor.stop()
    if (options.signal.aborted) {
      if (options.temporary) await removeDirectory(directory)
      throw new MoteError('interrupted', 'stopped before the devnet was up', { cause: error })
    }
    onProgress(`the logs are kept in ${directory}`)
    throw deadline.isOver && error instanceof MoteError && error.code !== 'start-failed'
      ? new MoteError('start-failed', `not up after ${Math.round(withinMs / 1_000)} s: ${error.message}`, {
          cause: error,
        })
      : error
  }
  const stop = async (): Promise<void> => {
    await supervisor.stop()
    if (description.temporary) await removeDirectory(directory)
  }
  // `mote devnet down` stops the supervisor from outside; its directory goes all the same.
  return { description, supervisor, stop }
}

/** A new directory, or the one of a devnet that was here before and goes on. */
async function prepare(options: DevnetOptions): Promise<DevnetDescription> {
  const { directory, temporary, onProgress } = options
  const before = await readDescription(directory)
  if (before && (await isLive(before)))
    throw new MoteError('in-use', `${directory}: a devnet runs here; \`mote devnet down\` stops it`)
  if (before) removeControlSocket(directory, before.controlSocket)
  if (before && !before.temporary) {
    if (options.tls && !before.gateway.mqtts)
      throw new MoteError('usage', `--tls: the devnet in ${directory} was made without it`)
    if (options.plain && !isDeepStrictEqual(options.plain, before.gateway.plain))
      throw new MoteError('usage', `--plain-in, --plain-out: the devnet in ${directory} was made with others`)
    onProgress(`going on with the devnet in ${directory}`)
    const controlSocket = await chooseControlSocket(directory)
    const again = { ...before, supervisorPid: process.pid, controlSocket, agents: options.agents ?? false }
    await writeDescription(directory, again)
    return again
  }
  const { prepareBroker } = options
  if (prepareBroker) requireMosquitto()
  if (temporary) await removeDirectory(directory)
  const generated = await generateDevnet({ ...options, attached: prepareBroker !== undefined })
  const made = { ...generated, agents: options.agents ?? false }
  await prepareBroker?.(directory, made)
  await writeDescription(directory, made)
  return made
}

/** Devices and groups through the chain's front door; gives the way to that, which has seen them. */
async function settle(
  { directory, onProgress }: DevnetOptions,
  description: DevnetDescription,
  signal: AbortSignal,
): Promise<ChainAccess> {
  const checkpoint = checkpointFromGenesis(await readGenesisFile(layout.genesis(directory)))
  const urlsOf = (label: string): string[] =>
    description.nodes.filter(node => node.label === label).map(node => apiUrl(node.api))
  const client = await ChainClient.open({
    sources: urlsOf('full').map(url => httpSource(url)),
    checkpoint,
  })
  const keys = await KeyDirectory.open(directory)
  await populate({
    client,
    description,
    keys,
    operator: await (await KeyDirectory.open(layout.operator(directory))).load('operator'),
    contacts: urlsOf('coordination').map(url => httpContact(url)),
    signal,
    onProgress,
  })
  return { directory, description, client, checkpoint, keys }
}
