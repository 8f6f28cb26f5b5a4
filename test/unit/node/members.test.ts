import { expect, test } from 'vitest'
import { type DeviceId, Hash, Height } from '../../../chain/brands.ts'
import { certificateSigningBytes } from '../../../chain/certificate.ts'
import { decode, encode } from '../../../chain/codec.ts'
import { chainIdOf } from '../../../chain/genesis.ts'
import { stateKeyOf } from '../../../chain/records.ts'
import { unwrap } from '../../../chain/result.ts'
import { parseTransaction } from '../../../chain/transaction.ts'
import { type AmnesiaEvidence, memberRequests } from '../../../node/network/request-table.ts'
import { Acknowledgements } from '../../../node/replica/acknowledgements.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { MemoryDisk } from '../../support/memory-byte-store.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'

const devices = Array.from({ length: 12 }, (_, i) => sampleIdentity(`device-${i}`))
let nonce = 0

async function startedWorld(): Promise<LedgerWorld> {
  const world = new LedgerWorld(3, devices)
  return world.startCertified()
}

/** The value of a promise, while the world runs. */
async function settled<T>(world: LedgerWorld, promise: Promise<T>): Promise<T> {
  let done = false
  promise.then(
    () => (done = true),
    () => (done = true),
  )
  await world.until('an answer', () => done)
  return promise
}

async function blocks(world: LedgerWorld, count: number, through = world.leader!): Promise<void> {
  for (let i = 0; i < count; i++) {
    const bytes = world.group(devices[nonce % devices.length]!, `group-${nonce++}`)
    expect(await settled(world, world.node(through).submission.submit(bytes, 'certified'))).toMatchObject({
      status: 'certified',
    })
  }
}

const followerOf = (world: LedgerWorld) => [0, 1, 2].find(i => i !== world.leader)!

test('lost state: a wiped directory of a member stops as soon as a peer remembers more', async () => {
  const world = await startedWorld()
  await blocks(world, 3)
  const wiped = followerOf(world)
  world.crash(wiped)
  world.replaceDisk(wiped, new MemoryDisk())
  await world.start(wiped)
  await world.until('the refusal', () => world.failures.length > 0)
  expect(world.failures[0]).toMatchObject({ code: 'state-lost' })
  expect(world.failures[0]!.detail).toContain('join as a new member')
  expect(world.node(wiped).replica.consensus).toMatchObject({ currentTerm: 0, lastLogIndex: 0 })
})

test('lost state: a directory restored from an older copy is found out by what was signed since', async () => {
  const world = await startedWorld()
  await blocks(world, 2)
  const restored = followerOf(world)
  const copy = world.disk(restored).copy()
  await blocks(world, 3)
  world.crash(restored)
  world.replaceDisk(restored, copy)
  await world.start(restored)
  await world.until('the refusal', () => world.failures.length > 0)
  expect(world.failures[0]).toMatchObject({ code: 'state-lost' })
})

test('lost state: peers that have restarted since still know it from their certificates', async () => {
  const world = await startedWorld()
  const [wiped, other] = [
    followerOf(world),
    [0, 1, 2].find(i => i !== world.leader && i !== followerOf(world))!,
  ]
  world.crash(other)
  await blocks(world, 3)
  const leader = world.leader!
  world.crash(wiped)
  world.crash(leader)
  world.replaceDisk(wiped, new MemoryDisk())
  await world.start(leader)
  await world.start(wiped)
  await world.until('the refusal', () => world.failures.length > 0)
  expect(world.failures[0]).toMatchObject({ code: 'state-lost' })
})

/** What comes back of the amnesia check, changed on its way. */
function evidenceIs(world: LedgerWorld, change: (shown: AmnesiaEvidence) => AmnesiaEvidence): void {
  const { answer } = memberRequests.amnesiaCheck
  world.answerFilter = (protocol, bytes) => {
    const shown = protocol === 'member' ? decode(answer, bytes) : undefined
    return shown?.ok ? encode(answer, change(shown.value)) : bytes
  }
}

