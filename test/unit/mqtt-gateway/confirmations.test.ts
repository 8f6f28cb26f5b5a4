/** The reserved channels: what is written is read back, and nothing else is read as one. */
import { expect, test } from 'vitest'
import type { DeviceId } from '../../../chain/brands.ts'
import {
  askingChannel,
  ConfirmationsUnderWay,
  confirmationChannel,
  maxAskedChannelCharacters,
  PendingConfirmations,
  parseChannel,
} from '../../../mqtt-gateway/agent/confirmations.ts'

const number = { stream: '0a1b2c3d', sequence: 1234 }

test('confirmations: a question for one and the confirmation are read back', () => {
  expect(askingChannel(number, '')).toBe('mote.ask/0a1b2c3d/ya')
  expect(parseChannel(askingChannel(number, ''))).toEqual({ type: 'ask', number, channel: '' })
  expect(parseChannel(askingChannel(number, 'a/b'))).toEqual({ type: 'ask', number, channel: 'a/b' })
  expect(parseChannel(confirmationChannel(number))).toEqual({ type: 'got', number })
  expect(parseChannel('valves/7')).toEqual({ type: 'plain', channel: 'valves/7' })
})

test('confirmations: the longest channel and the largest number fit an envelope; a longer one is refused', () => {
  const largest = { stream: 'ffffffff', sequence: Number.MAX_SAFE_INTEGER }
  const channel = askingChannel(largest, 'c'.repeat(maxAskedChannelCharacters))
  expect(channel.length).toBeLessThanOrEqual(64)
  expect(parseChannel(channel)).toMatchObject({ number: largest })
  expect(() => askingChannel(number, 'c'.repeat(maxAskedChannelCharacters + 1))).toThrow('malformed')
})

test.each([
  'mote.',
  'mote.ask',
  'mote.ask/0a1b2c3d',
  'mote.ask/0a1b2c3d/01',
  'mote.ask/0A1B2C3D/1',
  'mote.ask/0a1b2c3d/zzzzzzzzzzz',
  'mote.got/0a1b2c3d/1/more',
  'mote.other/0a1b2c3d/1',
])('confirmations: %s is no channel', channel => {
  expect(parseChannel(channel)).toBeUndefined()
})

test('confirmations: another device cannot give one, nor one of another number', async () => {
  const [bob, eve] = ['b'.repeat(64) as DeviceId, 'e'.repeat(64) as DeviceId]
  const pending = new PendingConfirmations()
  let isThere = false
  const { arrived, stop } = pending.expect(bob, number)
  void arrived.then(() => {
    isThere = true
  })
  pending.arrived(eve, number)
  pending.arrived(bob, { ...number, sequence: 1235 })
  pending.arrived(bob, { ...number, stream: '00000000' })
  await Promise.resolve()
  expect(isThere).toBe(false)
  pending.arrived(bob, number)
  expect(await arrived).toBe(true)
  stop()
})

test('confirmations: one that the gateway has not decided on answers every attempt that comes meanwhile', async () => {
  const underWay = new ConfirmationsUnderWay()
  const [to, other] = ['a1'.repeat(32), 'b2'.repeat(32)] as [DeviceId, DeviceId]
  let sent = 0
  let decided = Promise.withResolvers<void>()
  const send = async () => {
    sent += 1
    await decided.promise
  }
  const first = underWay.send(to, number, send)
  await underWay.send(to, number, send)
  expect(sent).toBe(1)
  const others = [underWay.send(other, number, send), underWay.send(to, { ...number, sequence: 1 }, send)]
  expect(sent).toBe(3)
  decided.reject(new Error('no verdict'))
  for (const each of [first, ...others]) await expect(each).rejects.toThrow('no verdict')
  decided = Promise.withResolvers()
  decided.resolve()
  await underWay.send(to, number, send)
  expect(sent).toBe(4)
})
