/**
 * Whether a newcomer may be registered (Qiu A3): the one judgement, which execution makes with the state of its block, and a
 * coordination node with verified records before it submits anything. What only the coordination node remembers, that the challenge
 * was its own and not used before, is node/registry/join-service.ts.
 */
import { verifies } from './admission.ts'
import type { ChainId, DeviceId, Milliseconds } from './brands.ts'
import { checkNewKey, checkOnePurpose, checkUsable, entryOf } from './execute-key.ts'
import { keyIdOf } from './keys.ts'
import { type ExecutionResult, permit, reject } from './outcome.ts'
import { isAuthority } from './permissions.ts'
import type { ChainParameters, GrantRecord, IdentityRecord, KeyEntry } from './records.ts'
import { grantTokenSigningBytes, type Label, type RegisterBody } from './transaction.ts'

/** What a registration is judged by. */
export interface RegistrationFacts {
  readonly chainId: ChainId
  /** Block time, or what is near to it. */
  readonly time: Milliseconds
  readonly verification: Parameters<typeof verifies>[0]
  readonly parameters: ChainParameters
  /** The newcomer's own record, if its id is on the chain already. */
  readonly identity: IdentityRecord | undefined
  /** The grant that the registration names. */
  readonly grant: GrantRecord | undefined
  /** The record of that grant's operator. */
  readonly operator: IdentityRecord | undefined
  /** The record of the coordination node that the challenge names. */
  readonly coordinator: IdentityRecord | undefined
}

/** What a registration that passes brings. */
export interface AdmittedRegistration {
  readonly grant: GrantRecord
  /** The inception key first; all valid from `time` on. */
  readonly keys: readonly KeyEntry[]
}

const rank: Readonly<Record<Label, number>> = { lightweight: 1, coordination: 2, full: 3 }

/**
 * Refuses `id-active`, `invalid-state`, `grant-not-valid`, `label-not-allowed`, `possession-not-proven`, `challenge-expired`,
 * `already-exists` (a key that comes twice) and `key-not-usable`.
 */
export function judgeRegistration(
  device: DeviceId,
  body: RegisterBody,
  facts: RegistrationFacts,
): ExecutionResult<AdmittedRegistration> {
  const { identity } = facts
  if (identity) {
    const live = identity.status === 'active' || identity.status === 'pending'
    return reject(live ? 'id-active' : 'invalid-state', `${device} is ${identity.status}`)
  }
  const grant = checkGrant(device, body, facts)
  if (!grant.ok) return grant
  const challenged = checkChallenge(body, facts)
  if (!challenged.ok) return challenged
  const keys = keysOf(device, body, facts)
  if (!keys.ok) return keys
  const { transportKey } = body
  const transport = transportKey && checkUsable('transportKey', { suite: 'ed25519', bytes: transportKey })
  if (transport && !transport.ok) return transport
  return permit({ grant: grant.value, keys: keys.value })
}

function checkGrant(
  device: DeviceId,
  body: RegisterBody,
  facts: RegistrationFacts,
): ExecutionResult<GrantRecord> {
  const { grant, operator, parameters, time, chainId, verification } = facts
  if (!grant) return reject('grant-not-valid', `grant ${body.grant}: there is none`)
  if (grant.expiry <= time) return reject('grant-not-valid', `grant ${grant.id}: expired at ${grant.expiry}`)
  if (grant.used >= grant.quota)
    return reject('grant-not-valid', `grant ${grant.id}: all ${grant.quota} uses are spent`)
  // A grant is only as good as its operator is now: one whose key was stolen is revoked with all it granted.
  if (!isAuthority(parameters, grant.operator) || operator?.status !== 'active')
    return reject('grant-not-valid', `grant ${grant.id}: its operator is no active authority`)
  if (rank[body.label] > rank[grant.highestLabel])
    return reject('label-not-allowed', `label: expected at most ${grant.highestLabel}, got ${body.label}`)
  const message = () => grantTokenSigningBytes(chainId, device)
  if (!verifies(verification, { key: grant.tokenKey, message, signature: body.tokenSignature }))
    return reject('possession-not-proven', `tokenSignature: the token key did not sign ${device}`)
  return permit(grant)
}

/** What can be judged without the coordinator's memory: it exists, is active, and the challenge is fresh. */
function checkChallenge({ challenge }: RegisterBody, facts: RegistrationFacts): ExecutionResult<void> {
  const { coordinator: record, parameters, time } = facts
  const { coordinator, issuedAt } = challenge
  if (record?.label !== 'coordination' || record.status !== 'active')
    return reject('challenge-expired', `coordinator: ${coordinator} is no active coordination node`)
  const most = parameters.challengeAgeMs
  if (Math.abs(time - issuedAt) > most)
    return reject('challenge-expired', `issuedAt: expected within ${most} ms of ${time}, got ${issuedAt}`)
  return permit(undefined)
}

function keysOf(
  device: DeviceId,
  body: RegisterBody,
  facts: RegistrationFacts,
): ExecutionResult<readonly KeyEntry[]> {
  const { time } = facts
  const lifetime = { notBefore: time, notAfter: undefined, revokedAt: undefined }
  const keys: KeyEntry[] = [{ purpose: 'sign', key: body.inceptionKey, ...lifetime }]
  const ids = new Set([keyIdOf(body.inceptionKey)])
  for (const key of body.keys) {
    const checked = checkNewKey(facts, device, key)
    if (!checked.ok) return checked
    const onePurpose = checkOnePurpose(key, keys)
    if (!onePurpose.ok) return onePurpose
    const keyId = keyIdOf(key.key)
    if (ids.has(keyId)) return reject('already-exists', `keys: ${keyId} comes twice`)
    ids.add(keyId)
    keys.push(entryOf(key, time))
  }
  return permit(keys)
}