/** A follower that has acknowledged what nobody has certified, starts again with its directory of before. */
async function restoredBeforeCertified(
  world: LedgerWorld,
  meanwhile: () => Promise<void> = async () => {},
): Promise<void> {
  const restored = followerOf(world)
  const copy = world.disk(restored).copy()
  const { lastLogIndex } = world.node(restored).replica.consensus
  world.filter = (_from, _to, { type }) => type !== 'signatures'
  void world.node(world.leader!).submission.submit(world.group(devices[0]!, `group-${nonce++}`), 'none')
  await world.until(
    'it acknowledges',
    () => world.node(restored).replica.consensus.lastLogIndex > lastLogIndex,
  )
  await world.run(100)
  world.crash(restored)
  await meanwhile()
  world.replaceDisk(restored, copy)
  await world.start(restored)
}

test('lost state: an acknowledgement alone says that a directory was restored', async () => {
  const world = await startedWorld()
  evidenceIs(world, ({ acknowledged }) => ({ acknowledged, signed: undefined }))
  await restoredBeforeCertified(world)
  await world.until('the refusal', () => world.failures.length > 0)
  expect(world.failures[0]).toMatchObject({ code: 'state-lost' })
  expect(world.failures[0]!.detail).toMatch(/acknowledgement of this node for the log up to \d+ in term 1/)
  expect(world.failures[0]!.detail).toContain('Check both before anything is removed')
})

test('lost state: who led when an acknowledgement was given still shows it', async () => {
  const world = await startedWorld()
  evidenceIs(world, ({ acknowledged }) => ({ acknowledged, signed: undefined }))
  const old = world.leader!
  const heir = [0, 1, 2].find(i => i !== old && i !== followerOf(world))!
  await restoredBeforeCertified(world, async () => {
    await settled(world, world.node(old).transfer(world.id(heir)))
    expect(world.leader).toBe(heir)
  })
  await world.until('the refusal', () => world.failures.length > 0)
  expect(world.failures[0]!.detail).toContain(`${world.id(old)} has shown an acknowledgement`)
})

test('lost state: what a peer makes up does not count, nor what another node has said', async () => {
  const world = new LedgerWorld(3, devices)
  const response = { type: 'append-response', from: '', term: 9, success: true, matchIndex: 9 } as const
  const rest = { prevLogIndex: 0, conflictIndex: 0, conflictTerm: 0, readContext: 0, full: false } as const
  const another = new Acknowledgements(chainIdOf(world.genesis), world.identity(0).transportSeed)
  another.heard({ ...response, ...rest, ...another.put({ ...response, ...rest }), from: 'another' })
  const made = { term: 1_000_000, index: 1, mac: new Uint8Array(32).fill(1) }
  const headerHash = Hash('ab'.repeat(32))
  const signature = world
    .identity(0)
    .signer.sign(certificateSigningBytes(chainIdOf(world.genesis), 0, Height(5), headerHash))
  let answers = 0
  evidenceIs(world, () => ({
    signed: { incarnation: 0, height: Height(5), headerHash, signature },
    acknowledged: answers++ % 2 ? made : another.of('another' as DeviceId),
  }))
  await world.start(1)
  await world.start(2)
  await world.until('a leader', () => world.leader !== undefined)
  await blocks(world, 2)
  expect(world.failures).toEqual([])
})

test('lost state: a node that was merely away, or never there, is let in', async () => {
  const world = new LedgerWorld(3, devices)
  await world.start(0)
  await world.start(1)
  await world.until('a leader', () => world.leader !== undefined)
  await blocks(world, 2)
  await world.start(2)
  await world.until('the third', () => world.node(2).certifier.certifiedHeight >= 2)
  world.crash(2)
  await blocks(world, 2)
  await world.start(2)
  await blocks(world, 1, 2)
  expect(world.failures).toEqual([])
})

test('lost state: no Raft message passes before the peer has answered', async () => {
  const world = new LedgerWorld(3, devices)
  world.requestFilter = (_from, _to, protocol) => protocol !== 'member'
  let raft = 0
  world.filter = (_from, _to, message) => {
    if (message.type === 'raft') raft++
    return true
  }
  await world.startAll()
  await world.run(3_000)
  expect(raft).toBe(0)
  world.requestFilter = () => true
  await world.until('a leader', () => world.leader !== undefined)
})

