import { describe, expect, it } from 'vitest'
import type { DeviceId } from '../../../chain/brands.ts'
import { encode } from '../../../chain/codec.ts'
import { MoteError } from '../../../chain/result.ts'
import { FailoverSource } from '../../../client/failover-source.ts'
import { type Assignment, joinReplyCodec } from '../../../client/join-messages.ts'
import { ServingNodes } from '../../../node/light/serving-nodes.ts'
import { joining } from '../../../node/network/request-table.ts'
import type { PeerAddress, PeerStatus } from '../../../node/ports.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { keysOf, TestChain } from '../../support/test-chain.ts'

const ids = ['one', 'two', 'three', 'four', 'five', 'coordinator'].map(name => keysOf(name).id) as [
  DeviceId,
  DeviceId,
  DeviceId,
  DeviceId,
  DeviceId,
  DeviceId,
]
/** No full node. */
const stranger = keysOf('stranger').id
const [one, two, three, four, five, coordinator] = ids

const at = (id: DeviceId) => ({ id, api: '', addresses: [`/ip4/127.0.0.1/tcp/4001/${id.slice(0, 4)}`] })
/** With what stands for the signature of each. */
const signedAt = (id: DeviceId) => ({ ...at(id), addresses: ['/not/signed'], signed: Buffer.from(id) })
const assignment = (first: DeviceId, ...backups: readonly DeviceId[]): Assignment => ({
  fullNode: signedAt(first),
  backups: backups.map(signedAt),
})

/** A node whose configuration names `one`, and the files and connections around it. */
async function setUp(stored?: Uint8Array) {
  const chain = new TestChain()
  const pool = new FailoverSource([])
  const kept = new Map<DeviceId, string>()
  const connected = new Set<DeviceId>()
  const files: Uint8Array[] = stored ? [stored] : []
  const stop = new AbortController()
  let given: Assignment | undefined
  let foundThere: readonly DeviceId[] = []
  const answering = new Set([coordinator])
  const clock = new ManualClock()
  const parts = {
    keys: keysOf('sensor'),
    config: {
      peers: [{ ...at(one), address: 'x', api: undefined }],
      coordination: [{ ...at(coordinator), address: 'x', api: undefined }],
    },
    client: { pool },
    network: {
      keep: ({ id, address }: PeerAddress) => void kept.set(id, address),
      forget: (id: DeviceId) => void kept.delete(id),
      peers: (): readonly PeerStatus[] =>
        [...connected].map(id => ({ id, state: 'connected', address: undefined })),
      request: async (to: DeviceId) => {
        if (!given || !answering.has(to)) throw new MoteError('unreachable', 'no coordination node')
        const reply = encode(joinReplyCodec, { type: 'assignment', assignment: given })
        return encode(joining.message.answer, reply)
      },
    },
    coordinationNodes: async () => foundThere.map(at),
    fullNodeAt: async (signed: Uint8Array) => {
      const id = Buffer.from(signed).toString()
      return id === stranger || id === 'forged' ? undefined : at(id as DeviceId)
    },
    clock,
    stopping: stop.signal,
    sourceOf: (id: DeviceId) => chain.source(id),
    inBackground: (_name: string, task: Promise<unknown>) => void task,
  }
  const store = {
    load: async () => files.at(-1),
    save: async (bytes: Uint8Array) => void files.push(bytes),
  }
  const nodes = await ServingNodes.open(parts, store, { debug: () => {}, info: () => {} })
  const reassigned = async (value: Assignment, from = coordinator) => nodes.reassigned(from, value)
  const ask = () => pool.attempt(async source => (await source.status()).name)
  const give = (value: Assignment) => {
    given = value
  }
  const find = (...found: readonly DeviceId[]) => {
    foundThere = found
    answering.clear()
    for (const id of found) answering.add(id)
  }
  return { nodes, reassigned, ask, kept, connected, files, stop, give, find, clock }
}

