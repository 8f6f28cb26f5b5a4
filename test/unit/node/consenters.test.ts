import { describe, expect, test } from 'vitest'
import { type DeviceId, Height } from '../../../chain/brands.ts'
import { consenterSet, type QuorumPolicy } from '../../../chain/consenters.ts'
import { checkpointFromGenesis } from '../../../chain/genesis.ts'
import type { Signer } from '../../../chain/keys.ts'
import { advance, throughHandovers } from '../../../chain/light-client.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import { isVoter } from '../../../consensus/configuration.ts'
import { NodeEvents } from '../../../node/ledger/node-events.ts'
import { fullNodeIdentityProvider, identityIn } from '../../../node/ledger/peer-identities.ts'
import { judgeAgain } from '../../../node/network/hello.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'

const devices = Array.from({ length: 12 }, (_, i) => sampleIdentity(`device-${i}`))
let nonce = 0

async function worldOf(consenters: number, more: number): Promise<LedgerWorld> {
  const world = new LedgerWorld(consenters, devices, more)
  await world.startCertified()
  return world
}

function setOf(world: LedgerWorld, members: readonly number[], policy: QuorumPolicy = 'majority') {
  const consenters = members.map(i => ({ id: world.id(i), key: world.identity(i).signer.publicKey }))
  return consenterSet(consenters, policy)
}

/** The operator decides; the transaction is certified, or stays committed while a handover is not. */
async function decide(
  world: LedgerWorld,
  members: readonly number[],
  policy: QuorumPolicy = 'majority',
): Promise<void> {
  const target = setOf(world, members, policy)
  const bytes = world.sign(world.operator, { type: 'governance.consenters', target }, { nonce: ++nonce })
  const { leader } = world
  let status: string | undefined
  void world
    .node(leader!)
    .submission.submit(bytes, 'committed')
    .then(answer => {
      status = answer.status
    })
  await world.until('the decision', () => status !== undefined)
  expect(['committed', 'certified']).toContain(status)
}

async function submit(world: LedgerWorld): Promise<void> {
  const bytes = world.group(devices[nonce % devices.length]!, `group-${nonce++}`)
  await world.until('a leader', () => world.leader !== undefined)
  expect(await world.answerOfLeader(bytes)).toBe('certified')
}

const idsOf = (world: LedgerWorld, members: readonly number[]) => members.map(i => world.id(i)).sort()

/** True once these are voters and signers everywhere, and nothing is under way. */
function inOffice(world: LedgerWorld, members: readonly number[], nodes = world.running): boolean {
  const ids = idsOf(world, members)
  return nodes.every(({ replica, chain, certifier }) => {
    const { voters, votersOutgoing } = replica.configuration
    const { consenters } = chain.ledger.parameters.consenters
    return (
      votersOutgoing.length === 0 &&
      `${[...voters].sort()}` === `${ids}` &&
      `${consenters.map(({ id }) => id)}` === `${ids}` &&
      certifier.certifiedHeight === chain.height
    )
  })
}

/** The connections that nodes have closed, judging peers again when the real network would: as `node closes peer`. */
function judgedConnections(world: LedgerWorld): () => readonly string[] {
  const closed: string[] = []
  const providers = world.running.map((node, i) =>
    fullNodeIdentityProvider({
      id: world.id(i),
      genesis: world.genesis,
      chain: node.chain,
      verifier: nativeVerifier,
      handovers: node.handovers,
      members: { isVoter: id => isVoter(node.replica.configuration, id) },
      events: new NodeEvents(),
    }),
  )
  return () => {
    for (const { at, peer } of world.rechecked.splice(0)) {
      const provider = providers.find(({ deviceId }) => deviceId === at)!
      const record = provider.genesisIdentity(peer)!
      const { transportKey } = record
      const proven = { id: peer, transportKey: transportKey!, record, height: Height(0), confirmed: true }
      if (!judgeAgain(provider, proven).ok) closed.push(`${at} closes ${peer}`)
    }
    return closed
  }
}

/** What somebody who knows nothing but the genesis believes the node. */
async function verifiedFromGenesis(world: LedgerWorld, i: number) {
  const node = world.node(i)
  const newest = await node.service.certifiedHeader('latest')
  const headers = await node.service.headersFrom(1 as never, 500)
  const handovers = headers.filter(({ handover }) => handover)
  const start = checkpointFromGenesis(world.genesis)
  const trusted = throughHandovers(start, handovers, newest.header.height, nativeVerifier)
  if (!trusted.ok) return trusted
  return advance(trusted.value, newest.header, newest.certificate!, nativeVerifier, newest.handover)
}

