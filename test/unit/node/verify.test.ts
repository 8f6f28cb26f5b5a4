/** `mote node verify` on the disks of nodes in memory: what somebody has rewritten, checksum and all, is named. */
import { beforeAll, expect, test } from 'vitest'
import { decodeProposal, proposalCodec, receiptsCodec } from '../../../chain/block.ts'
import { Height, Milliseconds } from '../../../chain/brands.ts'
import { decodeOwn, encode } from '../../../chain/codec.ts'
import { chainIdOf } from '../../../chain/genesis.ts'
import { headerCodec } from '../../../chain/header.ts'
import { unwrap } from '../../../chain/result.ts'
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
  return world.sign(sensor, { type: 'record.one', record })
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

function rewrite(disk: MemoryDisk, kind: RecordKind, height: number, payload: Uint8Array): void {
  disk.apply([put(storeKey(kind, height), payload)], true)
}

test('verify: an honest node has nothing amiss, and every block is executed again', async () => {
  const { height, blocks, executed, certificates, findings } = await verified(() => {})
  expect(findings).toEqual([])
  expect(height).toBeGreaterThanOrEqual(5)
  expect([blocks, executed]).toEqual([height, height])
  expect(certificates).toBeGreaterThan(0)
})

test('verify: a record that was rewritten is named, by block and transaction, whoever signed the new one', async () => {
  for (const replaced of [recordOf(99), new Uint8Array(0)]) {
    const { findings } = await verified((disk, read) => {
      const proposal = unwrap(decodeProposal(read('block', 3)))
      if (proposal.type === 'handover') throw new Error('block 3 has transactions')
      rewrite(disk, 'block', 3, encode(proposalCodec, { ...proposal, transactions: [replaced] }))
    })
    const [receipt] = decodeOwn(receiptsCodec, (await world.storage(0).receipts(Height(3)))!)
    expect(findings).toContainEqual({
      height: 3,
      problem: 'transaction 0: other bytes than were certified',
      transaction: receipt!.id,
    })
  }
})

test('verify: rewritten receipts, headers and certificates are named', async () => {
  const receipts = await verified((disk, read) => {
    const [receipt] = decodeOwn(receiptsCodec, read('receipts', 2))
    rewrite(disk, 'receipts', 2, encode(receiptsCodec, [{ ...receipt!, code: 'not-authorised', events: [] }]))
  })
  expect(receipts.findings).toEqual([{ height: 2, problem: 'receipts: other ones than the header names' }])
  const headers = await verified((disk, read) => {
    const header = decodeOwn(headerCodec, read('header', 4))
    rewrite(disk, 'header', 4, encode(headerCodec, { ...header, time: Milliseconds(header.time + 1) }))
  })
  expect(headers.findings.map(({ problem }) => problem)).toEqual(
    expect.arrayContaining([
      'execution: gives another header than is stored',
      'header: does not follow from the one before',
    ]),
  )
  const certificates = await verified((disk, read) => rewrite(disk, 'certificate', 4, read('certificate', 3)))
  expect(certificates.findings).toEqual([{ height: 4, problem: 'certificate: is of another header' }])
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
