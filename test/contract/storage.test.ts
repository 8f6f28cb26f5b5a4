import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openStorage } from '../../node/storage/chain-storage.ts'
import { openLevelByteStore, openLevelStorage } from '../../node/storage/level-storage.ts'
import { SimulatedDisk } from '../simulation/disk.ts'
import { SeededRandom } from '../simulation/random.ts'
import { Timeline } from '../simulation/timeline.ts'
import { MemoryDisk } from '../support/memory-byte-store.ts'
import { block, configuration, entry, owner, type StorageUnderTest, storageContract } from './storage.ts'
import { snapshotContract } from './storage-snapshot.ts'

async function onLevel(): Promise<StorageUnderTest> {
  const path = await mkdtemp(join(tmpdir(), 'mote-storage-'))
  return {
    open: owner => openLevelStorage(path, owner),
    damage: async (key, change) => {
      const store = await openLevelByteStore(path)
      const value = await store.get(key)
      await store.write([{ key, value: change(Uint8Array.from(value!)) }], true)
      await store.close()
    },
    destroy: () => rm(path, { recursive: true, force: true }),
  }
}

async function inMemory(): Promise<StorageUnderTest> {
  const disk = new MemoryDisk()
  return {
    open: async owner => openStorage(disk.open(), owner),
    damage: async (key, change) => disk.damage(key, change),
    destroy: async () => {},
  }
}

/** Its events happen as soon as the process is idle. */
async function simulated(): Promise<StorageUnderTest> {
  const timeline = new Timeline()
  const disk = new SimulatedDisk(timeline, new SeededRandom(1, 'disk'))
  const user = { name: 'contract', alive: true, paused: false, backlog: [], boundary: () => {} }
  let over = false
  const goOn = () => {
    timeline.next()?.happen()
    if (!over) setImmediate(goOn)
  }
  goOn()
  return {
    open: async owner => openStorage(disk.open(user), owner),
    damage: async (key, change) => {
      const store = disk.open(user)
      const value = await store.get(key)
      await store.write([{ key, value: change(Uint8Array.from(value!)) }], true)
      await store.close()
    },
    destroy: async () => {
      over = true
    },
  }
}

for (const [name, create] of [
  ['LevelDB', onLevel],
  ['memory', inMemory],
  ['a simulated disk', simulated],
] as const) {
  storageContract(name, create)
  snapshotContract(name, create)
}

test('crash: what was documented as durable is there, what was not may be gone', async () => {
  const disk = new MemoryDisk()
  const storage = await openStorage(disk.open(), owner)
  await storage.initialise({ configuration, block: block(0) })
  await storage.persist({ entries: [entry(1)], hardState: { currentTerm: 1, votedFor: 'a' } })
  storage.putCertificate(block(0).height, Uint8Array.of(1))
  disk.crash()
  const again = await openStorage(disk.open(), owner)
  expect(await again.recover()).toMatchObject({
    entries: [entry(1)],
    hardState: { currentTerm: 1, votedFor: 'a' },
  })
  expect(await again.latestCertificate()).toBeUndefined()
})

test('write queue: writes that wait share one sync, in order', async () => {
  const disk = new MemoryDisk()
  const storage = await openStorage(disk.open(), owner)
  await storage.initialise({ configuration, block: block(0) })
  const before = disk.syncs
  await Promise.all(Array.from({ length: 50 }, (_, i) => storage.persist({ entries: [entry(i + 1)] })))
  expect(disk.syncs - before).toBe(1)
  expect(await storage.readEntries({ from: 50, to: 50, maxBytes: 1 })).toMatchObject({ entries: [entry(50)] })
})

test('write queue: a certificate has no write of its own, and is there before the log is forgotten', async () => {
  const disk = new MemoryDisk()
  const storage = await openStorage(disk.open(), owner)
  await storage.initialise({ configuration, block: block(0) })
  await storage.persist({ entries: [entry(1)] })
  await storage.apply({ applied: 1, blocks: [block(1)] })
  const before = disk.writes
  storage.putCertificate(block(1).height, Uint8Array.of(1))
  await storage.readEntries({ from: 1, to: 1, maxBytes: 1 })
  expect(disk.writes - before).toBe(0)
  await storage.compact({ lastIncludedIndex: 1, lastIncludedTerm: 1, configuration })
  disk.crash()
  const again = await openStorage(disk.open(), owner)
  expect(await again.latestCertificate()).toMatchObject({ height: 1 })
})

test('write queue: after the disk refused a write nothing more is written', async () => {
  const disk = new MemoryDisk()
  const storage = await openStorage(disk.open(), owner)
  await storage.initialise({ configuration, block: block(0) })
  disk.failNextWrite = new Error('no space left on device')
  await expect(storage.persist({ entries: [entry(1)] })).rejects.toMatchObject({ code: 'storage-failed' })
  await expect(storage.persist({ entries: [entry(2)] })).rejects.toMatchObject({ code: 'storage-failed' })
  await storage.close()
  const again = await openStorage(disk.open(), owner)
  expect((await again.recover())?.entries).toEqual([])
})
