import { expect, test } from 'vitest'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'

const devices = Array.from({ length: 12 }, (_, i) => sampleIdentity(`device-${i}`))
const removed = 3

/** Three consenters and one more full node, which know of each other by the chain alone. */
async function startedWorld(): Promise<LedgerWorld> {
  const world = new LedgerWorld(3, devices, 1)
  world.peersAreConfigured = false
  await world.startCertified()
  const id = world.id(removed)
  await world.until('the learner', () =>
    world.running.every(({ replica }) => replica.configuration.learners.includes(id)),
  )
  // As a transport does that judges a connection again and finds that the peer is not active any more.
  world.rechecked.length = 0
  world.filter = (from, to) =>
    !world.rechecked.some(({ at, peer }) => (at === from && peer === to) || (at === to && peer === from))
  return world
}

/** The operator suspends the full node: it is no member of the Raft configuration from then on. */
async function suspend(world: LedgerWorld): Promise<void> {
  const body = {
    type: 'identity.suspend',
    subject: world.id(removed),
    reason: '',
  } as const
  void world.node(world.leader!).submission.submit(world.sign(world.operator, body), 'none')
  const { replica } = world.node(world.leader!)
  await world.until('it is left out', () => !replica.configuration.learners.includes(world.id(removed)))
}

/** It has the configuration that leaves it out, and knows that this is committed. */
function knows(world: LedgerWorld): boolean {
  const { configuration, commitIndex, configurationIndex } = world.node(removed).replica.consensus
  return !configuration.learners.includes(world.id(removed)) && commitIndex >= configurationIndex
}

const rechecksAt = (world: LedgerWorld, i: number) =>
  world.rechecked.filter(({ at, peer }) => at === world.id(i) && peer === world.id(removed))

test('removed: a full node that is no member any more knows it, and gets nothing behind that', async () => {
  const world = await startedWorld()
  const leader = world.leader!
  await suspend(world)
  await world.until('it knows', () => knows(world), 300)
  await world.until(
    'the leader lets go',
    () => world.node(leader).replica.consensus.departing.length === 0,
    300,
  )
  for (const device of devices.slice(0, 3)) {
    void world.node(leader).submission.submit(world.group(device, 'fleet'), 'none')
    await world.run(200)
  }
  const { lastLogIndex, configurationIndex, role } = world.node(removed).replica.consensus
  expect(lastLogIndex).toBe(configurationIndex)
  expect(role).toBe('follower')
  expect(world.node(leader).replica.consensus.commitIndex).toBeGreaterThan(lastLogIndex)
  expect(world.failures).toEqual([])
})

test('removed: its connection to the leader outlives the certificate by a moment, and no longer', async () => {
  const world = await startedWorld()
  const leader = world.leader!
  await suspend(world)
  const others = [0, 1, 2].filter(i => i !== leader)
  await world.until('the others close', () => others.every(i => rechecksAt(world, i).length > 0), 300)
  expect(rechecksAt(world, leader)).toEqual([])
  await world.run(600)
  expect(rechecksAt(world, leader)).toHaveLength(1)
})

test('removed: the leader hears of it what answers the log, and nothing else', async () => {
  const world = await startedWorld()
  const leader = world.leader!
  const passes = world.filter
  // Its answers are lost, so it is told again and again.
  world.filter = (from, to, message) =>
    passes(from, to, message) && (from !== world.id(removed) || message.type !== 'raft')
  await suspend(world)
  await world.until('it is told', () => world.node(leader).replica.consensus.departing.length > 0, 300)
  const bytes = world.group(devices[0]!, 'forwarded')
  const before = world.node(leader).mempool.size
  world.node(leader).message(world.id(removed), { type: 'transactions', transactions: [bytes] })
  expect(world.node(leader).mempool.size).toBe(before)
  const ask = (body: number[]) =>
    world.handler(leader, 'member')(
      { deviceId: world.id(removed), isProven: true, remoteAddress: 'memory', charge: () => {} },
      Uint8Array.from(body),
    )
  // [kind, []]: 3 the read index, 2 the amnesia check.
  await expect(ask([0x92, 3, 0x90])).rejects.toMatchObject({ code: 'not-authorised' })
  expect((await ask([0x92, 2, 0x90])).length).toBeGreaterThan(0)
  await world.run(600)
  await expect(ask([0x92, 2, 0x90])).rejects.toMatchObject({ code: 'not-authorised' })
})
