/**
 * Execution of grants, registration, suspension and revocation (seeds.md A1, A3, A6).
 *
 * Invariants
 * 1. A grant is used at most `quota` times, each time for a device id that its token key signed: who carries the request
 *    cannot spend it on another device.
 * 2. A revoked identity stays revoked, and its id is never registered again.
 * 3. A revoked identity is in no member list: revocation takes it out of each group it is in, in the same transaction.
 * 4. One authority cannot suspend or revoke another: that would let one operator outvote the threshold.
 */
import { verifies } from './admission.ts'
import type { ChainEvent } from './block.ts'
import { removeFromGroup } from './execute-group.ts'
import { checkNewKey, checkUsable, entryOf } from './execute-key.ts'
import type { ExecutionContext } from './execution-context.ts'
import { keyIdOf } from './keys.ts'
import { type Outcome, permit, reject } from './outcome.ts'
import { isAuthority } from './permissions.ts'
import {
  type GrantRecord,
  type IdentityRecord,
  type IdentityStatus,
  type KeyEntry,
  registeredTrustLevel,
} from './records.ts'
import {
  type GrantBody,
  grantIdOf,
  grantTokenSigningBytes,
  type Label,
  type RegisterBody,
  type RevokeBody,
  type SuspendBody,
} from './transaction.ts'

const rank: Readonly<Record<Label, number>> = { lightweight: 1, coordination: 2, full: 3 }

/** Records a grant of the signing authority. */
export function executeGrant(
  context: ExecutionContext,
  body: GrantBody,
  operator: IdentityRecord,
): Outcome<readonly ChainEvent[]> {
  const { view, time, height } = context
  const { tokenKey, quota, expiry, highestLabel } = body
  const id = grantIdOf(tokenKey)
  if (view.grant(id)) return reject('already-exists', `grant ${id}: its token key was granted before`)
  const most = view.parameters().limits.grantQuota
  if (quota < 1 || quota > most) return reject('limit-exceeded', `quota: expected 1 to ${most}, got ${quota}`)
  if (expiry <= time) return reject('grant-not-valid', `expiry: expected later than ${time}, got ${expiry}`)
  const usable = checkUsable('tokenKey', tokenKey)
  if (!usable.ok) return usable
  view.putGrant({
    id,
    tokenKey,
    operator: operator.id,
    quota,
    used: 0,
    expiry,
    highestLabel,
    grantedAt: height,
  })
  return permit([{ type: 'grant.created', grant: id }])
}

/** Lets a newcomer in and uses its grant once. */
export function executeRegister(
  context: ExecutionContext,
  body: RegisterBody,
  id: IdentityRecord['id'],
): Outcome<readonly ChainEvent[]> {
  const { view, height } = context
  const existing = view.identity(id)
  if (existing) {
    const live = existing.status === 'active' || existing.status === 'pending'
    return reject(live ? 'id-active' : 'invalid-state', `${id} is ${existing.status}`)
  }
  const grant = checkGrant(context, body, id)
  if (!grant.ok) return grant
  const challenged = checkChallenge(context, body)
  if (!challenged.ok) return challenged
  const keys = keysOf(context, body, id)
  if (!keys.ok) return keys
  const transport =
    body.transportKey && checkUsable('transportKey', { suite: 'ed25519', bytes: body.transportKey })
  if (transport && !transport.ok) return transport
  const status = statusOf(context, body.label)
  view.putGrant({ ...grant.value, used: grant.value.used + 1 })
  view.putIdentity({
    id,
    version: 1,
    label: body.label,
    status,
    trustLevel: registeredTrustLevel,
    keys: keys.value,
    admittedBy: { grant: grant.value.id, operator: grant.value.operator },
    credential: undefined,
    metadataHash: body.metadataHash,
    transportKey: body.transportKey,
    incidents: 0,
    incidentsHash: undefined,
    registeredAt: height,
    updatedAt: height,
  })
  return permit([
    { type: 'identity.registered', subject: id, label: body.label, status, grant: grant.value.id },
  ])
}

