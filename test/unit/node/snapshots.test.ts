import { expect, test } from 'vitest'
import type { DeviceId } from '../../../chain/brands.ts'
import type { TransactionStatus } from '../../../client/chain-source.ts'
import { memberRequests } from '../../../node/network/request-table.ts'
import { ask as askPeer, encodeRequest } from '../../../node/network/requests.ts'
import type { OutgoingRequest } from '../../../node/ports.ts'
import { storeKey } from '../../../node/storage/store-records.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'

const devices = Array.from({ length: 12 }, (_, i) => sampleIdentity(`device-${i}`))
const device = devices[0]!
let nonce = 0

/** Three nodes that keep next to no log. */
async function forgetfulWorld(): Promise<LedgerWorld> {
  const world = new LedgerWorld(3, devices)
  world.compaction = { entriesKept: 10 }
  world.maxLogBytesInMemory = 1
  return world.startCertified()
}

async function answerOf(world: LedgerWorld, answer: Promise<TransactionStatus>): Promise<TransactionStatus> {
  let status: TransactionStatus | undefined
  void answer.then(value => {
    status = value
  })
  await world.until('an answer', () => status !== undefined)
  return status!
}

/** Transactions in a block each. */
async function blocks(world: LedgerWorld, count: number, through = world.leader!): Promise<void> {
  for (let i = 0; i < count; i++) {
    const bytes = world.group(devices[nonce % devices.length]!, `group-${nonce++}`)
    const status = await answerOf(world, world.node(through).submission.submit(bytes, 'certified'))
    expect(status.status).toBe('certified')
  }
}

async function expectSameChain(world: LedgerWorld): Promise<void> {
  await world.until('equal certified heights', () => {
    const heights = world.running.flatMap(node => [node.chain.height, node.certifier.certifiedHeight])
    return new Set(heights).size === 1
  })
  expect(new Set(world.running.map(node => node.chain.ledger.headerHash)).size).toBe(1)
}

/** A node that was away for longer than the others keep their log. */
async function leftBehind(world: LedgerWorld): Promise<number> {
  const away = world.running.findIndex((_, i) => i !== world.leader)
  world.cutOff(away)
  await blocks(world, 40)
  const read = await world.storage(world.leader!).readEntries({ from: 1, to: 1, maxBytes: 1 })
  expect(read.type, 'the log from the beginning is forgotten').toBe('compacted')
  return away
}

test('snapshot: a node that is behind the log gets the state, then the log, and signs again', async () => {
  const world = await forgetfulWorld()
  const away = await leftBehind(world)
  const before = world.node(away).chain.height
  world.heal()
  await expectSameChain(world)
  expect(await world.storage(away).block((before + 1) as never), 'a block nobody sent').toBeUndefined()

  const other = [0, 1, 2].find(i => i !== away && i !== world.leader)!
  world.crash(other)
  await blocks(world, 3)
  await world.start(other)
  await blocks(world, 3, away)
  await expectSameChain(world)
})

test('snapshot: what was installed survives a crash, and the node restarts from it', async () => {
  const world = await forgetfulWorld()
  const away = await leftBehind(world)
  world.heal()
  await expectSameChain(world)
  const { height } = world.node(away).chain
  world.crash(away)
  await world.start(away)
  expect(world.node(away).chain.height).toBe(height)
  expect(world.node(away).certifier.certifiedHeight).toBe(height)
  await blocks(world, 2, away)
  await expectSameChain(world)
})

