import { expect, test } from 'vitest'
import { writeDeadlineMs, writeStallMs } from '../../../node/replica/pending-writes.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'

const devices = Array.from({ length: 4 }, (_, i) => sampleIdentity(`device-${i}`))

async function worldWithHangingLeader() {
  const world = new LedgerWorld(3, devices)
  await world.startCertified()
  const stuck = world.leader!
  const { promise, resolve } = Promise.withResolvers<void>()
  world.disk(stuck).hangsUntil = promise
  const answers: (string | undefined)[] = []
  const submit = (through: number, name: string) =>
    world
      .node(through)
      .submission.submit(world.group(devices[answers.length]!, name), 'certified')
      .then(({ status }) => answers.push(status))
  void submit((stuck + 1) % 3, 'first')
  return { world, stuck, release: resolve, answers, submit }
}

test('a disk that hangs: the leader transfers its leadership, what waited is certified, and it follows when the disk is back', async () => {
  const { world, stuck, release, answers } = await worldWithHangingLeader()
  await world.run(writeStallMs / 2)
  expect(world.leader).toBe(stuck)
  await world.until('another leader', () => world.leader !== undefined && world.leader !== stuck)
  await world.until('the answer', () => answers.length === 1)
  expect(answers).toEqual(['certified'])
  world.disk(stuck).hangsUntil = undefined
  release()
  const newest = world.node(world.leader!).certifier.certifiedHeight
  await world.until('it has caught up', () => world.node(stuck).certifier.certifiedHeight >= newest)
  expect(world.failures).toEqual([])
})

test('a disk that hangs for good stops the node with storage-failed', async () => {
  const { world, release } = await worldWithHangingLeader()
  await world.run(writeDeadlineMs / 2)
  expect(world.failures).toEqual([])
  await world.until('the failure', () => world.failures.length > 0, writeDeadlineMs)
  expect(world.failures).toMatchObject([
    { code: 'storage-failed', detail: expect.stringMatching(/no write has ended for 30\d+ ms/) },
  ])
  release()
})

test('followers whose disks hang: the leader leads on and answers reads, and what waited is certified after', async () => {
  const world = await new LedgerWorld(3, devices).startCertified()
  const leader = world.leader!
  const { term } = world.node(leader).replica.leadership
  const followers = [0, 1, 2].filter(i => i !== leader)
  const { promise, resolve } = Promise.withResolvers<void>()
  for (const i of followers) world.disk(i).hangsUntil = promise
  const answers: string[] = []
  const note = (what: string) => () => answers.push(what)
  void world.node(leader).submission.submit(world.group(devices[0]!, 'slow'), 'certified').then(note('write'))
  // Ten election timeouts.
  for (let passed = 0; passed < 1_000; passed += 250) {
    await world.run(250)
    for (const i of [leader, ...followers]) void world.node(i).reads.barrier().then(note('read'))
  }
  await world.run(100)
  expect(world.node(leader).replica.leadership).toMatchObject({ role: 'leader', term })
  expect(answers.filter(what => what === 'read')).toHaveLength(12)
  expect(answers).not.toContain('write')
  for (const i of followers) world.disk(i).hangsUntil = undefined
  resolve()
  await world.until('the write', () => answers.includes('write'))
  expect(world.node(leader).replica.leadership).toMatchObject({ role: 'leader', term })
  expect(world.failures).toEqual([])
})
