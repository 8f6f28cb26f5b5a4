/**
 * A joined device as a node: `mote node init`, and `mote device join --run`, in the foreground or under the devnet's
 * supervisor. It is said to be up when full nodes have taken it, it has answered a query with its own record, and it is
 * ready: level with the chain.
 */

import { equalBytes } from '../chain/codec.ts'
import { exitCodes } from '../chain/errors.ts'
import type { IdentityRecord } from '../chain/records.ts'
import { MoteError } from '../chain/result.ts'
import type { Label } from '../chain/transaction-bodies.ts'
import { Deadline, pause } from '../client/deadline.ts'
import { httpSource } from '../client/http-source.ts'
import type { IdentityKeys } from '../client/key-directory.ts'
import type { ChainAccess } from '../devnet/access.ts'
import { askControl } from '../devnet/control.ts'
import { type InitialisedNode, initialiseNode, requireUp } from '../devnet/joined.ts'
import { apiUrl, type DevnetNode, layout } from '../devnet/layout.ts'
import type { NodeRow } from '../devnet/process-status.ts'
import { openRunningChain } from './chain-access.ts'
import type { AddCommand } from './command.ts'
import { type Context, withinDeadline } from './context.ts'
import { nodeNameOf } from './identity-rows.ts'
import { labelOption } from './label-option.ts'
import { isSupervised, runProgram } from './run-program.ts'

interface InitOptions {
  readonly label?: Label
  readonly force?: boolean
}

export function initCommand(family: Parameters<AddCommand>[0]['parent'], add: AddCommand): void {
  add<InitOptions>({
    parent: family,
    usage: 'init <name>',
    description:
      'write the configuration of a device that has joined, so that `mote node start` runs it as a node',
    exits: { 4: 'the device is suspended or waits for approval', 5: 'the device was revoked' },
    options: [
      {
        ...labelOption,
        description: 'as it has joined; the chain says it if this does not',
        default: undefined,
      },
      { flags: '--force', description: 'write it anew, on other ports, if it is there already' },
    ],
    action: async (context, [name = ''], { label, force = false }) => {
      const access = await openRunningChain(context)
      const keys = await keysOf(access, name)
      const { value } = await access.client.records.device(keys.id)
      const record = requireRunnable(name, keys, value, label)
      const { config, kept, node } = await initialiseNode(
        access.directory,
        access.description,
        { name, id: keys.id, label: record.label },
        { fresh: force },
      )
      const start = startCommand(config)
      const answer = { name, id: keys.id, label: record.label, config, kept, api: apiUrl(node.api), start }
      context.output.data(answer, () =>
        [`${kept ? 'kept' : 'wrote'} ${config}`, `start it with: ${start}`].join('\n'),
      )
      return exitCodes.ok
    },
  })
}

async function keysOf({ keys }: ChainAccess, name: string): Promise<IdentityKeys> {
  if ((await keys.names()).some(entry => entry.name === name && entry.hasKeys)) return keys.load(name)
  throw new MoteError('key-not-found', `${name}: has no keys here; \`mote device join ${name}\` makes them`)
}

/** The record of a device that may run as a node. Throws why not, and what to do. */
export function requireRunnable(
  name: string,
  keys: IdentityKeys,
  record: IdentityRecord | undefined,
  label?: Label,
): IdentityRecord {
  if (!record)
    throw new MoteError(
      'not-found',
      `${name}: has keys here and is not on the chain; \`mote device join ${name}\` registers it`,
    )
  if (record.status === 'revoked')
    throw new MoteError(
      'device-revoked',
      `${name}: was revoked and does not come back; join under another name`,
    )
  if (label !== undefined && record.label !== label)
    throw new MoteError(
      'already-exists',
      `${name}: has joined as ${record.label}, not as ${label}; use another name`,
    )
  if (!record.transportKey || !keys.transport || !equalBytes(record.transportKey, keys.transport.publicKey))
    throw new MoteError(
      'key-not-found',
      `${name}: its record names no transport key of this key file, so it cannot run as a node; join under another name: mote device join NAME --run`,
    )
  if (record.status !== 'active')
    throw new MoteError(
      'not-authorised',
      `${name}: is ${record.status}; an operator decides, then it can run`,
    )
  return record
}

/** What to paste into a shell next. */
export function nextCommand(
  { directory, directoryNamed }: Pick<Context, 'directory' | 'directoryNamed'>,
  name: string,
  label: Label,
): string {
  const where = directoryNamed ? ` --dir ${quoted(directory)}` : ''
  return `npx mote node init ${name} --label ${label}${where} && ${startCommand(layout.nodeConfig(directory, name))}`
}

function startCommand(config: string): string {
  return `npx mote node start --config ${quoted(config)}`
}

/** As a POSIX shell reads it. */
function quoted(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}

export interface JoinedNodeOptions {
  readonly detach: boolean
  /** What the command answers once the node is up. */
  readonly onUp: (node: RunningJoinedNode) => void
}

export interface RunningJoinedNode {
  readonly api: string
  readonly pid: number | null
  /** Name or id of the full node that serves a lightweight node. */
  readonly servedBy: string | null
  readonly log: string
}

/** Runs a device that has joined, and returns when it has stopped; detached, when it is up under the supervisor. */
export async function runJoined(
  context: Context,
  access: ChainAccess,
  { name, id, label }: Pick<DevnetNode, 'name' | 'id' | 'label'>,
  { detach, onUp }: JoinedNodeOptions,
): Promise<number> {
  const { directory, description } = access
  const initialised = await initialiseNode(directory, description, { name, id, label })
  if (detach) {
    const request = { command: 'run', node: name } as const
    const { api, pid, servedBy } = (await askControl(
      description.controlSocket,
      request,
      context.signal,
    )) as NodeRow
    onUp({ api, pid, servedBy, log: layout.nodeLog(directory, name) })
    return exitCodes.ok
  }
  return inForeground(context, access, initialised, onUp)
}

const pollMs = 100

async function inForeground(
  context: Context,
  { directory, description }: ChainAccess,
  { node, config }: InitialisedNode,
  onUp: JoinedNodeOptions['onUp'],
): Promise<number> {
  const log = layout.nodeLog(directory, node.name)
  return runProgram(
    context,
    async signal => {
      const { startNode } = await import('../node/main.ts')
      const program = await startNode(config, signal, { supervised: isSupervised(context), logFile: log })
      const source = httpSource(apiUrl(node.api))
      const patience = {
        ...context,
        signal: new Deadline(context.timeoutMs, { signal }).signal,
      }
      try {
        await withinDeadline(patience, () => Promise.race([program.ended, untilUp(node, patience.signal)]))
      } catch (error) {
        await program.stop()
        throw error
      }
      const { servedBy } = await source.status()
      onUp({ api: apiUrl(node.api), pid: process.pid, servedBy: nodeNameOf(description, servedBy), log })
      return program
    },
    { announce: false },
  )
}

async function untilUp(node: DevnetNode, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const isUp = await requireUp(node).then(
      () => true,
      () => false,
    )
    if (isUp) return
    await pause(pollMs, signal)
  }
}
