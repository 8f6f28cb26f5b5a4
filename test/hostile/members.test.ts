/** docs/THREATS.md: a full node that is no consenter, and a consenter, that lie in Raft messages to real processes. */
import { afterEach, expect, test } from 'vitest'
import { type ClusterNode, derivedKeys } from '../../bench/local-cluster.ts'
import type { Hash, Height } from '../../chain/brands.ts'
import { pause } from '../../client/deadline.ts'
import { HostilePeer } from '../../devnet/chaos/hostile/hostile-peer.ts'
import { lieTo } from '../../devnet/chaos/hostile/raft-lies.ts'
import type { AmnesiaEvidence } from '../../node/network/request-table.ts'
import { addressesOf, Siege } from './siege.ts'

const seed = 'siege'
const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function besieged(learners: number): Promise<Siege> {
  const siege = await Siege.begin({ seed, learners, heartbeatMs: 1_000 })
  closing.push(() => siege.end())
  return siege
}

async function peerOf(
  siege: Siege,
  name: string,
  nodes: readonly ClusterNode[],
  evidence?: AmnesiaEvidence,
): Promise<HostilePeer> {
  const { genesis } = siege.cluster
  const peer = new HostilePeer({
    genesis,
    keys: derivedKeys(seed, name, true),
    ...(evidence && { evidence }),
  })
  await peer.start()
  closing.push(() => peer.stop())
  await peer.connect(await addressesOf(nodes))
  return peer
}

async function statuses(nodes: readonly ClusterNode[]) {
  return Promise.all(nodes.map(node => node.status()))
}

test('a full node that is no consenter: nobody leads in its place, no term moves, and clients are served as before', async () => {
  const siege = await besieged(1)
  const { nodes } = siege.cluster
  const leader = await siege.cluster.leader()
  const peer = await peerOf(siege, 'learner-1', nodes)
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

test('a consenter: it disturbs while it is there; once it is stopped, the others go on with the members they had', async () => {
  const siege = await besieged(0)
  const { nodes } = siege.cluster
  const hostile = nodes[2]!
  const others = nodes.filter(node => node !== hostile)
  await hostile.end('SIGKILL')
  const peer = await peerOf(siege, hostile.name, others)
  const { afterMs } = await siege.damageOf('a consenter that takes over', async over => {
    while (!over.aborted) await lieTo(others, peer)
    await peer.stop()
    await siege.cluster.leader()
  })
  expect(afterMs).toBeLessThan(1_000)
  const [one, two] = await statuses(others)
  expect(one?.leader).toBeDefined()
  expect(two?.leader).toBe(one?.leader)
})

test('a witness that makes things up: no node takes itself for one that lost its state, and each comes back after a restart', async () => {
  const siege = await besieged(1)
  const { nodes } = siege.cluster
  const acknowledged = { term: 1_000_000, index: 1_000_000, mac: new Uint8Array(32) }
  const signed = {
    incarnation: 0,
    height: 1_000_000 as Height,
    headerHash: 'ff'.repeat(32) as Hash,
    signature: new Uint8Array(64),
  }
  await peerOf(siege, 'learner-1', nodes, { acknowledged, signed })
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
