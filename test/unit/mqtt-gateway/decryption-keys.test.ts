/** The keys that a device opens by: the current one, the next one as soon as the disk has it, and rotated ones until their time is over. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bytesToHex } from '@noble/hashes/utils.js'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Milliseconds } from '../../../chain/brands.ts'
import { keyIdOf } from '../../../chain/keys.ts'
import { type EncryptionKeyPair, makeEncryptionKeys } from '../../../client/encryption-keys.ts'
import { KeyDirectory } from '../../../client/key-directory.ts'
import { DecryptionKeys } from '../../../mqtt-gateway/device/decryption-key.ts'

const now = 1_000 as Milliseconds
const until = 2_000 as Milliseconds
const after = 2_001 as Milliseconds
const idOf = ({ publicKey }: EncryptionKeyPair) => keyIdOf(publicKey)
const [old, next] = [makeEncryptionKeys('x25519'), makeEncryptionKeys('p256')]

let base: string
let directory: KeyDirectory
beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'mote-decryption-'))
  directory = await KeyDirectory.open(base)
  await directory.create('meter')
  await directory.edit('meter', keys => ({ ...keys, encryption: old }))
})
afterEach(() => rm(base, { recursive: true }))

test('decryption keys: a rotation by another process is seen when something comes for the new key, at each of its steps', async () => {
  const keys = new DecryptionKeys(await directory.load('meter'), () => directory.load('meter'))
  const current = await keys.find(idOf(old), now)
  expect(await keys.find(idOf(next), now)).toBeUndefined()
  await directory.edit('meter', each => ({ ...each, nextEncryption: next }))
  expect((await keys.find(idOf(next), now))?.publicKey).toEqual(next.publicKey)
  expect(keys.current).toEqual(old.publicKey)
  await keys.follow(idOf(next), now)
  expect(keys.current, 'the chain says so').toEqual(next.publicKey)
  const formerEncryption = [{ ...old, until }]
  await directory.edit('meter', each => ({
    ...each,
    encryption: next,
    nextEncryption: undefined,
    formerEncryption,
  }))
  const later = new DecryptionKeys(await directory.load('meter'))
  expect(later.current).toEqual(next.publicKey)
  expect((await later.find(idOf(old), until))?.publicKey).toEqual(old.publicKey)
  expect(await later.find(idOf(old), after)).toBeUndefined()
  expect(await keys.find(idOf(old), now), 'one object for its whole life').toBe(current)
})

test('decryption keys: a rotated key is on the disk until its time is over, and erased then', async () => {
  const formerEncryption = [{ ...old, until }]
  await directory.edit('meter', each => ({ ...each, encryption: next, formerEncryption }))
  const secret = bytesToHex(old.secret.expose())
  const content = () => readFile(join(base, 'keys', 'meter.json'), 'utf8')
  await directory.eraseFormerKeys('meter', until)
  expect(await content()).toContain(secret)
  expect((await directory.load('meter')).formerEncryption).toEqual(formerEncryption)
  await directory.eraseFormerKeys('meter', after)
  expect(await content()).not.toContain(secret)
  expect(idOf((await directory.load('meter')).encryption)).toBe(idOf(next))
})

test('decryption keys: former keys in a file that are too many, or of another form, are refused, without the secret', async () => {
  const path = join(base, 'keys', 'meter.json')
  const file = JSON.parse(await readFile(path, 'utf8'))
  const former = { ...file.encryption, until: 1 }
  for (const formerEncryption of [
    Array(7).fill(former),
    [{ ...former, until: 'soon' }],
    {},
    [{ ...former, suite: 'x' }],
  ]) {
    await writeFile(path, JSON.stringify({ ...file, formerEncryption }))
    const refused = await directory.load('meter').catch((error: unknown) => error)
    expect(refused).toMatchObject({
      code: 'key-invalid',
      detail: expect.stringContaining('formerEncryption'),
    })
    expect(String(refused)).not.toContain(file.encryption.secret)
  }
})
