/**
 * The checks that every transaction passes before its kind matters, in this order: chain, expiry, replay, signer,
 * signature; then the signer's standing and permission (permissions.ts). A mempool asks them with its clock, execution with
 * block time.
 *
 * From the signature on, the transaction is its signer's: it is remembered against replay whatever becomes of it. Before,
 * anybody could have made it (the id does not cover the signature), so remembering it would let a stranger void it.
 */
import type { ChainId, Milliseconds, TransactionId } from './brands.ts'
import { deviceIdOf, keyIdOf, type PublicKey, type SignatureVerifier } from './keys.ts'
import { maxExpiryAheadMs } from './limits.ts'
import { type ExecutionResult, permit, reject } from './outcome.ts'
import { checkPermission, permissions } from './permissions.ts'
import { findKey, type IdentityRecord, isKeyValidAt, type KeyEntry } from './records.ts'
import { assert } from './result.ts'
import type { StateView } from './state-view.ts'
import { type ParsedTransaction, parsedSigningBytes, type RegisterBody } from './transaction.ts'

/** How signatures are judged: by a verifier, or not at all when the node executes its own certified log again. */
export type Verification = SignatureVerifier | 'skip'

/** Ids that are remembered. */
export interface RememberedIds {
  readonly count: number
  has(id: TransactionId, expiry: Milliseconds): boolean
}

export interface Surroundings {
  readonly chainId: ChainId
  readonly time: Milliseconds
  readonly view: StateView
  readonly remembered: RememberedIds
  readonly verification: Verification
}

/** Who signed. A newcomer has no record yet. */
export type Author =
  | { readonly type: 'newcomer'; readonly key: PublicKey }
  | {
      readonly type: 'identity'
      readonly key: PublicKey
      readonly entry: KeyEntry
      readonly record: IdentityRecord
    }

/** True if `signature` verifies, or signatures are not judged. */
export function verifies(
  verification: Verification,
  signed: {
    readonly key: PublicKey
    readonly message: () => Uint8Array
    readonly signature: Uint8Array
  },
): boolean {
  return verification === 'skip' || verification.verify(signed.key, signed.message(), signed.signature)
}

/**
 * Chain, expiry, replay, signer, signature. Refuses `wrong-chain`, `transaction-expired`, `expiry-too-far`, `duplicate`,
 * `overloaded`, `unknown-signer`, `key-not-valid`, `bad-signature`.
 */
export function authenticate(around: Surroundings, parsed: ParsedTransaction): ExecutionResult<Author> {
  const fresh = checkFresh(around, parsed)
  if (!fresh.ok) return fresh
  const author = findAuthor(around.view, parsed)
  if (!author.ok) return author
  const { key } = author.value
  const message = () => parsedSigningBytes(parsed)
  if (!verifies(around.verification, { key, message, signature: parsed.signature }))
    return reject('bad-signature', `signature: does not verify under ${parsed.unsigned.signer.keyId}`)
  return author
}

/** Standing and permission. Refuses `signer-not-active`, `key-not-valid`, and what the permission table refuses. */
export function authorise(
  around: Surroundings,
  parsed: ParsedTransaction,
  author: Author,
): ExecutionResult<void> {
  const { body } = parsed.unsigned
  if (author.type === 'newcomer') {
    assert(permissions[body.type] === 'newcomer', 'only a kind for newcomers is signed by one')
    return permit(undefined)
  }
  const { record, entry } = author
  if (record.status !== 'active')
    return reject('signer-not-active', `signer: ${record.id} is ${record.status}`)
  if (!isKeyValidAt(entry, around.time))
    return reject('key-not-valid', `signer: ${parsed.unsigned.signer.keyId} is not valid at ${around.time}`)
  return checkPermission(around.view, record, body)
}

function checkFresh(around: Surroundings, { id, unsigned }: ParsedTransaction): ExecutionResult<void> {
  const { chainId, expiry } = unsigned
  const { time, remembered } = around
  if (chainId !== around.chainId)
    return reject('wrong-chain', `chain id: expected ${around.chainId}, got ${chainId}`)
  if (expiry <= time)
    return reject('transaction-expired', `expiry: expected later than ${time}, got ${expiry}`)
  if (expiry > time + maxExpiryAheadMs)
    return reject('expiry-too-far', `expiry: expected at most ${time + maxExpiryAheadMs}, got ${expiry}`)
  if (remembered.has(id, expiry)) return reject('duplicate', `${id} has been executed`)
  const { unexpiredTransactions } = around.view.parameters().limits
  if (remembered.count >= unexpiredTransactions)
    return reject('overloaded', `${unexpiredTransactions} transactions wait for their expiry`)
  return permit(undefined)
}

function findAuthor(view: StateView, { unsigned }: ParsedTransaction): ExecutionResult<Author> {
  const { body, signer } = unsigned
  if (body.type === 'identity.register') return findNewcomer(body, signer)
  const record = view.identity(signer.deviceId)
  if (!record) return reject('unknown-signer', `signer: no identity ${signer.deviceId}`)
  const entry = findKey(record, signer.keyId)
  if (entry?.purpose !== 'sign')
    return reject('key-not-valid', `signer: ${signer.keyId} is not a signing key of ${signer.deviceId}`)
  return permit({ type: 'identity', key: entry.key, entry, record })
}

function findNewcomer(
  { inceptionKey }: RegisterBody,
  signer: ParsedTransaction['unsigned']['signer'],
): ExecutionResult<Author> {
  if (signer.deviceId !== deviceIdOf(inceptionKey) || signer.keyId !== keyIdOf(inceptionKey))
    return reject('unknown-signer', 'signer: expected the ids of the inception key')
  return permit({ type: 'newcomer', key: inceptionKey })
}
