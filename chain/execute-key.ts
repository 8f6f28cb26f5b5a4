/**
 * Execution of key changes. The subject changes its own keys; the id stays, being the digest of the inception key.
 *
 * Invariants
 * 1. A signing key enters a record only with a signature that proves its possession for this device on this chain.
 * 2. An encryption key enters a record only if everybody can seal to it (usable-keys.ts).
 * 3. No secret both signs and decrypts: no two keys of a record are one key in two forms (usable-keys.ts).
 * 4. An active record always has a signing key that is valid at the time of its last change.
 * 5. Ended keys stay in the record until their place is needed, the one that ended first going first.
 */
import { verifies } from './admission.ts'
import type { ChainEvent } from './block.ts'
import { Milliseconds } from './brands.ts'
import type { ExecutionContext } from './execution-context.ts'
import { type EncryptionKey, keyIdOf, type PublicKey } from './keys.ts'
import { maxEditedVersion, maxKeysPerIdentity, maxRotationOverlapMs } from './limits.ts'
import { type ExecutionResult, permit, reject } from './outcome.ts'
import { findKey, type IdentityRecord, isKeyValidAt, type KeyEntry } from './records.ts'
import {
  type KeyAddBody,
  type KeyRevokeBody,
  type KeyRotateBody,
  keyPossessionSigningBytes,
  type NewKey,
} from './transaction.ts'
import { keyFlaw, sharingFlaw } from './usable-keys.ts'

/** Refuses `possession-not-proven`, `key-not-usable`, and `invalid-state` (a key that would end before it begins). */
export function checkNewKey(
  { chainId, time, verification }: Pick<ExecutionContext, 'chainId' | 'time' | 'verification'>,
  id: IdentityRecord['id'],
  key: NewKey,
): ExecutionResult<void> {
  if (key.notAfter !== undefined && key.notAfter <= time)
    return reject('invalid-state', `notAfter: expected later than ${time}, got ${key.notAfter}`)
  if (key.purpose === 'encrypt') return checkUsable('key', key.key)
  const message = () => keyPossessionSigningBytes(chainId, id, key.key)
  return verifies(verification, { key: key.key, message, signature: key.possession })
    ? permit(undefined)
    : reject('possession-not-proven', `key ${keyIdOf(key.key)}: did not sign for ${id}`)
}

/** Refuses `key-not-usable` for a key that nobody could use; what comes with a signature of its own is proven by that. */
export function checkUsable(field: string, key: PublicKey | EncryptionKey): ExecutionResult<void> {
  const flaw = keyFlaw(key)
  return flaw === undefined ? permit(undefined) : reject('key-not-usable', `${field}: ${flaw}`)
}

/** Refuses `key-not-usable` for a key that is one of `others`, ended or not, for the other purpose. */
export function checkOnePurpose(key: NewKey, others: readonly KeyEntry[]): ExecutionResult<void> {
  for (const other of others) {
    const flaw =
      key.purpose === 'sign'
        ? other.purpose === 'encrypt' && sharingFlaw(key.key, other.key)
        : other.purpose === 'sign' && sharingFlaw(other.key, key.key)
    if (flaw) return reject('key-not-usable', `key: ${flaw}`)
  }
  return permit(undefined)
}

/** The record's entry for a new key, valid from block time on. */
export function entryOf(key: NewKey, time: Milliseconds): KeyEntry {
  const lifetime = { notBefore: time, notAfter: key.notAfter, revokedAt: undefined }
  return key.purpose === 'sign'
    ? { purpose: 'sign', key: key.key, ...lifetime }
    : { purpose: 'encrypt', key: key.key, ...lifetime }
}

export function executeKeyAdd(
  context: ExecutionContext,
  body: KeyAddBody,
  record: IdentityRecord,
): ExecutionResult<readonly ChainEvent[]> {
  const keys = withKey(context, body, record, record.keys)
  if (!keys.ok) return keys
  putKeys(context, record, keys.value)
  return permit([{ type: 'key.added', subject: record.id, key: keyIdOf(body.key.key) }])
}

