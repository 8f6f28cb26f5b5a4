/**
 * `mote device …` about identities: join, trust, show, rights, revoke. The messages between devices are in messages.ts.
 */
import type { Command } from 'commander'
import { type DeviceId, isDigest, type Milliseconds } from '../chain/brands.ts'
import { errorTable, exitCodes } from '../chain/errors.ts'
import { bytesToHex } from '../chain/hex.ts'
import { keyIdOf } from '../chain/keys.ts'
import { type IdentityRecord, isKeyValidAt } from '../chain/records.ts'
import { MoteError } from '../chain/result.ts'
import { noRights } from '../chain/rights.ts'
import { historyOf } from '../client/device-history.ts'
import { checkFresh } from '../client/freshness.ts'
import { revoke } from '../client/operator-actions.ts'
import type { Verified } from '../client/verified-chain.ts'
import { type ChainAccess, operatorKeys } from '../devnet/access.ts'
import { deviceNameOf, openChain, openChainUnsynced, requireDevice } from './chain-access.ts'
import type { AddCommand } from './command.ts'
import { contactCommand } from './contact.ts'
import { type Context, parseCount } from './context.ts'
import { rightsCommand, rightsRows } from './device-rights.ts'
import { joinCommands } from './join.ts'
import { deviceListCommand } from './lists.ts'
import { messageCommands } from './messages.ts'
import { provenance } from './output.ts'
import { rotateCommand } from './rotate.ts'

/** The trust level that `mote device trust` asks for: an identity as it registers. */
const defaultTrustLevel = 2

export function deviceCommands(family: Command, add: AddCommand): void {
  joinCommands(family, add)
  add<{ level: number }>({
    parent: family,
    usage: 'trust <device>',
    description: 'whether a device is to be trusted now, verified from the genesis on',
    exits: {
      0: 'trusted',
      1: 'unverified or stale',
      3: 'unknown: its absence is proven',
      5: 'not trusted: suspended, revoked or below the level',
    },
    options: [
      {
        flags: '--level <n>',
        description: 'the least trust level (0 to 3)',
        read: parseCount('level', 0, 3),
        default: defaultTrustLevel,
      },
    ],
    action: trust,
  })
  add({
    parent: family,
    usage: 'show <device>',
    description: 'the record of a device, and the transactions that touched it',
    action: show,
  })
  add<{ reason: string }>({
    parent: family,
    usage: 'revoke <device>',
    description: "end an identity for good (an operator's transaction)",
    options: [
      { flags: '--reason <text>', description: 'kept in the transaction', default: 'revoked by operator' },
    ],
    action: revokeDevice,
  })
  deviceListCommand(family, add)
  rightsCommand(family, add)
  rotateCommand(family, add)
  messageCommands(family, add)
  contactCommand(family, add)
}

/** The JSON of `mote device trust`. */
function trustAnswer(name: string | null, id: DeviceId, record: Verified<IdentityRecord>): object {
  const { value, height, term, time, ageMs } = record
  return {
    id,
    name,
    status: value?.status ?? 'unknown',
    trustLevel: value?.trustLevel ?? null,
    label: value?.label ?? null,
    keyIds: value?.keys.filter(entry => isKeyValidAt(entry, time)).map(entry => keyIdOf(entry.key)) ?? [],
    height,
    term,
    ageMs,
    verified: true,
  }
}

async function trust(
  context: Context,
  [nameOrId = '']: readonly string[],
  { level }: { readonly level: number },
): Promise<number> {
  const access = await openChainUnsynced(context)
  const id = await requireDevice(access, nameOrId)
  const name = isDigest(nameOrId) ? await deviceNameOf(access, id) : nameOrId
  const record = await readVerified(access, id)
  if (record instanceof MoteError) {
    const { code, detail: reason } = record
    const answer = {
      id,
      name,
      status: 'unverified',
      trustLevel: null,
      label: null,
      keyIds: [],
      verified: false,
    }
    const nothing = { height: null, term: null, ageMs: null, trusted: false, stale: code === 'stale' }
    context.output.data(
      { ...answer, ...nothing, code, reason },
      () => `not trusted: unverified: ${code}: ${reason}`,
    )
    return exitCodes.failure
  }
  const { trustTtlMs } = access.description
  const { value } = record
  const fresh = checkFresh(record.ageMs, trustTtlMs)
  const stale = !fresh.ok
  const isTrusted = value?.status === 'active' && value.trustLevel >= level
  const verdict = !fresh.ok
    ? `not trusted: ${fresh.error.code}: ${fresh.error.detail}`
    : !value
      ? 'unknown: proven absent'
      : isTrusted
        ? 'trusted'
        : `not trusted: ${value.status}, trust level ${value.trustLevel}, asked for ${level}`
  context.output.data({ ...trustAnswer(name, id, record), trusted: isTrusted && !stale, stale }, () =>
    [
      `${context.output.paint(isTrusted && !stale ? 'green' : 'red', verdict)}`,
      context.output.fields({
        id,
        name,
        status: value?.status ?? 'unknown',
        'trust level': value?.trustLevel,
        label: value?.label,
        keys: value?.keys
          .filter(entry => isKeyValidAt(entry, record.time))
          .map(entry => `${entry.purpose} ${keyIdOf(entry.key)}`)
          .join(`\n${' '.repeat(13)}`),
      }),
      `verified ${provenance(record)}`,
    ].join('\n'),
  )
  if (stale) return exitCodes.failure
  if (!value) return exitCodes.notFound
  return isTrusted ? exitCodes.ok : exitCodes.predicateFalse
}

