/** The proof of a record, as a file: it holds from the genesis on, over changes of the consenters, and nothing in it can be altered. */
import { describe, expect, test } from 'vitest'
import type { Block } from '../../../chain/block.ts'
import { blockLeavesCodec, leavesOfBlock } from '../../../chain/block-leaves.ts'
import { Height } from '../../../chain/brands.ts'
import { decode, encode } from '../../../chain/codec.ts'
import { noRights } from '../../../chain/rights.ts'
import type { DeviceRecord, TransactionBody } from '../../../chain/transaction.ts'
import { headerPath } from '../../../client/header-path.ts'
import type { IdentityKeys } from '../../../client/key-directory.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import {
  decodeKeptRecord,
  encodeKeptRecord,
  encodeRecordProof,
  type KeptRecord,
  recordIdText,
  verifyRecordProof,
} from '../../../client/record-proof.ts'
import { valuesOfCall, valuesOfPayload } from '../../../client/record-values.ts'
import { signedBody } from '../../../client/submission.ts'
import { deployable } from '../../support/sample-contract.ts'
import { sampleRecord } from '../../support/sample-record.ts'
import { keysOf, TestChain } from '../../support/test-chain.ts'

const sensor = keysOf('sensor')
const other = keysOf('other')
const gateway = keysOf('gateway')
const [two, three, four] = ['full-2', 'full-3', 'full-4'].map(keysOf)

function record(level: number, source?: DeviceRecord['source']): DeviceRecord {
  const values = [{ name: 'level', value: level }]
  return sampleRecord({ source, payload: Uint8Array.of(level & 0xff), values })
}

/** The record at a place of a block, by itself. */
function recordAt({ header, transactions, receipts }: Block, { index = 0, item = 0 }): KeptRecord {
  const { height } = header
  return { version: 1, height, item, transaction: transactions[index]!, receipt: receipts[index]! }
}

/** Its proof, out of the leaf hashes of the same block. */
const proofOf = (
  block: Block,
  place: { readonly index: number; readonly item: number },
  path: Parameters<typeof encodeRecordProof>[2],
) => encodeRecordProof(recordAt(block, place), leavesOfBlock(block), path)

function makeChain() {
  const chain = new TestChain({ devices: ['sensor', 'other', 'gateway'], spares: ['full-4'] })
  const signed = (keys: IdentityKeys, body: TransactionBody) =>
    signedBody({ chainId: chain.chainId, body, keys, time: chain.time })
  const block = (...transactions: readonly Uint8Array[]): Block => {
    const receipts = chain.append(transactions)
    return { header: chain.ledger.header, transactions, receipts }
  }
  const trust = { checkpoint: chain.checkpoint, verifier: nativeVerifier }
  const pathTo = (height: number) => headerPath(chain.source(), trust, Height(height))
  chain.append()
  return { chain, signed, block, trust, pathTo }
}

