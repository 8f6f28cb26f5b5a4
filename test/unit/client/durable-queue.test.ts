/** The queue under the agent: what is accepted is on the disk and stays in order; what does not fit is refused. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Milliseconds } from '../../../chain/brands.ts'
import { MoteError, unwrap } from '../../../chain/result.ts'
import { DurableQueue } from '../../../client/durable-queue.ts'
import { MessageStore } from '../../../client/message-store.ts'

const limits = { messages: 8, bytes: 100, ageMs: 1_000 }
const now = 1 as Milliseconds
const body = (text: string) => new TextEncoder().encode(text)

let directory: string
let store: MessageStore
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'mote-queue-'))
  store = await MessageStore.open(directory)
})
afterEach(async () => {
  await store.close()
  await rm(directory, { recursive: true })
})

/** Takes everything off a lane. */
async function drain(queue: DurableQueue, lane: string): Promise<string[]> {
  const texts: string[] = []
  for (let entry = queue.head(lane); entry; entry = queue.head(lane)) {
    texts.push(new TextDecoder().decode(await queue.read(entry)))
    await queue.remove(entry)
  }
  return texts
}

test('durable queue: keeps the order of each lane, also of what is added side by side and after it was opened again', async () => {
  const queue = await DurableQueue.open(store, 'a/', limits)
  await Promise.all(['1', '2', '3'].map(text => queue.add({ lane: 'x', body: body(text), now })))
  await queue.add({ lane: 'y', body: body('other'), now })
  const again = await DurableQueue.open(store, 'a/', limits)
  unwrap(await again.add({ lane: 'x', body: body('4'), now }))
  expect(again.count).toBe(5)
  expect(again.lanes).toEqual(['x', 'y'])
  expect(await drain(again, 'x')).toEqual(['1', '2', '3', '4'])
  expect(await drain(again, 'y')).toEqual(['other'])
  expect((await DurableQueue.open(store, 'a/', limits)).count).toBe(0)
})

test('durable queue: refuses what is over its number of messages, and takes again when there is room', async () => {
  const queue = await DurableQueue.open(store, 'a/', limits)
  const added = await Promise.all(
    Array.from({ length: 9 }, () => queue.add({ lane: 'x', body: body('t'), now })),
  )
  expect(added.map(result => result.ok || result.error.code)).toEqual([...Array(8).fill(true), 'overloaded'])
  await queue.remove(queue.head('x')!)
  expect(await queue.add({ lane: 'x', body: body('t'), now })).toMatchObject({ ok: true })
})

test('durable queue: refuses what is over its bytes, also right after it was opened', async () => {
  const queue = await DurableQueue.open(store, 'a/', limits)
  unwrap(await queue.add({ lane: 'x', body: new Uint8Array(60), now }))
  const again = await DurableQueue.open(store, 'a/', limits)
  expect(await again.add({ lane: 'x', body: new Uint8Array(41), now })).toMatchObject({
    error: { code: 'overloaded' },
  })
  expect(await again.add({ lane: 'x', body: new Uint8Array(101), now })).toMatchObject({
    error: { code: 'too-large' },
  })
  expect(await again.add({ lane: 'x', body: new Uint8Array(40), now })).toMatchObject({ ok: true })
})

test('durable queue: never uses a number twice, although it was empty in between', async () => {
  const queue = await DurableQueue.open(store, 'a/', limits)
  const first = unwrap(await queue.add({ lane: 'x', body: body('1'), now }))
  await drain(queue, 'x')
  const again = await DurableQueue.open(store, 'a/', limits)
  const second = unwrap(await again.add({ lane: 'x', body: body('2'), now }))
  expect(second.sequence).toBeGreaterThan(first.sequence)
})

test('durable queue: two queues of one store do not see each other', async () => {
  const [a, b] = [await DurableQueue.open(store, 'a/', limits), await DurableQueue.open(store, 'b/', limits)]
  unwrap(await a.add({ lane: 'x', body: body('of a'), now }))
  unwrap(await b.add({ lane: 'x', body: body('of b'), now }))
  expect(await drain(await DurableQueue.open(store, 'b/', limits), 'x')).toEqual(['of b'])
})

test('durable queue: an altered entry is storage-corrupt and not another message', async () => {
  const queue = await DurableQueue.open(store, 'a/', limits)
  const { sequence } = unwrap(await queue.add({ lane: 'x', body: body('1'), now }))
  const key = `a/entry/${String(sequence).padStart(16, '0')}`
  await store.write([{ key, value: body('altered') }])
  await expect(queue.read(queue.head('x')!)).rejects.toMatchObject({ code: 'storage-corrupt' })
  await expect(DurableQueue.open(store, 'a/', limits)).rejects.toMatchObject({ code: 'storage-corrupt' })
})

test('message store: one process at a time', async () => {
  await expect(MessageStore.open(directory)).rejects.toMatchObject({ code: 'in-use' })
})

test('message store: what is asked for side by side is on the disk in that order, each with all that it changes', async () => {
  const value = (n: number) => Buffer.of(n >> 8, n & 255)
  const writing = Array.from({ length: 5_000 }, (_, n) =>
    store.write([
      { key: 'last', value: value(n) },
      { key: `one/${n}`, value: value(n) },
      { key: `one/${n - 1}`, value: undefined },
    ]),
  )
  await Promise.all(writing)
  expect(await store.get('last')).toEqual(value(4_999))
  expect(await store.all('one/')).toEqual([['4999', value(4_999)]])
})

test('durable queue: no number is used twice, also when the write that would have reserved them failed', async () => {
  const queue = await DurableQueue.open(store, 'a/', limits)
  const write = vi.spyOn(store, 'write').mockRejectedValueOnce(new MoteError('storage-failed', 'disk full'))
  await expect(queue.add({ lane: 'x', body: body('0'), now })).rejects.toThrow('disk full')
  write.mockRestore()
  for (const text of ['A', 'B']) unwrap(await queue.add({ lane: 'x', body: body(text), now }))
  const again = await DurableQueue.open(store, 'a/', limits)
  for (const text of ['C', 'D']) unwrap(await again.add({ lane: 'x', body: body(text), now }))
  const afterwards = await DurableQueue.open(store, 'a/', limits)
  expect(await drain(afterwards, 'x')).toEqual(['A', 'B', 'C', 'D'])
})

test('durable queue: goes on after the last entry of a store in which no numbers were reserved for it', async () => {
  const queue = await DurableQueue.open(store, 'a/', limits)
  for (const text of ['A', 'B']) unwrap(await queue.add({ lane: 'x', body: body(text), now }))
  await store.write([{ key: 'a/reserved', value: undefined }])
  const again = await DurableQueue.open(store, 'a/', limits)
  for (const text of ['C', 'D']) unwrap(await again.add({ lane: 'x', body: body(text), now }))
  expect(await drain(again, 'x')).toEqual(['A', 'B', 'C', 'D'])
})
