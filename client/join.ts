/**
 * The newcomer's side of joining (Qiu A3; docs/ARCHITECTURE.md, "Life of a join"): ask a coordination node for a
 * challenge, sign the registration, have it submitted, and believe in one's own admission only when one's own record
 * is proven.
 *
 * The token key signs the newcomer's device id, so whoever carries the request cannot spend the grant on another
 * device. A coordination node can refuse or stay silent: then the next one is asked. Asking again after a lost answer
 * is safe: an identity that is active with one's own key *is* the success that was not heard of.
 */

import type { ChainId, DeviceId, Height, Milliseconds } from '../chain/brands.ts'
import { type Codec, decode, encode } from '../chain/codec.ts'
import { errorTable } from '../chain/errors.ts'
import type { Signer } from '../chain/keys.ts'
import { findKey, type IdentityRecord } from '../chain/records.ts'
import { MoteError } from '../chain/result.ts'
import {
  type CapabilityProfile,
  type CoordinatorChallenge,
  grantIdOf,
  grantTokenSigningBytes,
  type Label,
  type RegisterBody,
} from '../chain/transaction.ts'
import type { ChainClient } from './chain-client.ts'
import { verifiedAddress, verifiedAssignment } from './coordination-address.ts'
import { pause } from './deadline.ts'
import { exchange } from './http-source.ts'
import {
  type Assignment,
  type JoinReply,
  type JoinRequest,
  joinReplyCodec,
  joinRequestCodec,
  maxJoinMessageBytes,
} from './join-messages.ts'
import { type IdentityKeys, transactionSignerOf } from './key-directory.ts'
import { signedBody } from './submission.ts'
import type { Verified } from './verified-chain.ts'

/** A coordination node, by whatever way it is reached. Throws the refusal as `MoteError`. */
export interface CoordinationContact {
  readonly name: string
  exchange(request: Uint8Array, options?: ExchangeOptions): Promise<Uint8Array>
}

interface ExchangeOptions {
  readonly signal?: AbortSignal
  /** For this answer, where it is less than a registration may take. */
  readonly timeoutMs?: number
}

/** How long a coordination node has for one answer; a registration waits for certification there. */
const answerTimeoutMs = 30_000
/** How long it has for an answer that waits for nothing: one that hangs costs a newcomer this much. */
const promptAnswerTimeoutMs = 5_000

/** A coordination node at the base URL of its HTTP API. */
export function httpContact(baseUrl: string): CoordinationContact {
  const base = baseUrl.replace(/\/+$/, '')
  return {
    name: base,
    exchange: async (body, options) => {
      const timeoutMs = options?.timeoutMs ?? answerTimeoutMs
      const request = { path: '/v1/join', timeoutMs, signal: options?.signal, body }
      return (await exchange(base, request)).body
    },
  }
}

export interface Newcomer {
  readonly keys: IdentityKeys
  readonly label: Label
  readonly profile: CapabilityProfile
  /** Signs with the token key that the operator's grant names. */
  readonly token: Signer
}

export interface Joined {
  readonly id: DeviceId
  /** Height at which the registration stands. */
  readonly height: Height
  /** Each address by its full node's own signature. */
  readonly assignment: Assignment
  /** Name of the coordination node that carried it through. */
  readonly contact: string
  /** One's own record, proven. */
  readonly record: Verified<IdentityRecord> & { readonly value: IdentityRecord }
}

/** Coordination nodes that must refuse, where that many are known: one that lies keeps nobody out. */
const refusalsNeeded = 2

interface JoinRequestOptions {
  readonly signal?: AbortSignal
}

/**
 * Joins through the first coordination node that carries it through. Throws the refusal that a second one has confirmed, or
 * that the only one has given; `unconfirmed` while nobody else has; `stale` if a coordination node reports success and no
 * source proves it.
 * @param client follows the chain through full nodes the newcomer knows
 */
export function join(
  client: ChainClient,
  newcomer: Newcomer,
  contacts: readonly CoordinationContact[],
  options: JoinRequestOptions = {},
): Promise<Joined> {
  return through(client, newcomer.keys, contacts, contact =>
    registerWith(contact, client.chainId, newcomer, options),
  )
}

/** The same for a device that is registered already: it asks which full node serves it. */
export function rejoin(
  client: ChainClient,
  keys: IdentityKeys,
  contacts: readonly CoordinationContact[],
  options: JoinRequestOptions = {},
): Promise<Joined> {
  return through(client, keys, contacts, async contact => ({
    assignment: await askAssignment(contact, keys.id, options),
  }))
}

async function through(
  client: ChainClient,
  keys: IdentityKeys,
  contacts: readonly CoordinationContact[],
  ask: (
    contact: CoordinationContact,
  ) => Promise<{ readonly assignment: Assignment; readonly height?: Height }>,
): Promise<Joined> {
  let last: unknown = new MoteError('usage', 'contacts: expected at least one coordination node')
  const refusals: MoteError[] = []
  for (const contact of contacts) {
    const answered = await answerOf(ask(contact))
    if (answered instanceof MoteError) {
      last = answered
      if (errorTable[answered.code].retry) continue
      refusals.push(answered)
      if (refusals.length < Math.min(refusalsNeeded, contacts.length)) continue
      throw refusals[0]
    }
    try {
      const { assignment, height } = answered
      if (height === undefined) await client.follower.sync()
      else await client.follower.reach(height)
      const record = await provenRecord(client, keys)
      return {
        id: keys.id,
        height: record.value.registeredAt,
        assignment: await verifiedAssignment(assignment, signed => verifiedAddress(client, signed, 'full')),
        record,
        contact: contact.name,
      }
    } catch (error) {
      last = error
      if (!(error instanceof MoteError) || !errorTable[error.code].retry) throw error
    }
  }
  const [alone] = refusals
  if (!alone) throw last
  throw new MoteError('unconfirmed', `one coordination node alone refused: ${alone.code}: ${alone.detail}`)
}

