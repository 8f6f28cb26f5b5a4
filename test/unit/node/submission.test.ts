import { describe, expect, test } from 'vitest'
import { unwrap } from '../../../chain/result.ts'
import { parseTransaction } from '../../../chain/transaction.ts'
import type { TransactionStatus } from '../../../client/chain-source.ts'
import { Forwarder } from '../../../node/service/submission.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'

const owner = sampleIdentity('device-1')

test('submission: a transaction of an older block that is sent again is answered with that block', async () => {
  const world = await new LedgerWorld(3, [owner]).startCertified()
  const through = world.node(world.leader!)
  const heldBack: (() => void)[] = []
  world.filter = (from, to, message) => {
    if (message.type !== 'signatures') return true
    heldBack.push(() => world.post(from, to, message))
    return false
  }
  const answered = new Map<string, TransactionStatus>()
  const signed = { older: world.group(owner, 'older'), newer: world.group(owner, 'newer') }
  const submit = async (name: keyof typeof signed, wait: 'committed' | 'certified') => {
    answered.set(`${name} ${wait}`, await through.submission.submit(signed[name], wait))
  }
  void submit('older', 'committed')
  await world.until('the older one is committed', () => answered.has('older committed'))
  const { height } = answered.get('older committed')!
  const signaturesOfOlder = heldBack.splice(0)
  void submit('newer', 'certified')
  await world.until('the newer one is executed', () => through.chain.height > height!)
  void submit('older', 'certified')
  await world.settle()
  expect([...answered.keys()]).toEqual(['older committed'])
  const hold = world.filter
  world.filter = () => true
  for (const send of signaturesOfOlder) send()
  await world.settle()
  world.filter = hold
  expect(through.certifier.certifiedHeight).toBe(height)
  expect([...answered.keys()]).toEqual(['older committed', 'older certified'])
  expect(answered.get('older certified')).toMatchObject({ status: 'certified', height })
})

describe('submission: a refusal', () => {
  /** Submits at a follower; the frame to the leader is held back until `deliver`. */
  async function submittedAtFollower() {
    const world = await new LedgerWorld(3, [owner], 1).startCertified()
    const leader = world.leader!
    const [follower, bystander] = [0, 1, 2].filter(i => i !== leader) as [number, number]
    let isHeld = true
    world.filter = (_from, _to, message) => !(isHeld && message.type === 'transactions')
    const bytes = world.group(owner, 'group')
    const { id } = unwrap(parseTransaction(bytes))
    const answers: TransactionStatus[] = []
    void world
      .node(follower)
      .submission.submit(bytes, 'certified')
      .then(answer => answers.push(answer))
    await world.settle()
    const refuse = async (by: number) => {
      const refusals = [{ id, code: 'not-authorised', detail: 'made up' } as const]
      world.post(world.id(by), world.id(follower), { type: 'refusals', refusals })
      await world.settle()
    }
    const deliver = async () => {
      isHeld = false
      await world.until('an answer', () => answers.length > 0)
    }
    return { leader, bystander, learner: 3, answers, refuse, deliver }
  }

  test('by a node that was not given the transaction is no answer', async () => {
    const { bystander, learner, answers, refuse, deliver } = await submittedAtFollower()
    await refuse(bystander)
    await refuse(learner)
    expect(answers).toEqual([])
    await deliver()
    expect(answers).toMatchObject([{ status: 'certified' }])
  })

  test('by the leader that was given it is the answer', async () => {
    const { leader, answers, refuse } = await submittedAtFollower()
    await refuse(leader)
    expect(answers).toMatchObject([{ status: 'refused', code: 'not-authorised', detail: 'made up' }])
  })
})

test('submission: a node that starts from nothing says of no expiry that it is too far', async () => {
  const world = new LedgerWorld(3, [owner])
  await world.run(60_000)
  await world.start(0)
  const ten = { expiryMs: 570_000 }
  const bytes = world.sign(owner, { type: 'group.create', name: 'g', epochKeyHash: undefined }, ten)
  expect(await world.node(0).submission.submit(bytes, 'none')).toMatchObject({ status: 'pending' })
  await world.start(1)
  await world.until('a leader', () => world.leader !== undefined)
  const id = unwrap(parseTransaction(bytes)).id
  const status = async () => (await world.node(0).submission.status(id)).status
  let last = ''
  await world.until('it is certified', () => {
    void status().then(value => {
      last = value
    })
    return last === 'certified'
  })
  const tooFar = world.sign(
    owner,
    { type: 'group.create', name: 'h', epochKeyHash: undefined },
    { expiryMs: 700_000 },
  )
  const answer = await world.node(world.leader!).submission.submit(tooFar, 'none')
  expect(answer).toMatchObject({ status: 'refused', code: 'expiry-too-far' })
})

describe('forwarder: what follows the first transaction', () => {
  /** Frames with their transactions, by the time at which they left. */
  function forwarding(waiting: number) {
    const clock = new ManualClock()
    const frames: { readonly at: number; readonly count: number }[] = []
    const network = {
      send: (
        _to: string,
        message: { readonly type: string; readonly transactions?: readonly Uint8Array[] },
      ) => {
        frames.push({ at: clock.steady(), count: message.transactions?.length ?? 0 })
      },
    }
    const forwarder = new Forwarder(network, clock)
    for (let ms = 0; ms < 24; ms++) {
      forwarder.forward(owner.id, Uint8Array.of(ms), waiting)
      clock.advance(1)
    }
    return frames
  }

  test('leaves after a millisecond while few wait for a block', () => {
    const frames = forwarding(2)
    expect(frames).toHaveLength(24)
    expect(frames[0]).toEqual({ at: 0, count: 1 })
  })

  test('is gathered the longer the more wait for a block, and never longer than 10 ms', () => {
    expect(forwarding(45).slice(0, 3)).toEqual([
      { at: 0, count: 1 },
      { at: 5, count: 4 },
      { at: 10, count: 5 },
    ])
    expect(forwarding(5_000).slice(0, 3)).toEqual([
      { at: 0, count: 1 },
      { at: 10, count: 9 },
      { at: 20, count: 10 },
    ])
  })
})
