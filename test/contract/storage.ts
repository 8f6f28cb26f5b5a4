/**
 * What every `Storage` must do, as a function: storage.test.ts runs it on LevelDB and on the in-memory store.
 */

import { afterEach, describe, expect, test } from 'vitest'
import { ChainId, DeviceId, Hash, Height, StateKey, TransactionId } from '../../chain/brands.ts'
import type { Configuration, Entry } from '../../consensus/types.ts'
import type { BlockWrite, Storage } from '../../node/ports.ts'
import type { StorageOwner } from '../../node/storage/store-records.ts'

export interface StorageUnderTest {
  /** Opens the same data again and again until `destroy`. */
  open(owner: StorageOwner): Promise<Storage>
  /** Replaces the stored value at a key; null removes it. Called while closed. */
  damage(key: Uint8Array, change: (value: Uint8Array) => Uint8Array | null): Promise<void>
  destroy(): Promise<void>
}

const digest = (seed: number) => seed.toString(16).padStart(64, '0')
export const owner: StorageOwner = { chainId: ChainId(digest(1)), deviceId: DeviceId(digest(2)) }
export const configuration: Configuration = { voters: ['a', 'b', 'c'], votersOutgoing: [], learners: [] }
const bytes = (...values: number[]) => Uint8Array.from(values)

export function entry(index: number, term = 1, data: Uint8Array = bytes(index % 256)): Entry {
  return { index, term, type: 'command', data }
}

export function block(height: number, more: Partial<BlockWrite> = {}): BlockWrite {
  return {
    height: Height(height),
    headerHash: Hash(digest(1000 + height)),
    header: bytes(1, height),
    changes: bytes(2, height),
    block: bytes(3, height),
    receipts: bytes(4, height),
    transactions: [],
    leaves: new Map(),
    replay: new Map(),
    replayFloor: 0,
    history: bytes(5, height),
    ...more,
  }
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}

/** For the tests of one suite: `create` gives each a fresh, empty place, whose storage can be opened again and again. */
export function storagePlace(create: () => Promise<StorageUnderTest>) {
  let place: StorageUnderTest | undefined
  let opened: Storage | undefined

  async function reopen(): Promise<Storage> {
    await opened?.close()
    place ??= await create()
    opened = await place.open(owner)
    return opened
  }

  /** A storage with a genesis, ready to be written. */
  async function started(): Promise<Storage> {
    const storage = await reopen()
    expect(await storage.recover()).toBeUndefined()
    await storage.initialise({ configuration, block: block(0) })
    return storage
  }

  afterEach(async () => {
    await opened?.close()
    await place?.destroy()
    opened = undefined
    place = undefined
  })
  return { reopen, started, place: () => place!, opened: () => opened }
}

