/** What a gateway remembers of deliveries, for how long, and how much of it. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { MoteError, unwrap } from '../../../../chain/result.ts'
import { type ParsedTransaction, parseTransaction } from '../../../../chain/transaction.ts'
import { MessageStore } from '../../../../client/message-store.ts'
import { signedBody } from '../../../../client/submission.ts'
import {
  ExchangeStore,
  maxExchangesPerSession,
  maxSessionsPerOwner,
  namedMessageMs,
  sessionMs,
} from '../../../../mqtt-gateway/records/exchange-store.ts'
import type { Exchange, RecordOutcome, SessionStart } from '../../../../mqtt-gateway/records/recorder.ts'
import type { OpenRecord } from '../../../../mqtt-gateway/records/ties.ts'
import { ManualClock } from '../../../support/manual-clock.ts'
import { exchangeOf, gatewayKeys, recorderChain, sensorKeys } from '../../../support/recorder-world.ts'
import { sampleRecord } from '../../../support/sample-record.ts'
import { untilPasses } from '../../../support/until-passes.ts'

const { chainId, time } = recorderChain()

function transaction(): ParsedTransaction {
  const body = { type: 'record.one', qos: 1, record: sampleRecord({ source: sensorKeys.id }) } as const
  return unwrap(parseTransaction(signedBody({ chainId, body, keys: gatewayKeys, time })))
}
const opened = (): OpenRecord => ({ transaction: transaction(), ties: new Set() })
const refused = ({ transaction: { id } }: OpenRecord, detail = 'why'): RecordOutcome => ({
  type: 'refused',
  transaction: id,
  code: 'rule-violated',
  detail,
})

let directory: string
let store: MessageStore
let exchanges: ExchangeStore
let clock: ManualClock
let open: readonly OpenRecord[]
const start = async () => {
  store = await MessageStore.open(directory)
  ;({ exchanges, open } = await ExchangeStore.open(store, () => clock.wall()))
}
const restart = async () => {
  await store.close()
  await start()
}
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'mote-exchanges-'))
  clock = new ManualClock()
  await start()
})
afterEach(async () => {
  vi.restoreAllMocks()
  await store.close()
  await rm(directory, { recursive: true })
})

const begin = async (client = 'c', start: SessionStart = 'kept') =>
  (await exchanges.incarnationOf(client, start)).incarnation

test('exchange store: a record that is tied twice is open once after a restart, and ends for both', async () => {
  const exchange = exchangeOf('a', await begin())
  const message = { device: sensorKeys.id, messageId: 'm', digest: new Uint8Array(32) }
  const record = opened()
  await exchanges.tie(record, { exchange, message })
  await restart()
  expect(open.map(({ transaction: { id } }) => id)).toEqual([record.transaction.id])
  await exchanges.end(open[0]!, refused(record, 'ü'.repeat(1_000)))
  await restart()
  expect(open).toEqual([])
  for (const tie of [exchanges.find(exchange), exchanges.findMessage(message)])
    expect(await exchanges.outcomeOf(tie!)).toEqual(refused(record, 'ü'.repeat(510)))
})

test('exchange store: a successor takes the place of a transaction in all its ties', async () => {
  const exchange = exchangeOf('a', await begin())
  const record = opened()
  await exchanges.tie(record, { exchange })
  const successor = transaction()
  await exchanges.replace(record, successor)
  await restart()
  expect(open.map(({ transaction: { id } }) => id)).toEqual([successor.id])
})

test('exchange store: what came to nothing leaves nothing', async () => {
  const exchange = exchangeOf('a', await begin())
  const message = { device: sensorKeys.id, messageId: 'm', digest: new Uint8Array(32) }
  const record = opened()
  await exchanges.tie(record, { exchange, message })
  await exchanges.untie(record)
  expect(exchanges.find(exchange)).toBeUndefined()
  expect(exchanges.findMessage(message)).toBeUndefined()
  await restart()
  expect(open).toEqual([])
  expect(await store.all('exchange/')).toEqual([])
})

test('exchange store: of more deliveries than the limit the oldest that have ended are forgotten, none that is open', async () => {
  const incarnation = await begin()
  const exchange = (packetIdentifier: number) => exchangeOf('a', incarnation, { packetIdentifier })
  const first = opened()
  await exchanges.tie(first, { exchange: exchange(1) })
  const one = opened()
  const tying = Array.from({ length: maxExchangesPerSession - 1 }, (_, i) =>
    exchanges.tie(one, { exchange: exchange(i + 2) }),
  )
  await Promise.all(tying)
  await exchanges.end(one, refused(one))
  expect(exchanges.find(exchange(2))).toBeDefined()
  await exchanges.tie(opened(), { exchange: exchange(maxExchangesPerSession + 1) })
  expect(exchanges.find(exchange(1))?.open).toBe(first)
  expect(exchanges.find(exchange(2))).toBeUndefined()
  expect(exchanges.find(exchange(maxExchangesPerSession))).toBeDefined()
  expect((await store.all('exchange/')).length).toBeLessThan(maxExchangesPerSession)
})

test('exchange store: a device with more sessions than the limit loses its oldest in which nothing is open, and no other device one', async () => {
  const [device, other] = ['d'.repeat(64), 'e'.repeat(64)]
  const first = await begin(other)
  for (let i = 0; i <= maxSessionsPerOwner; i++) {
    clock.advance(1)
    const client = `${device}.${i}`
    const exchange = { ...exchangeOf('a', await begin(client)), client }
    if (i === 0) await exchanges.tie(opened(), { exchange })
  }
  expect(await exchanges.incarnationOf(`${device}.0`, 'kept')).toMatchObject({ isPresent: true })
  expect(await exchanges.incarnationOf(`${device}.2`, 'kept')).toMatchObject({ isPresent: true })
  expect(await exchanges.incarnationOf(`${device}.1`, 'kept')).toMatchObject({ isPresent: false })
  expect(await exchanges.incarnationOf(`${device}.5`, 'kept')).toMatchObject({ isPresent: true })
  expect(await exchanges.incarnationOf(other, 'kept')).toEqual({ incarnation: first, isPresent: true })
  await restart()
  clock.advance(1)
  await begin(`${device}.new`)
  expect((await store.all('session/')).length).toBe(maxSessionsPerOwner + 1)
})

/** The same store with bounds that are soon reached: an eighth of 8 is 1. */
const startSmall = async () => {
  await store.close()
  store = await MessageStore.open(directory)
  const limits = { sessions: 8, exchanges: 8, namedMessages: 8 }
  ;({ exchanges, open } = await ExchangeStore.open(store, () => clock.wall(), limits))
}
const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)
const stored = async (prefix: string) => (await store.all(prefix)).length

