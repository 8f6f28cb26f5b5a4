/** What a storage does with snapshots: one atomic switch of state and log, and compaction that a crash may cut short. */
import { describe, expect, test } from 'vitest'
import { type Height, StateKey } from '../../chain/brands.ts'
import type { SnapshotWrite } from '../../node/ports.ts'
import { block, collect, configuration, entry, type StorageUnderTest, storagePlace } from './storage.ts'

const bytes = (...values: number[]) => Uint8Array.from(values)
const key = (seed: number) => StateKey(seed.toString(16).padStart(64, '0'))

export function snapshotWrite(height: number, lastIncludedIndex: number): SnapshotWrite {
  return {
    meta: { lastIncludedIndex, lastIncludedTerm: 7, configuration: { ...configuration, learners: ['d'] } },
    state: {
      height: height as Height,
      header: bytes(11, height),
      changes: bytes(12, height),
      certificate: bytes(13, height),
      leaves: [
        [key(1), bytes(1)],
        [key(3), bytes(33)],
        [key(4), bytes(4)],
      ],
      replay: [{ slot: 300, ids: bytes(30) }],
      handovers: [],
      history: bytes(14),
    },
  }
}

/** Runs the suite; `create` gives a fresh, empty place for data. */
export function snapshotContract(name: string, create: () => Promise<StorageUnderTest>): void {
  const { reopen, started } = storagePlace(create)

  describe(`snapshots on ${name}`, () => {
    test('persist: a snapshot takes the place of state and log, and the entries of the write follow it', async () => {
      const storage = await started()
      await storage.persist({ entries: [entry(1), entry(2), entry(3)] })
      const leaves = new Map([
        [key(1), bytes(1)],
        [key(2), bytes(2)],
        [key(3), bytes(3)],
      ])
      // Called together: what the snapshot replaces is still on its way to the disk.
      await Promise.all([
        storage.apply({ applied: 2, blocks: [block(1, { leaves, replay: new Map([[200, bytes(2)]]) })] }),
        storage.persist({
          snapshot: snapshotWrite(40, 50),
          entries: [entry(51, 8)],
          hardState: { currentTerm: 8, votedFor: null },
        }),
        storage.persist({ entries: [entry(52, 8)] }),
        storage.apply({ applied: 51, blocks: [] }),
      ])
      const again = await reopen()
      expect(await again.recover()).toEqual({
        hardState: { currentTerm: 8, votedFor: null },
        snapshot: snapshotWrite(40, 50).meta,
        configuration: snapshotWrite(40, 50).meta.configuration,
        applied: 51,
        before: { index: 51, term: 8 },
        entries: [entry(52, 8)],
        height: 40,
        history: bytes(14),
      })
      expect(await collect(again.leaves())).toEqual(snapshotWrite(40, 50).state.leaves)
      expect(await collect(again.replay(0))).toEqual([{ slot: 300, height: 40, ids: bytes(30) }])
      expect(await again.latestCertificate()).toEqual({ height: 40, certificate: bytes(13, 40) })
      expect(await again.changes(40 as Height)).toEqual(bytes(12, 40))
      expect(await again.readEntries({ from: 50, to: 52, maxBytes: 99 })).toMatchObject({ type: 'compacted' })
      expect(await again.readEntries({ from: 51, to: 52, maxBytes: 99 })).toMatchObject({
        before: { index: 50, term: 7 },
        entries: [entry(51, 8), entry(52, 8)],
      })
    })

    test('compact: what a snapshot took the place of is not forgotten a second time', async () => {
      const storage = await started()
      await storage.persist({ entries: [entry(1), entry(2), entry(3)] })
      // Asked for while the snapshot is still on its way to the disk.
      await Promise.all([
        storage.persist({ snapshot: snapshotWrite(40, 50), entries: [entry(51, 8)] }),
        storage.compact({ lastIncludedIndex: 2, lastIncludedTerm: 7, configuration }),
      ])
      const found = await (await reopen()).recover()
      expect(found?.snapshot.lastIncludedIndex).toBe(50)
      expect(found?.entries.map(({ index }) => index)).toEqual([51])
    })

    test('compact: more entries than one write deletes are gone after it, and after a restart', async () => {
      const storage = await started()
      const count = 9000
      for (let first = 1; first <= count; first += 1000)
        await storage.persist({ entries: Array.from({ length: 1000 }, (_, i) => entry(first + i)) })
      await storage.apply({ applied: count, blocks: [block(1)] })
      const meta = { lastIncludedIndex: 8500, lastIncludedTerm: 1, configuration }
      await storage.compact(meta)
      const again = await reopen()
      expect(await again.recover()).toMatchObject({ snapshot: meta, applied: count })
      expect(await again.readEntries({ from: 8501, to: 8501, maxBytes: 1 })).toMatchObject({
        before: { index: 8500, term: 1 },
        entries: [entry(8501)],
      })
    })
  })
}
