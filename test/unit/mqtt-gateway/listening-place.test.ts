/** Places of listeners: each gives a message out once, and none what another one gave out before it came. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { KeyId, Milliseconds } from '../../../chain/brands.ts'
import { ok, refuse } from '../../../chain/result.ts'
import { ListeningPlace } from '../../../mqtt-gateway/device/listening-place.ts'

const keyId = 'aa'.repeat(32) as KeyId
const now = 1000 as Milliseconds
const sighting = (counter: number) => ({ keyId, counter, expiry: 2000 as Milliseconds })

let directory: string
const taken: ListeningPlace[] = []
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'mote-places-'))
})
afterEach(async () => {
  await Promise.all(taken.splice(0).map(place => place.release()))
  await rm(directory, { recursive: true })
})

async function take(at: Milliseconds = now): Promise<ListeningPlace> {
  const place = await ListeningPlace.take(directory, at)
  taken.push(place)
  return place
}

async function release(place: ListeningPlace): Promise<void> {
  taken.splice(taken.indexOf(place), 1)
  await place.release()
}

const codeOf = async (place: ListeningPlace, counter: number): Promise<string> => {
  const accepted = await place.acceptOnce(sighting(counter), now, async () => ok(undefined))
  return accepted.ok ? 'ok' : accepted.error.code
}

test('listening place: a message is accepted once, after a restart too', async () => {
  const first = await take()
  expect(await codeOf(first, 7)).toBe('ok')
  expect(await codeOf(first, 7)).toBe('replayed')
  await release(first)
  expect(await codeOf(await take(), 7)).toBe('replayed')
})

test('listening place: two at once each accept every message, and none that was accepted before they came', async () => {
  const first = await take()
  expect(await codeOf(first, 7)).toBe('ok')
  const second = await take()
  expect(await codeOf(second, 7)).toBe('replayed')
  for (const place of [first, second]) expect(await codeOf(place, 8)).toBe('ok')
  for (const place of [first, second]) expect(await codeOf(place, 8)).toBe('replayed')
})

test('listening place: who comes begins with what all places have accepted, those that are free again too', async () => {
  const [first, second] = [await take(), await take()]
  expect(await codeOf(second, 3000)).toBe('ok')
  expect(await codeOf(first, 2999)).toBe('ok')
  await release(second)
  await release(first)
  const next = await take()
  expect(await codeOf(next, 2999)).toBe('replayed')
  expect(await codeOf(next, 3000)).toBe('replayed')
  expect(await codeOf(next, 2998)).toBe('ok')
  expect(await codeOf(next, 3000 - 1024), 'below the window').toBe('counter-too-old')
})

test('listening place: keys under which all has expired are not taken over', async () => {
  const first = await take()
  expect(await codeOf(first, 7)).toBe('ok')
  const late = await take(2001 as Milliseconds)
  expect(await codeOf(late, 7)).toBe('ok')
})

test('listening place: the ninth is refused, with the process that holds the first; a free one is taken again', async () => {
  const places = []
  for (let i = 0; i < 8; i++) places.push(await take())
  await expect(take()).rejects.toMatchObject({
    code: 'in-use',
    detail: expect.stringMatching(new RegExp(`^8 processes .*process ${process.pid} since 20`)),
  })
  await release(places[4] as ListeningPlace)
  expect(await codeOf(await take(), 1)).toBe('ok')
})

test('listening place: a broken file is an error with its path, and the place is free again', async () => {
  await release(await take())
  const path = join(directory, 'listening', '1', 'replay.json')
  for (const text of ['{"version":1', 'null', '{"version":1}', '{"version":1,"windows":[]}']) {
    await writeFile(path, text)
    await expect(take(), text).rejects.toMatchObject({
      code: 'storage-corrupt',
      detail: expect.stringContaining(path),
    })
  }
  await rm(path)
  expect(await codeOf(await take(), 1)).toBe('ok')
})

test('listening place: what was refused or failed on its way is not used up; nothing else takes its counter meanwhile', async () => {
  const place = await take()
  const failing = place.acceptOnce(sighting(7), now, async () => {
    expect(await codeOf(place, 7)).toBe('replayed')
    throw new Error('the disk is full')
  })
  await expect(failing).rejects.toThrow('full')
  const refused = await place.acceptOnce(sighting(7), now, async () => refuse('overloaded', 'no room'))
  expect(refused).toMatchObject({ error: { code: 'overloaded' } })
  await release(place)
  expect(await codeOf(await take(), 7)).toBe('ok')
})
