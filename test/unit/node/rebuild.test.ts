import { expect, test } from 'vitest'
import { Height } from '../../../chain/brands.ts'
import { copyPromises } from '../../../node/storage/promises.ts'
import { storeKey } from '../../../node/storage/store-records.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { MemoryDisk } from '../../support/memory-byte-store.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'

const devices = Array.from({ length: 12 }, (_, i) => sampleIdentity(`device-${i}`))
let nonce = 0

async function blocks(world: LedgerWorld, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const before = world.node(world.leader!).certifier.certifiedHeight
    const bytes = world.group(devices[nonce % devices.length]!, `group-${nonce++}`)
    void world.node(world.leader!).submission.submit(bytes, 'certified')
    await world.until('a block', () => (world.running.at(-1)?.certifier.certifiedHeight ?? 0) > before)
  }
}

const flip = (value: Uint8Array) => {
  value[value.length - 1]! ^= 1
  return value
}

async function worldWithBlocks(): Promise<LedgerWorld> {
  const world = new LedgerWorld(3, devices)
  world.compaction = { entriesKept: 5 }
  world.maxLogBytesInMemory = 1
  await world.startAll()
  await world.until('a leader', () => world.leader !== undefined)
  await blocks(world, 15)
  return world
}

const followerOf = (world: LedgerWorld) => [0, 1, 2].find(i => i !== world.leader)!

/** Ends a node and damages one record of it. */
function damage(world: LedgerWorld, i: number, key: Uint8Array): void {
  world.crash(i)
  world.disk(i).damage(key, flip)
}

test.each([
  ['the newest header', (height: number) => storeKey('header', height)],
  ['the log tail', () => storeKey('logTail')],
  ['the applied index', () => storeKey('applied')],
])('damage: a node does not start when %s is damaged, and says what to do', async (_what, keyAt) => {
  const world = await worldWithBlocks()
  const i = followerOf(world)
  const { height } = world.node(i).chain
  damage(world, i, keyAt(height))
  const start = world.start(i)
  await expect(start).rejects.toMatchObject({ code: 'storage-corrupt' })
  await expect(start).rejects.toThrow(/mote node rebuild --config FILE/)
})

test('damage: a running node that meets a damaged record stops, and does not merely fail a request', async () => {
  const world = await worldWithBlocks()
  const i = followerOf(world)
  world.disk(i).damage(storeKey('block', 2), flip)
  await expect(world.node(i).service.block(Height(2))).rejects.toMatchObject({ code: 'storage-corrupt' })
  expect(world.failures).toMatchObject([{ code: 'storage-corrupt' }])
  expect(world.node(i).replica.stopped).toBe(true)
})

test('rebuild: a damaged node comes back under its own name, with what it promised, and the state of its peers', async () => {
  const world = await worldWithBlocks()
  const i = followerOf(world)
  const { currentTerm, lastLogIndex } = world.node(i).replica.consensus
  const { height } = world.node(i).chain
  damage(world, i, storeKey('header', height))
  const rebuilt = new MemoryDisk()
  const report = await copyPromises(world.disk(i).open(), rebuilt.open())
  expect(report).toEqual({ term: currentTerm + 1, upTo: lastLogIndex, signedHeaders: height })
  rebuilt.crash()
  world.replaceDisk(i, rebuilt)
  await world.start(i)
  expect(world.node(i).chain.height).toBe(0)
  await world.until('all in step', () => {
    const heads = world.running.map(node => node.chain.ledger.headerHash)
    return new Set(heads).size === 1 && world.node(i).chain.height >= height
  })
  expect(world.failures).toEqual([])
  const signed = await world.storage(i).signedHeader({ incarnation: 0, height: Height(height) })
  expect(signed).toBeDefined()

  // It counts again: without another one the quorum is this node and the last.
  world.crash([0, 1, 2].find(j => j !== i && j !== world.leader)!)
  await world.until('a leader', () => world.leader !== undefined)
  const before = world.node(i).certifier.certifiedHeight
  void world.node(i).submission.submit(world.group(devices[0]!, `after-${nonce++}`), 'certified')
  await world.until('a certified block', () => world.node(i).certifier.certifiedHeight > before)
})

test('rebuild: until it has applied what it may have acknowledged, the node votes for nobody', async () => {
  const world = await worldWithBlocks()
  const i = followerOf(world)
  const others = [0, 1, 2].filter(j => j !== i)
  const { height } = world.node(i).chain
  damage(world, i, storeKey('header', height))
  const rebuilt = new MemoryDisk()
  await copyPromises(world.disk(i).open(), rebuilt.open())
  rebuilt.crash()
  world.replaceDisk(i, rebuilt)
  // One of the two that hold the log is away: with the vote of the third, entries could be lost that all had.
  world.cutOff(others[0]!)
  await world.start(i)
  let voted = 0
  world.filter = (from, _to, message) => {
    if (from === world.id(i) && message.type === 'raft' && /vote/.test(message.message.type)) voted++
    return true
  }
  await world.run(5_000)
  expect(voted).toBe(0)
  expect(world.running.filter(node => node.chain.height > height)).toEqual([])
  world.heal()
  await world.until('all in step', () => new Set(world.running.map(node => node.chain.height)).size === 1)
})

test.each(['hardState', 'logTail'] as const)(
  'rebuild: without a sound %s nobody knows what was promised, so it is refused',
  async kind => {
    const world = await worldWithBlocks()
    const i = followerOf(world)
    damage(world, i, storeKey(kind))
    const copy = copyPromises(world.disk(i).open(), new MemoryDisk().open())
    await expect(copy).rejects.toMatchObject({ code: 'storage-corrupt' })
    await expect(copy).rejects.toThrow(/join as a new member/)
  },
)
