/** How far gateways fill a stream that they share: what goes back always has room. */
import { expect, test } from 'vitest'
import { reservedBytes, StreamRoom } from '../../../../mqtt-gateway/records/stream-room.ts'

function roomIn(fill: { bytes: number; maxBytes: number }) {
  let asked = 0
  const room = new StreamRoom(async () => {
    asked += 1
    return fill
  })
  return { room, asked: () => asked }
}

test('stream room: what is added stops at the reserved part, and goes on when the servers say that there is room', async () => {
  const fill = { bytes: 0, maxBytes: reservedBytes + 100 }
  const { room } = roomIn(fill)
  expect(await room.take(60)).toBe(true)
  fill.bytes = 60
  expect(await room.take(40)).toBe(true)
  fill.bytes = 100
  expect(await room.take(1)).toBe(false)
  fill.bytes = 99
  expect(await room.take(1)).toBe(true)
})

test('stream room: what is added meanwhile counts without a question, and those who ask together ask once', async () => {
  const { room, asked } = roomIn({ bytes: 0, maxBytes: reservedBytes + 100 })
  expect(await Promise.all([room.take(30), room.take(30), room.take(40)])).toEqual([true, true, true])
  expect(asked()).toBe(1)
})

test('stream room: a stream that is smaller than the reserved part is filled to the half, one without bound without end', async () => {
  const small = roomIn({ bytes: 0, maxBytes: 100 }).room
  expect(await small.take(51)).toBe(false)
  expect(await small.take(50)).toBe(true)
  expect(await roomIn({ bytes: 1e12, maxBytes: -1 }).room.take(1e12)).toBe(true)
})

test('stream room: a server that does not answer is asked again', async () => {
  let isUp = false
  const room = new StreamRoom(async () => {
    if (!isUp) throw new Error('down')
    return { bytes: 0, maxBytes: -1 }
  })
  await expect(room.take(1)).rejects.toThrow('down')
  isUp = true
  expect(await room.take(1)).toBe(true)
})