test('snapshot: a node that starts with a block nobody certified offers the certified one below it', async () => {
  const world = await forgetfulWorld()
  const away = await leftBehind(world)
  const leader = world.leader!
  const other = [0, 1, 2].find(i => i !== away && i !== leader)!
  world.filter = (_from, _to, message) => message.type !== 'signatures'
  for (const name of ['without-a-certificate', 'nor-this-one']) {
    const { height } = world.node(other).chain
    void world.node(leader).submission.submit(world.group(device, name), 'committed')
    await world.until('a block more', () => world.node(other).chain.height > height)
  }
  const { height } = world.node(leader).chain
  expect(world.node(leader).certifier.certifiedHeight).toBe(height - 2)
  // One of three is lost for good. Of the others one needs a snapshot, and the other its signature.
  for (const i of [other, leader]) world.crash(i)
  world.filter = () => true
  world.heal()
  await world.start(leader)
  await expectSameChain(world)
  expect(world.node(away).chain.height).toBeGreaterThanOrEqual(height)
  const forgotten = await world.storage(leader).undo(height as never)
  await blocks(world, 1)
  expect([forgotten !== undefined, await world.storage(leader).undo(height as never)]).toEqual([
    true,
    undefined,
  ])
})

test('snapshot: none is offered from before the log begins, though the newest certificate is lost', async () => {
  const world = await forgetfulWorld()
  const away = await leftBehind(world)
  const leader = world.leader!
  const other = [0, 1, 2].find(i => i !== away && i !== leader)!
  const { chain, replica } = world.node(leader)
  const { height, index, term } = chain.ledger.header
  const place = { lastIncludedIndex: index, lastIncludedTerm: term, configuration: replica.configuration }
  await world.storage(leader).compact(place)
  for (const i of [other, leader]) world.crash(i)
  world.disk(leader).apply([{ key: storeKey('certificate', height), value: null }], true)
  world.heal()
  await world.start(leader)
  const storage = world.storage(leader)
  const read = storage.readEntries.bind(storage)
  let reads = 0
  storage.readEntries = range => {
    if (++reads > 1_000) throw new Error('the log is read again and again')
    return read(range)
  }
  await world.run(10_000)
  expect(reads).toBeLessThan(1_000)
  expect(world.node(leader).chain.certifiedHeight).toBe(height - 1)
  await world.start(other)
  await expectSameChain(world)
})

test('snapshot: what was executed in blocks that it skips is never said to be expired', async () => {
  const world = await forgetfulWorld()
  const away = await leftBehind(world)
  const bytes = world.sign(
    device,
    { type: 'group.create', name: 'in-a-skipped-block', epochKeyHash: undefined },
    { expiryMs: 6_000 },
  )
  let answer: TransactionStatus | undefined
  void world
    .node(away)
    .submission.submit(bytes, 'certified')
    .then(status => {
      answer = status
    })
  const executed = await answerOf(world, world.node(world.leader!).submission.submit(bytes, 'certified'))
  expect(executed.status).toBe('certified')
  await blocks(world, 20)
  await world.run(6_500)
  await blocks(world, 1)
  // The leader would say that it has expired, which is no more than that it was not taken this time.
  world.filter = (_from, _to, message) => message.type !== 'refusals'
  world.heal()
  await world.until('an answer', () => answer !== undefined)
  expect([answer?.status, answer?.code]).toEqual(['pending', 'timeout'])
})

test('snapshot: a fetch that loses answers asks again for the same chunk and goes on', async () => {
  const world = await forgetfulWorld()
  const away = await leftBehind(world)
  const asked: number[] = []
  let lost = 0
  world.requestFilter = (_from, _to, protocol, body) => {
    if (protocol !== 'member') return true
    asked.push(body.at(-1)!)
    return asked.length % 2 === 0 || lost++ > 5
  }
  world.heal()
  await expectSameChain(world)
  expect(lost).toBeGreaterThan(0)
  expect(asked.slice(0, 4)).toEqual([0, 0, 1, 1])
  expect(world.node(away).chain.height).toBeGreaterThan(40)
})

test('snapshot: a chunk that was changed on the way is refused, and nothing is touched', async () => {
  const world = await forgetfulWorld()
  const away = await leftBehind(world)
  const { height, ledger } = world.node(away).chain
  let changed = 0
  world.answerFilter = (protocol, answer) => {
    if (protocol !== 'member' || answer.length < 500) return answer
    const copy = Uint8Array.from(answer)
    copy[copy.length - 40]! ^= 1
    changed++
    return copy
  }
  world.heal()
  await world.until('several attempts', () => changed >= 3)
  expect(world.node(away).chain.height).toBe(height)
  expect(world.node(away).chain.ledger).toBe(ledger)
  world.answerFilter = (_protocol, answer) => answer
  await expectSameChain(world)
})

