import { expect, test } from 'vitest'
import { type Hash, Height, type TransactionId } from '../../../chain/brands.ts'
import { verifyCertificate } from '../../../chain/certificate.ts'
import { consentersOf } from '../../../chain/genesis.ts'
import { groupIdOf } from '../../../chain/records.ts'
import { unwrap } from '../../../chain/result.ts'
import { parseTransaction } from '../../../chain/transaction.ts'
import type { TransactionStatus } from '../../../client/chain-source.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { type SampleIdentity, sampleIdentity } from '../../support/sample-genesis.ts'

const devices = Array.from({ length: 8 }, (_, i) => sampleIdentity(`device-${i}`))
const idOf = (bytes: Uint8Array): TransactionId => unwrap(parseTransaction(bytes)).id

async function worldWithLeader(size = 3): Promise<LedgerWorld> {
  const world = new LedgerWorld(size, devices)
  return world.startCertified()
}

/** Submits and lets the world run until there is an answer. */
async function answerOf(world: LedgerWorld, answer: Promise<TransactionStatus>): Promise<TransactionStatus> {
  let status: TransactionStatus | undefined
  void answer.then(value => {
    status = value
  })
  await world.settle()
  await world.until('an answer', () => status !== undefined)
  return status!
}

/** One header hash per height on all running nodes. */
async function expectSameChain(world: LedgerWorld): Promise<void> {
  await world.until('equal heights', () => new Set(world.running.map(node => node.chain.height)).size === 1)
  const hashes = world.running.map(node => node.chain.ledger.headerHash)
  expect(new Set(hashes).size).toBe(1)
}

test('replica: three nodes elect a leader and certify a first block without any transaction', async () => {
  const world = await worldWithLeader()
  const { certificate } = world.node(0).chain
  expect(certificate?.height).toBeGreaterThan(0)
  const { chainId } = world.node(0).chain.ledger.header
  const set = consentersOf(world.genesis)
  expect(verifyCertificate(set, chainId, 0, certificate!, nativeVerifier).ok).toBe(true)
  await expectSameChain(world)
})

test('replica: a transaction is certified through any node, and every node has it', async () => {
  const world = await worldWithLeader()
  for (const [i, node] of world.running.entries()) {
    const bytes = world.group(devices[i]!, `through-${i}`)
    const status = await answerOf(world, node.submission.submit(bytes, 'certified'))
    expect(status).toMatchObject({ status: 'certified', id: idOf(bytes), index: 0 })
    await world.run(50)
    for (const other of world.running)
      expect(await other.submission.status(idOf(bytes))).toMatchObject({
        status: 'certified',
        height: status.height,
      })
  }
  await expectSameChain(world)
})

test('replica: the same bytes again get the same answer from every node, and are executed once', async () => {
  const world = await worldWithLeader()
  const bytes = world.group(devices[0]!, 'once')
  const [first, twin] = await Promise.all([
    answerOf(world, world.node(0).submission.submit(bytes, 'certified')),
    answerOf(world, world.node(1).submission.submit(bytes, 'certified')),
  ])
  expect(twin).toEqual(first)
  for (const node of world.running) {
    const again = await answerOf(world, node.submission.submit(bytes, 'certified'))
    expect(again).toEqual(first)
  }
  const blocks = await world.storage(0).deviceTransactions(devices[0]!.id, 10)
  expect(blocks).toHaveLength(1)
})

test('replica: a re-key is in the history of every member, and of nobody else (Qiu A7)', async () => {
  const world = await worldWithLeader()
  const [owner, member, stranger] = devices as [SampleIdentity, SampleIdentity, SampleIdentity]
  const submit = (bytes: Uint8Array) => answerOf(world, world.node(0).submission.submit(bytes, 'certified'))
  const group = groupIdOf(owner.id, 'told')
  await submit(world.group(owner, 'told'))
  await submit(world.sign(owner, { type: 'group.add', group, membershipVersion: 1, members: [member.id] }))
  const hash = '7'.repeat(64) as Hash
  const rekey = { type: 'group.rekey', group, epochKeyHash: hash, boxesHash: hash } as const
  const current = world.sign(owner, { ...rekey, membershipVersion: 2, epoch: 0 })
  const outdated = world.sign(owner, { ...rekey, membershipVersion: 1, epoch: 0 })
  expect(await submit(current)).toMatchObject({ status: 'certified' })
  expect(await submit(outdated)).toMatchObject({ status: 'invalid', code: 'epoch-conflict' })
  const idsOf = async ({ id }: SampleIdentity) =>
    (await world.storage(0).deviceTransactions(id, 10)).map(row => row.id)
  expect(await idsOf(member)).toContain(idOf(current))
  expect(await idsOf(member)).not.toContain(idOf(outdated))
  expect(await idsOf(owner)).toEqual(expect.arrayContaining([idOf(current), idOf(outdated)]))
  expect(await idsOf(stranger)).toEqual([])
})

