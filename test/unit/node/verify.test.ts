/** `mote node verify` on the disks of nodes in memory: what somebody has rewritten, checksum and all, is named. */
import { beforeAll, expect, test } from 'vitest'
import { decodeProposal, proposalCodec, receiptCodec, receiptsCodec } from '../../../chain/block.ts'
import { Height, Milliseconds } from '../../../chain/brands.ts'
import { decodeOwn, encode } from '../../../chain/codec.ts'
import { chainIdOf } from '../../../chain/genesis.ts'
import { headerCodec } from '../../../chain/header.ts'
import { merkleRoot } from '../../../chain/merkle.ts'
import { unwrap } from '../../../chain/result.ts'
import { parseTransaction } from '../../../chain/transaction.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import { openStorage } from '../../../node/storage/chain-storage.ts'
import { put } from '../../../node/storage/store-operations.ts'
import { type RecordKind, storeKey } from '../../../node/storage/store-records.ts'
import { verifyStorage } from '../../../node/verify.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import type { MemoryDisk } from '../../support/memory-byte-store.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'
import { sampleRecord } from '../../support/sample-record.ts'

const sensor = sampleIdentity('sensor')
let world: LedgerWorld

/** A record that a device signs. */
function recordOf(level: number): Uint8Array {
  const values = [{ name: 'level', value: level }]
  const record = sampleRecord({ payload: Uint8Array.of(level), values })
  return world.sign(sensor, { type: 'record.one', qos: 1, record })
}

beforeAll(async () => {
  world = new LedgerWorld(3, [sensor])
  await world.startAll()
  await world.until('a leader', () => world.leader !== undefined)
  for (let i = 1; i <= 5; i++) {
    const node = world.node(world.leader!)
    const before = node.certifier.certifiedHeight
    void node.submission.submit(recordOf(20 + i), 'certified')
    await world.until('a block', () => world.running.every(each => each.certifier.certifiedHeight > before))
  }
  // The newest certificate waits for a write, as it does until a node ends.
  await world.storage(0).persist({ entries: [] })
})

/** What verification says of a copy of a node's disk, after somebody was at it. */
async function verified(
  change: (disk: MemoryDisk, read: (kind: RecordKind, height: number) => Uint8Array) => void,
) {
  const disk = world.disk(0).copy()
  const read = (kind: RecordKind, height: number) => disk.get(storeKey(kind, height))!.slice(4)
  change(disk, read)
  const owner = { chainId: chainIdOf(world.genesis), deviceId: world.id(0) }
  const storage = await openStorage(disk.open(), owner)
  return verifyStorage(storage, world.genesis, nativeVerifier)
}

/** The transaction of a block that was not rewritten. */
async function idAt(height: number) {
  const [receipt] = decodeOwn(receiptsCodec, (await world.storage(0).receipts(Height(height)))!)
  return receipt!.id
}

function rewrite(disk: MemoryDisk, kind: RecordKind, height: number, payload: Uint8Array): void {
  disk.apply([put(storeKey(kind, height), payload)], true)
}

test('verify: an honest node has nothing amiss, and every block is executed again', async () => {
  const { height, blocks, missing, executed, certificates, findings } = await verified(() => {})
  expect(findings).toEqual([])
  expect(height).toBeGreaterThanOrEqual(5)
  expect([blocks, missing, executed]).toEqual([height, 0, height])
  expect(certificates).toBeGreaterThan(0)
})

test('verify: a record that was rewritten is named, by block and transaction, whoever signed the new one', async () => {
  for (const replaced of [recordOf(99), new Uint8Array(0)]) {
    const { findings } = await verified((disk, read) => {
      const proposal = unwrap(decodeProposal(read('block', 3)))
      if (proposal.type === 'handover') throw new Error('block 3 has transactions')
      rewrite(disk, 'block', 3, encode(proposalCodec, { ...proposal, transactions: [replaced] }))
    })
    expect(findings).toEqual([
      {
        height: 3,
        problem: 'transaction 0: other bytes than were certified',
        transaction: await idAt(3),
      },
    ])
  }
})

