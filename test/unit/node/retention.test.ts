/**
 * Retention on nodes in memory: old blocks are reduced to their leaf hashes, and everything that a node does for others goes on:
 * what became of a transaction, replay protection, restarts, snapshots for who is behind, a rebuild.
 */

import { beforeEach, describe, expect, test } from 'vitest'
import { decodeProposal, proposalCodec, receiptsCodec } from '../../../chain/block.ts'
import { foreignLeaves } from '../../../chain/block-leaves.ts'
import { Height, Milliseconds } from '../../../chain/brands.ts'
import { decodeOwn, encode } from '../../../chain/codec.ts'
import { chainIdOf, genesisLedger } from '../../../chain/genesis.ts'
import { headerCodec } from '../../../chain/header.ts'
import { merkleRoot } from '../../../chain/merkle.ts'
import { unwrap } from '../../../chain/result.ts'
import { parseTransaction } from '../../../chain/transaction.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import { forgottenBlockCodec } from '../../../node/ledger/live-chain.ts'
import { Retention } from '../../../node/ledger/retention.ts'
import { openStorage } from '../../../node/storage/chain-storage.ts'
import { copyPromises } from '../../../node/storage/promises.ts'
import { put } from '../../../node/storage/store-operations.ts'
import { storeKey } from '../../../node/storage/store-records.ts'
import { verifyStorage } from '../../../node/verify.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { MemoryDisk } from '../../support/memory-byte-store.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'
import { sampleRecord } from '../../support/sample-record.ts'

const sensor = sampleIdentity('sensor')
const kept = 3
let world: LedgerWorld

/** A record that a device signs. */
function recordOf(level: number): Uint8Array {
  const record = sampleRecord({ payload: Uint8Array.of(level), values: [{ name: 'level', value: level }] })
  return world.sign(sensor, { type: 'record.one', qos: 1, record }, { nonce: level })
}

/** Has a record certified on every node that runs; its bytes. */
async function added(level: number): Promise<Uint8Array> {
  const bytes = recordOf(level)
  await world.until('a leader', () => world.leader !== undefined)
  expect(await world.answerOfLeader(bytes)).toBe('certified')
  const { certifiedHeight } = world.node(world.leader!).certifier
  await world.until('a block', () =>
    world.running.every(each => each.certifier.certifiedHeight >= certifiedHeight),
  )
  return bytes
}

async function addMany(count: number, from = 1): Promise<readonly Uint8Array[]> {
  const all: Uint8Array[] = []
  for (let level = from; level < from + count; level++) all.push(await added(level))
  // Steps have pauses between them.
  await world.run(500)
  return all
}

const refusalOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'not refused',
    (error: { code?: string }) => error.code,
  )

beforeEach(() => {
  world = new LedgerWorld(3, [sensor])
  world.retention = { blocks: kept, ageMs: 0 }
})