/** Exit codes of failures that leave the question open. */
const unbelieved: readonly number[] = [exitCodes.failure, exitCodes.timeout, exitCodes.noLeader]

/** The record as of the newest header, or why there is no answer to believe. Throws what is no matter of belief. */
async function readVerified(
  { client }: ChainAccess,
  id: DeviceId,
): Promise<Verified<IdentityRecord> | MoteError> {
  try {
    await client.follower.sync()
    return await client.records.device(id)
  } catch (error) {
    if (error instanceof MoteError && unbelieved.includes(errorTable[error.code].exit)) return error
    throw error
  }
}

async function show(context: Context, [nameOrId = '']: readonly string[]): Promise<number> {
  const access = await openChain(context)
  const { client } = access
  const id = await requireDevice(access, nameOrId)
  const record = await client.records.device(id)
  const { value, height, term, ageMs } = record
  if (!value) throw new MoteError('not-found', `device ${id}: proven absent at height ${height}`)
  const { publish, subscribe, observe, gateway } = (await client.records.rights(id)).value ?? noRights
  const rights = { publish, subscribe, observe, gateway }
  const transactions = await historyOf(client.pool, id)
  const { keys, transportKey, ...fields } = value
  const shownKeys = keys.map(({ key, ...entry }) => ({
    keyId: keyIdOf(key),
    suite: key.suite,
    publicKey: bytesToHex(key.bytes),
    ...entry,
  }))
  const answer = {
    name: await deviceNameOf(access, id),
    ...fields,
    transportKey: transportKey && bytesToHex(transportKey),
    keys: shownKeys,
    rights,
    transactions,
    height,
    term,
    ageMs,
    verified: true,
  }
  context.output.data(answer, () =>
    [
      context.output.fields({
        id,
        name: answer.name,
        status: value.status,
        label: value.label,
        'trust level': value.trustLevel,
        version: value.version,
        'admitted by': value.admittedBy ? `grant ${value.admittedBy.grant}` : 'genesis',
        'registered at': `height ${value.registeredAt}`,
        'updated at': `height ${value.updatedAt}`,
        incidents: value.incidents,
        ...rightsRows(rights),
      }),
      '',
      context.output.table(shownKeys, {
        key: row => row.keyId,
        purpose: row => row.purpose,
        suite: row => row.suite,
        until: row => endOf(row.revokedAt ?? row.notAfter),
      }),
      '',
      context.output.table(transactions, {
        transaction: row => row.id,
        height: row => row.height,
        kind: row => row.kind,
      }),
      `verified ${provenance(record)}`,
    ].join('\n'),
  )
  return exitCodes.ok
}

function endOf(time: Milliseconds | undefined): string {
  return time === undefined ? 'no end' : new Date(time).toISOString()
}

async function revokeDevice(
  context: Context,
  [nameOrId = '']: readonly string[],
  { reason }: { readonly reason: string },
): Promise<number> {
  const access = await openChain(context)
  const id = await requireDevice(access, nameOrId)
  const operator = await operatorKeys(access)
  const edited = await revoke(access.client, operator, { id, reason }, { timeoutMs: context.timeoutMs })
  const { record, transaction } = edited
  const { height, term, ageMs } = record
  const answer = {
    id,
    name: await deviceNameOf(access, id),
    status: record.value?.status ?? 'unknown',
    transaction: transaction?.id ?? null,
    height,
    term,
    ageMs,
    verified: true,
  }
  context.output.data(answer, () =>
    [
      `${answer.name ?? id} is ${answer.status}${transaction ? '' : ' already'}`,
      ...(transaction ? [`transaction ${transaction.id}`] : []),
      `verified ${provenance(answer)}`,
    ].join('\n'),
  )
  return exitCodes.ok
}
