/**
 * The MQTT password: a statement "device D, key K, for chain C, until T" signed by the device, good for one
 * connection (docs/FORMATS.md, "Assertion").
 *
 * Invariants: no secret of the device is in it; it names its audience (the chain), so it is of no use elsewhere; it
 * lives at most 60 seconds; its nonce is accepted once (sessions.ts).
 */
import type { ChainId, DeviceId, KeyId, Milliseconds } from '../../chain/brands.ts'
import { bytes, constant, decode, digest, encode, struct, uint } from '../../chain/codec.ts'
import { domainBytes } from '../../chain/hashing.ts'
import { keyIdOf, type PublicKey, type SignatureVerifier, type Signer } from '../../chain/keys.ts'
import { assert, ok, type Result, refuse } from '../../chain/result.ts'
import type { ExpiryTimes } from './trust.ts'

/** Longest life of an assertion, in milliseconds. */
export const maxAssertionLifetimeMs = 60_000
/** How far a device's clock may be ahead of the gateway's, in milliseconds. */
export const maxClockSkewMs = 10_000
/** Longest password the gateway looks at, in characters. */
export const maxPasswordCharacters = 512

const formatVersion = 1 as const

export interface Assertion {
  readonly version: typeof formatVersion
  readonly device: DeviceId
  readonly audience: ChainId
  readonly issuedAt: Milliseconds
  readonly expiresAt: Milliseconds
  /** 16 random bytes. */
  readonly nonce: Uint8Array
  /** The signing key of the device that signed. */
  readonly keyId: KeyId
}

export interface SignedAssertion {
  readonly assertion: Assertion
  readonly payload: Uint8Array
  readonly signature: Uint8Array
}

const assertionCodec = struct<Assertion>({
  version: constant(formatVersion),
  device: digest<DeviceId>(),
  audience: digest<ChainId>(),
  issuedAt: uint<Milliseconds>(),
  expiresAt: uint<Milliseconds>(),
  nonce: bytes(16),
  keyId: digest<KeyId>(),
})
const signedCodec = struct<{ payload: Uint8Array; signature: Uint8Array }>({
  payload: bytes(1, 256),
  signature: bytes(64),
})

export interface AssertionRequest {
  readonly device: DeviceId
  readonly signer: Signer
  readonly audience: ChainId
  readonly now: Milliseconds
  /** 16 random bytes, never used before. */
  readonly nonce: Uint8Array
  readonly lifetimeMs?: number
}

/** The password of one connection: base64url without padding, about 340 characters. */
export function makeAssertion(request: AssertionRequest): { password: string; expiresAt: Milliseconds } {
  const { device, signer, audience, now, nonce, lifetimeMs = maxAssertionLifetimeMs } = request
  assert(lifetimeMs > 0 && lifetimeMs <= maxAssertionLifetimeMs, 'an assertion lives at most 60 seconds')
  const expiresAt = (now + lifetimeMs) as Milliseconds
  const payload = encode(assertionCodec, {
    version: formatVersion,
    device,
    audience,
    issuedAt: now,
    expiresAt,
    nonce,
    keyId: keyIdOf(signer.publicKey),
  })
  const signature = signer.sign(domainBytes('mote/mqtt-assertion/1', payload))
  const wire = encode(signedCodec, { payload, signature })
  return { password: Buffer.from(wire).toString('base64url'), expiresAt }
}

/** Reads a password. Judges form only. Refuses `assertion-invalid`. */
export function parseAssertion(password: string): Result<SignedAssertion> {
  if (password.length > maxPasswordCharacters || !/^[A-Za-z0-9_-]+$/.test(password))
    return refuse('assertion-invalid', 'password: expected base64url of at most 512 characters')
  const wire = Uint8Array.from(Buffer.from(password, 'base64url'))
  if (Buffer.from(wire).toString('base64url') !== password)
    return refuse('assertion-invalid', 'password: not in canonical base64url')
  const signed = decode(signedCodec, wire, maxPasswordCharacters)
  if (!signed.ok) return refuse('assertion-invalid', signed.error.detail)
  const assertion = decode(assertionCodec, signed.value.payload, maxPasswordCharacters)
  if (!assertion.ok) return refuse('assertion-invalid', assertion.error.detail)
  return ok({ assertion: assertion.value, ...signed.value })
}

/** True if `key`, found in the chain's record of the device, signed the assertion. */
export function verifyAssertion(
  signed: SignedAssertion,
  key: PublicKey,
  verifier: SignatureVerifier,
): boolean {
  return verifier.verify(key, domainBytes('mote/mqtt-assertion/1', signed.payload), signed.signature)
}

/** Whether the assertion is for this chain and this moment. Refuses `wrong-chain`, `assertion-invalid`. */
export function checkAssertionTime(
  assertion: Assertion,
  audience: ChainId,
  { head, now }: ExpiryTimes,
): Result<void> {
  const { issuedAt, expiresAt } = assertion
  if (assertion.audience !== audience)
    return refuse('wrong-chain', `assertion.audience: expected ${audience}, got ${assertion.audience}`)
  if (expiresAt - issuedAt > maxAssertionLifetimeMs || expiresAt <= issuedAt)
    return refuse('assertion-invalid', `assertion.expiresAt: expected at most 60 s after issuedAt`)
  if (issuedAt > now + maxClockSkewMs)
    return refuse('assertion-invalid', `assertion.issuedAt: ${issuedAt - now} ms ahead of this clock`)
  if (expiresAt <= head)
    return refuse('assertion-invalid', `assertion.expiresAt: passed ${head - expiresAt} ms ago`)
  return ok(undefined)
}
