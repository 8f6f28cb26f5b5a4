/**
 * Where a coordination node is reached, signed by itself (docs/FORMATS.md, coordination addresses). Full nodes take it
 * from connected coordination nodes and give it to whoever asks, so that newcomers need no file that names any.
 *
 * An address is advice: whoever answers there can delay or deny, and admit nobody. It expires by block time, so that a
 * reader needs no clock. Pure but for the search, which reads verified records.
 */
import type { ChainId, DeviceId, KeyId, Milliseconds } from '../chain/brands.ts'
import {
  bytes,
  type Codec,
  constant,
  decode,
  digest,
  encode,
  list,
  struct,
  text,
  uint,
} from '../chain/codec.ts'
import { domainBytes } from '../chain/hashing.ts'
import { keyIdOf, type SignatureVerifier } from '../chain/keys.ts'
import { findKey, type IdentityRecord, isKeyValidAt } from '../chain/records.ts'
import { MoteError, ok, type Result, refuse } from '../chain/result.ts'
import type { ChainClient } from './chain-client.ts'
import type { ChainSource } from './chain-source.ts'
import { type Assignment, maxAddressBytes, type NodeAddress } from './join-messages.ts'
import { type IdentityKeys, signerOf } from './key-directory.ts'
import { nativeVerifier } from './native-crypto.ts'

/** How far ahead of the newest block a coordination node lets its address expire. */
export const addressLifetimeMs = 5 * 60_000
/** How far ahead one may lie: the reader's newest block may be older than the signer's. */
const maxAddressLifetimeMs = 10 * 60_000
/** Signed addresses that a full node keeps and gives out. */
export const maxCoordinationAddresses = 64
/** Coordination nodes that a search ends with. */
const maxFound = 8
const maxMultiaddrs = 8

export interface CoordinationAddress {
  readonly version: 1
  readonly chainId: ChainId
  readonly device: DeviceId
  /** The signing key of the device, valid now. */
  readonly keyId: KeyId
  /** Base URL of its HTTP API; may be empty. */
  readonly api: string
  /** Multiaddrs. */
  readonly addresses: readonly string[]
  /** Block time from which on it is void. */
  readonly expiry: Milliseconds
}

const payloadCodec: Codec<CoordinationAddress> = struct<CoordinationAddress>({
  version: constant(1),
  chainId: digest<ChainId>(),
  device: digest<DeviceId>(),
  keyId: digest<KeyId>(),
  api: text(256, /^(https?:\/\/[!-~]*)?$/),
  addresses: list(text(256, /^[!-~]+$/), maxMultiaddrs),
  expiry: uint<Milliseconds>(),
})

interface Signed {
  readonly payload: Uint8Array
  readonly signature: Uint8Array
}

const signedCodec: Codec<Signed> = struct<Signed>({
  payload: bytes(1, maxAddressBytes),
  signature: bytes(64),
})

/** Signed addresses as a full node gives them out. */
export const coordinationAddressesCodec: Codec<readonly Uint8Array[]> = list(
  bytes(1, maxAddressBytes),
  maxCoordinationAddresses,
)

/** What the signature covers. */
export function addressSigningBytes(payload: Uint8Array): Uint8Array {
  return domainBytes('mote/coordination-address/1', payload)
}

/** Signs where these keys' node is reached, with its inception key. */
export function signAddress(
  keys: IdentityKeys,
  where: Pick<CoordinationAddress, 'chainId' | 'api' | 'addresses' | 'expiry'>,
): Uint8Array {
  const keyId = keyIdOf(keys.signing.publicKey)
  const addresses = where.addresses.slice(0, maxMultiaddrs)
  const payload = encode(payloadCodec, { version: 1, device: keys.id, keyId, ...where, addresses })
  return encode(signedCodec, { payload, signature: signerOf(keys).sign(addressSigningBytes(payload)) })
}

/** A signed address that has the right form; nothing is verified yet. */
export interface ParsedAddress extends Signed {
  readonly address: CoordinationAddress
}

/** Refuses with `too-large` or `malformed`. */
export function parseAddress(signed: Uint8Array): Result<ParsedAddress> {
  const outer = decode(signedCodec, signed, maxAddressBytes)
  if (!outer.ok) return outer
  const address = decode(payloadCodec, outer.value.payload, maxAddressBytes)
  return address.ok ? ok({ ...outer.value, address: address.value }) : address
}

