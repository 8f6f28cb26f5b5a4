/** One message, one transaction: repeats, crashes between any two steps, expiry, lies, and a chain that is out of reach. */
import { join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { Milliseconds } from '../../../../chain/brands.ts'
import { MoteError, refuse, unwrap } from '../../../../chain/result.ts'
import { parseTransaction } from '../../../../chain/transaction.ts'
import { DurableQueue } from '../../../../client/durable-queue.ts'
import { MessageStore } from '../../../../client/message-store.ts'
import { signedBody } from '../../../../client/submission.ts'
import { maxTiesPerRecord } from '../../../../mqtt-gateway/records/durable-recorder.ts'
import { ExchangeStore } from '../../../../mqtt-gateway/records/exchange-store.ts'
import { LevelQueue } from '../../../../mqtt-gateway/records/level-queue.ts'
import type { RecordRequest, SessionStart } from '../../../../mqtt-gateway/records/recorder.ts'
import { exchangeOf, RecorderWorld, requestOf, sensorKeys } from '../../../support/recorder-world.ts'
import { sampleRecord } from '../../../support/sample-record.ts'
import { keysOf } from '../../../support/test-chain.ts'
import { untilPasses } from '../../../support/until-passes.ts'

afterEach(() => vi.restoreAllMocks())

const begun = async (world: RecorderWorld, start: SessionStart = 'kept') =>
  (await world.recorder.incarnationOf('c', start)).incarnation

test('recorder: what a device says is attested by the gateway, and its outcome is where it stands', async () => {
  await using world = await RecorderWorld.open()
  const outcome = await world.record({ text: 'a', exchange: exchangeOf('a', await begun(world)) })
  expect(outcome).toMatchObject({ type: 'certified', index: 0, receipt: { code: 'ok' } })
  if (outcome.type !== 'certified') return
  const [added] = outcome.receipt.events
  expect(added).toMatchObject({ type: 'record.added', device: sensorKeys.id, attested: true })
  expect(world.chain.block(outcome.height).receipts[0]?.id).toBe(outcome.transaction)
  expect(world.recorded()).toEqual(['a'])
})

test('recorder: a repeat at QoS 2 is the first one until PUBREL, with or without DUP, and another message after it', async () => {
  await using world = await RecorderWorld.open()
  const exchange = exchangeOf('a', await begun(world))
  const first = await world.record({ text: 'a', exchange })
  expect(await world.record({ text: 'a', exchange })).toEqual(first)
  expect(await world.record({ text: 'a', exchange: { ...exchange, isRepeat: true } })).toEqual(first)
  await world.recorder.released('c', 1)
  expect((await world.record({ text: 'a', exchange })).transaction).not.toBe(first.transaction)
  expect(world.recorded()).toEqual(['a', 'a'])
})

test('recorder: at QoS 1 a PUBLISH without DUP is another message, one with DUP the last one', async () => {
  await using world = await RecorderWorld.open()
  const exchange = exchangeOf('a', await begun(world), { qos: 1 })
  const first = await world.record({ text: 'a', exchange })
  const second = await world.record({ text: 'a', exchange })
  expect(second.transaction).not.toBe(first.transaction)
  expect(await world.record({ text: 'a', exchange: { ...exchange, isRepeat: true } })).toEqual(second)
  await world.recorder.released('c', 1)
  expect(await world.record({ text: 'a', exchange: { ...exchange, isRepeat: true } })).toEqual(second)
  expect(world.recorded()).toEqual(['a', 'a'])
})

test('recorder: another packet identifier, content, quality or client is another message', async () => {
  await using world = await RecorderWorld.open()
  const incarnation = await begun(world)
  const other = (await world.recorder.incarnationOf('d', 'kept')).incarnation
  const exchange = exchangeOf('a', incarnation, { isRepeat: true })
  const transactions = []
  for (const more of [
    {},
    { packetIdentifier: 2 },
    { digest: exchangeOf('b', incarnation).digest },
    { qos: 1 as const },
    { client: 'd', incarnation: other },
  ])
    transactions.push((await world.accept({ text: 'a', exchange: { ...exchange, ...more } })).transaction)
  expect(new Set(transactions).size).toBe(5)
})

test('recorder: repeats that come before the first one has its outcome, or is on the disk, share it', async () => {
  await using world = await RecorderWorld.open()
  const said = { text: 'a', exchange: exchangeOf('a', await begun(world)) }
  const outcomes = await Promise.all(Array.from({ length: 5 }, () => world.record(said)))
  expect(new Set(outcomes.map(({ transaction }) => transaction)).size).toBe(1)
  expect(world.recorded()).toEqual(['a'])
})

test('recorder: an unclean session and its exchanges outlive the process; a clean CONNECT ends them', async () => {
  await using world = await RecorderWorld.open()
  const { incarnation, isPresent } = await world.recorder.incarnationOf('c', 'kept')
  expect(isPresent).toBe(false)
  const exchange = exchangeOf('a', incarnation)
  const first = await world.record({ text: 'a', exchange })
  await world.restart()
  expect(await world.recorder.incarnationOf('c', 'kept')).toEqual({ incarnation, isPresent: true })
  expect(await world.record({ text: 'a', exchange })).toEqual(first)
  const clean = await world.recorder.incarnationOf('c', 'clean')
  expect(clean.isPresent).toBe(false)
  await expect(world.record({ text: 'a', exchange })).rejects.toMatchObject({ code: 'interrupted' })
  const again = { ...exchange, incarnation: clean.incarnation }
  expect((await world.record({ text: 'a', exchange: again })).transaction).not.toBe(first.transaction)
  // What was clean is not found by the next connection either.
  expect(await world.recorder.incarnationOf('c', 'kept')).toMatchObject({ isPresent: false })
})

test('recorder: a message id is once across sessions; under it another message is refused, another device has its own', async () => {
  await using world = await RecorderWorld.open()
  const first = await world.record({
    text: 'a',
    messageId: 'm',
    exchange: exchangeOf('a', await begun(world, 'clean')),
  })
  const again = exchangeOf('a', await begun(world, 'clean'), { packetIdentifier: 9 })
  expect(await world.record({ text: 'a', messageId: 'm', exchange: again })).toEqual(first)
  await world.restart()
  expect(await world.record({ text: 'a', messageId: 'm' })).toEqual(first)
  expect(await world.recorder.accept(requestOf({ text: 'b', messageId: 'm' }))).toMatchObject({
    ok: false,
    error: { code: 'already-exists' },
  })
  const { id } = keysOf('other')
  const record = sampleRecord({ source: id, messageId: 'm' })
  const content = { type: 'attested', body: { type: 'record.one', qos: 1, record } } as const
  expect(
    await world.recorder.accept({ exchange: undefined, device: id, messageId: 'm', content }),
  ).toMatchObject({
    ok: true,
  })
  expect(world.recorded().filter(text => text === 'a')).toHaveLength(1)
})

test('recorder: killed between the tie and the queue, the next process records the message once, and its repeat finds it', async () => {
  await using world = await RecorderWorld.open()
  const said = { text: 'a', exchange: exchangeOf('a', await begun(world)) }
  const added = vi.spyOn(LevelQueue.prototype, 'add').mockReturnValue(new Promise(() => {}))
  void world.recorder.accept(requestOf(said))
  await untilPasses(() => expect(added).toHaveBeenCalledTimes(1))
  const { id } = added.mock.calls[0]![0]
  await world.stop()
  expect(world.recorded()).toEqual([])
  added.mockRestore()
  await world.start()
  expect(await world.record(said)).toMatchObject({ type: 'certified', transaction: id })
  expect(world.recorded()).toEqual(['a'])
})

test('recorder: killed between the queue and the chain, the next process records the message once, and its repeat finds it', async () => {
  await using world = await RecorderWorld.open()
  for (const source of world.sources) source.failure = new MoteError('unreachable', 'down')
  const tied = { text: 'a', exchange: exchangeOf('a', await begun(world)) }
  const { transaction, outcome } = await world.accept(tied)
  const loose = await world.accept({ text: 'b' })
  await world.stop()
  await expect(outcome).rejects.toMatchObject({ code: 'interrupted' })
  for (const source of world.sources) source.failure = undefined
  await world.start()
  expect(await world.record(tied)).toMatchObject({ type: 'certified', transaction })
  await untilPasses(() => expect(world.isRecorded(loose.transaction)).toBe(true))
  expect(world.recorded().toSorted()).toEqual(['a', 'b'])
})

test('recorder: killed after the chain had it and before that was written down, the next process has the same outcome', async () => {
  await using world = await RecorderWorld.open()
  const said = { text: 'a', exchange: exchangeOf('a', await begun(world)) }
  const killed = new MoteError('storage-failed', 'killed')
  const ended = vi.spyOn(ExchangeStore.prototype, 'end').mockRejectedValue(killed)
  const removed = vi.spyOn(DurableQueue.prototype, 'removeHeads').mockRejectedValue(killed)
  const { transaction, outcome } = await world.accept(said)
  expect(await outcome).toMatchObject({ type: 'certified', transaction })
  await world.stop()
  ended.mockRestore()
  removed.mockRestore()
  await world.start()
  expect(await world.record(said)).toMatchObject({ type: 'certified', transaction })
  expect(world.recorded()).toEqual(['a'])
})

test('recorder: an expired transaction is signed anew once two nodes refuse it, and the message is recorded once', async () => {
  await using world = await RecorderWorld.open()
  const said = { text: 'a', exchange: exchangeOf('a', await begun(world)) }
  for (const source of world.sources) source.failure = new MoteError('unreachable', 'down')
  const first = await world.accept(said)
  world.chain.append([], { afterMs: 6 * 60_000 })
  const [one, two] = world.sources
  one!.failure = undefined
  // One alone may be wrong: it is not enough.
  await untilPasses(() => expect(world.errors.some(isUnconfirmed)).toBe(true))
  expect(world.recorded()).toEqual([])
  two!.failure = undefined
  const outcome = await first.outcome
  expect(outcome.type).toBe('certified')
  expect(outcome.transaction).not.toBe(first.transaction)
  expect(await world.record(said)).toEqual(outcome)
  expect(world.recorded()).toEqual(['a'])
})

test('recorder: a second word about an expired transaction, while the next one is written down, does not count for that one', async () => {
  await using world = await RecorderWorld.open()
  const said = { text: 'a', exchange: exchangeOf('a', await begun(world)) }
  for (const source of world.sources) source.failure = new MoteError('unreachable', 'down')
  unwrap(await world.recorder.accept(requestOf(said)))
  await world.stop()
  world.chain.append([], { afterMs: 6 * 60_000 })
  for (const source of world.sources) source.failure = undefined
  // What an earlier process left is settled by itself, and again out of the queue.
  const written = vi.spyOn(ExchangeStore.prototype, 'replace').mockImplementation(async (open, next) => {
    await new Promise(resolve => setTimeout(resolve, 100))
    open.transaction = next
  })
  await world.start()
  expect(await world.record(said)).toMatchObject({ type: 'certified' })
  await new Promise(resolve => setTimeout(resolve, 300))
  expect(written).toHaveBeenCalledTimes(1)
  expect(world.recorded()).toEqual(['a'])
})

test('recorder: what two nodes call expired and a third one has in a block is not signed anew', async () => {
  await using world = await RecorderWorld.open({ sources: 3 })
  const [one, two, three] = world.sources
  const said = { text: 'a', exchange: exchangeOf('a', await begun(world)) }
  for (const source of [one, two]) {
    source!.submit = async bytes => {
      const parsed = parseTransaction(bytes)
      const id = parsed.ok ? parsed.value.id : never()
      await three!.submit(bytes)
      return { id, status: 'refused', code: 'transaction-expired' }
    }
    source!.tamperStatus = ({ id }) => ({ id, status: 'unknown' })
  }
  const { transaction, outcome } = await world.accept(said)
  expect(await outcome).toMatchObject({ type: 'certified', transaction })
  expect(world.recorded()).toEqual(['a'])
})

test('recorder: a transaction that the device signed is taken as it is, and refused for good when it has expired', async () => {
  await using world = await RecorderWorld.open()
  const signed = (more: Partial<Parameters<typeof signedBody>[0]> = {}) =>
    signedBody({
      chainId: world.chain.chainId,
      body: { type: 'record.one', qos: 1, record: sampleRecord() },
      keys: sensorKeys,
      time: world.chain.time,
      ...more,
    })
  const accept = (transaction: Uint8Array) =>
    world.recorder.accept({
      exchange: undefined,
      device: sensorKeys.id,
      messageId: undefined,
      content: { type: 'signed', transaction },
    })
  const taken = await accept(signed())
  expect(taken.ok && (await taken.value.outcome)).toMatchObject({ type: 'certified' })
  const late = signed()
  world.chain.append([], { afterMs: 6 * 60_000 })
  const expired = await accept(late)
  expect(expired.ok && (await expired.value.outcome)).toMatchObject({
    type: 'refused',
    code: 'transaction-expired',
  })
  const code = async (transaction: Uint8Array) => {
    const result = await accept(transaction)
    return result.ok ? 'ok' : result.error.code
  }
  const attested = { type: 'record.one', qos: 1, record: sampleRecord({ source: sensorKeys.id }) } as const
  const group = { type: 'group.create', name: 'g', epochKeyHash: undefined } as const
  expect(await code(signed({ keys: keysOf('other') }))).toBe('not-authorised')
  expect(await code(signed({ body: attested }))).toBe('not-authorised')
  expect(await code(signed({ body: group }))).toBe('not-authorised')
  expect(await code(signed({ chainId: 'ab'.repeat(32) as typeof world.chain.chainId }))).toBe('wrong-chain')
  expect(await code(Uint8Array.of(1))).toBe('malformed')
  const ahead = (ms: number) => signed({ time: Milliseconds(world.chain.time + ms) })
  expect(await code(ahead(365 * 86_400_000))).toBe('expiry-too-far')
  expect(await code(ahead(0))).toBe('ok')
})

test('recorder: a repeat that comes while the outcome is being written has that outcome, on the disk too', async () => {
  await using world = await RecorderWorld.open()
  const incarnation = await begun(world)
  const body = { type: 'record.one', qos: 1, record: sampleRecord() } as const
  const { chainId, time } = world.chain
  const transaction = signedBody({ chainId, body, keys: sensorKeys, time })
  const content = { type: 'signed', transaction } as const
  const request = (packetIdentifier: number) => ({
    exchange: exchangeOf('a', incarnation, { packetIdentifier }),
    device: sensorKeys.id,
    messageId: undefined,
    content,
  })
  const written = Promise.withResolvers<void>()
  const write = MessageStore.prototype.write
  let ties = 0
  vi.spyOn(MessageStore.prototype, 'write').mockImplementation(async function (this: MessageStore, changes) {
    if (changes.some(({ key }) => key.startsWith('exchange/'))) ties += 1
    // The first is the tie, the second how it ended.
    if (ties === 2) await written.promise
    return write.call(this, changes)
  })
  const outcome = await unwrap(await world.recorder.accept(request(1))).outcome
  await untilPasses(() => expect(ties).toBe(2))
  ties += 1
  const again = unwrap(await world.recorder.accept(request(2)))
  expect(await again.outcome).toEqual(outcome)
  written.resolve()
  await untilPasses(() => expect(world.status.open).toBe(0))
  const submissions = () => world.sources.map(({ asked }) => asked.get('submit'))
  const before = submissions()
  await world.restart()
  expect(await unwrap(await world.recorder.accept(request(2))).outcome).toEqual(outcome)
  expect(submissions()).toEqual(before)
})

test('recorder: a receipt that is an error is refused for good, on the word of its block alone', async () => {
  await using world = await RecorderWorld.open()
  world.sources[1]!.failure = new MoteError('unreachable', 'down')
  world.chain.revoke(sensorKeys.id)
  const outcome = await world.record({ text: 'a', exchange: exchangeOf('a', await begun(world)) })
  expect(outcome).toMatchObject({
    type: 'refused',
    code: 'invalid-state',
    detail: 'record: source is revoked',
  })
})

test('recorder: a node that only claims that the message is certified is not believed', async () => {
  await using world = await RecorderWorld.open()
  const [liar] = world.sources
  liar!.submit = async bytes => {
    const parsed = parseTransaction(bytes)
    const id = parsed.ok ? parsed.value.id : never()
    return { id, status: 'certified', height: world.chain.height }
  }
  const outcome = await world.record({ text: 'a', exchange: exchangeOf('a', await begun(world)) })
  expect(outcome.type).toBe('certified')
  expect(world.errors).toEqual([])
  expect(world.recorded()).toEqual(['a'])
})

test('recorder: more open records than the limit are refused as overloaded, and taken again when there is room', async () => {
  await using world = await RecorderWorld.open({ limits: { records: 2 } })
  const failing = (failure: MoteError | undefined) => {
    for (const source of world.sources) source.failure = failure
  }
  failing(new MoteError('unreachable', 'down'))
  const taken = [await world.accept({ text: 'a' }), await world.accept({ text: 'b' })]
  expect(await world.recorder.accept(requestOf({ text: 'c' }))).toMatchObject({
    error: { code: 'overloaded' },
  })
  failing(undefined)
  await Promise.all(taken.map(({ outcome }) => outcome))
  expect(await world.record({ text: 'c' })).toMatchObject({ type: 'certified' })
})

test('recorder: one device has as many open records, and bytes of them, as its limits say; others have theirs', async () => {
  const failing = new MoteError('unreachable', 'down')
  const other = keysOf('other').id
  const record = sampleRecord({ source: other })
  const content = { type: 'attested', body: { type: 'record.one', qos: 1, record } } as const
  const ofOther = { exchange: undefined, device: other, messageId: undefined, content } as const
  for (const limits of [{ recordsPerDevice: 2 }, { bytesPerDevice: 300 }]) {
    await using world = await RecorderWorld.open({ limits })
    for (const source of world.sources) source.failure = failing
    const taken = [await world.accept({ text: 'a' }), await world.accept({ text: 'b' })]
    expect(await world.recorder.accept(requestOf({ text: 'c' }))).toMatchObject({
      error: { code: 'rate-limited' },
    })
    expect(await world.recorder.accept(ofOther)).toMatchObject({ ok: true })
    for (const source of world.sources) source.failure = undefined
    await Promise.all(taken.map(({ outcome }) => outcome))
    expect(await world.record({ text: 'c' })).toMatchObject({ type: 'certified' })
  }
})

test('recorder: what nodes put off holds up nothing else of its shard, and is recorded when they take it', async () => {
  vi.spyOn(performance, 'now').mockImplementation(() => 100 * Date.now())
  await using world = await RecorderWorld.open()
  let isPutOff = true
  for (const source of world.sources) {
    const submit = source.submit.bind(source)
    source.submit = async bytes => {
      const { id, unsigned } = unwrap(parseTransaction(bytes))
      const isDevices = unsigned.signer.deviceId === sensorKeys.id
      return isPutOff && isDevices ? { id, status: 'refused', code: 'rate-limited' } : submit(bytes)
    }
  }
  const delivery = await signedDeliveries(world)
  const waiting = unwrap(await world.recorder.accept(delivery(1)))
  // Of the same shard, and more of them than one batch has.
  const texts = Array.from({ length: 70 }, (_, i) => `m${i}`)
  await Promise.all(texts.map(text => world.record({ text })))
  expect(world.isRecorded(waiting.transaction)).toBe(false)
  isPutOff = false
  expect(await waiting.outcome).toMatchObject({ type: 'certified' })
})

test('recorder: out of reach of the chain the wait ends without an outcome, and a repeat finds it when it is there', async () => {
  await using world = await RecorderWorld.open({ limits: { outcomeMs: 50 } })
  for (const source of world.sources) source.failure = new MoteError('unreachable', 'down')
  const said = { text: 'a', exchange: exchangeOf('a', await begun(world)) }
  const { transaction, outcome } = await world.accept(said)
  await expect(outcome).rejects.toMatchObject({ code: 'timeout' })
  for (const source of world.sources) source.failure = undefined
  await untilPasses(() => expect(world.isRecorded(transaction)).toBe(true))
  expect(await world.record(said)).toMatchObject({ type: 'certified', transaction })
  expect(world.recorded()).toEqual(['a'])
})

test('recorder: refused by a full queue, a message leaves no trace: sent again it is recorded once', async () => {
  await using world = await RecorderWorld.open()
  const said = { text: 'a', messageId: 'm', exchange: exchangeOf('a', await begun(world)) }
  const full = vi.spyOn(LevelQueue.prototype, 'add').mockResolvedValue(refuse('overloaded', 'full'))
  expect(await world.recorder.accept(requestOf(said))).toMatchObject({ error: { code: 'overloaded' } })
  full.mockRestore()
  await world.restart()
  expect(world.recorded()).toEqual([])
  expect(await world.record(said)).toMatchObject({ type: 'certified' })
  expect(world.recorded()).toEqual(['a'])
})

/** What the device signed itself, in a delivery of its own each time. */
async function signedDeliveries(world: RecorderWorld) {
  const incarnation = await begun(world)
  const body = { type: 'record.one', qos: 1, record: sampleRecord() } as const
  const { chainId, time } = world.chain
  const transaction = signedBody({ chainId, body, keys: sensorKeys, time })
  return (packetIdentifier: number): RecordRequest => ({
    exchange: exchangeOf('a', incarnation, { packetIdentifier }),
    device: sensorKeys.id,
    messageId: undefined,
    content: { type: 'signed', transaction },
  })
}

test('recorder: refused by a full queue, a message leaves no trace of a delivery that joined it meanwhile either', async () => {
  await using world = await RecorderWorld.open()
  const delivery = await signedDeliveries(world)
  const untie = ExchangeStore.prototype.untie
  const untying = Promise.withResolvers<void>()
  const goOn = Promise.withResolvers<void>()
  vi.spyOn(ExchangeStore.prototype, 'untie').mockImplementation(async function (this: ExchangeStore, open) {
    const gone = untie.call(this, open)
    untying.resolve()
    await goOn.promise
    return gone
  })
  vi.spyOn(LevelQueue.prototype, 'add').mockResolvedValue(refuse('overloaded', 'full'))
  const first = world.recorder.accept(delivery(1))
  await untying.promise
  const second = world.recorder.accept(delivery(2))
  await new Promise(setImmediate)
  goOn.resolve()
  expect([await first, await second]).toMatchObject([
    { error: { code: 'overloaded' } },
    { error: { code: 'overloaded' } },
  ])
  expect(world.recorder.isRepeat(delivery(2))).toBe(false)
  expect(world.status.open).toBe(0)
  await world.restart()
  expect(world.recorded()).toEqual([])
  expect(world.recorder.isRepeat(delivery(2))).toBe(false)
})

test('recorder: of one open record as many deliveries are remembered as the limit says, and a further one is refused', async () => {
  await using world = await RecorderWorld.open()
  const delivery = await signedDeliveries(world)
  for (const source of world.sources) source.failure = new MoteError('unreachable', 'down')
  for (let i = 1; i <= maxTiesPerRecord; i++) unwrap(await world.recorder.accept(delivery(i)))
  const refused = () => world.recorder.accept(delivery(maxTiesPerRecord + 1))
  expect(await refused()).toMatchObject({ error: { code: 'rate-limited' } })
  expect(world.recorder.isRepeat(delivery(maxTiesPerRecord + 1))).toBe(false)
  // One that was taken is still found.
  const again = unwrap(await world.recorder.accept(delivery(1)))
  for (const source of world.sources) source.failure = undefined
  expect(await again.outcome).toMatchObject({ type: 'certified' })
  await untilPasses(() => expect(world.status.open).toBe(0))
  expect(await unwrap(await refused()).outcome).toEqual(await again.outcome)
})

test('recorder: where the queue cannot be reached, what is tied goes to the chain without it, and what is not is not taken', async () => {
  await using world = await RecorderWorld.open()
  const gone = new MoteError('unreachable', 'queue: gone')
  const added = vi.spyOn(LevelQueue.prototype, 'add').mockRejectedValue(gone)
  const tied = { text: 'a', exchange: exchangeOf('a', await begun(world)) }
  expect(await world.record(tied)).toMatchObject({ type: 'certified' })
  await expect(world.accept({ text: 'b' })).rejects.toBe(gone)
  added.mockRestore()
  expect(world.recorded()).toEqual(['a'])
})

test('recorder: what one device sends is on the chain in the order in which it came', async () => {
  await using world = await RecorderWorld.open()
  const incarnation = await begun(world)
  const texts = Array.from({ length: 150 }, (_, i) => `m${i}`)
  const recording = texts.map((text, packetIdentifier) =>
    world.record({ text, exchange: exchangeOf(text, incarnation, { packetIdentifier }) }),
  )
  await Promise.all(recording)
  expect(world.recorded()).toEqual(texts)
})

test('recorder: what one node alone refuses holds nobody up', async () => {
  vi.spyOn(performance, 'now').mockImplementation(() => 100 * Date.now())
  await using world = await RecorderWorld.open()
  world.sources[1]!.failure = new MoteError('unreachable', 'down')
  const body = { type: 'record.one', qos: 1, record: sampleRecord({ topic: 'forged' }) } as const
  const forged = signedBody({ chainId: world.chain.chainId, body, keys: sensorKeys, time: world.chain.time })
  forged[forged.length - 1]! ^= 1
  const content = { type: 'signed', transaction: forged } as const
  const request = { exchange: undefined, device: sensorKeys.id, messageId: undefined, content }
  const taken = unwrap(await world.recorder.accept(request))
  expect(await world.record({ text: 'a' })).toMatchObject({ type: 'certified' })
  world.sources[1]!.failure = undefined
  expect(await taken.outcome).toMatchObject({ type: 'refused', code: 'bad-signature' })
})

test('recorder: executed in a block of which the nodes have forgotten receipts and leaf hashes, a message ends, and those sent with it are not held up', async () => {
  await using world = await RecorderWorld.open()
  const lost = world.chain.height + 1
  for (const source of world.sources) {
    const receipts = source.receipts.bind(source)
    source.receipts = async height => {
      if (height === lost) throw new MoteError('forgotten', `block ${height}`)
      return receipts(height)
    }
    source.blockLeaves = async height => {
      throw new MoteError('height-not-available', `block ${height}`)
    }
  }
  const [gone, kept] = await Promise.all([world.record({ text: 'a' }), world.record({ text: 'b' })])
  expect(gone).toMatchObject({ type: 'refused', code: 'forgotten' })
  expect(kept).toMatchObject({ type: 'certified' })
  expect(world.recorded().toSorted()).toEqual(['a', 'b'])
})

test('recorder: what one node alone says of a resumed message is asked again, until a second one answers', async () => {
  await using world = await RecorderWorld.open()
  const exchange = exchangeOf('forged', await begun(world))
  for (const source of world.sources) source.failure = new MoteError('unreachable', 'down')
  const body = { type: 'record.one', qos: 1, record: sampleRecord({ topic: 'forged' }) } as const
  const transaction = signedBody({
    chainId: world.chain.chainId,
    body,
    keys: sensorKeys,
    time: world.chain.time,
  })
  transaction[transaction.length - 1]! ^= 1
  const content = { type: 'signed', transaction } as const
  const request = { exchange, device: sensorKeys.id, messageId: undefined, content }
  unwrap(await world.recorder.accept(request))
  vi.spyOn(performance, 'now').mockImplementation(() => 100 * Date.now())
  world.sources[0]!.failure = undefined
  await world.restart()
  const again = unwrap(await world.recorder.accept(request))
  await untilPasses(() => expect(world.errors.filter(isUnconfirmed).length).toBeGreaterThan(3))
  world.sources[1]!.failure = undefined
  expect(await again.outcome).toMatchObject({ type: 'refused', code: 'bad-signature' })
})

function isUnconfirmed(error: unknown): boolean {
  return error instanceof MoteError && error.code === 'unconfirmed'
}

function never(): never {
  throw new Error('cannot be')
}

test('recorder: what it has a transaction of is a repeat, by its exchange or by the id of the message, and nothing else is', async () => {
  await using world = await RecorderWorld.open()
  const { recorder } = world
  const exchange = exchangeOf('a', await begun(world))
  const said = requestOf({ text: 'a', exchange, messageId: '7' })
  expect(recorder.isRepeat(said)).toBe(false)
  await world.record({ text: 'a', exchange, messageId: '7' })
  expect(recorder.isRepeat(said)).toBe(true)
  expect(recorder.isRepeat({ ...said, exchange: undefined })).toBe(true)
  expect(recorder.isRepeat({ ...said, messageId: undefined })).toBe(true)
  await recorder.released('c', 1)
  expect(recorder.isRepeat({ ...said, messageId: undefined })).toBe(false)
  expect(recorder.isRepeat({ ...said, exchange: undefined, messageId: '8' })).toBe(false)
})

test('recorder: how a message ended is written down when the disk takes it again, and no later one puts it back on the disk as open', async () => {
  await using world = await RecorderWorld.open()
  const exchange = exchangeOf('a', await begun(world), { qos: 1 })
  const end = ExchangeStore.prototype.end
  vi.spyOn(ExchangeStore.prototype, 'end').mockImplementationOnce(async function (
    this: ExchangeStore,
    ...ended
  ) {
    vi.spyOn(MessageStore.prototype, 'write').mockRejectedValueOnce(new MoteError('storage-failed', 'full'))
    return end.apply(this, ended)
  })
  const first = await world.record({ text: 'a', exchange })
  await untilPasses(() => expect(world.status.open).toBe(0))
  const next = { ...exchange, digest: exchangeOf('b', '').digest }
  await untilPasses(() => world.record({ text: 'b', exchange: next }))
  await untilPasses(() => expect(world.status.open).toBe(0))
  await world.stop()
  const store = await MessageStore.open(join(world.directory, 'records'))
  const left = await store.all('open/')
  await store.close()
  await world.start()
  expect(left.map(([id]) => id)).toEqual([])
  expect(first).toMatchObject({ type: 'certified' })
})
