import { expect, test } from 'vitest'
import { chainIdOf } from '../../../chain/genesis.ts'
import type { Entry, Message } from '../../../consensus/types.ts'
import { openStorage } from '../../../node/storage/chain-storage.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'

const device = sampleIdentity('device')

async function worldWithLeader(): Promise<LedgerWorld> {
  const world = new LedgerWorld(3, [device])
  return world.startCertified()
}

test('replica: what is stored beside the applied index is the configuration of committed entries alone (§6)', async () => {
  const world = new LedgerWorld(3, [device])
  await world.start(0)
  const voters = [0, 1, 2].map(i => world.id(i)).sort()
  const before = { voters, votersOutgoing: [], learners: [] }
  const appended = { ...before, learners: [device.id] }
  const nothing = new Uint8Array()
  const entries: Entry[] = [
    { index: 1, term: 5, type: 'noop', data: nothing },
    { index: 2, term: 5, type: 'configuration', data: nothing, configuration: appended },
  ]
  const append = (leaderCommit: number): Message => ({
    type: 'append-entries',
    from: world.id(1),
    term: 5,
    prevLogIndex: 0,
    prevLogTerm: 0,
    entries,
    leaderCommit,
    readContext: 0,
  })
  const stored = async () => {
    world.crash(0)
    const storage = await openStorage(world.disk(0).open(), {
      chainId: chainIdOf(world.genesis),
      deviceId: world.id(0),
    })
    const recovered = await storage.recover()
    await storage.close()
    await world.start(0)
    return recovered
  }
  // What comes before a configuration is applied before that is taken.
  for (let i = 0; i < 2; i++) {
    world.node(0).replica.receive(append(1))
    await world.settle()
  }
  expect(world.node(0).replica.configuration).toEqual(appended)
  expect(await stored()).toMatchObject({ applied: 1, configuration: before, entries: [entries[1]] })
  expect(world.node(0).replica.configuration, 'in force again from the log').toEqual(appended)

  world.node(0).replica.receive(append(2))
  await world.settle()
  expect(await stored()).toMatchObject({ applied: 2, configuration: appended, entries: [] })
})

test('replica: a leader whose disk fails names a successor before it stops (thesis §3.10)', async () => {
  const world = await worldWithLeader()
  const leader = world.leader!
  const successors: string[] = []
  world.filter = (from, to, message) => {
    if (from === world.id(leader) && message.type === 'raft' && message.message.type === 'timeout-now')
      successors.push(to)
    return true
  }
  world.disk(leader).failNextWrite = new Error('no space left')
  void world.node(leader).submission.submit(world.group(device, 'last'), 'none')
  await world.until('the failure', () => world.failures.length > 0)
  expect(world.node(leader).replica.leadership).toMatchObject({ role: 'follower', leader: undefined })
  expect(successors).toHaveLength(1)
})