test('verify: nor does it help to rewrite the whole block, so that its header names the other record', async () => {
  const forged = recordOf(99)
  forged[forged.length - 1]! ^= 1
  for (const { transaction, problem } of [
    { transaction: forged, problem: 'transaction 0: its receipt says ok, execution bad-signature' },
    { transaction: recordOf(99), problem: 'execution: gives another replayRoot than is stored' },
  ]) {
    const { id } = unwrap(parseTransaction(transaction))
    const { findings } = await verified((disk, read) => {
      const proposal = unwrap(decodeProposal(read('block', 3)))
      if (proposal.type === 'handover') throw new Error('block 3 has transactions')
      const [receipt] = decodeOwn(receiptsCodec, read('receipts', 3))
      const other = { ...receipt!, id }
      const header = decodeOwn(headerCodec, read('header', 3))
      rewrite(disk, 'block', 3, encode(proposalCodec, { ...proposal, transactions: [transaction] }))
      rewrite(disk, 'receipts', 3, encode(receiptsCodec, [other]))
      const transactionsRoot = merkleRoot([transaction])
      const receiptsRoot = merkleRoot([encode(receiptCodec, other)])
      rewrite(disk, 'header', 3, encode(headerCodec, { ...header, transactionsRoot, receiptsRoot }))
    })
    const problems = findings.map(each => `${each.height} ${each.problem}`)
    expect(problems).toContain(`3 ${problem}`)
    expect(problems).toContain('3 certificate: is of another header than is stored')
    expect(problems).toContain('3 signature: this node has signed another header than is stored')
    expect(problems).toContain('4 header: does not follow from the one before')
  }
})

test('verify: the newest blocks that no certificate covers are counted: a node that ends may lack theirs', async () => {
  const taken = [5, 6, 7].filter(height => world.disk(0).get(storeKey('certificate', height)))
  const report = await verified(disk => {
    for (const at of taken) disk.apply([{ key: storeKey('certificate', at), value: null }], true)
  })
  expect(report).toMatchObject({ uncertified: report.height - 4, certificates: 4, findings: [] })
  expect((await verified(() => {})).uncertified).toBe(0)
})

test('verify: a block that is not here is counted, and what follows is still judged by its certificates', async () => {
  const { height, blocks, missing, executed, certificates, findings } = await verified(disk => {
    for (const kind of ['block', 'receipts'] as const)
      disk.apply([{ key: storeKey(kind, 2), value: null }], true)
  })
  expect([blocks, missing, executed, certificates]).toEqual([height - 1, 1, 1, height])
  expect(findings).toEqual([])
})

test('verify: rewritten receipts, headers and certificates are named', async () => {
  const receipts = await verified((disk, read) => {
    const [receipt] = decodeOwn(receiptsCodec, read('receipts', 2))
    rewrite(disk, 'receipts', 2, encode(receiptsCodec, [{ ...receipt!, code: 'not-authorised', events: [] }]))
  })
  expect(receipts.findings).toEqual([
    { height: 2, problem: 'receipts: other ones than the header names' },
    {
      height: 2,
      problem: 'transaction 0: its receipt says not-authorised, execution ok',
      transaction: await idAt(2),
    },
  ])
  const headers = await verified((disk, read) => {
    const header = decodeOwn(headerCodec, read('header', 4))
    rewrite(disk, 'header', 4, encode(headerCodec, { ...header, time: Milliseconds(header.time + 1) }))
  })
  expect(headers.findings.map(({ problem }) => problem)).toEqual(
    expect.arrayContaining([
      'execution: gives another time than is stored',
      'certificate: is of another header than is stored',
      'signature: this node has signed another header than is stored',
      'header: does not follow from the one before',
    ]),
  )
  const certificates = await verified((disk, read) => rewrite(disk, 'certificate', 4, read('certificate', 3)))
  expect(certificates.findings).toEqual([
    { height: 4, problem: 'certificate: is of another header than is stored' },
  ])
})

test('verify: what is damaged and does not open is named too', async () => {
  const { findings } = await verified(disk =>
    disk.damage(storeKey('receipts', 2), value => {
      value[value.length - 1]! ^= 1
      return value
    }),
  )
  expect(findings).toHaveLength(1)
  expect(findings[0]).toMatchObject({ height: 2, problem: expect.stringContaining('receipts') })
})
