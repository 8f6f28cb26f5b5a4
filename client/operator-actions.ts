/**
 * What an operator does to the chain: let devices in, give them rights, suspend them, revoke them; give a group another owner. Each action signs, submits, waits
 * until certified, and then reads the record it changed, verified: a node's word is not enough.
 *
 * A suspension and a revocation judge the subject's status and no version of its record, so that nothing which the subject
 * does to its record, however often, makes them fail (docs/decisions/0016-what-a-revocation-names.md).
 */
import type { DeviceId, GrantId, GroupId, Milliseconds } from '../chain/brands.ts'
import type { PublicKey } from '../chain/keys.ts'
import type { IdentityRecord } from '../chain/records.ts'
import { MoteError } from '../chain/result.ts'
import type { IdentityRights, RightsRecord } from '../chain/rights.ts'
import { grantIdOf, type Label } from '../chain/transaction.ts'
import type { ChainClient } from './chain-client.ts'
import type { IdentityKeys } from './key-directory.ts'
import type { FinalTransaction, SubmitOptions } from './submission.ts'
import type { Verified, VerifiedGroup } from './verified-chain.ts'

export interface GrantTerms {
  /** Public half of the one-time token; its secret half goes to the newcomer by another way. */
  readonly tokenKey: PublicKey
  /** Devices it may let in. Default 1. */
  readonly quota?: number
  /** From the certified head's time on. Default one hour. */
  readonly validForMs?: number
  /** Default lightweight. */
  readonly highestLabel?: Label
}

/** Records a grant. */
export async function grant(
  client: ChainClient,
  operator: IdentityKeys,
  terms: GrantTerms,
  options?: SubmitOptions,
): Promise<FinalTransaction & { readonly grant: GrantId }> {
  await client.follower.sync()
  const { tokenKey, quota = 1, validForMs = 60 * 60_000, highestLabel = 'lightweight' } = terms
  const expiry = (client.follower.head.header.time + validForMs) as Milliseconds
  const body = { type: 'identity.grant', tokenKey, quota, expiry, highestLabel } as const
  const final = await client.perform(operator, body, options)
  return { ...final, grant: grantIdOf(tokenKey) }
}

/** An identity after an edit. */
export interface EditedIdentity {
  readonly record: Verified<IdentityRecord>
  /** Undefined if there was nothing to do. */
  readonly transaction: FinalTransaction | undefined
}

/** Revokes an identity for good. One that is revoked already is left as it is. */
export function revoke(
  client: ChainClient,
  operator: IdentityKeys,
  subject: { readonly id: DeviceId; readonly reason: string },
  options?: SubmitOptions,
): Promise<EditedIdentity> {
  return editStatus(client, operator, { ...subject, type: 'identity.revoke', to: 'revoked' }, options)
}

/** Suspends an identity. One that is suspended already is left as it is; a revoked one is `invalid-state`. */
export function suspend(
  client: ChainClient,
  operator: IdentityKeys,
  subject: { readonly id: DeviceId; readonly reason: string },
  options?: SubmitOptions,
): Promise<EditedIdentity> {
  return editStatus(client, operator, { ...subject, type: 'identity.suspend', to: 'suspended' }, options)
}

interface StatusEdit {
  readonly type: 'identity.revoke' | 'identity.suspend'
  readonly to: 'revoked' | 'suspended'
  readonly id: DeviceId
  readonly reason: string
}

async function editStatus(
  client: ChainClient,
  operator: IdentityKeys,
  edit: StatusEdit,
  options?: SubmitOptions,
): Promise<EditedIdentity> {
  const { type, to, id: subject, reason } = edit
  const before = await readDevice(client, subject)
  if (before.value?.status === to) return { record: before, transaction: undefined }
  let transaction: FinalTransaction | undefined
  let refused: MoteError | undefined
  try {
    transaction = await client.perform(operator, { type, subject, reason }, options)
  } catch (error) {
    if (!(error instanceof MoteError) || error.code !== 'invalid-state') throw error
    refused = error
  }
  const record = await readDevice(client, subject)
  // Also if another operator was first.
  if (record.value?.status === to) return { record, transaction }
  throw (
    refused ??
    new MoteError('withheld', `device ${subject}: no proof that it is ${to} after a certified edit`)
  )
}

/** The record as of the newest header. Throws `unknown-subject` if it is proven absent. */
async function readDevice(client: ChainClient, id: DeviceId): Promise<Verified<IdentityRecord>> {
  await client.follower.sync()
  const record = await client.records.device(id)
  if (!record.value) throw new MoteError('unknown-subject', `device ${id}: not on the chain`)
  return record
}

/** Replaces the rights of an identity. Throws `unknown-subject`, `invalid-state`; `version-conflict` if another operator was first. */
export async function setRights(
  client: ChainClient,
  operator: IdentityKeys,
  { id: subject, rights }: { readonly id: DeviceId; readonly rights: IdentityRights },
  options?: SubmitOptions,
): Promise<{ readonly record: Verified<RightsRecord>; readonly transaction: FinalTransaction }> {
  await client.follower.sync()
  const expectedVersion = (await client.records.rights(subject)).value?.version ?? 0
  const body = { ...rights, type: 'identity.rights', subject, expectedVersion } as const
  const transaction = await client.perform(operator, body, options)
  await client.follower.sync()
  return { record: await client.records.rights(subject), transaction }
}

/** Gives a group to another of its members. Throws `unknown-subject`, `invalid-state`, `already-exists`, `version-conflict`. */
export async function giveGroup(
  client: ChainClient,
  operator: IdentityKeys,
  change: { readonly group: GroupId; readonly owner: DeviceId },
  options?: SubmitOptions,
): Promise<Verified<VerifiedGroup>> {
  const { group, owner } = change
  await client.follower.sync()
  const { value } = await client.records.group(group)
  if (!value) throw new MoteError('unknown-subject', `group ${group}: not on the chain`)
  await client.perform(operator, { type: 'group.owner', group, from: value.record.owner, owner }, options)
  await client.follower.sync()
  return client.records.group(group)
}
