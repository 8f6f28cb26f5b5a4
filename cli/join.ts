/**
 * `mote device grant` and `mote device join`: an operator lets a device in, and the device walks in.
 *
 * On a devnet one person is both. The two sides still meet only in the token: the operator's grant on the chain names
 * its public half, the newcomer holds the secret half.
 */

import { randomBytes } from 'node:crypto'
import { cpus, totalmem } from 'node:os'
import type { Command } from 'commander'
import { exitCodes } from '../chain/errors.ts'
import type { Signer } from '../chain/keys.ts'
import type { IdentityRecord } from '../chain/records.ts'
import { MoteError } from '../chain/result.ts'
import type { CapabilityProfile, Label } from '../chain/transaction-bodies.ts'
import { readFileIfThere } from '../client/atomic-file.ts'
import { findCoordinationNodes } from '../client/coordination-address.ts'
import { Deadline } from '../client/deadline.ts'
import {
  type CoordinationContact,
  httpContact,
  type Joined,
  joinPatiently,
  patiently,
  rejoin,
} from '../client/join.ts'
import { type IdentityKeys, withTransportKey } from '../client/key-directory.ts'
import { nativeSignerFromSeed } from '../client/native-crypto.ts'
import { grant } from '../client/operator-actions.ts'
import { type ChainAccess, operatorKeys } from '../devnet/access.ts'
import { apiUrl } from '../devnet/layout.ts'
import { openChain, openRunningChain } from './chain-access.ts'
import type { AddCommand } from './command.ts'
import { type Context, parseCount, withinDeadline } from './context.ts'
import { nextCommand, type RunningJoinedNode, requireRunnable, runJoined } from './joined-node.ts'
import { type KeyOptions, keyChoices, keyOptions, requireKinds } from './key-options.ts'
import { labelOption } from './label-option.ts'
import { provenance } from './output.ts'

interface JoinOptions extends KeyOptions {
  readonly label: Label
  readonly tokenFile?: string
  readonly run?: boolean
  readonly detach?: boolean
}
interface GrantOptions {
  readonly label: Label
  readonly quota: number
}

/** The token that was given: never on the command line, which every user of the machine can read. */
async function givenToken({ variables }: Context, file: string | undefined): Promise<Uint8Array | undefined> {
  const content = file === undefined ? undefined : await readFileIfThere(file)
  if (file !== undefined && !content) throw new MoteError('not-found', `${file}: no such file`)
  const text = content ? Buffer.from(content).toString('utf8').trim() : variables['MOTE_TOKEN']
  if (text === undefined) return undefined
  if (!/^[0-9a-f]{64}$/.test(text))
    throw new MoteError('usage', 'token: expected the 64 hexadecimal characters of `mote device grant`')
  return Uint8Array.from(Buffer.from(text, 'hex'))
}

export function joinCommands(family: Command, add: AddCommand): void {
  add<JoinOptions>({
    parent: family,
    usage: 'join <name>',
    description: 'make keys, ask a coordination node to be let in, and get a full node',
    exits: {
      0: 'joined; with --run, and stopped in order',
      4: 'refused: the grant or the challenge does not hold, or an operator has to decide',
      5: 'the device was revoked',
    },
    options: [
      labelOption,
      ...keyOptions,
      {
        flags: '--token-file <file>',
        description:
          "a file with an operator's token (or MOTE_TOKEN has it); without one the operator of this devnet grants one",
      },
      { flags: '--run', description: 'and run it as a node, in the foreground until Ctrl-C' },
      { flags: '--detach', description: "with --run: under the devnet's supervisor, as one of its nodes" },
    ],
    lifetime: 'drains',
    action: joinDevice,
  })
  add<GrantOptions>({
    parent: family,
    usage: 'grant',
    description: 'let devices in: records a grant on the chain and prints its token',
    options: [
      { ...labelOption, description: 'the highest label it allows' },
      {
        flags: '--quota <n>',
        description: 'how many devices',
        default: 1,
        read: parseCount('quota', 1, 65_535),
      },
    ],
    action: grantToken,
  })
}

/** What this machine is, as a newcomer says it. Advice to whoever chooses the label. */
function profileOfThisMachine(): CapabilityProfile {
  return {
    connectionLifetime: 'hours',
    cores: cpus().length,
    memoryMebibytes: Math.floor(totalmem() / 2 ** 20),
    storageMebibytes: 1024,
  }
}

/** Keys under this name: those of an earlier attempt, or new ones. A transport key belongs to them from the beginning. */
async function keysFor({ keys }: ChainAccess, name: string, options: KeyOptions): Promise<IdentityKeys> {
  const known = (await keys.names()).find(entry => entry.name === name)
  if (!known?.hasKeys) return keys.create(name, { transport: true, ...keyChoices(options) })
  const loaded = await keys.load(name)
  requireKinds(loaded, options)
  return loaded
}

