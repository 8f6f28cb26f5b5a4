/** The envelope: parsing hostile bytes, what the id covers, reserved kinds, and the published vectors. */
import { readFileSync } from 'node:fs'
import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js'
import { describe, expect, test } from 'vitest'
import { TransactionId } from '../../../chain/brands.ts'
import { equalBytes } from '../../../chain/codec.ts'
import { nobleVerifier, signerFromSeed } from '../../../chain/noble-crypto.ts'
import { permissions } from '../../../chain/permissions.ts'
import { unwrap } from '../../../chain/result.ts'
import {
  bodies,
  encodePayload,
  maxTransactionBytes,
  parsedSigningBytes,
  parseTransaction,
  reservedKinds,
  signTransaction,
  type TransactionType,
  transactionId,
  transactionSigningBytes,
} from '../../../chain/transaction.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import { type TransactionVectors, transactionVectors } from '../../vectors/make-transactions.ts'
import { devices, SampleLedger } from './sample-ledger.ts'

const vectors: TransactionVectors = JSON.parse(
  readFileSync(new URL('../../vectors/transactions.json', import.meta.url), 'utf8'),
)

function codeOf(wire: Uint8Array): string {
  const parsed = parseTransaction(wire)
  return parsed.ok ? 'ok' : parsed.error.code
}

describe('transaction', () => {
  test('transaction: the id does not cover the signature', () => {
    const chain = new SampleLedger()
    const [device, other] = devices
    const body = { type: 'group.create', name: 'a', epochKeyHash: undefined } as const
    const nonce = new Uint8Array(16)
    const one = unwrap(parseTransaction(chain.sign(device!, body, { nonce })))
    const two = unwrap(parseTransaction(chain.sign(device!, body, { nonce, signedBy: other!.signer })))
    expect(two.id).toBe(one.id)
    expect(equalBytes(one.signature, two.signature)).toBe(false)
    const third = unwrap(parseTransaction(chain.sign(device!, body)))
    expect(third.id).not.toBe(one.id)
  })

  test('transaction: what is signed names the id under a domain of its own', () => {
    const chain = new SampleLedger()
    const body = { type: 'group.create', name: 'a', epochKeyHash: undefined } as const
    const parsed = unwrap(parseTransaction(chain.sign(devices[0]!, body)))
    const message = transactionSigningBytes(parsed.payload)
    expect(Buffer.from(message.slice(0, 28)).toString()).toBe('mote/transaction-signature/1')
    expect(bytesToHex(message.slice(28))).toBe(`00${parsed.id}`)
    expect(parsedSigningBytes(parsed)).toEqual(message)
    expect(transactionId(parsed.payload)).toBe(parsed.id)
  })

  test('transaction: a version is one byte, and one that is not known is said before anything else', () => {
    const wire = new SampleLedger().sign(devices[0]!, {
      type: 'group.create',
      name: 'a',
      epochKeyHash: undefined,
    })
    const { payload, signature } = unwrap(parseTransaction(wire))
    const withVersion = (version: readonly number[], rest = payload.subarray(2)) => {
      const bytes = Uint8Array.of(payload[0]!, ...version, ...rest)
      // [payload, signature], a byte string each.
      return codeOf(Uint8Array.of(0x92, 0xc4, bytes.length, ...bytes, 0xc4, 64, ...signature))
    }
    expect(withVersion([1])).toBe('ok')
    for (const version of [0, 2, 127]) {
      expect(withVersion([version])).toBe('unknown-version')
      expect(withVersion([version], Uint8Array.of(0xc1))).toBe('unknown-version')
    }
    const longer = [
      [0xcc, 128],
      [0xcc, 255],
      [0xcd, 1, 0],
      [0xd3, 0, 0, 0, 1, 0, 0, 0, 0],
    ]
    for (const version of longer) expect(withVersion(version)).toBe('malformed')
  })

  test('transaction: refuses more than 16 KiB before it looks at them', () => {
    expect(codeOf(new Uint8Array(maxTransactionBytes + 1))).toBe('too-large')
    expect(codeOf(new Uint8Array(maxTransactionBytes))).toBe('malformed')
  })

  test('transaction: kinds have one number each, below 128, and a row in the permission table', () => {
    const executed = Object.values(bodies).map(([kind]) => kind)
    const kinds = [...executed, ...Object.values(reservedKinds)]
    expect(new Set(kinds).size).toBe(kinds.length)
    expect(kinds.every(kind => kind > 0 && kind < 128)).toBe(true)
    expect(Object.keys(permissions).sort()).toEqual(
      [...Object.keys(bodies), ...Object.keys(reservedKinds)].sort(),
    )
    for (const type of Object.keys(bodies) as TransactionType[])
      expect(permissions[type], type).not.toBe('nobody yet')
  })
})

describe('vectors of test/vectors/transactions.json', () => {
  test('vectors: the script makes the file', () => {
    expect(transactionVectors()).toEqual(vectors)
  })

  test('vectors: each transaction parses, verifies under both verifiers, and encodes to the same bytes', () => {
    const types = new Set(vectors.transactions.map(vector => vector.type))
    expect([...types]).toEqual(Object.keys(bodies))
    for (const vector of vectors.transactions) {
      const wire = hexToBytes(vector.wire)
      const parsed = unwrap(parseTransaction(wire))
      expect(parsed.id, vector.type).toBe(TransactionId(vector.id))
      expect(parsed.unsigned.body.type).toBe(vector.type)
      expect(bytesToHex(parsed.payload)).toBe(vector.payload)
      expect(bytesToHex(encodePayload(parsed.unsigned))).toBe(vector.payload)
      expect(bytesToHex(transactionSigningBytes(parsed.payload))).toBe(vector.signed)
      const signer = signerFromSeed(vector.suite, hexToBytes(vector.seed))
      for (const verifier of [nobleVerifier, nativeVerifier])
        expect(verifier.verify(signer.publicKey, hexToBytes(vector.signed), parsed.signature)).toBe(true)
      expect(bytesToHex(signTransaction(parsed.unsigned, signer))).toBe(vector.wire)
    }
  })

  test('vectors: each refusal has its code', () => {
    expect(vectors.refused.length).toBeGreaterThan(8)
    for (const { what, wire, code } of vectors.refused) expect(codeOf(hexToBytes(wire)), what).toBe(code)
  })
})