test('exchange store: of more sessions than the limit those not seen for longest are forgotten, none in which something is open', async () => {
  await startSmall()
  const lives = new Map<number, string>()
  const beginOne = async (number: number) => {
    clock.advance(1)
    lives.set(number, await begin(`c${number}`))
  }
  await beginOne(1)
  await exchanges.tie(opened(), { exchange: { ...exchangeOf('a', lives.get(1)!), client: 'c1' } })
  for (const number of numbers(2, 8)) await beginOne(number)
  clock.advance(1)
  for (const number of numbers(1, 8))
    expect(await exchanges.incarnationOf(`c${number}`, 'kept')).toMatchObject({ isPresent: true })
  expect(await stored('session/')).toBe(8)
  await beginOne(9)
  expect(await stored('session/')).toBe(7 + 1)
  for (const number of [1, 3, 8, 9])
    expect(await exchanges.incarnationOf(`c${number}`, 'kept')).toEqual({
      incarnation: lives.get(number),
      isPresent: true,
    })
  expect(await exchanges.incarnationOf('c2', 'kept')).toMatchObject({ isPresent: false })
})

test('exchange store: of more deliveries of all sessions than the limit the oldest that have ended are forgotten, none that is open', async () => {
  await startSmall()
  const [old, young] = [await begin('old'), await begin('young')]
  const inOld = (packetIdentifier: number) => ({
    ...exchangeOf('a', old, { packetIdentifier }),
    client: 'old',
  })
  const inYoung = (packetIdentifier: number) => ({
    ...exchangeOf('a', young, { packetIdentifier }),
    client: 'young',
  })
  const [still, done] = [opened(), opened()]
  await exchanges.tie(still, { exchange: inOld(1) })
  for (const each of [inOld(2), inOld(3), ...numbers(1, 5).map(inYoung)])
    await exchanges.tie(done, { exchange: each })
  await exchanges.end(done, refused(done))
  expect(await stored('exchange/')).toBe(8)
  for (const each of [inOld(1), inOld(2), inYoung(1)]) expect(exchanges.find(each)).toBeDefined()
  await exchanges.tie(opened(), { exchange: inYoung(6) })
  expect(exchanges.find(inOld(1))?.open).toBe(still)
  expect([inOld(2), inOld(3)].map(each => exchanges.find(each))).toEqual([undefined, undefined])
  for (const number of numbers(1, 6)) expect(exchanges.find(inYoung(number))).toBeDefined()
  expect(await stored('exchange/')).toBe(7)
})

