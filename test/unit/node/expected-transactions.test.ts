import { describe, expect, test } from 'vitest'
import { ChainId, DeviceId, Milliseconds } from '../../../chain/brands.ts'
import { keyIdOf } from '../../../chain/keys.ts'
import { signerFromSeed } from '../../../chain/noble-crypto.ts'
import { parseTransaction, signTransaction } from '../../../chain/transaction.ts'
import { ExpectedTransactions } from '../../../node/ledger/remembered-checks.ts'

const signer = signerFromSeed('ed25519', new Uint8Array(32).fill(1))

function transaction(name: string): Uint8Array {
  return signTransaction(
    {
      version: 1,
      chainId: ChainId('11'.repeat(32)),
      body: { type: 'group.create', name, epochKeyHash: undefined },
      signer: { deviceId: DeviceId('22'.repeat(32)), keyId: keyIdOf(signer.publicKey) },
      nonce: new Uint8Array(16),
      expiry: Milliseconds(1_000),
    },
    signer,
  )
}

function parsed(bytes: Uint8Array) {
  const result = parseTransaction(bytes)
  if (!result.ok) throw new Error(result.error.detail)
  return result.value
}

describe('expected transactions', () => {
  test('expected transactions: what was parsed is not parsed again, once', () => {
    const expected = new ExpectedTransactions()
    const bytes = transaction('a')
    const first = parsed(bytes)
    expected.remember(first)
    const copy = bytes.slice()
    const known = expected.parse(copy)
    expect(known.ok && known.value).toBe(first)
    const again = expected.parse(copy)
    expect(again).toEqual({ ok: true, value: first })
    expect(again.ok && again.value !== first, 'its block has taken it').toBe(true)
  })

  test('expected transactions: other bytes with the end of the same signature are another transaction', () => {
    const expected = new ExpectedTransactions()
    const bytes = transaction('a')
    expected.remember(parsed(bytes))
    const other = bytes.slice()
    const name = other.indexOf('a'.charCodeAt(0), 100)
    other.set(
      [...'b'].map(character => character.charCodeAt(0)),
      name,
    )
    const read = expected.parse(other)
    expect(read).toEqual(parseTransaction(other))
    expect(read.ok && read.value.id).not.toBe(parsed(bytes).id)
  })

  test('expected transactions: what was not seen, and what is no transaction, is parsed', () => {
    const expected = new ExpectedTransactions()
    const bytes = transaction('a')
    expect(expected.parse(bytes)).toEqual(parseTransaction(bytes))
    for (const broken of [new Uint8Array(), bytes.subarray(0, 20)])
      expect(expected.parse(broken)).toEqual(parseTransaction(broken))
  })

  test('expected transactions: a long one is not remembered', () => {
    const expected = new ExpectedTransactions()
    const long = parsed(transaction('a'))
    const padded = { ...long, bytes: new Uint8Array(1_025) }
    expected.remember(padded)
    expect(expected.parse(padded.bytes)).toMatchObject({ ok: false })
    const fits = { ...long, bytes: new Uint8Array(1_024) }
    expected.remember(fits)
    expect(expected.parse(fits.bytes)).toEqual({ ok: true, value: fits })
  })
})
