import { expect, test } from 'vitest'
import { writeDeadlineMs, writeStallMs } from '../../../node/write-watch.ts'
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

test('a disk that hangs: the leader hands over, what waited is certified, and it follows when the disk is back', async () => {
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
