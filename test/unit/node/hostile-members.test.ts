/** Full nodes that lie in Raft messages, between real `LedgerNode`s: what is no voter moves nothing, what is one is outlived. */
import { describe, expect, test } from 'vitest'
import { consenterSet } from '../../../chain/consenters.ts'
import { maxTermLead } from '../../../consensus/message-check.ts'
import type { Entry } from '../../../consensus/types.ts'
import type { RaftMessage } from '../../../node/ports.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'

const devices = Array.from({ length: 4 }, (_, i) => sampleIdentity(`device-${i}`))
let nonce = 0

async function certified(world: LedgerWorld): Promise<void> {
  await world.until('a leader', () => world.leader !== undefined)
  const bytes = world.group(devices[nonce % devices.length]!, `group-${nonce++}`)
  expect(await world.answerOfLeader(bytes)).toBe('certified')
}

/** An append of `term` right behind the log of node `i`, with a configuration that makes `evil` the only voter. */
function takeover(world: LedgerWorld, i: number, evil: number, term: number): RaftMessage {
  const { lastLogIndex, lastLogTerm } = world.node(i).replica.consensus
  const configuration = { voters: [world.id(evil)], votersOutgoing: [], learners: [] }
  const entry: Entry = {
    index: lastLogIndex + 1,
    term,
    type: 'configuration',
    data: new Uint8Array(),
    configuration,
  }
  return {
    type: 'append-entries',
    from: world.id(evil),
    term,
    prevLogIndex: lastLogIndex,
    prevLogTerm: lastLogTerm,
    entries: [entry],
    leaderCommit: lastLogIndex + 1,
    readContext: 0,
  }
}

/** Everything that only a voter may say, in a newer term. */
function lies(world: LedgerWorld, i: number, evil: number): RaftMessage[] {
  const from = world.id(evil)
  const { currentTerm, lastLogIndex, lastLogTerm } = world.node(i).replica.consensus
  const term = currentTerm + 1
  const place = { lastLogIndex: lastLogIndex + 100, lastLogTerm }
  const snapshot = {
    lastIncludedIndex: lastLogIndex + 100,
    lastIncludedTerm: term,
    configuration: { voters: [from], votersOutgoing: [], learners: [] },
  }
  return [
    takeover(world, i, evil, term),
    { type: 'request-vote', from, term, ...place, preVote: false, leadershipTransfer: true },
    {
      type: 'request-vote',
      from,
      term: currentTerm + maxTermLead,
      ...place,
      preVote: false,
      leadershipTransfer: true,
    },
    { type: 'install-snapshot', from, term, snapshot },
    { type: 'timeout-now', from, term },
    { type: 'vote', from, term, voteGranted: false, preVote: false },
  ]
}

describe('hostile members', () => {
  test('what a learner sends is counted, what a voter sends is not', async () => {
    const world = await new LedgerWorld(3, devices, 1).startCertified()
    const counted = (i: number) => [1, 2, 3].map(other => world.node(i).isCounted(world.id(other)))
    expect(counted(0)).toEqual([false, false, true])
  })

  test('a learner that asks as a voter moves no term and no log, and nobody leads in its place', async () => {
    const world = await new LedgerWorld(3, devices, 1).startCertified()
    await world.until('the learner', () =>
      world.running.every(({ replica }) => replica.configuration.learners.includes(world.id(3))),
    )
    const { leader } = world
    const before = world.node(leader!).replica.leadership
    for (let round = 0; round < 40; round++) {
      for (const i of [0, 1, 2])
        for (const message of lies(world, i, 3)) world.node(i).message(world.id(3), { type: 'raft', message })
      await world.run(100)
    }
    expect(world.node(leader!).replica.leadership).toEqual(before)
    expect(world.node(leader!).replica.configuration.voters).toHaveLength(3)
    await certified(world)
  })

  test.each(['follower', 'leader'])(
    'a %s that says who votes from now on is not believed, and outlived',
    async role => {
      const world = await new LedgerWorld(3, devices).startCertified()
      const evil = role === 'leader' ? world.leader! : [0, 1, 2].find(i => i !== world.leader)!
      const others = [0, 1, 2].filter(i => i !== evil)
      const voters = [...world.node(evil).replica.configuration.voters]
      for (let round = 0; round < 5; round++) {
        for (const i of others) {
          const { currentTerm } = world.node(i).replica.consensus
          const message = takeover(world, i, evil, currentTerm + (role === 'leader' ? 0 : 1))
          world.node(i).message(world.id(evil), { type: 'raft', message })
        }
        await world.run(100)
        for (const i of others) expect(world.node(i).replica.configuration.voters).toEqual(voters)
      }
      world.crash(evil)
      await certified(world)
    },
  )

  test('a node that slept through a change of all voters hears the new leader once that has proven itself', async () => {
    const world = new LedgerWorld(3, devices, 3)
    world.peersAreConfigured = false
    await world.startCertified()
    await world.until('learners', () =>
      world.running.every(({ replica }) => replica.configuration.learners.length === 3),
    )
    const away = [0, 1, 2].find(i => i !== world.leader)!
    world.cutOff(away)
    const members = [3, 4, 5].map(i => ({ id: world.id(i), key: world.identity(i).signer.publicKey }))
    const target = consenterSet(members, 'majority')
    const decision = world.sign(world.operator, { type: 'governance.consenters', target }, { nonce: ++nonce })
    void world.node(world.leader!).submission.submit(decision, 'committed')
    await world.until('the new voters lead', () => (world.leader ?? 0) > 2)
    await certified(world)
    for (const i of [0, 1, 2]) if (i !== away) world.crash(i)
    world.heal()
    const { height } = world.node(world.leader!).chain
    await world.until('it is level', () => world.node(away).chain.certifiedHeight >= height)
    expect(world.node(away).replica.leadership.leader).toBe(world.id(world.leader!))
  })
})
