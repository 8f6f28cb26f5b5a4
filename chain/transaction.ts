/**
 * The one envelope of every transaction: `[payload, signature]`, where the payload is
 * `[version, kind, chain id, device id, key id, nonce, expiry, fields]` (docs/FORMATS.md, section Transactions).
 *
 * Invariants: the id is the hash of the payload and never covers the signature (ECDSA signatures are randomised, and a
 * second signature must not make a second transaction). The signature covers the id under a domain of its own.
 * Version and kind are the second and third byte of the payload, so a reader tells "too new" from "broken".
 *
 * Whether the signer may do it is not judged here (permissions.ts, execution.ts).
 */
import type { ChainId, DeviceId, GrantId, KeyId, Milliseconds, TransactionId } from './brands.ts'
import {
  bytes,
  type Codec,
  constant,
  decode,
  decodeSharing,
  digest,
  encode,
  struct,
  uint,
  type Wire,
} from './codec.ts'
import { domainBytes, hashHex, hashOf } from './hashing.ts'
import { hexToBytes } from './hex.ts'
import { type PublicKey, publicKeyCodec, type Signer, signatureCodec } from './keys.ts'
import { maxTransactionBytes } from './limits.ts'
import { assert, ok, type Result, refuse } from './result.ts'
import { bodies, reservedKindNames, type TransactionBody, typeOfKind } from './transaction-bodies.ts'

export { maxTransactionBytes } from './limits.ts'
export * from './transaction-bodies.ts'

/** Who signs: a device and one of its keys. */
export interface TransactionSigner {
  readonly deviceId: DeviceId
  readonly keyId: KeyId
}

export interface UnsignedTransaction {
  readonly version: 1
  readonly chainId: ChainId
  readonly body: TransactionBody
  readonly signer: TransactionSigner
  /** 16 random bytes. */
  readonly nonce: Uint8Array
  /** Block time from which the transaction is void; at most ten minutes ahead. */
  readonly expiry: Milliseconds
}

export interface ParsedTransaction {
  readonly id: TransactionId
  readonly unsigned: UnsignedTransaction
  readonly payload: Uint8Array
  /** 64 bytes. */
  readonly signature: Uint8Array
  /** The wire bytes it was parsed from. */
  readonly bytes: Uint8Array
}

interface Payload {
  readonly version: 1
  readonly kind: number
  readonly chainId: ChainId
  readonly deviceId: DeviceId
  readonly keyId: KeyId
  readonly nonce: Uint8Array
  readonly expiry: Milliseconds
  readonly fields: unknown
}
const rawFields: Codec<unknown> = { toWire: value => value as Wire, fromWire: wire => wire }
const payloadArray = struct<Payload>({
  version: constant(1),
  kind: uint(127),
  chainId: digest<ChainId>(),
  deviceId: digest<DeviceId>(),
  keyId: digest<KeyId>(),
  nonce: bytes(16),
  expiry: uint<Milliseconds>(),
  fields: rawFields,
})

const bodyCodec = struct<Pick<Payload, 'kind' | 'fields'>>({ kind: uint(127), fields: rawFields })

const unsignedCodec: Codec<UnsignedTransaction> = {
  toWire: ({ version, chainId, body, signer, nonce, expiry }) => {
    const [kind, codec] = bodies[body.type] as readonly [number, Codec<object>]
    return payloadArray.toWire({
      version,
      kind,
      chainId,
      ...signer,
      nonce,
      expiry,
      fields: codec.toWire(body),
    })
  },
  fromWire: (wire, path) => {
    const { version, kind, chainId, deviceId, keyId, nonce, expiry, fields } = payloadArray.fromWire(
      wire,
      path,
    )
    const type = typeOfKind.get(kind)
    assert(type, 'parseTransaction refuses other kinds before it decodes')
    const [, codec] = bodies[type] as readonly [number, Codec<object>]
    const body = { type, ...codec.fromWire(fields, `${path}.${type}`) } as TransactionBody
    return { version, chainId, body, signer: { deviceId, keyId }, nonce, expiry }
  },
}

const signedCodec = struct<{ payload: Uint8Array; signature: Uint8Array }>({
  payload: bytes(1, maxTransactionBytes),
  signature: signatureCodec,
})