describe('retention', () => {
  test('retention: blocks below the newest certified ones are reduced to leaf hashes that their headers prove', async () => {
    await world.startAll()
    await addMany(8)
    const service = world.node(0).service
    const top = world.node(0).chain.certifiedHeight
    expect(top).toBeGreaterThanOrEqual(8)
    for (let at = 1; at <= top; at++) {
      const height = Height(at)
      const { header } = await service.certifiedHeader(height)
      expect(foreignLeaves(header, await service.blockLeaves(height)), `block ${at}`).toEqual([])
      const content = await service.blockContent(height).catch((error: { code: string }) => error.code)
      if (at <= top - kept) expect(content, `block ${at}`).toBe('forgotten')
      else expect(content).toMatchObject({ header })
    }
    expect(await refusalOf(service.block(Height(1)))).toBe('forgotten')
    expect(await refusalOf(service.blockLeaves(Height(top + 1)))).toBe('not-found')
  })

  test('retention: by default everything is kept, and so is what is not old enough', async () => {
    world.retention = {}
    await world.start(0)
    world.retention = { blocks: 1, ageMs: 60_000 }
    await world.start(1)
    await world.start(2)
    await addMany(4)
    for (const i of [0, 1]) expect(await world.storage(i).blockAtOrAbove(Height(1))).toBe(1)
    await world.run(61_000)
    await addMany(1, 5)
    expect(await world.storage(0).blockAtOrAbove(Height(1))).toBe(1)
    const top = world.node(1).chain.certifiedHeight
    expect(await world.storage(1).blockAtOrAbove(Height(1))).toBeGreaterThanOrEqual(top - 1)
  })

  test('retention: what became of a forgotten transaction, and whose history it is in, is said as before; it is not taken again', async () => {
    await world.startAll()
    const [first] = await addMany(6)
    const { id } = unwrap(parseTransaction(first!))
    const before = await world.node(0).service.transactionStatus(id)
    expect(before).toMatchObject({ status: 'certified' })
    // Another process remembers no outcome.
    for (const i of [0, 1, 2]) world.crash(i)
    await world.startAll()
    await addMany(1, 20)
    const { service } = world.node(0)
    expect(await refusalOf(service.blockContent(before.height!))).toBe('forgotten')
    expect(await refusalOf(service.receipts(before.height!))).toBe('forgotten')
    expect(await service.transactionStatus(id)).toEqual(before)
    expect(await service.submit(first!, 'certified')).toEqual(before)
    const history = await service.deviceTransactions(sensor.id)
    expect(history.map(row => row.id)).toContain(id)
  })

  test('retention: a node that was away is served by log or snapshot, and forgets by itself', async () => {
    world.compaction = { entriesKept: 4 }
    world.maxLogBytesInMemory = 1
    await world.startAll()
    await addMany(2)
    world.crash(2)
    await addMany(20, 10)
    await world.start(2)
    await addMany(6, 40)
    await world.until(
      'level',
      () => world.node(2).chain.certifiedHeight === world.node(0).chain.certifiedHeight,
    )
    await world.run(500)
    const top = world.node(2).chain.certifiedHeight
    const { service } = world.node(2)
    expect(await refusalOf(service.blockContent(Height(1)))).toBe('forgotten')
    // Skipped by the snapshot: neither block nor leaf hashes.
    expect(await refusalOf(service.blockLeaves(Height(6)))).toBe('not-found')
    expect(await refusalOf(service.blockContent(Height(top - kept)))).toBe('forgotten')
    expect(await service.blockContent(Height(top))).toMatchObject({ header: { height: top } })
  })

  test('retention: a rebuilt node comes back from peers that have forgotten', async () => {
    await world.startAll()
    await addMany(8)
    world.crash(1)
    const disk = new MemoryDisk()
    const [from, to] = [world.disk(1).open(), disk.open()]
    await copyPromises(from, to)
    await Promise.all([from.close(), to.close()])
    world.replaceDisk(1, disk)
    await world.start(1)
    await addMany(4, 20)
    expect(world.failures).toEqual([])
    expect(world.node(1).chain.certifiedHeight).toBe(world.node(0).chain.certifiedHeight)
  })

  test('retention: verify judges forgotten blocks by their leaf hashes, and names those that are other ones', async () => {
    await world.startAll()
    await addMany(8)
    await world.storage(0).persist({ entries: [] })
    const verified = async (change: (disk: MemoryDisk) => void) => {
      const disk = world.disk(0).copy()
      change(disk)
      const owner = { chainId: chainIdOf(world.genesis), deviceId: world.id(0) }
      return verifyStorage(await openStorage(disk.open(), owner), world.genesis, nativeVerifier)
    }
    const { height, blocks, missing, forgotten, executed, certificates, findings } = await verified(() => {})
    expect(findings).toEqual([])
    expect([blocks, missing, forgotten, executed]).toEqual([kept, 0, height - kept, 0])
    expect(certificates).toBeGreaterThan(height - 3)
    for (const tree of ['transactions', 'receipts'] as const) {
      const { findings } = await verified(disk => {
        const key = storeKey('forgotten', 2)
        const row = decodeOwn(forgottenBlockCodec, disk.get(key)!.slice(4))
        const leaves = { ...row.leaves, [tree]: [new Uint8Array(32)] }
        disk.apply([put(key, encode(forgottenBlockCodec, { ...row, leaves }))], true)
      })
      expect(findings).toEqual([
        { height: 2, problem: `leaf hashes: those of the ${tree} are other ones than the header names` },
      ])
    }
  })

  test('retention: a block that was rewritten here is not forgotten: the node stops, as with any damage', async () => {
    world.retention = {}
    await world.startAll()
    await addMany(6)
    const height = 2
    world.crash(0)
    const disk = world.disk(0)
    const proposal = unwrap(decodeProposal(disk.get(storeKey('block', height))!.slice(4)))
    if (proposal.type === 'handover') throw new Error('block 2 has transactions')
    const rewritten = encode(proposalCodec, { ...proposal, transactions: [recordOf(99)] })
    disk.apply([put(storeKey('block', height), rewritten)], true)
    world.retention = { blocks: kept, ageMs: 0 }
    await world.start(0)
    await world.until('a leader', () => world.leader !== undefined)
    void world.node(world.leader!).submission.submit(recordOf(50), 'certified')
    await world.until('it has stopped', () => world.failures.length > 0)
    expect(world.failures[0]).toMatchObject({
      code: 'storage-corrupt',
      detail: expect.stringMatching(
        /^block 2: transactions: other ones than the header names; .*mote node rebuild/,
      ),
    })
    expect(disk.get(storeKey('forgotten', height))).toBeUndefined()
    expect(disk.get(storeKey('block', height))).toBeDefined()
  })

  test('retention: the disk is told to give the room back after each 8 MiB', async () => {
    const transactions = Array.from({ length: 64 }, () => new Uint8Array(16_000))
    const proposal = { version: 1, type: 'block', time: Milliseconds(0), transactions } as const
    const { header } = genesisLedger(world.genesis)
    const roots = { transactionsRoot: merkleRoot(transactions), receiptsRoot: merkleRoot([]) }
    const asked: boolean[] = []
    const done = Promise.withResolvers<void>()
    const retention = new Retention({
      chain: { certifiedHeight: Height(20), certified: genesisLedger(world.genesis) },
      storage: {
        header: async () => encode(headerCodec, { ...header, ...roots }),
        block: async () => encode(proposalCodec, proposal),
        receipts: async () => encode(receiptsCodec, []),
        blockAtOrAbove: async height => height,
        forget: async (rows, reclaims) => {
          asked.push(reclaims)
          if (rows.at(-1)![0] === 17) done.resolve()
        },
      },
      clock: {
        after: (_delayMs, callback) => {
          setImmediate(callback)
          return () => {}
        },
      },
      events: { fault: done.reject },
      limits: { blocks: kept, ageMs: 0 },
    })
    retention.certified()
    await done.promise
    expect(asked).toEqual(Array.from({ length: 17 }, (_, i) => i === 8))
  })

  test('retention: many old blocks are forgotten in bounded steps; a crash in between loses nothing', async () => {
    world.retention = {}
    await world.startAll()
    const all = await addMany(5)
    for (let i = 0; i < 70; i++) await added(100 + i)
    world.retention = { blocks: 1, ageMs: 0 }
    world.crash(0)
    const disk = world.disk(0)
    let largest = 0
    const { apply } = disk
    disk.apply = (operations, durable) => {
      largest = Math.max(largest, operations.filter(({ key }) => key[0] === 29).length)
      apply.call(disk, operations, durable)
    }
    await world.start(0)
    void world.node(0).submission.submit(recordOf(7), 'certified')
    let lowest: number | undefined = 1
    while (lowest === 1) {
      await world.run(10)
      lowest = await world.storage(0).blockAtOrAbove(Height(1))
    }
    // In the middle of it: what was not synced is as it was.
    expect(lowest).toBe(65)
    world.crash(0)
    await world.start(0)
    await added(8)
    await world.run(1_000)
    const top = world.node(0).chain.certifiedHeight
    expect(await world.storage(0).blockAtOrAbove(Height(1))).toBe(top)
    expect(largest).toBe(64)
    const ids = await Promise.all(
      Array.from({ length: top - 1 }, async (_, i) => {
        const row = decodeOwn(forgottenBlockCodec, (await world.storage(0).forgotten(Height(i + 1)))!)
        return row.codes.length
      }),
    )
    expect(ids.reduce((sum, each) => sum + each, 0)).toBeGreaterThanOrEqual(all.length + 70)
  })
})