test('replica: an acknowledged transaction outlives the leader, one in flight is carried to the next', async () => {
  const world = await worldWithLeader()
  const leader = world.leader!
  const follower = (leader + 1) % 3
  const before = world.group(devices[0]!, 'before')
  const answered = await answerOf(world, world.node(leader).submission.submit(before, 'certified'))
  world.filter = (from, to) => from !== world.id(leader) && to !== world.id(leader)
  const during = world.group(devices[1]!, 'during')
  const open = world.node(follower).submission.submit(during, 'certified')
  await world.settle()
  world.crash(leader)
  world.filter = () => true
  const status = await answerOf(world, open)
  expect(status.status).toBe('certified')
  expect(world.leader).not.toBe(leader)
  expect(await world.node(follower).submission.status(answered.id)).toMatchObject({
    status: 'certified',
    height: answered.height,
  })
  await world.start(leader)
  await world.until(
    'the old leader caught up',
    () => world.node(leader).certifier.certifiedHeight >= status.height!,
  )
  expect(await world.node(leader).submission.status(status.id)).toMatchObject({ status: 'certified' })
  await expectSameChain(world)
})

test('replica: without a quorum nothing is acknowledged; with it, the same request is', async () => {
  const world = await worldWithLeader()
  const leader = world.leader!
  const others = [0, 1, 2].filter(i => i !== leader)
  for (const i of others) world.cutOff(i)
  let status: TransactionStatus | undefined
  void world
    .node(leader)
    .submission.submit(world.group(devices[0]!, 'alone'), 'committed')
    .then(value => {
      status = value
    })
  await world.run(2_000)
  expect(status).toBeUndefined()
  world.heal()
  await world.until('an answer', () => status !== undefined)
  expect(status).toMatchObject({ status: 'committed' })
  await expectSameChain(world)
})

test('replica: a request that no leader takes ends with the time it is given, and the outcome unknown', async () => {
  const world = await worldWithLeader()
  for (const i of [0, 1, 2]) world.cutOff(i)
  await world.run(3_000)
  const status = await answerOf(
    world,
    world.node(0).submission.submit(world.group(devices[0]!, 'x'), 'certified'),
  )
  expect(status.status === 'unknown' || status.status === 'pending').toBe(true)
  expect(status.code).toBe('no-leader')
})

test('replica: certification catches up after signatures were lost', async () => {
  const world = await worldWithLeader()
  world.filter = (_from, _to, message) => message.type !== 'signatures'
  const bytes = world.group(devices[0]!, 'unsigned')
  const committed = await answerOf(world, world.node(0).submission.submit(bytes, 'committed'))
  expect(committed.status).toBe('committed')
  await world.run(300)
  expect(world.node(0).certifier.certifiedHeight).toBeLessThan(committed.height!)
  world.filter = () => true
  await world.until('certified', () =>
    world.running.every(n => n.certifier.certifiedHeight >= committed.height!),
  )
})

test('replica: the leader stops cutting blocks when certification stands still, and goes on after it', async () => {
  const world = await worldWithLeader()
  world.filter = (_from, _to, message) => message.type !== 'signatures'
  const node = world.node(world.leader!)
  const certified = node.certifier.certifiedHeight
  for (let n = 0; n < 80; n++) {
    void node.submission.submit(world.group(devices[n % 8]!, `n-${n}`), 'none')
    await world.run(10)
  }
  expect(node.chain.height - certified).toBeLessThanOrEqual(65)
  expect(node.mempool.size).toBeGreaterThan(0)
  world.filter = () => true
  await world.until('all executed', () => node.mempool.size === 0)
  await expectSameChain(world)
})

