/** Block time over real nodes with wrong clocks: one that leads, one that follows, several, and one that breaks the rule. */
import { expect, test } from 'vitest'
import { Height, Milliseconds } from '../../../chain/brands.ts'
import { clockSampleMaxAgeMs } from '../../../node/network/wire.ts'
import { clockBoundMs } from '../../../node/replica/block-time.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'

const hour = 3_600_000
const day = 24 * hour
const devices = Array.from({ length: 20 }, (_, i) => sampleIdentity(`device-${i}`))
let made = 0

async function worldOf(size: number): Promise<LedgerWorld> {
  return new LedgerWorld(size, devices).startCertified()
}

/** A transaction that comes to node `i`, certified; its sender's clock is right. */
async function submit(world: LedgerWorld, i: number): Promise<void> {
  const bytes = world.group(devices[made % devices.length]!, `group-${made++}`)
  let status: string | undefined
  void world
    .node(i)
    .submission.submit(bytes, 'certified')
    .then(answer => {
      status = answer.code ?? answer.status
    })
  await world.until('an answer', () => status !== undefined)
  expect(status).toBe('certified')
}

/** How far the newest block is ahead of the right time; a block just made is not behind by more than a moment. */
function aheadOf(world: LedgerWorld): number {
  return Math.max(...world.running.map(({ chain }) => chain.time)) - world.clock.wall()
}

function other(world: LedgerWorld): number {
  return [0, 1, 2].find(i => i !== world.leader && world.isRunning(i))!
}

const shifts = [
  ['70 s ahead', 70_000],
  ['70 s behind', -70_000],
  ['1 h ahead', hour],
  ['1 h behind', -hour],
  ['400 days ahead', 400 * day],
] as const

test.each(shifts.flatMap(shift => [['leads', ...shift] as const, ['follows', ...shift] as const]))(
  'a node that %s with its clock %s neither moves block time nor refuses anybody',
  async (role, _, ms) => {
    const world = await worldOf(3)
    const wrong = role === 'leads' ? world.leader! : other(world)
    world.setClock(wrong, ms)
    for (const i of [wrong, other(world), world.leader!]) await submit(world, i)
    expect(aheadOf(world)).toBeLessThanOrEqual(0)
    expect(aheadOf(world)).toBeGreaterThan(-1_000)
    await world.until('the clock is named everywhere', () =>
      world.running.every(node => node.status().oddClocks?.[0]?.id === world.id(wrong)),
    )
    expect(world.failures).toEqual([])
  },
)

test('the wrong clock is named once in the log of each node, and once when it is right again', async () => {
  const world = await worldOf(3)
  const wrong = other(world)
  world.setClock(wrong, hour)
  await world.run(6_000)
  world.setClock(wrong, 0)
  await world.until('it is right', () => world.running.every(node => node.status().oddClocks?.length === 0))
  for (const i of [0, 1, 2])
    expect(world.errorsOf(i)).toEqual(['the clock of a node is wrong', 'the clock of a node is right again'])
})

test('a leader that takes its own clock for block time finds no majority, and another leads', async () => {
  const world = await worldOf(3)
  const rogue = world.leader!
  world.setClock(rogue, hour)
  const { clocks } = world.node(rogue)
  clocks.time = () => Milliseconds(world.clock.wall() + hour)
  clocks.latestAcceptable = () => world.clock.wall() + hour
  const follower = other(world)
  void world.node(follower).submission.submit(world.group(devices[0]!, 'rogue'), 'none')
  await world.run(3_000)
  expect(aheadOf(world)).toBeLessThanOrEqual(0)
  world.cutOff(rogue)
  await world.until('another leads', () => world.leader !== undefined && world.leader !== rogue)
  await submit(world, follower)
  expect(aheadOf(world)).toBeLessThanOrEqual(0)
})

test('proposals that turn out to be too late are overwritten by another leader', async () => {
  const world = await worldOf(3)
  const leader = world.leader!
  const follower = other(world)
  world.filter = (from, _to, message) =>
    !(
      from === world.id(leader) &&
      message.type === 'raft' &&
      message.message.type === 'append-entries' &&
      message.message.entries.length > 0
    )
  for (const i of [leader, follower]) world.setClock(i, hour)
  await world.run(200)
  void world.node(leader).submission.submit(world.group(devices[0]!, 'late'), 'none')
  await world.run(100)
  for (const i of [leader, follower]) world.setClock(i, 0)
  world.filter = () => true
  const before = world.node(leader).replica.consensus.lastLogIndex
  await world.until('another leads', () => world.leader !== undefined && world.leader !== leader)
  await submit(world, world.leader!)
  expect(world.node(leader).replica.consensus.lastLogIndex).toBeGreaterThan(before)
  expect(aheadOf(world)).toBeLessThanOrEqual(0)
})

test('without the clocks of a majority there is no block, and with them again there is', async () => {
  const world = await worldOf(3)
  world.filter = (_from, _to, message) => message.type !== 'clocks'
  await world.run(clockSampleMaxAgeMs + 100)
  const leader = world.node(world.leader!)
  const { height } = leader.chain
  void leader.submission.submit(world.group(devices[0]!, 'waits'), 'none')
  await world.run(3_000)
  expect(leader.chain.height).toBe(height)
  world.filter = () => true
  await world.until('a block', () => leader.chain.height > height)
})

test('a certified snapshot from the future passes, and what follows it in its time', async () => {
  const world = new LedgerWorld(3, devices)
  world.compaction = { entriesKept: 10 }
  world.maxLogBytesInMemory = 1
  await world.startCertified()
  const away = other(world)
  const before = world.node(away).chain.height
  world.cutOff(away)
  const others = [0, 1, 2].filter(i => i !== away)
  for (const i of others) world.setClock(i, 60_000)
  await world.run(200)
  for (let i = 0; i < 30; i++) await submit(world, world.leader!)
  for (const i of others) world.setClock(i, 0)
  world.heal()
  await world.until('the snapshot', () => world.node(away).chain.height > before)
  const skipped = await world.storage(away).block(Height(before + 1))
  expect([skipped, aheadOf(world) > clockBoundMs]).toEqual([undefined, true])
  // Without this follower there is no majority.
  world.crash(others.find(i => i !== world.leader)!)
  await submit(world, world.leader!)
  await world.until('the same chain', () => new Set(world.running.map(n => n.chain.height)).size === 1)
  expect(aheadOf(world)).toBeGreaterThan(clockBoundMs)
})

test('a follower that has just started takes what it is sent, with one voter down and one clock wrong', async () => {
  const world = await worldOf(5)
  const [first, second] = [0, 1, 2, 3, 4].filter(i => i !== world.leader) as [number, number]
  world.crash(first)
  world.crash(second)
  world.setClock([0, 1, 2, 3, 4].find(i => world.isRunning(i) && i !== world.leader)!, -hour)
  await world.start(first)
  await submit(world, world.leader!)
})

test('a lone voter makes blocks by its own clock, however it jumps', async () => {
  const world = await worldOf(1)
  world.setClock(0, -hour)
  const { time } = world.node(0).chain
  await submit(world, 0)
  expect(world.node(0).chain.time).toBe(time)
  world.setClock(0, 60_000)
  await submit(world, 0)
  expect(aheadOf(world)).toBeGreaterThan(clockBoundMs)
})