test('linearizable read: on any node it shows what was committed before it began', async () => {
  const world = await startedWorld()
  const follower = followerOf(world)
  const held: (() => void)[] = []
  // The follower learns of nothing until it asks the leader itself.
  world.filter = (_from, to, message) =>
    !(to === world.id(follower) && message.type === 'raft' && held.length === 0)
  const bytes = world.group(devices[0]!, 'seen')
  await settled(world, world.node(world.leader!).submission.submit(bytes, 'certified'))
  const { id } = unwrap(parseTransaction(bytes))
  expect((await world.node(follower).submission.status(id)).status).toBe('unknown')
  const barrier = world.node(follower).reads.barrier()
  held.push(() => {})
  await settled(world, barrier)
  expect(await world.node(follower).submission.status(id)).toMatchObject({ status: 'certified' })
  const answer = await world.node(follower).service.state(stateKeyOf.identity(devices[0]!.id))
  expect(answer.height).toBeGreaterThanOrEqual(world.node(world.leader!).certifier.certifiedHeight)
})

test('linearizable read: a leader that is cut off does not answer, although it believes to lead (§8)', async () => {
  const world = await startedWorld()
  const old = world.leader!
  world.cutOff(old)
  const barrier = world.node(old).reads.barrier()
  await expect(settled(world, barrier)).rejects.toMatchObject({
    code: expect.stringMatching(/no-leader|timeout/),
  })
})

test('linearizable read: goes through a change of leader', async () => {
  const world = await startedWorld()
  const follower = followerOf(world)
  world.crash(world.leader!)
  await settled(world, world.node(follower).reads.barrier())
})

test('transfer: the named voter leads, and what is open is answered', async () => {
  const world = await startedWorld()
  const old = world.leader!
  const to = followerOf(world)
  const open = devices.map((device, i) =>
    world.node(i % 3).submission.submit(world.group(device, `open-${nonce++}`), 'certified'),
  )
  const report = await settled(world, world.node(old).transfer(world.id(to)))
  expect(report).toMatchObject({ from: world.id(old), to: world.id(to) })
  expect(world.leader).toBe(to)
  for (const answer of open) expect((await settled(world, answer)).status).toBe('certified')
  await expect(world.node(old).transfer()).rejects.toMatchObject({ code: 'no-leader' })
  await expect(world.node(to).transfer(devices[0]!.id)).rejects.toMatchObject({ code: 'unreachable' })
})

test('transfer: a successor that goes away ends the wait at once', async () => {
  const world = await startedWorld()
  const to = followerOf(world)
  const transfer = world.node(world.leader!).transfer(world.id(to))
  world.crash(to)
  await expect(settled(world, transfer)).rejects.toMatchObject({ code: 'unreachable' })
})

test('members: a revoked peer is judged again when its own block is certified, not by an earlier certificate', async () => {
  const other = sampleIdentity('device-9')
  const world = await new LedgerWorld(3, [other]).startCertified()
  const leader = world.leader!
  const through = world.node(leader)
  const heldBack: (() => void)[] = []
  world.filter = (from, to, message) => {
    if (message.type !== 'signatures') return true
    heldBack.push(() => world.post(from, to, message))
    return false
  }
  const before = through.chain.height
  void through.submission.submit(world.group(other, 'fleet'), 'none')
  await world.until('the block before', () => through.chain.height > before)
  const signaturesBefore = heldBack.splice(0)
  const body = { type: 'identity.revoke', subject: other.id, reason: '' } as const
  void through.submission.submit(world.sign(world.operator, body), 'none')
  await world.until('the revocation, executed', () => through.chain.height > before + 1)
  const rechecked = () => world.rechecked.some(({ at, peer }) => at === world.id(leader) && peer === other.id)
  const release = async (signatures: readonly (() => void)[]) => {
    const hold = world.filter
    world.filter = () => true
    for (const send of signatures) send()
    await world.settle()
    world.filter = hold
  }
  await release(signaturesBefore)
  expect(through.certifier.certifiedHeight).toBe(before + 1)
  world.rechecked.length = 0
  await release(heldBack.splice(0))
  expect(through.certifier.certifiedHeight).toBe(before + 2)
  expect(rechecked()).toBe(true)
})