/** Canonical bytes of what a transaction says, whoever signs it and when: its kind and fields. */
export function encodeBody(body: TransactionBody): Uint8Array {
  const [kind, codec] = bodies[body.type] as readonly [number, Codec<object>]
  return encode(bodyCodec, { kind, fields: codec.toWire(body) })
}

/** Canonical payload of a transaction: what its id covers. */
export function encodePayload(unsigned: UnsignedTransaction): Uint8Array {
  return encode(unsignedCodec, unsigned)
}

/** SHA-256 of the payload under `mote/transaction/1`. */
export function transactionId(payload: Uint8Array): TransactionId {
  return hashHex('mote/transaction/1', payload) as string as TransactionId
}

/** What the signer signs: the domain `mote/transaction-signature/1`, a zero byte, and the 32 bytes of the id. */
export function transactionSigningBytes(payload: Uint8Array): Uint8Array {
  return domainBytes('mote/transaction-signature/1', hashOf('mote/transaction/1', payload))
}

/** The same for a transaction that is parsed already: hashes nothing again. */
export function parsedSigningBytes(parsed: ParsedTransaction): Uint8Array {
  return domainBytes('mote/transaction-signature/1', hexToBytes(parsed.id))
}

/** The wire bytes of a transaction, signed. */
export function signTransaction(unsigned: UnsignedTransaction, signer: Signer): Uint8Array {
  const payload = encodePayload(unsigned)
  const signature = signer.sign(transactionSigningBytes(payload))
  const wire = encode(signedCodec, { payload, signature })
  assert(wire.length <= maxTransactionBytes, `transaction: expected at most ${maxTransactionBytes} bytes`)
  return wire
}

/**
 * Reads a transaction from hostile bytes, which it keeps: nobody may change them any more. Verifies form only, not the signature.
 * Refuses: `too-large`, `malformed`, `unknown-version`, `kind-not-supported`.
 */
export function parseTransaction(wire: Uint8Array): Result<ParsedTransaction> {
  const signed = decodeSharing(signedCodec, wire, maxTransactionBytes)
  if (!signed.ok) return signed
  const { payload, signature } = signed.value
  const recognised = recognise(payload)
  if (!recognised.ok) return recognised
  const unsigned = decode(unsignedCodec, payload, maxTransactionBytes)
  if (!unsigned.ok) return unsigned
  return ok({ id: transactionId(payload), unsigned: unsigned.value, payload, signature, bytes: wire })
}

/** The kind, if version and kind are ones this program executes. Looks at three bytes only. */
function recognise(payload: Uint8Array): Result<void> {
  const [header = 0, version = 0xff, kind = 0xff] = payload
  // 0x90 to 0x9f: a MessagePack array of up to 15; 0x00 to 0x7f: a one-byte integer.
  if ((header & 0xf0) !== 0x90 || version > 0x7f)
    return refuse('malformed', 'payload: expected an array that begins with a version')
  if (version !== 1) return refuse('unknown-version', `payload.version: expected 1, got ${version}`)
  if (typeOfKind.has(kind)) return ok(undefined)
  const reserved = reservedKindNames.get(kind)
  if (reserved) return refuse('kind-not-supported', `payload.kind: ${reserved} is not executed yet`)
  return refuse('malformed', `payload.kind: expected a known kind, got ${kind}`)
}

/** Id of a grant: digest of its token key. */
export function grantIdOf(tokenKey: PublicKey): GrantId {
  return hashHex('mote/grant/1', encode(publicKeyCodec, tokenKey)) as string as GrantId
}

/** What a grant's token key signs to let `deviceId` in: domain, zero byte, chain id, device id. */
export function grantTokenSigningBytes(chainId: ChainId, deviceId: DeviceId): Uint8Array {
  return domainBytes('mote/grant-token/1', hexToBytes(chainId), hexToBytes(deviceId))
}

/** What a new signing key signs to prove that `deviceId` holds it: domain, zero byte, chain id, device id, encoded key. */
export function keyPossessionSigningBytes(chainId: ChainId, deviceId: DeviceId, key: PublicKey): Uint8Array {
  return domainBytes(
    'mote/possession/1',
    hexToBytes(chainId),
    hexToBytes(deviceId),
    encode(publicKeyCodec, key),
  )
}