/** What the judge knows of the chain, certified. */
export interface AddressView {
  readonly chainId: ChainId
  /** Time of the newest certified block. */
  readonly time: Milliseconds
  /** Of the device that the address names. */
  readonly record: IdentityRecord | undefined
}

/**
 * Whether an active node of this label says, with a key that is its own now, that it is reached there. Refuses
 * `wrong-chain`, `stale`, `expiry-too-far`, `unknown-signer`, `signer-not-active`, `not-authorised`, `key-not-valid`,
 * `bad-signature`.
 */
export function judgeAddress(
  { address, payload, signature }: ParsedAddress,
  { chainId, time, record }: AddressView,
  verifier: SignatureVerifier,
  label: 'coordination' | 'full' = 'coordination',
): Result<void> {
  const { device, expiry, keyId } = address
  if (address.chainId !== chainId)
    return refuse('wrong-chain', `chainId: expected ${chainId}, got ${address.chainId}`)
  if (expiry <= time) return refuse('stale', `expiry: expected more than ${time}, got ${expiry}`)
  if (expiry > time + maxAddressLifetimeMs)
    return refuse('expiry-too-far', `expiry: expected at most ${time + maxAddressLifetimeMs}, got ${expiry}`)
  if (!record) return refuse('unknown-signer', `device ${device}: not on the chain`)
  if (record.status !== 'active') return refuse('signer-not-active', `device ${device}: ${record.status}`)
  if (record.label !== label)
    return refuse('not-authorised', `device ${device}: expected a ${label} node, got ${record.label}`)
  const entry = findKey(record, keyId)
  if (entry?.purpose !== 'sign' || !isKeyValidAt(entry, time))
    return refuse('key-not-valid', `key ${keyId}: no signing key of ${device} now`)
  if (!verifier.verify(entry.key, addressSigningBytes(payload), signature))
    return refuse('bad-signature', `signature: does not verify under key ${keyId}`)
  return ok(undefined)
}

/**
 * The coordination nodes that the first full node of the client's pool which knows any knows, each address verified
 * against the chain; none if nobody knows any. The client's head should be fresh. Never throws.
 */
export async function findCoordinationNodes(client: ChainClient): Promise<readonly NodeAddress[]> {
  // One that knows none may have just started: that is no fault, and the next one may know some.
  for (const source of client.pool.sources) {
    const found = await knownTo(client, source).catch(() => [])
    if (found.length > 0) return found
  }
  return []
}

async function knownTo(client: ChainClient, source: ChainSource): Promise<readonly NodeAddress[]> {
  const found = new Map<DeviceId, NodeAddress>()
  for (const signed of await source.coordination()) {
    const address = await verifiedAddress(client, signed, 'coordination')
    if (address) found.set(address.id, address)
    if (found.size >= maxFound) break
  }
  return [...found.values()]
}

/** Full nodes of an assignment that are looked at. */
const maxServing = 3

/**
 * A few of the full nodes that an assignment names, with the addresses that each of them has signed and no other: whoever hands
 * out an assignment cannot make anybody dial elsewhere. Throws `no-full-node` when no active full node is left.
 * @param fullNodeAt `verifiedAddress` of a full node
 */
export async function verifiedAssignment(
  { fullNode, backups }: Assignment,
  fullNodeAt: (signed: Uint8Array) => Promise<NodeAddress | undefined>,
): Promise<Assignment> {
  const serving: NodeAddress[] = []
  for (const { id, signed } of [fullNode, ...backups].slice(0, maxServing)) {
    const address = signed && (await fullNodeAt(signed))
    if (address?.id === id) serving.push(address)
  }
  const [first, ...others] = serving
  if (!first)
    throw new MoteError('no-full-node', 'assignment: expected active full nodes, by their own signatures')
  return { fullNode: first, backups: others }
}

/** Where an active node of this label is reached, by its own signature and its proven record; undefined for anything else. */
export async function verifiedAddress(
  client: Pick<ChainClient, 'records' | 'chainId'>,
  signed: Uint8Array,
  label: 'coordination' | 'full',
): Promise<NodeAddress | undefined> {
  const parsed = parseAddress(signed)
  if (!parsed.ok) return undefined
  const { device: id, api, addresses } = parsed.value.address
  const { value: record, time } = await client.records.device(id)
  const judged = judgeAddress(parsed.value, { chainId: client.chainId, time, record }, nativeVerifier, label)
  return judged.ok ? { id, api, addresses } : undefined
}
