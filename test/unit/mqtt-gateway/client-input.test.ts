/** How much of a client is read at a time: on a stream of this process, which has the buffer of a socket and nothing else. */
import type { Socket } from 'node:net'
import { PassThrough } from 'node:stream'
import { generate } from 'mqtt-packet'
import { expect, test } from 'vitest'
import { ClientInput, type InputLimits } from '../../../mqtt-gateway/server/client-input.ts'
import { RateBucket } from '../../../mqtt-gateway/server/device-rates.ts'

const publishes = (count: number, bytes = 1) =>
  Array.from({ length: count }, () =>
    generate({
      cmd: 'publish',
      topic: 't',
      payload: Buffer.alloc(bytes, 'x'),
      qos: 0,
      dup: false,
      retain: false,
    }),
  )

/** An input that is read as aedes does: all there is, when there is something. */
function open(limits: InputLimits) {
  const stream = new PassThrough()
  const packets = { connectBytes: 100, publishBytes: () => 1_000_000, filters: 8 }
  const violations: string[] = []
  const onViolation = (violation: string) => violations.push(violation)
  const input = new ClientInput(stream as unknown as Socket, { packets, limits, onViolation })
  let read = Buffer.alloc(0)
  stream.on('readable', () => {
    const chunk: Buffer | null = stream.read()
    if (chunk) read = Buffer.concat([read, chunk])
  })
  const settled = async () => {
    for (let turn = 0; turn < 10; turn++) await new Promise(resolve => setImmediate(resolve))
    return read
  }
  return { stream, input, violations, settled }
}

const bytesOf = (packets: readonly Uint8Array[]) => Buffer.concat(packets)
/** The next message's header is read before it is known that it has to wait. */
const headerBytes = 2

test('client input: no more messages of a client are read than may be decided at a time, whatever comes at once', async () => {
  const { stream, input, settled, violations } = open({ messages: 3, bytes: 1_000 })
  const packets = publishes(5)
  stream.write(bytesOf(packets))
  expect((await settled()).length).toBe(bytesOf(packets.slice(0, 3)).length + headerBytes)
  input.decided()
  expect((await settled()).length).toBe(bytesOf(packets.slice(0, 4)).length + headerBytes)
  input.decided()
  expect(await settled()).toEqual(bytesOf(packets))
  expect(violations).toEqual([])
})

test('client input: nor more bytes; one message is read however large it is', async () => {
  const { stream, input, settled } = open({ messages: 100, bytes: 100 })
  const packets = publishes(2, 500)
  stream.write(bytesOf(packets))
  expect((await settled()).length).toBeLessThan(bytesOf(packets.slice(0, 1)).length + 4)
  input.decided()
  expect(await settled()).toEqual(bytesOf(packets))
})

test('client input: what waits comes before the end of the stream', async () => {
  const { stream, input, settled } = open({ messages: 1, bytes: 1_000 })
  const packets = publishes(3)
  let ended = false
  stream.on('end', () => {
    ended = true
  })
  stream.end(bytesOf(packets))
  await settled()
  expect(ended).toBe(false)
  for (let i = 0; i < 3; i++) {
    input.decided()
    await settled()
  }
  expect(await settled()).toEqual(bytesOf(packets))
  expect(ended).toBe(true)
})

test('client input: stopped, it reads nothing more', async () => {
  const { stream, input, settled } = open({ messages: 10, bytes: 1_000 })
  input.stop()
  stream.write(bytesOf(publishes(1)))
  expect((await settled()).length).toBe(0)
})

test('device rates: a burst of four seconds, then the rate, of messages and of bytes; a message may overdraw it once', () => {
  const few = new RateBucket({ messagesPerSecond: 10, bytesPerSecond: 1_000_000 }, 0)
  for (let i = 0; i < 40; i++) expect(few.take(1, 0)).toBe(0)
  // Nothing is left, and nothing is owed.
  expect(few.take(1, 0)).toBe(1)
  expect(few.take(1, 1)).toBe(0)
  expect(few.take(1, 1)).toBe(99)
  expect(few.take(1, 101)).toBe(0)
  const narrow = new RateBucket({ messagesPerSecond: 1_000, bytesPerSecond: 1_000 }, 0)
  expect(narrow.take(10_000, 0)).toBe(0)
  expect(narrow.take(1, 0)).toBe(6_000)
  expect(narrow.take(1, 6_001)).toBe(0)
})
