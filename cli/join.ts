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
import { signerFromSeed } from '../chain/noble-crypto.ts'
import { MoteError } from '../chain/result.ts'
import type { CapabilityProfile, Label } from '../chain/transaction-bodies.ts'
import { httpContact, isFinalRefusal, joinPatiently } from '../client/join.ts'
import type { IdentityKeys } from '../client/key-directory.ts'
import { grant } from '../client/operator-actions.ts'
import { apiUrl } from '../devnet/layout.ts'
import { type ChainAccess, openChain, operatorKeys } from './chain-access.ts'
import type { AddCommand, OptionSpec } from './command.ts'
import { type Context, parseCount } from './context.ts'
import { provenance } from './output.ts'

interface JoinOptions {
  readonly label: Label
  readonly token?: Uint8Array
}
interface GrantOptions {
  readonly label: Label
  readonly quota: number
}

const labels: readonly string[] = ['lightweight', 'coordination', 'full'] satisfies Label[]

const labelOption: OptionSpec = {
  flags: '--label <label>',
  description: 'lightweight, coordination or full',
  default: 'lightweight',
  read: text => {
    if (labels.includes(text)) return text
    throw new MoteError('usage', `label: expected ${labels.join(', ')}, got '${text}'`)
  },
}

function parseToken(text: string): Uint8Array {
  if (!/^[0-9a-f]{64}$/.test(text))
    throw new MoteError('usage', 'token: expected the 64 hexadecimal characters of `mote device grant`')
  return Uint8Array.from(Buffer.from(text, 'hex'))
}

export function joinCommands(family: Command, add: AddCommand): void {
  add<JoinOptions>({
    parent: family,
    usage: 'join <name>',
    description: 'make keys, ask a coordination node to be let in, and get a full node',
    exits: { 0: 'joined', 4: 'refused: the grant, the challenge or the identity does not hold' },
    options: [
      labelOption,
      {
        flags: '--token <hex>',
        description: "an operator's token; without it the operator of this devnet grants one",
        read: parseToken,
      },
    ],
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

/** Keys under this name: those of an earlier attempt, or new ones. */
async function keysFor({ keys }: ChainAccess, name: string, label: Label): Promise<IdentityKeys> {
  const known = (await keys.names()).find(entry => entry.name === name)
  if (known?.hasKeys) return keys.load(name)
  return keys.create(name, { transport: label !== 'lightweight' })
}

async function joinDevice(
  context: Context,
  [name = '']: readonly string[],
  options: JoinOptions,
): Promise<number> {
  const access = await openChain(context)
  const { client, description } = access
  const keys = await keysFor(access, name, options.label)
  const token = options.token
    ? signerFromSeed('ed25519', options.token)
    : await grantedToken(context, access, options.label)
  const contacts = description.nodes
    .filter(node => node.label === 'coordination')
    .map(node => httpContact(apiUrl(node.api)))
  const newcomer = { keys, label: options.label, profile: profileOfThisMachine(), token }
  const joined = await joinPatiently(client, newcomer, contacts, context.signal).catch((error: unknown) => {
    if (isFinalRefusal(error)) return error
    throw error
  })
  if (joined instanceof MoteError) {
    context.output.failure(joined)
    return exitCodes.notAuthorised
  }
  const { fullNode, backups } = joined.assignment
  const nodeName = (id: string): string => description.nodes.find(node => node.id === id)?.name ?? id
  const { height, term, ageMs } = joined.record
  const answer = {
    id: joined.id,
    name,
    height: joined.height,
    assignedFullNode: { name: nodeName(fullNode.id), id: fullNode.id, api: fullNode.api },
    backups: backups.map(backup => ({ name: nodeName(backup.id), id: backup.id, api: backup.api })),
    term,
    ageMs,
    verified: true,
  }
  context.output.data(answer, () =>
    [
      `${name} joined at height ${joined.height}`,
      context.output.fields({
        id: joined.id,
        'full node': `${answer.assignedFullNode.name} ${fullNode.api}`,
        backups: answer.backups.map(backup => backup.name).join(', '),
      }),
      `verified ${provenance({ height, term, ageMs })}`,
    ].join('\n'),
  )
  return exitCodes.ok
}

/** A grant for one device of the label; what a lightweight device may not become is left to its own grant. */
async function grantedToken(context: Context, access: ChainAccess, label: Label): Promise<Signer> {
  const token = signerFromSeed('ed25519', Uint8Array.from(randomBytes(32)))
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
    tokenKey: signerFromSeed('ed25519', seed).publicKey,
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
