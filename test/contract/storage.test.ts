import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Height } from '../../chain/brands.ts'
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

test('forget: on LevelDB the room is given back when it is asked for', async () => {
  const path = await mkdtemp(join(tmpdir(), 'mote-storage-'))
  const bytes = async () => {
    const sizes = (await readdir(path)).map(async name => (await stat(join(path, name))).size)
    return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0)
  }
  try {
    const storage = await openLevelStorage(path, owner)
    await storage.initialise({ configuration, block: block(0) })
    await storage.persist({ entries: [entry(1)] })
    for (let height = 1; height <= 40; height++)
      await storage.apply({ applied: 1, blocks: [block(height, { block: randomBytes(256 * 1024) })] })
    await storage.close()
    const again = await openLevelStorage(path, owner)
    const before = await bytes()
    const kept = (from: number, to: number) =>
      Array.from({ length: to - from + 1 }, (_, i) => [Height(from + i), Uint8Array.of(i)] as const)
    await again.forget(kept(1, 20), false)
    expect(await bytes()).toBeGreaterThan(0.9 * before)
    await again.forget(kept(21, 39), true)
    expect(await bytes()).toBeLessThan(0.2 * before)
    expect(await again.block(Height(40))).toHaveLength(256 * 1024)
    await again.close()
  } finally {
    await rm(path, { recursive: true, force: true })
  }
})

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