/** Runs the suite; `create` gives a fresh, empty place for data. */
export function storageContract(name: string, create: () => Promise<StorageUnderTest>): void {
  const { reopen, started, place, opened } = storagePlace(create)

  describe(`storage on ${name}`, () => {
    test('recover: gives back the genesis of an initialised directory', async () => {
      await started()
      const recovered = await (await reopen()).recover()
      expect(recovered).toEqual({
        hardState: { currentTerm: 0, votedFor: null },
        snapshot: { lastIncludedIndex: 0, lastIncludedTerm: 0, configuration },
        configuration,
        applied: 0,
        before: { index: 0, term: 0 },
        entries: [],
        height: 0,
        history: block(0).history,
      })
      expect(await opened()?.header(Height(0))).toEqual(block(0).header)
    })

    test('open: refuses the data of another chain or device', async () => {
      const storage = await started()
      await storage.close()
      const other = { ...owner, chainId: ChainId(digest(9)) }
      await expect(place().open(other)).rejects.toMatchObject({ code: 'wrong-chain' })
      await expect(place().open({ ...owner, deviceId: DeviceId(digest(9)) })).rejects.toMatchObject({
        code: 'wrong-chain',
      })
    })

    test('open: refuses data that is open already', async () => {
      await started()
      await expect(place().open(owner)).rejects.toMatchObject({ code: 'in-use' })
    })

    test('persist: keeps entries and hard state, and cuts the tail that is replaced', async () => {
      const storage = await started()
      const withConfiguration: Entry = {
        index: 4,
        term: 2,
        type: 'configuration',
        data: new Uint8Array(),
        configuration: { ...configuration, learners: ['d'] },
      }
      await storage.persist({ entries: [entry(1), entry(2), entry(3), entry(4), entry(5)] })
      await storage.persist({
        truncateAfter: 2,
        entries: [{ index: 3, term: 2, type: 'noop', data: new Uint8Array() }, withConfiguration],
        hardState: { currentTerm: 2, votedFor: 'b' },
      })
      const recovered = await (await reopen()).recover()
      expect(recovered?.hardState).toEqual({ currentTerm: 2, votedFor: 'b' })
      expect(recovered?.entries).toEqual([
        entry(1),
        entry(2),
        { index: 3, term: 2, type: 'noop', data: new Uint8Array() },
        withConfiguration,
      ])
    })

    test('recover: gives the entries after the applied index, with the term ahead of them', async () => {
      const storage = await started()
      await storage.persist({ entries: [entry(1), entry(2, 3), entry(3, 4)] })
      const next = { ...configuration, voters: ['a', 'b'] }
      await storage.apply({ applied: 2, blocks: [block(1)], configuration: next })
      const recovered = await (await reopen()).recover()
      expect(recovered).toMatchObject({ applied: 2, before: { index: 2, term: 3 }, height: 1 })
      expect(recovered?.configuration).toEqual(next)
      expect(recovered?.entries).toEqual([entry(3, 4)])
    })

    test('apply: an index without a block moves on and keeps the height', async () => {
      const storage = await started()
      await storage.persist({ entries: [entry(1), entry(2), entry(3)] })
      await Promise.all([
        storage.apply({ applied: 1, blocks: [] }),
        storage.apply({ applied: 2, blocks: [block(1)] }),
        storage.apply({ applied: 3, blocks: [] }),
      ])
      expect(await (await reopen()).recover()).toMatchObject({ applied: 3, height: 1 })
    })

    test('readEntries: is bounded by bytes, and gives at least one', async () => {
      const storage = await started()
      const large = (index: number) => entry(index, 1, new Uint8Array(100).fill(index))
      const written = storage.persist({ entries: [large(1), large(2), large(3), large(4)] })
      const read = await storage.readEntries({ from: 2, to: 4, maxBytes: 250 })
      expect(read).toEqual({
        type: 'entries',
        before: { index: 1, term: 1 },
        entries: [large(2), large(3)],
      })
      expect(await storage.readEntries({ from: 3, to: 4, maxBytes: 1 })).toMatchObject({
        entries: [large(3)],
      })
      expect(await storage.readEntries({ from: 4, to: 99, maxBytes: 999 })).toMatchObject({
        entries: [large(4)],
      })
      await written
    })

    test('compact: forgets entries up to the snapshot and says so to a reader', async () => {
      const storage = await started()
      await storage.persist({ entries: [entry(1), entry(2), entry(3, 2)] })
      await storage.apply({ applied: 2, blocks: [block(1)] })
      const snapshot = { lastIncludedIndex: 2, lastIncludedTerm: 1, configuration }
      await storage.compact(snapshot)
      expect(await storage.readEntries({ from: 2, to: 3, maxBytes: 99 })).toEqual({
        type: 'compacted',
        snapshot,
      })
      expect(await storage.readEntries({ from: 3, to: 3, maxBytes: 99 })).toMatchObject({
        before: { index: 2, term: 1 },
        entries: [entry(3, 2)],
      })
      expect(await (await reopen()).recover()).toMatchObject({ snapshot, before: { index: 2, term: 1 } })
    })

    test('apply: blocks, indexes, state and replay slots are all there afterwards', async () => {
      const storage = await started()
      const [first, second] = [TransactionId(digest(71)), TransactionId(digest(72))]
      const device = DeviceId(digest(51))
      const [kept, gone] = [StateKey(digest(61)), StateKey(digest(62))]
      await storage.persist({ entries: [entry(1), entry(2)] })
      await storage.apply({
        applied: 1,
        blocks: [
          block(1, {
            transactions: [{ id: first, index: 0, kind: 7, devices: [device, DeviceId(digest(52))] }],
            leaves: new Map([
              [kept, bytes(1)],
              [gone, bytes(2)],
            ]),
            replay: new Map([
              [100, bytes(1)],
              [200, bytes(2)],
            ]),
          }),
        ],
      })
      await storage.apply({
        applied: 2,
        blocks: [
          block(2, {
            transactions: [{ id: second, index: 0, kind: 8, devices: [device] }],
            leaves: new Map([
              [kept, bytes(3)],
              [gone, null],
            ]),
            replay: new Map([[200, bytes(4)]]),
            replayFloor: 150,
          }),
        ],
      })
      expect(await storage.transaction(first)).toEqual({ height: 1, index: 0 })
      expect(await storage.transaction(TransactionId(digest(99)))).toBeUndefined()
      expect(await storage.deviceTransactions(device, 10)).toEqual([
        { id: second, kind: 8, height: 2, index: 0 },
        { id: first, kind: 7, height: 1, index: 0 },
      ])
      expect(await storage.deviceTransactions(device, 1)).toHaveLength(1)
      const below = { height: Height(2), index: 0 }
      expect(await storage.deviceTransactions(device, 10, below)).toEqual([
        { id: first, kind: 7, height: 1, index: 0 },
      ])
      expect(await collect(storage.leaves())).toEqual([[kept, bytes(3)]])
      expect(await collect(storage.replay(0))).toEqual([
        { slot: 200, height: 1, ids: bytes(2) },
        { slot: 200, height: 2, ids: bytes(4) },
      ])
      expect(await storage.block(Height(2))).toEqual(block(2).block)
      expect(await storage.receipts(Height(2))).toEqual(block(2).receipts)
      expect(await storage.changes(Height(2))).toEqual(block(2).changes)
      expect(await storage.header(Height(3))).toBeUndefined()
      expect((await (await reopen()).recover())?.history).toEqual(block(2).history)
    })

    test('forget: what is kept takes the place of block and receipts, and nothing else of the block is lost', async () => {
      const storage = await started()
      const id = TransactionId(digest(71))
      const device = DeviceId(digest(51))
      const row = { id, index: 0, kind: 7, devices: [device] }
      await storage.persist({ entries: [entry(1), entry(2), entry(3)] })
      const blocks = [
        block(1),
        block(2, { transactions: [row], replay: new Map([[100, bytes(9)]]) }),
        block(3),
      ]
      await storage.apply({ applied: 3, blocks })
      expect(await storage.blockAtOrAbove(Height(1))).toBe(1)
      const kept = (height: number) => [Height(height), bytes(6, height)] as const
      await storage.forget([kept(1)], false)
      await storage.forget([kept(2)], true)
      const check = async (each: Storage) => {
        expect(await each.block(Height(2))).toBeUndefined()
        expect(await each.receipts(Height(2))).toBeUndefined()
        expect(await each.forgotten(Height(2))).toEqual(bytes(6, 2))
        expect(await each.forgotten(Height(3))).toBeUndefined()
        expect(await each.block(Height(3))).toEqual(block(3).block)
        expect(await each.blockAtOrAbove(Height(1))).toBe(3)
        expect(await each.blockAtOrAbove(Height(4))).toBeUndefined()
        expect(await each.header(Height(2))).toEqual(block(2).header)
        expect(await each.changes(Height(2))).toEqual(block(2).changes)
        expect(await each.transaction(id)).toEqual({ height: 2, index: 0 })
        expect(await each.deviceTransactions(device, 10)).toEqual([{ id, kind: 7, height: 2, index: 0 }])
        expect(await collect(each.replay(0))).toEqual([{ slot: 100, height: 2, ids: bytes(9) }])
      }
      await check(storage)
      await check(await reopen())
    })

    test('signed headers: the same hash may be recorded again, another one never', async () => {
      const storage = await started()
      const signed = { incarnation: 0, height: Height(1), headerHash: block(1).headerHash }
      const other = { ...signed, headerHash: Hash(digest(666)) }
      await storage.recordSigned(signed)
      await storage.recordSigned(signed)
      await expect(storage.recordSigned(other)).rejects.toMatchObject({ code: 'execution-diverged' })
      expect(await storage.signedHeader(signed)).toEqual(signed)
      await storage.recordSigned({ ...other, incarnation: 1 })

      const again = await reopen()
      await again.recover()
      await expect(again.recordSigned(other)).rejects.toMatchObject({ code: 'execution-diverged' })
      expect(await again.signedHeader(signed)).toEqual(signed)
    })

    test('signed headers: a contradiction rejects the whole block write', async () => {
      const storage = await started()
      await storage.persist({ entries: [entry(1)] })
      const signed = { incarnation: 0, height: Height(1), headerHash: Hash(digest(666)) }
      const honest = { ...signed, headerHash: block(1).headerHash }
      const [first, second] = await Promise.allSettled([
        storage.recordSigned(signed),
        storage.apply({ applied: 1, blocks: [block(1, { signed: honest })] }),
      ])
      expect(first.status).toBe('fulfilled')
      expect(second).toMatchObject({ status: 'rejected', reason: { code: 'execution-diverged' } })
      expect(await storage.header(Height(1))).toBeUndefined()
    })

    test('certificates: the latest, and that of a height', async () => {
      const storage = await started()
      expect(await storage.latestCertificate()).toBeUndefined()
      for (const height of [2, 5]) storage.putCertificate(Height(height), bytes(height))
      expect(await storage.latestCertificate()).toEqual({ height: 5, certificate: bytes(5) })
      expect(await storage.certificate(Height(3))).toBeUndefined()
      expect(await storage.certificate(Height(2))).toEqual(bytes(2))
    })

    test('certificates: are read at once, and are there after the next write or a clean end', async () => {
      const storage = await started()
      await storage.persist({ entries: [entry(1)] })
      storage.putCertificate(Height(1), bytes(1))
      expect(await storage.certificate(Height(1))).toEqual(bytes(1))
      await storage.apply({ applied: 1, blocks: [block(1)] })
      storage.putCertificate(Height(2), bytes(2))
      expect(await storage.certificate(Height(1))).toEqual(bytes(1))
      expect(await storage.latestCertificate()).toEqual({ height: 2, certificate: bytes(2) })
      await storage.close()
      const again = await reopen()
      await again.recover()
      expect(await again.certificate(Height(1))).toEqual(bytes(1))
      expect(await again.latestCertificate()).toEqual({ height: 2, certificate: bytes(2) })
    })

    test('close: finishes queued writes, then refuses more', async () => {
      const storage = await started()
      const writes = Array.from({ length: 200 }, (_, i) => storage.persist({ entries: [entry(i + 1)] }))
      await storage.close()
      await Promise.all(writes)
      await expect(storage.persist({ entries: [] })).rejects.toMatchObject({ code: 'not-ready' })
      expect((await (await reopen()).recover())?.entries).toHaveLength(200)
    })

    corruption(name, started, reopen, place)
  })
}