/** Asks the leader for the first chunk of a snapshot. */
function firstChunk(world: LedgerWorld, deviceId: DeviceId | undefined, lastIncludedIndex: number) {
  const leader = world.leader!
  const caller = { deviceId, isProven: false, remoteAddress: 'memory', charge: () => {} }
  const network = {
    request: (_to: unknown, { body }: OutgoingRequest) => world.handler(leader, 'member')(caller, body),
  }
  return askPeer(network, world.id(leader), memberRequests.snapshot, { lastIncludedIndex, chunk: 0 }, 1_000)
}

test('snapshot: only members of the configuration are served, and only what was offered', async () => {
  const world = await forgetfulWorld()
  await blocks(world, 1)
  await expect(firstChunk(world, undefined, 1)).rejects.toMatchObject({ code: 'hello-required' })
  await expect(firstChunk(world, device.id, 1)).rejects.toMatchObject({ code: 'not-authorised' })
  await expect(firstChunk(world, world.id(1), 1)).rejects.toMatchObject({ code: 'height-not-available' })
})

test('snapshot: one that is offered stays while its receiver is heard, and is let go 30 s after', async () => {
  const world = await forgetfulWorld()
  const away = await leftBehind(world)
  let offered = 0
  world.filter = (_from, _to, message) => {
    if (message.type !== 'raft' || message.message.type !== 'install-snapshot') return true
    offered = message.message.snapshot.lastIncludedIndex
    return false
  }
  world.heal()
  await world.until('an offer', () => offered > 0)
  const first = offered
  await world.run(70_000)
  expect(offered, 'the offer that is repeated').toBe(first)
  expect((await firstChunk(world, world.id(away), first)).length).toBeGreaterThan(0)
  world.cutOff(away)
  await world.run(29_000)
  await expect(firstChunk(world, world.id(away), first)).resolves.toBeDefined()
  await world.run(31_000)
  const late = firstChunk(world, world.id(away), first)
  await expect(late).rejects.toMatchObject({ code: 'height-not-available' })
})

test('snapshot: one that is offered at another place than its header names is refused, and nothing acknowledged', async () => {
  const world = await forgetfulWorld()
  const away = await leftBehind(world)
  const { lastLogIndex } = world.node(away).replica.consensus
  const { ledger } = world.node(away).chain
  const beyond = 1000
  const answers: boolean[] = []
  let offered = 0
  // The leader says a place beyond, and everything else of the exchange fits it.
  world.inTransit = message => {
    if (message.type !== 'raft') return message
    const raft = message.message
    if (raft.type === 'install-snapshot') {
      offered = raft.snapshot.lastIncludedIndex
      const lastIncludedIndex = offered + beyond
      return { type: 'raft', message: { ...raft, snapshot: { ...raft.snapshot, lastIncludedIndex } } }
    }
    if (raft.type !== 'snapshot-response') return message
    answers.push(raft.success)
    return { type: 'raft', message: { ...raft, lastIncludedIndex: raft.lastIncludedIndex - beyond } }
  }
  world.requestInTransit = (protocol, body) => {
    if (protocol !== 'member') return body
    return encodeRequest(memberRequests.snapshot, { lastIncludedIndex: offered, chunk: body.at(-1)! })
  }
  world.heal()
  await world.until('several attempts', () => answers.length >= 3)
  expect(answers).not.toContain(true)
  expect(world.node(away).chain.ledger).toBe(ledger)
  expect(world.node(away).replica.consensus.lastLogIndex).toBe(lastLogIndex)
  world.inTransit = message => message
  world.requestInTransit = (_protocol, body) => body
  await expectSameChain(world)
})