async function joinDevice(
  context: Context,
  [name = '']: readonly string[],
  options: JoinOptions,
): Promise<number> {
  const { label, run = false, detach = false } = options
  if (detach && !run) throw new MoteError('usage', 'detach: expected --run with it')
  const { signal } = new Deadline(context.timeoutMs, { signal: context.signal })
  const bounded = { ...context, signal }
  const { access, keys, joined } = await withinDeadline(bounded, () => joinChain(bounded, name, options))
  const answer = answerOf(access, name, joined)
  const { height, term, ageMs } = joined.record
  const print = (node: RunningJoinedNode | undefined): void => {
    const next = node ? null : nextCommand(context, name, label)
    context.output.data({ ...answer, node: node ?? null, next }, () =>
      [
        `${name} joined at height ${joined.height}`,
        context.output.fields({
          id: joined.id,
          label,
          through: answer.through,
          'full node': `${answer.assignedFullNode.name} ${answer.assignedFullNode.api}`,
          backups: answer.backups.map(backup => backup.name).join(', '),
        }),
        `verified ${provenance({ height, term, ageMs })}`,
        node ? upText(name, node, detach) : `run it as a node with:\n  ${next}`,
      ].join('\n'),
    )
  }
  if (!run) {
    print(undefined)
    return exitCodes.ok
  }
  requireRunnable(name, keys, joined.record.value, label)
  return runJoined(
    detach ? bounded : context,
    access,
    { name, id: joined.id, label },
    { detach, onUp: print },
  )
}

function upText(name: string, { api, servedBy, log }: RunningJoinedNode, detach: boolean): string {
  const by = servedBy === null ? '' : `, served by ${servedBy}`
  const until = detach
    ? `\`mote chaos kill ${name}\`, \`mote devnet logs ${name}\` and \`down\` know it`
    : 'until Ctrl-C'
  return `${name} is up at ${api}${by}; ${until}; its log is ${log}`
}

/** Registers the device, or finds that it has been registered before. Throws the refusal where the chain says no. */
async function joinChain(context: Context, name: string, options: JoinOptions) {
  const { label, tokenFile } = options
  const token = await givenToken(context, tokenFile)
  const access = await openRunningChain(context)
  const { client } = access
  const found = await keysFor(access, name, options)
  const { value } = await client.records.device(found.id)
  const keys = value ? found : await access.keys.edit(found.name, withTransportKey)
  if (value) mayJoinAs(name, value, label)
  const contacts = await coordinationContacts(access)
  const { signal } = context
  // A device that is on the chain already needs no grant.
  if (value && token === undefined)
    return { access, keys, joined: await patiently(signal, () => rejoin(client, keys, contacts, { signal })) }
  const newcomer = {
    keys,
    label,
    profile: profileOfThisMachine(),
    token: token ? nativeSignerFromSeed('ed25519', token) : await grantedToken(context, access, label),
  }
  return { access, keys, joined: await joinPatiently(client, newcomer, contacts, signal) }
}

/** The coordination nodes that full nodes know of, then those that the devnet began with. */
async function coordinationContacts({
  client,
  description,
}: ChainAccess): Promise<readonly CoordinationContact[]> {
  const found = (await findCoordinationNodes(client)).map(({ api }) => api)
  const described = description.nodes
    .filter(({ label }) => label === 'coordination')
    .map(({ api }) => apiUrl(api))
  return [...new Set([...found, ...described])].filter(api => api !== '').map(httpContact)
}

/** Throws what stands against a name that has joined before: it is revoked, or it is to join as something else now. */
function mayJoinAs(name: string, { label, status }: IdentityRecord, wanted: Label): void {
  if (status === 'revoked')
    throw new MoteError(
      'device-revoked',
      `${name} is revoked and does not come back; join under another name`,
    )
  if (label !== wanted)
    throw new MoteError(
      'already-exists',
      `${name} has joined as ${label}, not as ${wanted}; use another name`,
    )
}

/** The JSON of `mote device join`, without what follows from --run. */
function answerOf({ description }: ChainAccess, name: string, joined: Joined) {
  const { fullNode, backups } = joined.assignment
  const nodeName = (id: string): string => description.nodes.find(node => node.id === id)?.name ?? id
  const through = description.nodes.find(({ api }) => apiUrl(api) === joined.contact)?.name ?? joined.contact
  const { term, ageMs, value } = joined.record
  return {
    id: joined.id,
    name,
    label: value.label,
    height: joined.height,
    through,
    assignedFullNode: { name: nodeName(fullNode.id), id: fullNode.id, api: fullNode.api },
    backups: backups.map(backup => ({ name: nodeName(backup.id), id: backup.id, api: backup.api })),
    term,
    ageMs,
    verified: true,
  }
}

/** A grant for one device of the label; what a lightweight device may not become is left to its own grant. */
async function grantedToken(context: Context, access: ChainAccess, label: Label): Promise<Signer> {
  const token = nativeSignerFromSeed('ed25519', Uint8Array.from(randomBytes(32)))
  const operator = await operatorKeys(access)
  const terms = { tokenKey: token.publicKey, highestLabel: label }
  await grant(access.client, operator, terms, { timeoutMs: context.timeoutMs })
  return token
}

async function grantToken(
  context: Context,
  _args: readonly string[],
  options: GrantOptions,
): Promise<number> {
  const access = await openChain(context)
  const seed = Uint8Array.from(randomBytes(32))
  const terms = {
    tokenKey: nativeSignerFromSeed('ed25519', seed).publicKey,
    quota: options.quota,
    highestLabel: options.label,
  }
  const granted = await grant(access.client, await operatorKeys(access), terms, {
    timeoutMs: context.timeoutMs,
  })
  const answer = {
    grant: granted.grant,
    token: Buffer.from(seed).toString('hex'),
    quota: options.quota,
    highestLabel: options.label,
    transaction: granted.id,
    height: granted.height,
  }
  context.output.data(answer, () => context.output.fields(answer))
  return exitCodes.ok
}