/** A full node waits for the approval of as many authorities as the threshold asks; one grant is the word of one. */
function statusOf({ view }: ExecutionContext, label: Label): IdentityStatus {
  return label === 'full' && view.parameters().threshold > 1 ? 'pending' : 'active'
}

function checkGrant(
  context: ExecutionContext,
  body: RegisterBody,
  id: IdentityRecord['id'],
): Outcome<GrantRecord> {
  const { view, time, chainId, verification } = context
  const grant = view.grant(body.grant)
  if (!grant) return reject('grant-not-valid', `grant ${body.grant}: there is none`)
  if (grant.expiry <= time) return reject('grant-not-valid', `grant ${grant.id}: expired at ${grant.expiry}`)
  if (grant.used >= grant.quota)
    return reject('grant-not-valid', `grant ${grant.id}: all ${grant.quota} uses are spent`)
  // A grant is only as good as its operator is now: one whose key was stolen is revoked with all it granted.
  if (!isAuthority(view.parameters(), grant.operator) || view.identity(grant.operator)?.status !== 'active')
    return reject('grant-not-valid', `grant ${grant.id}: its operator is no active authority`)
  if (rank[body.label] > rank[grant.highestLabel])
    return reject('label-not-allowed', `label: expected at most ${grant.highestLabel}, got ${body.label}`)
  const message = () => grantTokenSigningBytes(chainId, id)
  if (!verifies(verification, { key: grant.tokenKey, message, signature: body.tokenSignature }))
    return reject('possession-not-proven', `tokenSignature: the token key did not sign ${id}`)
  return permit(grant)
}

/** What can be judged without the coordinator's memory: it exists, is active, and the challenge is fresh. */
function checkChallenge({ view, time }: ExecutionContext, { challenge }: RegisterBody): Outcome<void> {
  const { coordinator, issuedAt } = challenge
  const record = view.identity(coordinator)
  if (record?.label !== 'coordination' || record.status !== 'active')
    return reject('challenge-expired', `coordinator: ${coordinator} is no active coordination node`)
  const most = view.parameters().challengeAgeMs
  if (Math.abs(time - issuedAt) > most)
    return reject('challenge-expired', `issuedAt: expected within ${most} ms of ${time}, got ${issuedAt}`)
  return permit(undefined)
}

function keysOf(
  context: ExecutionContext,
  body: RegisterBody,
  id: IdentityRecord['id'],
): Outcome<readonly KeyEntry[]> {
  const keys: KeyEntry[] = [
    {
      purpose: 'sign',
      key: body.inceptionKey,
      notBefore: context.time,
      notAfter: undefined,
      revokedAt: undefined,
    },
  ]
  const ids = new Set([keyIdOf(body.inceptionKey)])
  for (const key of body.keys) {
    const checked = checkNewKey(context, id, key)
    if (!checked.ok) return checked
    const keyId = keyIdOf(key.key)
    if (ids.has(keyId)) return reject('already-exists', `keys: ${keyId} comes twice`)
    ids.add(keyId)
    keys.push(entryOf(key, context.time))
  }
  return permit(keys)
}

/** Suspends or revokes the subject; revocation also takes it out of its groups. */
export function executeStatus(
  context: ExecutionContext,
  body: SuspendBody | RevokeBody,
): Outcome<readonly ChainEvent[]> {
  const { view, height } = context
  const { subject, expectedVersion } = body
  const record = view.identity(subject)
  if (!record) return reject('unknown-subject', `subject: no identity ${subject}`)
  if (isAuthority(view.parameters(), subject))
    return reject('not-authorised', 'subject: authorities are changed by governance')
  if (record.version !== expectedVersion)
    return reject('version-conflict', `version: expected ${record.version}, got ${expectedVersion}`)
  const status = body.type === 'identity.revoke' ? 'revoked' : 'suspended'
  if (record.status === 'revoked' || record.status === status)
    return reject('invalid-state', `${subject} is ${record.status}`)
  view.putIdentity({ ...record, version: record.version + 1, status, updatedAt: height })
  const events: ChainEvent[] = [{ type: 'identity.status', subject, status }]
  if (status === 'revoked')
    for (const group of view.memberships(subject)) events.push(removeFromGroup(context, group, [subject]))
  return permit(events)
}
