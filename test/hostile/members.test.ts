/**
 * docs/THREATS.md: those that full nodes speak to as peers, against real processes: a full node that is no consenter, a
 * lightweight node, a witness, and a consenter, in this order on one chain.
 */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { type ClusterNode, derivedKeys } from '../../bench/local-cluster.ts'
import type { Hash, Height } from '../../chain/brands.ts'
import { pause } from '../../client/deadline.ts'
import { playConsenter } from '../../devnet/chaos/hostile/consenter.ts'
import { Counts } from '../../devnet/chaos/hostile/counts.ts'
import { HostilePeer, type HostilePeerOptions } from '../../devnet/chaos/hostile/hostile-peer.ts'
import { floodRequests, sendRaftFrames } from '../../devnet/chaos/hostile/light-node.ts'
import { lieTo } from '../../devnet/chaos/hostile/raft-lies.ts'
import { defaultNetworkLimits } from '../../node/network/protocols.ts'
import { type AmnesiaEvidence, queries } from '../../node/network/request-table.ts'
import { addressesOf, phaseMs, Siege } from './siege.ts'

const seed = 'siege'
/** As in node/network/peer-links.ts. */
const lightBurstSeconds = 5
/** Longer than a test. */
const wholeTestMs = 60_000
let siege: Siege
let nodes: readonly ClusterNode[]
const closing: (() => Promise<void>)[] = []

beforeAll(async () => {
  siege = await Siege.begin({ seed, learners: 1, lightweight: 2, heartbeatMs: 1_000 })
  nodes = siege.cluster.nodes
})
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})
afterAll(() => siege.end())

function hostile(name: string): HostilePeerOptions {
  return { genesis: siege.cluster.genesis, keys: derivedKeys(seed, name, true) }
}

async function learner(evidence?: AmnesiaEvidence): Promise<HostilePeer> {
  const peer = new HostilePeer({ ...hostile('learner-1'), ...(evidence && { evidence }) })
  await peer.start()
  closing.push(() => peer.stop())
  await peer.connect(await addressesOf(nodes))
  return peer
}

async function statuses(of: readonly ClusterNode[]) {
  return Promise.all(of.map(node => node.status()))
}

test('a full node that is no consenter: nobody leads in its place, no term moves, and clients are served as before', async () => {
  const leader = await siege.cluster.leader()
  const peer = await learner()
  const [before] = await statuses([leader])
  const { acknowledged, afterMs } = await siege.damageOf('a learner that asks as a voter', async over => {
    while (!over.aborted) await lieTo(nodes, peer)
  })
  expect(acknowledged).toBeGreaterThan(0)
  expect(afterMs).toBeLessThan(1_000)
  for (const status of await statuses(nodes)) {
    expect(status.leader).toBe(before?.leader)
    expect(status.term).toBe(before?.term)
  }
})

test('a lightweight node that floods: it is answered by its quota, its Raft frames close its connection, and the others are served', async () => {
  const leader = await siege.cluster.leader()
  const addresses = await addressesOf(nodes)
  // One process cannot ask every node for more than its quota; it asks the one whose work all wait for.
  const asked = addresses.filter(({ id }) => id === leader.id)
  const asker = new Counts()
  const speaker = new Counts()
  let askedMs = 0
  const damage = await siege.damageOf(
    'lightweight nodes that ask without end and send Raft frames',
    async over => {
      const beganAt = performance.now()
      await Promise.all([
        floodRequests(hostile('light-1'), asked, asker, over),
        sendRaftFrames(hostile('light-2'), addresses, speaker, over),
      ])
      askedMs = performance.now() - beganAt
    },
    () => asker.of('rate-limited') > 0 && speaker.of('frames') > 0,
  )
  process.stdout.write(`${JSON.stringify({ ...asker.all, ...speaker.all, askedMs: Math.round(askedMs) })}\n`)
  const units = defaultNetworkLimits.lightPerSecond * (lightBurstSeconds + askedMs / 1_000)
  expect(asker.of('answered')).toBeGreaterThan(0)
  expect(asker.of('answered')).toBeLessThanOrEqual(Math.ceil(units / queries.headers.cost))
  // On a busy machine the next frame is sent before the peer has seen that its connection was closed.
  expect(speaker.of('closed')).toBeGreaterThan(0)
  expect(speaker.of('closed')).toBeGreaterThanOrEqual(speaker.of('frames') / 2)
  expect(damage.acknowledged).toBeGreaterThan(phaseMs / 1_000)
  expect(damage.duringMs).toBeLessThan(1_000)
  expect(damage.afterMs).toBeLessThan(1_000)
  // That of its votes is 1,000.
  for (const { term } of await statuses(nodes)) expect(term).toBeLessThan(100)
})

test('a witness that makes things up: no node takes itself for one that lost its state, and each comes back after a restart', async () => {
  const acknowledged = { term: 1_000_000, index: 1_000_000, mac: new Uint8Array(32) }
  const signed = {
    incarnation: 0,
    height: 1_000_000 as Height,
    headerHash: 'ff'.repeat(32) as Hash,
    signature: new Uint8Array(64),
  }
  await learner({ acknowledged, signed })
  const damage = await siege.damageOf('a witness that makes things up', async over => {
    while (!over.aborted) await pause(50)
    const [first] = nodes
    await first!.end('SIGKILL')
    await first!.start()
  })
  expect(damage.acknowledged).toBeGreaterThan(0)
  const { height } = await nodes[1]!.status()
  const level = await siege.cluster.until('the restarted node is level', 20_000, async () => {
    const status = await nodes[0]!.status().catch(() => undefined)
    return status && status.certifiedHeight >= height ? status : undefined
  })
  expect(level.leader).toBeDefined()
  expect(nodes.map(({ output }) => output).join()).not.toContain('state-lost')
})

test('a consenter: it disturbs while it is there; once it is stopped, the others go on with the members they had', async () => {
  const played = nodes[2]!
  const others = nodes.filter(node => node !== played)
  await played.end('SIGKILL')
  const addresses = await addressesOf(others)
  const told = others.map((node, i) => ({ ...addresses[i]!, status: () => node.status() }))
  await siege.cluster.leader()
  const counts = new Counts()
  const turn = { thereMs: wholeTestMs, awayMs: 0 }
  const { afterMs } = await siege.damageOf(
    'a consenter that takes over',
    async over => {
      await playConsenter({ peer: hostile(played.name), nodes: told, ...turn }, counts, over)
      await siege.cluster.leader()
    },
    () => counts.of('other lies') > 0,
  )
  process.stdout.write(`${JSON.stringify(counts.all)}\n`)
  expect(afterMs).toBeLessThan(1_000)
  const [one, two] = await statuses(others)
  expect(one?.leader).toBeDefined()
  expect(two?.leader).toBe(one?.leader)
})