test('replica: everything restarts from disk to the same chain', async () => {
  const world = await worldWithLeader()
  const bytes = world.group(devices[0]!, 'durable')
  const { height } = await answerOf(world, world.node(0).submission.submit(bytes, 'certified'))
  await world.run(100)
  const hash = world.node(0).chain.at(Height(height!))?.headerHash
  for (const i of [0, 1, 2]) world.crash(i)
  await world.startAll()
  await world.until('a new block', () =>
    world.running.every(node => node.certifier.certifiedHeight > height!),
  )
  for (const node of world.running) {
    expect(await node.submission.status(idOf(bytes))).toMatchObject({ status: 'certified', height })
    expect((await node.service.block(Height(height!))).headerHash).toBe(hash)
  }
  const again = await answerOf(world, world.node(1).submission.submit(bytes, 'certified'))
  expect(again).toMatchObject({ height })
})

test('replica: a disk that refuses a write stops the node, and the others go on', async () => {
  const world = await worldWithLeader()
  const leader = world.leader!
  world.disk(leader).failNextWrite = new Error('no space left')
  const follower = (leader + 1) % 3
  const status = await answerOf(
    world,
    world.node(follower).submission.submit(world.group(devices[0]!, 'disk'), 'certified'),
  )
  expect(status.status).toBe('certified')
  expect(world.failures).toMatchObject([{ code: 'storage-failed' }])
  expect(world.node(leader).failure?.code).toBe('storage-failed')
  await expect(world.node(leader).service.certifiedHeader('latest')).rejects.toMatchObject({
    code: 'storage-failed',
  })
})

test('replica: a planned stop of the leader transfers its leadership and loses no request', async () => {
  const world = await worldWithLeader()
  const leader = world.leader!
  const open = world.node(leader).submission.submit(world.group(devices[0]!, 'handed'), 'certified')
  const stopped = world.node(leader).stop()
  const status = await answerOf(world, open)
  expect(status.status).toBe('certified')
  await world.until('another leader', () => world.leader !== undefined && world.leader !== leader)
  let done = false
  void stopped.then(() => {
    done = true
  })
  await world.until('the stop', () => done)
})

test('replica: a refused transaction says why, and whether a retry helps', async () => {
  const world = await worldWithLeader()
  const { submission } = world.node((world.leader! + 1) % 3)
  const stranger = world.group(sampleIdentity('stranger'), 'x')
  expect(await answerOf(world, submission.submit(stranger, 'certified'))).toMatchObject({
    status: 'refused',
    code: 'unknown-signer',
  })
  const forged = world.group(devices[0]!, 'forged')
  forged[forged.length - 1]! ^= 1
  expect(await answerOf(world, submission.submit(forged, 'certified'))).toMatchObject({
    status: 'refused',
    code: 'bad-signature',
  })
  const late = world.sign(
    devices[0]!,
    { type: 'group.create', name: 'late', epochKeyHash: undefined },
    { expiryMs: -1 },
  )
  expect(await answerOf(world, submission.submit(late, 'certified'))).toMatchObject({
    status: 'refused',
    code: 'transaction-expired',
  })
  await answerOf(world, submission.submit(world.group(devices[1]!, 'twice'), 'certified'))
  const second = world.sign(
    devices[1]!,
    { type: 'group.create', name: 'twice', epochKeyHash: undefined },
    { nonce: 2 },
  )
  expect(await answerOf(world, submission.submit(second, 'certified'))).toMatchObject({
    status: 'invalid',
    code: 'already-exists',
  })
  await expect(submission.submit(new Uint8Array([1, 2, 3]), 'none')).rejects.toMatchObject({
    code: 'malformed',
  })
})

test('replica: transactions forwarded by a peer that does not keep this chain are not heard', async () => {
  const world = await worldWithLeader()
  const leader = world.leader!
  const stranger = world.group(devices[0]!, 'of-a-stranger')
  const member = world.group(devices[1]!, 'of-a-member')
  const forwarded = (bytes: Uint8Array) => ({ type: 'transactions', transactions: [bytes] }) as const
  world.node(leader).message(devices[7]!.id, forwarded(stranger))
  world.node(leader).message(world.id((leader + 1) % 3), forwarded(member))
  await world.until(
    "the member's is certified",
    () => world.node(leader).chain.outcomeOf(idOf(member)) !== undefined,
  )
  await world.run(100)
  expect(world.node(leader).chain.outcomeOf(idOf(stranger))).toBeUndefined()
})