describe('serving nodes', () => {
  it('serving nodes: the assignment outlives the program and is used before anybody is asked', async () => {
    const before = await setUp()
    await before.reassigned(assignment(two, three))
    const { nodes, ask, kept } = await setUp(before.files.at(-1))
    expect(nodes.status()).toMatchObject({ assignedFullNode: at(two), backups: [at(three)] })
    expect([...kept.keys()]).toEqual([two, three])
    expect(await ask(), 'the assigned one is asked first').toBe(two)
  })

  it('serving nodes: a damaged assignment is not used, and is no reason not to start', async () => {
    const { nodes, ask } = await setUp(Uint8Array.of(1, 2, 3))
    expect(nodes.status()).toMatchObject({ assignedFullNode: undefined, backups: [] })
    expect(await ask()).toBe(one)
  })

  it('serving nodes: is written once per change', async () => {
    const { reassigned, files } = await setUp()
    await reassigned(assignment(two, three))
    await reassigned(assignment(two, three))
    await reassigned(assignment(two, four))
    expect(files).toHaveLength(2)
  })

  it('serving nodes: whom the assignment leaves out is let go, but for the configured ones', async () => {
    const { reassigned, kept } = await setUp()
    await reassigned(assignment(two, three, one))
    await reassigned(assignment(four, two))
    expect([...kept.keys()].sort()).toEqual([one, two, four].sort())
  })

  it('serving nodes: servedBy is who answers over a connection that stands', async () => {
    const { nodes, reassigned, ask, connected } = await setUp()
    const servedBy = () => (nodes.status() as { servedBy?: DeviceId }).servedBy
    await reassigned(assignment(two, three))
    connected.add(two)
    expect(servedBy(), 'assigned, but nobody has answered').toBeUndefined()
    await ask()
    expect(servedBy()).toBe(two)
    connected.delete(two)
    expect(servedBy(), 'the connection is gone').toBeUndefined()
  })

  it('serving nodes: whoever is no active full node is not dialled, and of many a few are', async () => {
    const { nodes, reassigned, kept } = await setUp()
    await expect(reassigned(assignment(stranger))).rejects.toMatchObject({ code: 'no-full-node' })
    expect([...kept.keys()]).toEqual([])
    await reassigned(assignment(stranger, two, three, four, five))
    expect([...kept.keys()], 'the first three that are named').toEqual([two, three])
    expect(nodes.status()).toMatchObject({ assignedFullNode: at(two), backups: [at(three)] })
    expect(kept.get(two), 'where it says itself').toBe(at(two).addresses[0])
    for (const signed of [undefined, Buffer.from('forged'), Buffer.from(three)])
      await expect(
        reassigned({ fullNode: { ...at(two), signed }, backups: [] }),
        'nothing signed, a forgery, and what another one has signed',
      ).rejects.toMatchObject({ code: 'no-full-node' })
  })

  it('serving nodes: a coordination node that assigns without end is heard so often as full nodes can die', async () => {
    const { reassigned, kept, clock } = await setUp()
    let taken = 0
    const assign = (i: number) =>
      reassigned(assignment(i % 2 === 0 ? two : three)).then(
        () => taken++,
        error => expect(error).toMatchObject({ code: 'rate-limited' }),
      )
    for (let i = 0; i < 200; i++) await assign(i)
    expect(taken).toBe(10)
    expect(kept.size).toBe(1)
    clock.advance(2_000)
    await assign(0)
    expect(taken).toBe(11)
  })

  it('serving nodes: a stranger assigns nothing', async () => {
    const { reassigned, nodes } = await setUp()
    await expect(reassigned(assignment(two), three)).rejects.toMatchObject({ code: 'not-authorised' })
    expect(nodes.status()).toMatchObject({ assignedFullNode: undefined })
  })

  it('serving nodes: without its configured coordination nodes it asks those that full nodes know', async () => {
    const { nodes, give, find, reassigned, kept, stop } = await setUp()
    give(assignment(two, three))
    find(five)
    const running = nodes.run()
    const assigned = () => (nodes.status() as { assignedFullNode?: { id: DeviceId } }).assignedFullNode?.id
    await expect.poll(assigned).toBe(two)
    expect(kept.has(five)).toBe(true)
    await reassigned(assignment(three, two), five)
    expect(assigned(), 'and hears what they tell').toBe(three)
    find(four)
    nodes.peer(three, 'disconnected')
    await expect.poll(() => kept.has(four)).toBe(true)
    expect(kept.has(five), 'one that is not known any more is let go').toBe(false)
    await expect(reassigned(assignment(two), five)).rejects.toMatchObject({ code: 'not-authorised' })
    stop.abort()
    await running
  })

  it('serving nodes: asks again when the assigned full node is lost', async () => {
    const { nodes, give, stop } = await setUp()
    give(assignment(two, three))
    const running = nodes.run()
    const assigned = () => (nodes.status() as { assignedFullNode?: { id: DeviceId } }).assignedFullNode?.id
    await expect.poll(assigned).toBe(two)
    give(assignment(three, four))
    nodes.peer(three, 'disconnected')
    nodes.peer(two, 'disconnected')
    await expect.poll(assigned).toBe(three)
    stop.abort()
    await running
  })
})