describe('consenters', () => {
  test('a full node that is no consenter follows as a learner, and its signature is not asked for', async () => {
    const world = await worldOf(3, 1)
    await world.until('the learner', () =>
      world.running.every(({ replica }) => replica.configuration.learners.includes(world.id(3))),
    )
    await submit(world)
    await world.until('the same height', () => world.node(3).chain.height === world.node(0).chain.height)
    expect(world.node(3).certifier.certifiedHeight).toBeGreaterThan(0)
    expect(world.node(0).certifier.latestSignatureOf(world.id(3))).toBeUndefined()
  })

  test('one is replaced: joint consensus, a handover certified by both sets, and the new set signs', async () => {
    const world = await worldOf(3, 1)
    await decide(world, [0, 1, 3])
    await world.until('the new set', () => inOffice(world, [0, 1, 3]))
    await submit(world)
    const verified = await verifiedFromGenesis(world, world.leader!)
    expect(verified.ok && verified.value.consenters).toEqual(setOf(world, [0, 1, 3]))
    // Without the third, the new one is needed; without the new one, the third does not help.
    world.crash(0)
    await world.until('a leader', () => world.leader !== undefined)
    await submit(world)
    world.crash(3)
    const height = world.node(1).certifier.certifiedHeight
    await world.run(3_000)
    expect(world.node(1).certifier.certifiedHeight).toBe(height)
  })

  test('a dead consenter is replaced in one step (Fabric #3562)', async () => {
    const world = await worldOf(3, 1)
    const dead = [0, 1, 2].find(i => i !== world.leader)!
    world.crash(dead)
    await submit(world)
    const members = [0, 1, 2, 3].filter(i => i !== dead)
    await decide(world, members)
    await world.until('the new set', () => inOffice(world, members))
    await submit(world)
    expect((await verifiedFromGenesis(world, world.leader!)).ok).toBe(true)
    await world.start(dead)
    await world.until('the dead one follows', () => inOffice(world, members))
  })

  test('a change that would lose the quorum waits and says why; it can be taken back', async () => {
    const world = await worldOf(3, 2)
    world.crash(3)
    world.crash(4)
    await world.run(3_000)
    await decide(world, [0, 3, 4])
    await world.run(2_000)
    const refusal = world.node(world.leader!).status().change
    expect(refusal).toMatch(/would-lose-quorum: voters: expected 2 of 3 in step, got 1/)
    await submit(world)
    expect(inOffice(world, [0, 1, 2])).toBe(true)
    await decide(world, [0, 1, 2])
    await world.until('the refusal is gone', () => world.node(world.leader!).status().change === undefined)
    await world.start(3)
    await world.start(4)
    await submit(world)
    await world.until('nothing has changed', () => inOffice(world, [0, 1, 2]))
  })

  test('a decision that is replaced at once ends with the last one', async () => {
    const world = await worldOf(3, 2)
    await decide(world, [0, 1, 3])
    await decide(world, [0, 1, 4])
    await world.until('the last decision', () => inOffice(world, [0, 1, 4]))
    await submit(world)
    expect((await verifiedFromGenesis(world, world.leader!)).ok).toBe(true)
  })

  test('the leader that is replaced leads until it is done, then steps down', async () => {
    const world = await worldOf(3, 1)
    const old = world.leader!
    const members = [0, 1, 2, 3].filter(i => i !== old)
    await decide(world, members)
    await world.until('the new set', () => inOffice(world, members))
    await world.until('another leader', () => world.leader !== undefined && world.leader !== old)
    await submit(world)
  })

  test('all are replaced, and who slept through it comes back by the log', async () => {
    const world = await worldOf(3, 3)
    const asleep = [0, 1, 2].find(i => i !== world.leader)!
    world.crash(asleep)
    await decide(world, [3, 4, 5])
    const awake = () => world.running
    await world.until('the new set', () => inOffice(world, [3, 4, 5], awake()))
    for (let i = 0; i < 5; i++) await submit(world)
    await world.start(asleep)
    await world.until('everybody', () => inOffice(world, [3, 4, 5]))
    expect((await verifiedFromGenesis(world, asleep)).ok).toBe(true)
  })

  test('who slept through several handovers comes back by a snapshot', async () => {
    const world = new LedgerWorld(3, devices, 3)
    world.compaction = { entriesKept: 10 }
    world.maxLogBytesInMemory = 1
    await world.startAll()
    await world.until('a certified block', () => world.running.every(n => n.certifier.certifiedHeight > 0))
    const asleep = [0, 1, 2].find(i => i !== world.leader)!
    world.crash(asleep)
    for (const members of [[3, 4, 5], [0, 1, 2, 3, 4].filter(i => i !== asleep), [3, 4, 5]]) {
      await world.until('a leader', () => world.leader !== undefined)
      await decide(world, members)
      await world.until('the new set', () => inOffice(world, members, world.running))
      for (let i = 0; i < 8; i++) await submit(world)
    }
    const read = await world.storage(world.leader!).readEntries({ from: 1, to: 1, maxBytes: 1 })
    expect(read.type).toBe('compacted')
    await world.start(asleep)
    await world.until('everybody', () => inOffice(world, [3, 4, 5]))
    expect(world.node(asleep).handovers.newest(9)).toHaveLength(3)
    world.crash(asleep)
    await world.start(asleep)
    await submit(world)
    await world.until('everybody again', () => inOffice(world, [3, 4, 5]))
  })

  test('a set whose quorum could not sign does not take over, whatever Raft could commit; it can be taken back', async () => {
    const world = await worldOf(3, 2)
    world.crash(3)
    world.crash(4)
    await world.run(3_000)
    await decide(world, [0, 1, 2, 3, 4], 'two-thirds')
    await world.run(3_000)
    const leader = world.node(world.leader!)
    expect(leader.status().change).toMatch(/handover: expected 4 of 5 new consenters in step, got 3/)
    await decide(world, [0, 1, 2])
    await world.until('the old set', () => inOffice(world, [0, 1, 2]) && leader.status().change === undefined)
    await submit(world)
  })

  test('the old ones are let go only when a quorum of the new ones holds the proof', async () => {
    const world = await worldOf(3, 3)
    const leader = world.leader!
    const apart = [0, 1, 2].filter(i => i !== leader).map(i => world.id(i))
    const fresh = [3, 4, 5].map(i => world.id(i))
    // Only the leader can reach the new site.
    const passes = (from: DeviceId, to: DeviceId) =>
      !(apart.includes(from) && fresh.includes(to)) && !(fresh.includes(from) && apart.includes(to))
    world.filter = passes
    let mayTell = true
    world.requestFilter = (from, to, protocol) =>
      passes(from, to) && (mayTell || protocol !== 'query' || !fresh.includes(from))
    await decide(world, [3, 4, 5])
    const { handovers, replica } = world.node(leader)
    // They ask for the certificate of the decision before they take part in joint consensus.
    await world.until('joint consensus', () =>
      [3, 4, 5].every(i => world.node(i).replica.configuration.votersOutgoing.length > 0),
    )
    mayTell = false
    await world.until('a proof at the leader', () => handovers.newest(1).length === 1)
    await world.run(3_000)
    expect(replica.configuration.votersOutgoing).not.toEqual([])
    expect(world.node(leader).status().change).toMatch(/does not hold its proof yet/)
    mayTell = true
    await world.until('joint consensus is left', () => replica.configuration.votersOutgoing.length === 0)
    for (const i of [0, 1, 2]) world.crash(i)
    await world.until('the new ones lead', () => world.leader !== undefined && world.leader > 2)
    await submit(world)
  })

  test('a voter that is revoked after the handover keeps its connections until it is let go, and no longer', async () => {
    const world = await worldOf(1, 1)
    const closed = judgedConnections(world)
    let mayTell = true
    world.requestFilter = (from, _to, protocol) =>
      closed().length === 0 && (mayTell || protocol !== 'query' || from !== world.id(1))
    world.filter = (from, _to, { type }) =>
      closed().length === 0 && (mayTell || type !== 'signatures' || from !== world.id(0))
    await decide(world, [1])
    const [{ replica, chain }, next] = [world.node(0), world.node(1)]
    await world.until('joint consensus', () => next.replica.configuration.votersOutgoing.length > 0)
    // The new one does not get the proof of the handover, so the old one is not let go.
    mayTell = false
    await world.until(
      'the handover',
      () => chain.ledger.parameters.consenters.consenters[0]?.id === world.id(1),
    )
    const body = { type: 'identity.revoke', subject: world.id(0), reason: '' } as const
    void world.node(0).submission.submit(world.sign(world.operator, body), 'none')
    await world.until('the revocation', () => identityIn(chain.certified, world.id(0))?.status === 'revoked')
    await world.run(1_000)
    expect(replica.configuration.votersOutgoing).toEqual([world.id(0)])
    expect(closed()).toEqual([])
    mayTell = true
    await world.until('it is let go', () => inOffice(world, [1], [next]))
    expect(closed()).toEqual([])
    await world.until('its connection is closed', () => closed().length > 0, 1_000)
    await submit(world)
    expect(world.failures).toEqual([])
  })

  test('a proof on the own disk counts, also when power fails between it and its certificate', async () => {
    const world = await worldOf(1, 1)
    const storage = world.storage(1)
    const put = storage.putHandover.bind(storage)
    storage.putHandover = row => {
      storage.putCertificate = () => {}
      return put(row)
    }
    await decide(world, [1])
    await world.until('it leads', () => world.node(1).replica.leadership.role === 'leader')
    await world.run(1_000)
    world.crash(0)
    world.disk(1).apply([], true)
    world.crash(1)
    await world.start(1)
    await world.until('it certifies', () => inOffice(world, [1], [world.node(1)]))
  })

  test('who becomes a consenter by another key after a restart has a record of what it signs', async () => {
    const world = new LedgerWorld(3, devices, 1)
    const right = world.identity(3).signer
    const wear = (signer: Signer) => Object.assign(world.identity(3), { signer })
    wear(sampleIdentity('another').signer)
    await world.startAll()
    await world.until('a certified block', () => world.running.every(n => n.certifier.certifiedHeight > 0))
    wear(right)
    const target = setOf(world, [0, 1, 3])
    wear(sampleIdentity('another').signer)
    const bytes = world.sign(world.operator, { type: 'governance.consenters', target }, { nonce: ++nonce })
    void world.node(world.leader!).submission.submit(bytes, 'committed')
    await world.run(3_000)
    for (let restart = 0; restart < 2; restart++) {
      world.crash(3)
      wear(right)
      await world.start(3)
      await world.until('it is in office', () => inOffice(world, [0, 1, 3]))
    }
    expect(world.failures).toEqual([])
  })

  const stages = {
    decided: (world: LedgerWorld) =>
      world.node(world.leader!).chain.ledger.parameters.nextConsenters !== undefined,
    joint: (world: LedgerWorld) => world.node(world.leader!).replica.configuration.votersOutgoing.length > 0,
    'handed over': (world: LedgerWorld) =>
      world
        .node(world.leader!)
        .chain.ledger.parameters.consenters.consenters.some(({ id }) => id === world.id(3)),
    certified: (world: LedgerWorld) => world.node(world.leader!).handovers.newest(1).length > 0,
    left: (world: LedgerWorld) => inOffice(world, [0, 1, 3], [world.node(world.leader!)]),
  }
  test.each(Object.entries(stages))(
    'any later leader resumes: the leader is lost when it is %s',
    async (_stage, reached) => {
      const world = await worldOf(3, 1)
      const lost = world.leader!
      let isLost = false
      // Judged at every message, and from then on the leader is silent.
      world.filter = from => {
        if (!isLost && world.leader === lost && reached(world)) isLost = true
        return !isLost || from !== world.id(lost)
      }
      await decide(world, [0, 1, 3])
      await world.until('the stage', () => isLost)
      world.crash(lost)
      world.filter = () => true
      await world.until('another leader', () => world.leader !== undefined && world.leader !== lost)
      await world.run(1_000)
      await world.start(lost)
      await world.until('the new set', () => inOffice(world, [0, 1, 3]))
      await submit(world)
      for (const i of [0, 1, 2, 3]) {
        await world.until('all headers', () => inOffice(world, [0, 1, 3]))
        expect((await verifiedFromGenesis(world, i)).ok).toBe(true)
      }
      expect(world.failures).toEqual([])
    },
  )
})