test('exchange store: of more messages with an id than the limit the oldest that has ended is forgotten, none that is open', async () => {
  await startSmall()
  const message = (number: number) => ({
    device: sensorKeys.id,
    messageId: `${number}`,
    digest: new Uint8Array(32),
  })
  const [still, done] = [opened(), opened()]
  await exchanges.tie(still, { message: message(1) })
  for (const number of numbers(2, 8)) await exchanges.tie(done, { message: message(number) })
  await exchanges.end(done, refused(done))
  for (const number of numbers(1, 8)) expect(exchanges.findMessage(message(number))).toBeDefined()
  await exchanges.tie(opened(), { message: message(9) })
  expect(exchanges.findMessage(message(1))?.open).toBe(still)
  expect(exchanges.findMessage(message(2))).toBeUndefined()
  for (const number of numbers(3, 9)) expect(exchanges.findMessage(message(number))).toBeDefined()
  expect(await stored('message/')).toBe(8)
})

test('exchange store: a session that is not seen for its time is over, and so is a message id', async () => {
  const exchange = exchangeOf('a', await begin())
  const message = { device: sensorKeys.id, messageId: 'm', digest: new Uint8Array(32) }
  const record = opened()
  await exchanges.tie(record, { exchange, message })
  await exchanges.end(record, refused(record))
  clock.advance(namedMessageMs)
  expect(exchanges.findMessage(message)).toBeUndefined()
  expect(exchanges.find(exchange)).toBeDefined()
  clock.advance(sessionMs - namedMessageMs)
  expect(await exchanges.incarnationOf('c', 'kept')).toMatchObject({ isPresent: true })
  clock.advance(sessionMs + 1)
  await exchanges.expire()
  expect(await store.all('')).toEqual([])
  expect(await exchanges.incarnationOf('c', 'kept')).toMatchObject({ isPresent: false })
})

test('exchange store: a session that is new and kept goes on for the next connection, and has nothing of the one before', async () => {
  const before = await begin()
  const incarnation = await begin('c', 'new')
  expect(incarnation).not.toBe(before)
  const exchange = exchangeOf('a', incarnation)
  await exchanges.tie(opened(), { exchange })
  expect(await exchanges.incarnationOf('c', 'kept')).toEqual({ incarnation, isPresent: true })
  await restart()
  expect(await exchanges.incarnationOf('c', 'kept')).toEqual({ incarnation, isPresent: true })
  expect(exchanges.find(exchange)).toBeDefined()
})

test('exchange store: a clean session ends with the process; what is open in it goes on', async () => {
  const incarnation = await begin('c', 'clean')
  const [done, still] = [opened(), opened()]
  await exchanges.tie(done, { exchange: exchangeOf('a', incarnation) })
  await exchanges.tie(still, { exchange: exchangeOf('b', incarnation, { packetIdentifier: 2 }) })
  await exchanges.end(done, refused(done))
  await restart()
  expect(open.map(({ transaction: { id } }) => id)).toEqual([still.transaction.id])
  await exchanges.end(open[0]!, refused(still))
  await restart()
  expect(await store.all('')).toEqual([])
})

test.each([
  ['a clean CONNECT', () => begin('c', 'clean')],
  ['PUBREL', () => exchanges.released('c', 1)],
  [
    'another message under its packet identifier, which comes to nothing',
    async (exchange: Exchange) => {
      const next = opened()
      await exchanges.tie(next, { exchange })
      await exchanges.untie(next)
    },
  ],
])('exchange store: what is open stays on the disk after %s, until it has ended', async (_, forget) => {
  const exchange = exchangeOf('a', await begin())
  const record = opened()
  await exchanges.tie(record, { exchange })
  await forget(exchange)
  expect((await store.all('exchange/')).length).toBe(0)
  await restart()
  expect(open.map(({ transaction: { id } }) => id)).toEqual([record.transaction.id])
  const successor = transaction()
  await exchanges.replace(open[0]!, successor)
  await begin('c', 'clean')
  await restart()
  expect(open.map(({ transaction: { id } }) => id)).toEqual([successor.id])
  await exchanges.end(open[0]!, refused(open[0]!))
  await restart()
  expect(open).toEqual([])
  expect((await store.all('')).map(([key]) => key.split('/')[0])).not.toContain('open')
})

