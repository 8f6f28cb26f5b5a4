/**
 * Execution of grants, registration, rights, suspension and revocation (Qiu A1, A3, A6).
 *
 * Invariants
 * 1. A grant is used at most `quota` times, each time for a device id that its token key signed: who carries the request
 *    cannot spend it on another device.
 * 2. A revoked identity stays revoked, and its id is never registered again.
 * 3. A revoked identity is in no member list: revocation takes it out of each group it is in, in the same transaction.
 * 4. One authority cannot suspend or revoke another: that would let one operator outvote the threshold.
 * 5. Suspension and revocation judge the status alone, which only authorities change: what a subject does to its own record, in
 *    every block, does not stand in their way.
 * 6. Every present and decided consenter is active: one operator could otherwise take the quorum away, and with it the chain.
 */
import type { ChainEvent } from './block.ts'
import { removeFromGroup } from './execute-group.ts'
import { checkUsable } from './execute-key.ts'
import type { ExecutionContext } from './execution-context.ts'
import { maxEditedVersion } from './limits.ts'
import { type ExecutionResult, permit, reject } from './outcome.ts'
import { isAuthority, isConsenter } from './permissions.ts'
import { type IdentityRecord, type IdentityStatus, registeredTrustLevel } from './records.ts'
import { judgeRegistration } from './registration.ts'
import {
  type GrantBody,
  grantIdOf,
  type Label,
  type RegisterBody,
  type RevokeBody,
  type RightsBody,
  type SuspendBody,
} from './transaction.ts'

/** Records a grant of the signing authority. */
export function executeGrant(
  context: ExecutionContext,
  body: GrantBody,
  operator: IdentityRecord,
): ExecutionResult<readonly ChainEvent[]> {
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
): ExecutionResult<readonly ChainEvent[]> {
  const { view, height } = context
  const grant = view.grant(body.grant)
  const admitted = judgeRegistration(id, body, {
    ...context,
    parameters: view.parameters(),
    identity: view.identity(id),
    grant,
    operator: grant && view.identity(grant.operator),
    coordinator: view.identity(body.challenge.coordinator),
  })
  if (!admitted.ok) return admitted
  const { keys } = admitted.value
  const { operator, used } = admitted.value.grant
  const status = statusOf(context, body.label)
  view.putGrant({ ...admitted.value.grant, used: used + 1 })
  view.putIdentity({
    id,
    version: 1,
    label: body.label,
    status,
    trustLevel: registeredTrustLevel,
    keys,
    admittedBy: { grant: body.grant, operator },
    credential: undefined,
    metadataHash: body.metadataHash,
    transportKey: body.transportKey,
    incidents: 0,
    incidentsHash: undefined,
    registeredAt: height,
    updatedAt: height,
  })
  return permit([{ type: 'identity.registered', subject: id, label: body.label, status, grant: body.grant }])
}

/** A full node waits for the approval of as many authorities as the threshold asks; one grant is the word of one. */
function statusOf({ view }: ExecutionContext, label: Label): IdentityStatus {
  return label === 'full' && view.parameters().threshold > 1 ? 'pending' : 'active'
}

/** Suspends or revokes the subject; revocation also takes it out of its groups. */
export function executeStatus(
  context: ExecutionContext,
  body: SuspendBody | RevokeBody,
): ExecutionResult<readonly ChainEvent[]> {
  const { view, height } = context
  const { subject } = body
  const record = view.identity(subject)
  if (!record) return reject('unknown-subject', `subject: no identity ${subject}`)
  if (isAuthority(view.parameters(), subject))
    return reject('not-authorised', 'subject: authorities are changed by governance')
  if (isConsenter(view.parameters(), subject))
    return reject('invalid-state', `subject: ${subject} is a consenter; change the consenters first`)
  const status = body.type === 'identity.revoke' ? 'revoked' : 'suspended'
  if (record.status === 'revoked' || record.status === status)
    return reject('invalid-state', `${subject} is ${record.status}`)
  view.putIdentity({ ...record, version: record.version + 1, status, updatedAt: height })
  const events: ChainEvent[] = [{ type: 'identity.status', subject, status }]
  if (status === 'revoked')
    for (const group of view.memberships(subject)) events.push(removeFromGroup(context, group, [subject]))
  return permit(events)
}

/** Replaces the rights of an identity. Only their own version counts, so that the subject's edits are in nobody's way. */
export function executeRights(
  { view, height }: ExecutionContext,
  body: RightsBody,
): ExecutionResult<readonly ChainEvent[]> {
  const { subject, expectedVersion, publish, subscribe, observe, gateway } = body
  const record = view.identity(subject)
  if (!record) return reject('unknown-subject', `subject: no identity ${subject}`)
  if (record.status === 'revoked') return reject('invalid-state', `${subject} is revoked`)
  const current = view.rights(subject)?.version ?? 0
  if (current !== expectedVersion)
    return reject('version-conflict', `version of the rights: expected ${current}, got ${expectedVersion}`)
  if (current >= maxEditedVersion)
    return reject('limit-exceeded', `version of the rights: expected less than ${maxEditedVersion}`)
  const version = current + 1
  view.putRights({ id: subject, version, publish, subscribe, observe, gateway, updatedAt: height })
  return permit([{ type: 'identity.rights', subject, version }])
}