/** The new key begins now, the old one ends after the overlap. */
export function executeKeyRotate(
  context: ExecutionContext,
  body: KeyRotateBody,
  record: IdentityRecord,
): ExecutionResult<readonly ChainEvent[]> {
  const { time } = context
  const { oldKey, overlap } = body
  if (overlap > maxRotationOverlapMs)
    return reject('limit-exceeded', `overlap: expected at most ${maxRotationOverlapMs} ms, got ${overlap}`)
  const old = findKey(record, oldKey)
  if (!old) return reject('unknown-subject', `oldKey: ${oldKey} is not a key of ${record.id}`)
  if (!isKeyValidAt(old, time)) return reject('invalid-state', `oldKey: ${oldKey} has ended`)
  if (old.purpose !== body.key.purpose)
    return reject('invalid-state', `key: expected purpose ${old.purpose}, got ${body.key.purpose}`)
  const at = Milliseconds(Math.min(time + overlap, old.notAfter ?? Number.MAX_SAFE_INTEGER))
  const shortened = record.keys.map(entry => (entry === old ? { ...entry, notAfter: at } : entry))
  const keys = withKey(context, body, record, shortened)
  if (!keys.ok) return keys
  putKeys(context, record, keys.value)
  return permit([
    { type: 'key.ended', subject: record.id, key: oldKey, at },
    { type: 'key.added', subject: record.id, key: keyIdOf(body.key.key) },
  ])
}

export function executeKeyRevoke(
  context: ExecutionContext,
  body: KeyRevokeBody,
  record: IdentityRecord,
): ExecutionResult<readonly ChainEvent[]> {
  const { time } = context
  const current = checkVersion(record, body.expectedVersion)
  if (!current.ok) return current
  const found = findKey(record, body.key)
  if (!found) return reject('unknown-subject', `key: ${body.key} is not a key of ${record.id}`)
  if (found.revokedAt !== undefined) return reject('invalid-state', `key: ${body.key} is revoked`)
  const keys = record.keys.map(entry => (entry === found ? { ...entry, revokedAt: time } : entry))
  // Without a signing key nobody could ever change the record again; an operator revokes the identity instead.
  if (!keys.some(entry => entry.purpose === 'sign' && isKeyValidAt(entry, time)))
    return reject('invalid-state', `key: ${body.key} is the last signing key`)
  putKeys(context, record, keys)
  return permit([{ type: 'key.ended', subject: record.id, key: body.key, at: time }])
}

function checkVersion(record: IdentityRecord, expectedVersion: number): ExecutionResult<void> {
  if (record.version !== expectedVersion)
    return reject('version-conflict', `version: expected ${record.version}, got ${expectedVersion}`)
  return record.version < maxEditedVersion
    ? permit(undefined)
    : reject('limit-exceeded', `version: expected less than ${maxEditedVersion}, got ${record.version}`)
}

/** `keys` with the body's new key, in the place of an ended one if there is no other. */
function withKey(
  context: ExecutionContext,
  body: KeyAddBody | KeyRotateBody,
  record: IdentityRecord,
  keys: readonly KeyEntry[],
): ExecutionResult<readonly KeyEntry[]> {
  const current = checkVersion(record, body.expectedVersion)
  if (!current.ok) return current
  if (findKey(record, keyIdOf(body.key.key)))
    return reject('already-exists', 'key: the record has this key already')
  const checked = checkNewKey(context, record.id, body.key)
  if (!checked.ok) return checked
  const onePurpose = checkOnePurpose(body.key, keys)
  if (!onePurpose.ok) return onePurpose
  const entry = entryOf(body.key, context.time)
  if (keys.length < maxKeysPerIdentity) return permit([...keys, entry])
  const ended = keys.filter(key => !isKeyValidAt(key, context.time)).sort((a, b) => endOf(a) - endOf(b))[0]
  if (!ended) return reject('limit-exceeded', `keys: expected at most ${maxKeysPerIdentity} at a time`)
  return permit([...keys.filter(key => key !== ended), entry])
}

function endOf({ notAfter, revokedAt }: KeyEntry): number {
  return Math.min(notAfter ?? Number.POSITIVE_INFINITY, revokedAt ?? Number.POSITIVE_INFINITY)
}

function putKeys(context: ExecutionContext, record: IdentityRecord, keys: readonly KeyEntry[]): void {
  context.view.putIdentity({ ...record, version: record.version + 1, keys, updatedAt: context.height })
}