test('exchange store: what is open and still has a tie needs no other', async () => {
  const exchange = exchangeOf('a', await begin())
  const message = { device: sensorKeys.id, messageId: 'm', digest: new Uint8Array(32) }
  await exchanges.tie(opened(), { exchange, message })
  await begin('c', 'clean')
  expect((await store.all('')).map(([key]) => key.split('/')[0])).toEqual(['message', 'session'])
})

test('exchange store: a session that ends while a successor is written does not leave the one before', async () => {
  const record = opened()
  await exchanges.tie(record, { exchange: exchangeOf('a', await begin()) })
  const successor = transaction()
  await Promise.all([exchanges.replace(record, successor), begin('c', 'clean')])
  await restart()
  expect(open.map(({ transaction: { id } }) => id)).toEqual([successor.id])
})

/** The next write of the store fails, as on a full disk; those after it do not. */
const failOnce = () =>
  vi.spyOn(MessageStore.prototype, 'write').mockRejectedValueOnce(new MoteError('storage-failed', 'full'))

test('exchange store: a tie that could not be written, and is taken back, takes no other record off the disk', async () => {
  const exchange = exchangeOf('a', await begin(), { qos: 1 })
  const record = opened()
  await exchanges.tie(record, { exchange })
  const next = opened()
  failOnce()
  // The same packet identifier without DUP: another message.
  await expect(exchanges.tie(next, { exchange })).rejects.toMatchObject({ code: 'storage-failed' })
  await exchanges.untie(next)
  await restart()
  expect(open.map(({ transaction: { id } }) => id)).toEqual([record.transaction.id])
  expect(exchanges.find({ ...exchange, isRepeat: true })).toBeUndefined()
})

test('exchange store: what a failed write should have forgotten is forgotten before anything else is taken', async () => {
  const exchange = exchangeOf('a', await begin())
  const record = opened()
  await exchanges.tie(record, { exchange })
  await exchanges.end(record, refused(record))
  failOnce()
  await expect(exchanges.released('c', 1)).rejects.toMatchObject({ code: 'storage-failed' })
  failOnce()
  // The client says it again, as it has no PUBCOMP.
  await expect(exchanges.released('c', 1)).rejects.toMatchObject({ code: 'storage-failed' })
  await untilPasses(() => exchanges.released('c', 1))
  await restart()
  expect(exchanges.find(exchange)).toBeUndefined()
})

test('exchange store: of a key that was written again meanwhile, what a failed write said of it stays away', async () => {
  const incarnation = await begin()
  const exchange = exchangeOf('a', incarnation, { qos: 1 })
  const [first, second] = [opened(), opened()]
  failOnce()
  const failed = exchanges.tie(first, { exchange })
  const written = exchanges.tie(second, { exchange })
  await expect(failed).rejects.toMatchObject({ code: 'storage-failed' })
  await written
  await untilPasses(() => exchanges.released('c', 1))
  await restart()
  expect(exchanges.find({ ...exchange, isRepeat: true })?.open?.transaction.id).toBe(second.transaction.id)
})

test('exchange store: what was tied before a client has gone on far enough is no repeat any more, also after a restart; what is open goes on', async () => {
  const incarnation = await begin()
  const [old, recent] = [1, 2].map(packetIdentifier =>
    exchangeOf('a', incarnation, { packetIdentifier, qos: 1, isRepeat: true }),
  ) as [Exchange, Exchange]
  const record = opened()
  await exchanges.tie(record, { exchange: old })
  await exchanges.passed('c')
  expect(exchanges.find(old)).toBeDefined()
  await exchanges.tie(opened(), { exchange: recent })
  await exchanges.passed('c')
  for (const round of ['now', 'later']) {
    expect(exchanges.find(old), round).toBeUndefined()
    expect(exchanges.find(recent), round).toBeDefined()
    await restart()
  }
  expect(open.map(({ transaction: { id } }) => id)).toContain(record.transaction.id)
  // Its packet identifier may stand for another message by then.
  await exchanges.passed('c')
  await exchanges.tie(opened(), { exchange: { ...recent, isRepeat: false } })
  await exchanges.passed('c')
  expect(exchanges.find(recent)).toBeDefined()
})