/** What a coordination node says, its refusal included. Throws what is nobody's word. */
async function answerOf<T>(answer: Promise<T>): Promise<T | MoteError> {
  try {
    return await answer
  } catch (error) {
    if (error instanceof MoteError && error.code !== 'interrupted') return error
    throw error
  }
}

const retryDelayMs = 200

/** Joins, and tries again while a retry may help (no leader yet, no full node known yet), until the signal fires. */
export function joinPatiently(
  client: ChainClient,
  newcomer: Newcomer,
  contacts: readonly CoordinationContact[],
  signal: AbortSignal,
): Promise<Joined> {
  return patiently(signal, () => join(client, newcomer, contacts, { signal }))
}

/** Repeats the attempt while a retry may help, until the signal fires. */
export async function patiently<T>(signal: AbortSignal, attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt()
    } catch (error) {
      const mayPass = error instanceof MoteError && errorTable[error.code].retry
      if (!mayPass || signal.aborted) throw error
      await pause(retryDelayMs, signal)
    }
  }
}

/** Challenge, signed registration, assignment. Having been registered before counts as done. */
async function registerWith(
  contact: CoordinationContact,
  chainId: ChainId,
  newcomer: Newcomer,
  options: { readonly signal?: AbortSignal },
): Promise<{ readonly assignment: Assignment; readonly height?: Height }> {
  const device = newcomer.keys.id
  try {
    const challenge = await ask(contact, { type: 'challenge', chainId, device }, 'challenge', options)
    const transaction = registration(chainId, newcomer, challenge)
    return await ask(contact, { type: 'register', transaction }, 'registered', options)
  } catch (error) {
    // Whether it is one's own earlier attempt that is active, the proof of the record decides.
    if (!(error instanceof MoteError) || error.code !== 'id-active') throw error
    return { assignment: await askAssignment(contact, device, options) }
  }
}

/** The full node that serves a device, as this coordination node sees it now. */
export async function askAssignment(
  contact: CoordinationContact,
  device: DeviceId,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Assignment> {
  return (await ask(contact, { type: 'assignment', device }, 'assignment', options)).assignment
}

async function ask<K extends JoinReply['type']>(
  contact: CoordinationContact,
  request: JoinRequest,
  expected: K,
  options: { readonly signal?: AbortSignal },
): Promise<Extract<JoinReply, { type: K }>> {
  const prompt = request.type === 'register' ? {} : { timeoutMs: promptAnswerTimeoutMs }
  const bytes = await contact.exchange(encode(joinRequestCodec, request), { ...options, ...prompt })
  const reply = decodeReply(contact, joinReplyCodec, bytes)
  if (reply.type !== expected)
    throw new MoteError('malformed', `${contact.name}: expected ${expected}, got ${reply.type}`)
  return reply as Extract<JoinReply, { type: K }>
}

function decodeReply<T>(contact: CoordinationContact, codec: Codec<T>, bytes: Uint8Array): T {
  const decoded = decode(codec, bytes, maxJoinMessageBytes)
  if (decoded.ok) return decoded.value
  throw new MoteError('malformed', `${contact.name}: ${decoded.error.detail}`)
}

/** The signed register transaction. Its time is the challenge's, so a newcomer without a clock can make it. */
export function registration(
  chainId: ChainId,
  newcomer: Newcomer,
  challenge: CoordinatorChallenge,
): Uint8Array {
  const { keys, label, profile, token } = newcomer
  const { coordinator, nonce, issuedAt } = challenge
  const body: RegisterBody = {
    type: 'identity.register',
    inceptionKey: keys.signing.publicKey,
    label,
    keys: [{ purpose: 'encrypt', key: keys.encryption.publicKey, notAfter: undefined }],
    transportKey: keys.transport?.publicKey,
    profile,
    metadataHash: undefined,
    grant: grantIdOf(token.publicKey),
    tokenSignature: token.sign(grantTokenSigningBytes(chainId, keys.id)),
    challenge: { coordinator, nonce, issuedAt },
  }
  return signedBody({ chainId, body, keys, time: issuedAt as Milliseconds })
}

/** One's own record, verified to be active and to hold one's own key. */
async function provenRecord(client: ChainClient, keys: IdentityKeys): Promise<Joined['record']> {
  const record = await client.records.device(keys.id)
  const { value } = record
  if (value?.status !== 'active')
    throw new MoteError('stale', `device ${keys.id}: not proven active (${value?.status ?? 'absent'})`)
  if (!findKey(value, transactionSignerOf(keys).keyId))
    throw new MoteError('id-active', `device ${keys.id}: active with other keys`)
  return { ...record, value }
}
