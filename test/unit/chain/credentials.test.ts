/** Credentials: who may replace them, what a list may hold, and each refusal of the transaction. */
import { expect, test } from 'vitest'
import { type ChainId, Hash, Milliseconds } from '../../../chain/brands.ts'
import { decode, encode } from '../../../chain/codec.ts'
import {
  type Credential,
  type CredentialsRecord,
  credentialHash,
  credentialsListCodec,
} from '../../../chain/credentials.ts'
import { maxCredentialLifetimeMs } from '../../../chain/limits.ts'
import { credentialsCodec, stateKeyOf } from '../../../chain/records.ts'
import { get } from '../../../chain/state-tree.ts'
import type { CredentialsBody } from '../../../chain/transaction.ts'
import { type Actor, devices, newcomer, operator, SampleLedger, withLeaf } from './sample-ledger.ts'

const [device, other] = devices as [Actor, Actor]

const credential = (chain: SampleLedger, digit: string, aheadMs = 60_000): Credential => ({
  hash: Hash(digit.repeat(64)),
  expiresAt: Milliseconds(chain.ledger.header.time + aheadMs),
  scope: 'send',
})
const body = (credentials: readonly Credential[], parts: Partial<CredentialsBody> = {}): CredentialsBody => ({
  type: 'identity.credentials',
  subject: device.id,
  expectedVersion: 0,
  credentials,
  ...parts,
})

function credentialsOf({ ledger }: SampleLedger): CredentialsRecord | undefined {
  const value = get(ledger.tree, stateKeyOf.credentials(device.id))
  if (!value) return undefined
  const decoded = decode(credentialsCodec, value)
  if (!decoded.ok) throw new Error(decoded.error.detail)
  return decoded.value
}

test('credentials: the device and an authority replace the list, nobody else does, and the identity stays as it is', () => {
  const chain = new SampleLedger()
  const before = chain.identity(device.id)
  const first = credential(chain, 'a')
  expect(chain.run(device, body([first]))).toBe('ok')
  expect(credentialsOf(chain)).toMatchObject({ id: device.id, version: 1, credentials: [first] })
  expect(chain.run(other, body([], { expectedVersion: 1 }))).toBe('not-authorised')
  expect(chain.run(operator, body([], { expectedVersion: 1 }))).toBe('ok')
  expect(credentialsOf(chain)).toMatchObject({ version: 2, credentials: [] })
  expect(chain.identity(device.id)).toEqual(before)
})

test('credentials: refuses an expiry that has passed or is too far, another version, and a subject that is unknown or revoked', () => {
  const chain = new SampleLedger()
  expect(chain.run(device, body([credential(chain, 'a', -1)]))).toBe('invalid-state')
  expect(chain.run(device, body([credential(chain, 'a', maxCredentialLifetimeMs + 600_000)]))).toBe(
    'limit-exceeded',
  )
  expect(chain.run(device, body([], { expectedVersion: 1 }))).toBe('version-conflict')
  expect(chain.run(operator, body([], { subject: newcomer.id }))).toBe('unknown-subject')
  expect(chain.run(device, body([credential(chain, 'a')]))).toBe('ok')
  const edited = withLeaf(chain, stateKeyOf.credentials(device.id), credentialsCodec, {
    ...(credentialsOf(chain) as CredentialsRecord),
    version: 0xffff_ffff - 2 ** 20,
  })
  expect(edited.run(device, body([], { expectedVersion: 0xffff_ffff - 2 ** 20 }))).toBe('limit-exceeded')
  expect(chain.revoke(device)).toBe('ok')
  expect(chain.run(operator, body([], { expectedVersion: 1 }))).toBe('invalid-state')
})

test('credentials: at most four, in order, each once', () => {
  const chain = new SampleLedger()
  const four = ['a', 'b', 'c', 'd'].map(digit => credential(chain, digit))
  const bytesOf = (credentials: readonly Credential[]) => encode(credentialsListCodec, credentials)
  expect(decode(credentialsListCodec, bytesOf(four))).toEqual({ ok: true, value: four })
  expect(() => bytesOf([...four, credential(chain, 'e')])).toThrow()
  for (const wrong of [[...four].reverse(), [four[0]!, four[0]!]])
    expect(decode(credentialsListCodec, bytesOf(wrong))).toMatchObject({ error: { code: 'malformed' } })
})

test('credentials: the hash is of this password, this device and this chain', () => {
  const chainId = 'c'.repeat(64) as ChainId
  const password = new Uint8Array(32).fill(1)
  const hash = credentialHash(chainId, device.id, password)
  expect(credentialHash('d'.repeat(64) as ChainId, device.id, password)).not.toBe(hash)
  expect(credentialHash(chainId, other.id, password)).not.toBe(hash)
  expect(credentialHash(chainId, device.id, new Uint8Array(32))).not.toBe(hash)
})
