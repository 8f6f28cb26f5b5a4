/** What a device remembers: no counter twice, contacts as they were written. */
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { DeviceId, GroupId, Height, KeyId } from '../../../chain/brands.ts'
import { DeviceState } from '../../../mqtt-gateway/device/device-state.ts'

const key = 'aa'.repeat(32) as KeyId
const device = 'bb'.repeat(32) as DeviceId
const group = 'cc'.repeat(32) as GroupId

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'mote-state-'))
})
afterEach(() => rm(directory, { recursive: true }))

test('device state: counters never repeat, across runs and between two at once', async () => {
  const seen = new Set<number>()
  let drawn = 0
  for (let run = 0; run < 3; run++) {
    const states = await Promise.all([DeviceState.open(directory), DeviceState.open(directory)])
    const batches = await Promise.all(
      states.flatMap(state => Array.from({ length: 70 }, () => state.nextCounter(key))),
    )
    for (const counter of batches) seen.add(counter)
    drawn += batches.length
  }
  expect(seen.size).toBe(drawn)
})

test('device state: a contact comes back as it was written, and an altered file is used as it stands (Hsu-Lu B5)', async () => {
  const state = await DeviceState.open(directory)
  expect(await state.contact(device)).toEqual({ ok: true, value: undefined })
  const contact = {
    key: { suite: 'x25519', bytes: new Uint8Array(32).fill(3) },
    height: 9 as Height,
  } as const
  await state.setContact(device, contact)
  expect(await state.contact(device)).toEqual({ ok: true, value: contact })
  const path = join(directory, 'contacts.json')
  await writeFile(path, (await readFile(path, 'utf8')).replace('03'.repeat(32), '04'.repeat(32)))
  expect(await state.contact(device)).toMatchObject({ value: { key: { bytes: new Uint8Array(32).fill(4) } } })
})

test("device state: the copy of a topic's key is kept with its epoch; one that is no key of a topic is a refusal", async () => {
  const state = await DeviceState.open(directory)
  const topic = 'ab'.repeat(32) as GroupId
  expect(await state.topicCopy(topic)).toEqual({ ok: true, value: undefined })
  const key = { suite: 'x25519', bytes: new Uint8Array(32).fill(3) } as const
  await state.setTopicCopy(topic, { key, height: 9 as Height, epoch: 4 })
  expect(await state.topicCopy(topic)).toEqual({ ok: true, value: { key, height: 9, epoch: 4 } })
  const path = join(directory, 'contacts.json')
  const good = { suite: 'x25519', publicKey: '03'.repeat(32), height: 9, epoch: 4 }
  const spoilt: readonly [unknown, string][] = [
    [{ ...good, publicKey: undefined }, 'publicKey: there is none'],
    [{ ...good, suite: 'p256-ecdh' }, "suite: expected x25519, got 'p256-ecdh'"],
    [{ ...good, epoch: 0 }, 'epoch: expected'],
    [{ ...good, epoch: undefined }, 'epoch: expected'],
  ]
  for (const [entry, problem] of spoilt) {
    await writeFile(path, JSON.stringify({ version: 1, contacts: { [topic]: entry } }))
    expect(await state.topicCopy(topic)).toMatchObject({
      ok: false,
      error: { code: 'recipient-key-mismatch', detail: expect.stringContaining(problem) },
    })
  }
})

test('device state: a copy that is no key is a refusal that says what is wrong, and stays as it is', async () => {
  const state = await DeviceState.open(directory)
  const path = join(directory, 'contacts.json')
  const good = { suite: 'x25519', publicKey: '03'.repeat(32), height: 9 }
  const spoilt: readonly [unknown, string][] = [
    [{ suite: 'x25519', height: 9 }, 'publicKey: there is none'],
    [{ ...good, publicKey: '' }, 'publicKey: there is none'],
    [{ ...good, publicKey: 'zz' }, "publicKey: expected 64 hexadecimal characters or more, got 'zz'"],
    [{ ...good, publicKey: '03'.repeat(31) }, 'publicKey: expected 64'],
    [{ ...good, publicKey: 7 }, 'publicKey: expected 64 hexadecimal characters or more, got 7'],
    [{ ...good, suite: 'rsa' }, "suite: expected x25519, p256-ecdh, rsa-oaep, got 'rsa'"],
    [{ ...good, height: -1 }, 'height: expected a natural number'],
    [null, 'publicKey: there is none'],
    ['text', 'publicKey: there is none'],
  ]
  for (const [entry, problem] of spoilt) {
    const text = JSON.stringify({ version: 1, contacts: { [device]: entry } })
    await writeFile(path, text)
    expect(await state.contact(device)).toMatchObject({
      ok: false,
      error: { code: 'recipient-key-mismatch', detail: expect.stringContaining(problem) },
    })
    expect(await readFile(path, 'utf8')).toBe(text)
  }
})

test('device state: keeps the newest epoch keys of a group, in files of mode 0600', async () => {
  const state = await DeviceState.open(directory)
  for (let epoch = 1; epoch <= 6; epoch++)
    await state.putEpochKey(group, epoch, new Uint8Array(32).fill(epoch))
  expect(await state.epochKey(group, 1)).toBeUndefined()
  for (let epoch = 3; epoch <= 6; epoch++)
    expect(await state.epochKey(group, epoch)).toEqual(new Uint8Array(32).fill(epoch))
  expect((await stat(join(directory, 'epoch-keys.json'))).mode & 0o777).toBe(0o600)
})

test('device state: a broken file is an error with its path, not an empty start', async () => {
  const state = await DeviceState.open(directory)
  const broken = async (name: string, text: string, read: () => Promise<unknown>) => {
    await writeFile(join(directory, `${name}.json`), text)
    await expect(read(), text).rejects.toMatchObject({
      code: 'storage-corrupt',
      detail: expect.stringContaining(`${name}.json`),
    })
  }
  for (const text of [
    '{"version":1',
    'null',
    '{"version":1}',
    '{"version":2,"contacts":{}}',
    '{"version":1,"contacts":[]}',
  ])
    await broken('contacts', text, () => state.contact(device))
  await broken('counters', `{"version":1,"next":{"${key}":"many"}}`, () => state.nextCounter(key))
  const keys = (value: string) => `{"version":1,"groups":{"${group}":{"1":${value}}}}`
  for (const value of ['"zz"', '7', 'null'])
    await broken('epoch-keys', keys(value), () => state.epochKey(group, 1))
})
