/** The signed password: for one chain, one minute, one connection (FORMATS, "Assertion"). */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { ChainId, Milliseconds } from '../../../chain/brands.ts'
import { deviceIdOf, keyIdOf } from '../../../chain/keys.ts'
import { nobleVerifier, signerFromSeed } from '../../../chain/noble-crypto.ts'
import { unwrap } from '../../../chain/result.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import {
  checkAssertionTime,
  makeAssertion,
  maxAssertionLifetimeMs,
  maxClockSkewMs,
  maxPasswordCharacters,
  parseAssertion,
  verifyAssertion,
} from '../../../mqtt-gateway/protocol/assertion.ts'
import { UsedAssertions } from '../../../mqtt-gateway/server/sessions.ts'

const chainId = 'ab'.repeat(32) as ChainId
const signer = signerFromSeed('ed25519', new Uint8Array(32).fill(1))
const device = deviceIdOf(signer.publicKey)
const now = 1_700_000_000_000 as Milliseconds
const later = (ms: number): Milliseconds => (now + ms) as Milliseconds

function password(nonceByte = 1, lifetimeMs = maxAssertionLifetimeMs): string {
  const nonce = new Uint8Array(16).fill(nonceByte)
  return makeAssertion({ device, signer, audience: chainId, now, nonce, lifetimeMs }).password
}
const codeOf = (result: { ok: boolean; error?: { code: string } }): string =>
  result.ok ? 'ok' : (result.error?.code ?? '')

test('assertion: names device, key and chain, and verifies under the key', () => {
  const signed = unwrap(parseAssertion(password()))
  expect(signed.assertion).toMatchObject({ device, audience: chainId, keyId: keyIdOf(signer.publicKey) })
  expect(verifyAssertion(signed, signer.publicKey, nobleVerifier)).toBe(true)
  expect(password().length).toBeLessThanOrEqual(maxPasswordCharacters)
})

test('assertion: any changed character is refused', () => {
  const good = password()
  for (let i = 0; i < good.length; i++) {
    const altered = `${good.slice(0, i)}${good[i] === 'A' ? 'B' : 'A'}${good.slice(i + 1)}`
    const parsed = parseAssertion(altered)
    expect(
      parsed.ok && verifyAssertion(parsed.value, signer.publicKey, nativeVerifier),
      `character ${i}`,
    ).toBe(false)
  }
})

test('assertion: is refused after its end, before its beginning, and on another chain', () => {
  const { assertion } = unwrap(parseAssertion(password()))
  const check = (at: Milliseconds, chain = chainId): string =>
    codeOf(checkAssertionTime(assertion, chain, { head: at, now: at }))
  expect(check(now)).toBe('ok')
  expect(check(later(maxAssertionLifetimeMs - 1))).toBe('ok')
  expect(check(later(maxAssertionLifetimeMs))).toBe('assertion-invalid')
  expect(check(later(-maxClockSkewMs))).toBe('ok')
  expect(check(later(-maxClockSkewMs - 1))).toBe('assertion-invalid')
  expect(check(now, 'cd'.repeat(32) as ChainId)).toBe('wrong-chain')
})

test('assertion: is judged by the newest header, and not by how long ago that came', () => {
  const { assertion } = unwrap(parseAssertion(password()))
  const times = { head: now, now: later(3 * maxAssertionLifetimeMs) }
  expect(codeOf(checkAssertionTime(assertion, chainId, times))).toBe('ok')
})

test('assertion: a life of more than a minute is refused, whoever signed it', () => {
  const { assertion } = unwrap(parseAssertion(password()))
  const tooLong = { ...assertion, expiresAt: later(maxAssertionLifetimeMs + 1) }
  expect(codeOf(checkAssertionTime(tooLong, chainId, { head: now, now }))).toBe('assertion-invalid')
})

test('assertion: opens one connection only', () => {
  const used = new UsedAssertions(10)
  const { assertion } = unwrap(parseAssertion(password()))
  expect(codeOf(used.use(assertion, now))).toBe('ok')
  expect(codeOf(used.use(assertion, now))).toBe('assertion-used')
  expect(codeOf(used.use(unwrap(parseAssertion(password(2))).assertion, now))).toBe('ok')
})

test('assertion: a full set refuses new ones, and makes room only by expired ones', () => {
  const used = new UsedAssertions(1)
  const first = unwrap(parseAssertion(password(1))).assertion
  const second = unwrap(parseAssertion(password(2))).assertion
  expect(codeOf(used.use(first, now))).toBe('ok')
  expect(codeOf(used.use(second, now))).toBe('overloaded')
  expect(codeOf(used.use(first, now))).toBe('assertion-used')
  expect(codeOf(used.use(second, later(maxAssertionLifetimeMs)))).toBe('ok')
})

test('assertion: hostile passwords are a typed refusal, never a throw (fuzz)', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string({ maxLength: 600 }), fc.base64String({ maxLength: 600 })), text => {
      expect(codeOf(parseAssertion(text))).toBe('assertion-invalid')
    }),
  )
})
