/** What a full node says of how far behind it is, and when it says that it is not ready. */
import { afterEach, expect, test } from 'vitest'
import { apiOf } from '../../../node/full-node.ts'
import type { LedgerNode } from '../../../node/ledger-node.ts'
import { defaultProducerLimits } from '../../../node/replica/producer.ts'
import { listenApi } from '../../../node/service/api.ts'
import { expectBroken, unreadiness } from '../../contract/health.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'

const device = sampleIdentity('device')
const closing: (() => Promise<unknown>)[] = []
afterEach(() => Promise.all(closing.splice(0).map(close => close())))

/** The node's own interface, listening. */
async function serve(node: LedgerNode): Promise<string> {
  const app = apiOf(node, { error: () => {} }, { token: '', configuration: {}, httpPerSecond: 1_000 })
  closing.push(() => app.close())
  return listenApi(app, { host: '127.0.0.1', port: 0 })
}

/** Transactions in blocks of their own. */
async function blocks(world: LedgerWorld, count: number, through: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const { chain, submission } = world.node(through)
    const before = chain.height
    void submission.submit(world.group(device, `group-${before}`), 'none')
    await world.until('a block', () => chain.height > before)
  }
}

test('lag: a full node that was cut off says how far behind it is, and is ready once it is level', async () => {
  const world = await new LedgerWorld(3, [device]).startCertified()
  const away = [0, 1, 2].find(i => i !== world.leader)!
  const node = world.node(away)
  expect(node.status().lag).toBe(0)
  expect(node.service.readiness()).toBeUndefined()
  world.cutOff(away)
  await blocks(world, 20, world.leader!)
  world.heal()
  // It hears the signatures and not the blocks.
  world.filter = (_from, to, message) => to !== world.id(away) || message.type === 'signatures'
  const { height } = world.node(world.leader!).chain
  for (const i of [0, 1, 2]) if (i !== away) world.node(i).peer(world.id(away), 'connected')
  await world.until('heard', () => node.status().lag >= 20)
  expect(node.certifier.heardHeight).toBe(height)
  world.filter = () => true
  await world.until('a leader', () => node.status().leader !== undefined)
  await world.until('level', () => node.status().lag === 0)
  expect(node.service.readiness()).toBeUndefined()
})

test('lag: blocks without a certificate make every full node say certification-lag, until they have one', async () => {
  const world = await new LedgerWorld(3, [device]).startCertified()
  const leader = world.leader!
  const servers = await Promise.all(world.running.map(serve))
  const codes = () => Promise.all(servers.map(async server => (await unreadiness(server))?.code))
  world.filter = (_from, _to, message) => message.type !== 'signatures'
  const { certificationLagMax } = defaultProducerLimits
  await blocks(world, certificationLagMax, leader)
  expect(await codes()).toEqual([undefined, undefined, undefined])
  await blocks(world, 1, leader)
  const lag = certificationLagMax + 1
  await world.until('all', () =>
    world.running.every(({ chain }) => chain.height === world.node(leader).chain.height),
  )
  for (const node of world.running) expect(node.status().lag).toBe(lag)
  expect(await codes()).toEqual(['certification-lag', 'certification-lag', 'certification-lag'])
  world.filter = () => true
  await world.until('certified', () => world.running.every(node => node.status().lag === 0))
  expect(await codes()).toEqual([undefined, undefined, undefined])
})

test('health of a full node: no leader, a drain and a broken disk each have their reason', async () => {
  const world = await new LedgerWorld(3, [device]).startCertified()
  const [draining, alone, broken] = world.running as [LedgerNode, LedgerNode, LedgerNode]
  const servers = await Promise.all(world.running.map(serve))
  draining.service.drain()
  expect(await unreadiness(servers[0]!)).toMatchObject({ code: 'not-ready', detail: 'the node is stopping' })
  world.cutOff(1)
  await world.until('without a leader', () => alone.status().leader === undefined)
  expect(await unreadiness(servers[1]!)).toMatchObject({ code: 'no-leader' })
  world.disk(2).failNextWrite = new Error('EIO')
  world.heal()
  await world.until('broken', () => broken.failure !== undefined)
  await expectBroken(servers[2]!, 'storage-failed')
})