describe('record proof', () => {
  test('record proof: of one record among others, signed by the device', async () => {
    const { signed, block, trust, pathTo } = makeChain()
    const made = block(
      signed(other, { type: 'record.one', qos: 1, record: record(1) }),
      signed(sensor, { type: 'record.one', qos: 1, record: record(2) }),
      signed(other, { type: 'record.one', qos: 1, record: record(3) }),
    )
    const path = await pathTo(made.header.height)
    const key = sensor.signing.publicKey
    const proof = proofOf(made, { index: 1, item: 0 }, { ...path, key })
    expect(verifyRecordProof(proof, trust)).toMatchObject({
      device: sensor.id,
      attested: false,
      record: record(2),
      signatureVerified: true,
      height: made.header.height,
    })
    const without = proofOf(made, { index: 1, item: 0 }, { ...path, key: undefined })
    expect(verifyRecordProof(without, trust).signatureVerified).toBe(false)
  })

  test('record proof: nothing in it can be put in the place of something else', async () => {
    const { signed, block, trust, pathTo } = makeChain()
    const made = block(
      signed(other, { type: 'record.one', qos: 1, record: record(1) }),
      signed(sensor, { type: 'record.one', qos: 1, record: record(2) }),
    )
    const path = await pathTo(made.header.height)
    const key = sensor.signing.publicKey
    const place = { index: 1, item: 0 }
    const [first, second] = made.transactions as [Uint8Array, Uint8Array]
    const forged = signed(sensor, { type: 'record.one', qos: 1, record: record(9) })
    const cases = [
      [{ ...made, transactions: [first, forged] }, place, key, 'transaction: does not stand in the block'],
      [
        { ...made, transactions: [second, second] },
        { index: 0, item: 0 },
        key,
        'does not stand in the block',
      ],
      [
        { ...made, receipts: [made.receipts[0]!, { ...made.receipts[1]!, code: 'duplicate' as const }] },
        place,
        key,
        'receipt: does not stand',
      ],
      [made, { index: 1, item: 1 }, key, 'record: the transaction recorded none at this place'],
      [made, place, other.signing.publicKey, 'key: expected the one that the transaction names'],
    ] as const
    for (const [content, at, by, said] of cases)
      expect(() => verifyRecordProof(proofOf(content, at, { ...path, key: by }), trust), said).toThrow(said)
    const elsewhere = { ...trust, checkpoint: new TestChain({ name: 'other-chain' }).checkpoint }
    const proof = proofOf(made, place, { ...path, key })
    expect(() => verifyRecordProof(proof, elsewhere)).toThrow('wrong-chain')
    const uncertified = { ...path, run: path.run.map(entry => ({ ...entry, certificate: undefined })) }
    expect(() => verifyRecordProof(proofOf(made, place, { ...uncertified, key }), trust)).toThrow(
      'bad-certificate',
    )
  })

  test('record proof: of a batch that a gateway attests, over a change of the consenters', async () => {
    const { chain, signed, block, trust, pathTo } = makeChain()
    chain.perform(chain.operator, {
      type: 'identity.rights',
      subject: gateway.id,
      expectedVersion: 0,
      ...noRights,
      gateway: true,
    })
    chain.changeConsenters([two!, three!, four!])
    const records = [record(1, sensor.id), record(2, other.id)]
    const made = block(signed(gateway, { type: 'record.batch', qos: 1, records }))
    const path = await pathTo(made.header.height)
    expect(path.handovers).toHaveLength(1)
    const proof = proofOf(made, { index: 0, item: 1 }, { ...path, key: gateway.signing.publicKey })
    const proven = verifyRecordProof(proof, trust)
    expect(proven).toMatchObject({ device: other.id, attested: true, signer: { deviceId: gateway.id } })
    expect(recordIdText(proven)).toBe(`${made.receipts[0]!.id}.1`)
  })

  test('record proof: of what was kept of a record, with leaf hashes that a node kept of its block, the same bytes', async () => {
    const { signed, block, trust, pathTo } = makeChain()
    const batch = signed(gateway, { type: 'record.batch', qos: 1, records: [record(1, sensor.id)] })
    const made = block(
      signed(other, { type: 'record.one', qos: 1, record: record(1) }),
      signed(sensor, { type: 'record.one', qos: 1, record: record(2) }),
      batch,
      batch,
    )
    const path = { ...(await pathTo(made.header.height)), key: sensor.signing.publicKey }
    const wire = encode(blockLeavesCodec, leavesOfBlock(made))
    expect(wire.length).toBeLessThan(4 * 64 + 8)
    const leaves = decode(blockLeavesCodec, wire)
    if (!leaves.ok) throw new Error(leaves.error.detail)
    const kept = decodeKeptRecord(encodeKeptRecord(recordAt(made, { index: 1 })))
    const proof = encodeRecordProof(kept, leaves.value, path)
    expect(proof).toEqual(proofOf(made, { index: 1, item: 0 }, path))
    expect(verifyRecordProof(proof, trust)).toMatchObject({ device: sensor.id, signatureVerified: true })
    // What did not stand there has no place.
    const forged = { ...kept, transaction: signed(sensor, { type: 'record.one', qos: 1, record: record(9) }) }
    const told = { ...kept, receipt: { ...kept.receipt, events: [] } }
    const elsewhere = { ...kept, receipt: made.receipts[0]! }
    for (const each of [forged, told, elsewhere])
      expect(() => encodeRecordProof(each, leaves.value, path)).toThrow(
        'record: it does not stand in the block',
      )
    // Of a transaction that stands there twice, each receipt has its own place.
    expect(made.receipts[3]!.code).toBe('duplicate')
    const twice = [2, 3].map(index => proofOf(made, { index, item: 0 }, { ...path, key: undefined }))
    expect(twice[0]).not.toEqual(twice[1])
  })

  test('record proof: files and leaf hashes of another form are refused', () => {
    expect(() => decodeKeptRecord(Uint8Array.of(0x91, 1))).toThrow('malformed: kept record')
    expect(() => decodeKeptRecord(new Uint8Array(40 * 1024 + 1))).toThrow('too-large')
    const odd = encode(blockLeavesCodec, { transactions: [new Uint8Array(31)], receipts: [] })
    expect(decode(blockLeavesCodec, odd).ok).toBe(false)
    const many = Array.from({ length: 4097 }, () => new Uint8Array(32))
    const tooMany = encode(blockLeavesCodec, { transactions: many, receipts: [] })
    expect(decode(blockLeavesCodec, tooMany, 1e6).ok).toBe(false)
  })

  test('record proof: there is none of a record that a guard refused', async () => {
    const { chain, signed, block, trust, pathTo } = makeChain()
    const guard = deployable({
      name: 'range',
      inputs: { level: 'number' },
      rules: ['range = level >= 0'],
      decide: [{ say: 'plausible' }],
    })
    chain.perform(chain.operator, { type: 'contract.deploy', contract: guard.bytes })
    chain.perform(chain.operator, {
      type: 'contract.guard',
      topic: 'tank',
      expectedVersion: 0,
      guards: [guard.address],
    })
    const made = block(signed(sensor, { type: 'record.batch', qos: 1, records: [record(-5), record(5)] }))
    const path = { ...(await pathTo(made.header.height)), key: undefined }
    expect(() => verifyRecordProof(proofOf(made, { index: 0, item: 0 }, path), trust)).toThrow('bad-proof')
    expect(verifyRecordProof(proofOf(made, { index: 0, item: 1 }, path), trust)).toMatchObject({
      item: 1,
    })
  })
})

test('record values: the scalars at the top of a payload, with names that contracts can use', () => {
  expect(
    valuesOfPayload({
      b: true,
      a: -0,
      'not a name': 1,
      text: 'x',
      long: 'x'.repeat(200),
      none: null,
      list: [1],
      inner: {},
    }),
  ).toEqual([
    { name: 'a', value: 0 },
    { name: 'b', value: true },
    { name: 'text', value: 'x' },
  ])
  expect(valuesOfPayload([1])).toEqual([])
  expect(
    valuesOfPayload(Object.fromEntries(Array.from({ length: 70 }, (_, i) => [`v${i}`, i]))),
  ).toHaveLength(64)
  expect(() => valuesOfCall({ a: null })).toThrow('malformed')
  expect(() => valuesOfCall([1])).toThrow('malformed')
})