/** Records that rot: found, named, never worked around. */
function corruption(
  name: string,
  started: () => Promise<Storage>,
  reopen: () => Promise<Storage>,
  place: () => StorageUnderTest,
): void {
  const key = (kind: number, ...numbers: number[]) => {
    const bytes = Buffer.alloc(1 + 8 * numbers.length)
    bytes[0] = kind
    for (const [i, number] of numbers.entries()) bytes.writeBigUInt64BE(BigInt(number), 1 + 8 * i)
    return bytes
  }
  const flip = (value: Uint8Array) => {
    value[value.length - 1]! ^= 1
    return value
  }
  const entryKind = 16
  const tailKey = key(3)

  async function withLog(damage: (place: StorageUnderTest) => Promise<void>): Promise<Storage> {
    const storage = await started()
    await storage.persist({ entries: [entry(1), entry(2)] })
    await storage.persist({ entries: [entry(3)] })
    await storage.close()
    await damage(place())
    return reopen()
  }

  describe(`damage on ${name}`, () => {
    test('recover: one flipped bit in an entry that may be acknowledged stops the node', async () => {
      const storage = await withLog(at => at.damage(key(entryKind, 3), flip))
      await expect(storage.recover()).rejects.toMatchObject({
        code: 'storage-corrupt',
        detail: expect.stringMatching(/^entry 3: .*mote node rebuild --config FILE/),
      })
    })

    test('recover: a missing entry below the tail stops the node', async () => {
      const storage = await withLog(at => at.damage(key(entryKind, 2), () => null))
      await expect(storage.recover()).rejects.toMatchObject({
        code: 'storage-corrupt',
        detail: expect.stringContaining('entry 2'),
      })
    })

    test('recover: a flipped bit in the hard state stops the node', async () => {
      const storage = await withLog(at => at.damage(key(1), flip))
      await expect(storage.recover()).rejects.toMatchObject({ code: 'storage-corrupt' })
    })

    test('recover: a log without a hard state is not a fresh directory', async () => {
      const storage = await withLog(at => at.damage(key(1), () => null))
      await expect(storage.recover()).rejects.toMatchObject({ code: 'storage-corrupt' })
    })

    test('recover: an entry above the tail record is a torn write and is cut', async () => {
      let earlier: Uint8Array | undefined
      const storage = await started()
      await storage.persist({ entries: [entry(1), entry(2)] })
      await storage.close()
      await place().damage(tailKey, value => {
        earlier = Uint8Array.from(value)
        return value
      })
      const second = await reopen()
      await second.recover()
      await second.persist({ entries: [entry(3)] })
      await second.close()
      await place().damage(tailKey, () => earlier!)

      const third = await reopen()
      expect((await third.recover())?.entries).toEqual([entry(1), entry(2)])
      await third.persist({ entries: [entry(3, 9)] })
      expect((await (await reopen()).recover())?.entries.at(-1)).toEqual(entry(3, 9))
    })

    test('reads: a damaged header is an error and not an answer', async () => {
      const storage = await withLog(at => at.damage(key(17, 0), flip))
      await expect(storage.header(Height(0))).rejects.toMatchObject({ code: 'storage-corrupt' })
    })
  })
}
