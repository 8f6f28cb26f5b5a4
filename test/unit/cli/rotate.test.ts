/** `mote device rotate` on a chain in memory: the key that signs, or is sealed to, afterwards, and a crash between disk and chain. */
import { copyFile, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { keyIdOf } from '../../../chain/keys.ts'
import { KeyDirectory, makeKeys, writeKeyFile } from '../../../client/key-directory.ts'
import { type ServedDevnet, serveDevnet } from '../../support/served-devnet.ts'
import { keysOf } from '../../support/test-chain.ts'

const sensor = keysOf('meter')
let devnet: ServedDevnet
beforeAll(async () => {
  devnet = await serveDevnet({ devices: [sensor.name], startTime: Date.now() - 45_000 })
  await devnet.keep(sensor)
})
afterAll(() => devnet[Symbol.asyncDispose]())

const rotate = async (...args: readonly string[]) => {
  const { code, stdout, notes } = await devnet.mote('device', 'rotate', 'meter', ...args, '--json')
  expect(code, notes).toBe(0)
  return JSON.parse(stdout)
}
const held = async () =>
  keyIdOf((await (await KeyDirectory.open(devnet.directory)).load('meter')).signing.publicKey)

test('rotate: the new key is the one here and on the chain, and signs the next rotation', async () => {
  const first = await rotate('--overlap', '0')
  expect(first).toMatchObject({
    id: sensor.id,
    before: keyIdOf(sensor.signing.publicKey),
    keyId: await held(),
  })
  const second = await rotate()
  expect(second.before).toBe(first.keyId)
  expect(second.keyId).toBe(await held())
})

test('rotate: what a crash left on the disk is used, whether or not the chain has heard of it', async () => {
  const keys = join(devnet.directory, 'keys')
  const next = join(keys, 'meter.next')
  const current = await (await KeyDirectory.open(devnet.directory)).load('meter')
  const { signing } = makeKeys('meter')
  await writeKeyFile(next, { ...current, signing })
  await copyFile(join(keys, 'meter.json'), join(devnet.directory, 'before.json'))
  expect((await rotate()).keyId).toBe(keyIdOf(signing.publicKey))
  await expect(readFile(next)).rejects.toThrow('ENOENT')
  // The chain has it, and the directory had not been written.
  await writeKeyFile(next, { ...current, signing })
  await copyFile(join(devnet.directory, 'before.json'), join(keys, 'meter.json'))
  expect((await rotate()).keyId).toBe(keyIdOf(signing.publicKey))
  expect(await held()).toBe(keyIdOf(signing.publicKey))
})

const encryptionOf = async () => (await (await KeyDirectory.open(devnet.directory)).load('meter')).encryption

test('rotate: a new key to seal to, of another kind too, and the old one is kept for what may come', async () => {
  const old = await encryptionOf()
  for (const kind of ['p256', 'rsa-2048', 'x25519'] as const) {
    const before = keyIdOf((await encryptionOf()).publicKey)
    const answer = await rotate('--encryption', '--encryption-key', kind, '--overlap', '0')
    expect(answer).toMatchObject({ before, kind, keyId: keyIdOf((await encryptionOf()).publicKey) })
    const { stdout, notes } = await devnet.mote('device', 'trust', 'meter', '--json')
    expect(stdout, notes).toContain(answer.keyId)
  }
  const keys = await (await KeyDirectory.open(devnet.directory)).load('meter')
  expect(keys.nextEncryption).toBeUndefined()
  expect(keys.formerEncryption?.map(({ publicKey }) => publicKey.suite)).toEqual([
    'x25519',
    'p256-ecdh',
    'rsa-oaep',
  ])
  const [first] = keys.formerEncryption!
  expect(keyIdOf(first!.publicKey)).toBe(keyIdOf(old.publicKey))
  const weekMs = 7 * 24 * 3_600_000
  const inMs = first!.until - Date.now()
  expect(inMs).toBeGreaterThan(weekMs)
  expect(inMs).toBeLessThan(weekMs + 15 * 60_000)
})

test('rotate: an encryption key that a crash left on the disk is used, whether or not the chain has heard of it', async () => {
  const directory = await KeyDirectory.open(devnet.directory)
  const { encryption: next } = makeKeys('meter')
  const before = await directory.edit('meter', keys => ({ ...keys, nextEncryption: next }))
  expect((await rotate('--encryption', '--overlap', '0')).keyId).toBe(keyIdOf(next.publicKey))
  // The chain has it, and the key file was not written again: it opens by both meanwhile, and the rotation is finished.
  const after = await directory.edit('meter', () => before)
  expect(after.nextEncryption?.publicKey).toEqual(next.publicKey)
  expect((await rotate('--encryption', '--overlap', '0')).keyId).toBe(keyIdOf(next.publicKey))
  expect((await directory.load('meter')).formerEncryption?.at(-1)?.publicKey).toEqual(
    before.encryption.publicKey,
  )
})

test('rotate: a signing key that was begun before leaves a newer encryption key alone', async () => {
  const directory = await KeyDirectory.open(devnet.directory)
  const begun = await directory.load('meter')
  await writeKeyFile(join(devnet.directory, 'keys', 'meter.next'), {
    ...begun,
    signing: makeKeys('meter').signing,
  })
  const { keyId } = await rotate('--encryption', '--overlap', '0')
  await rotate()
  expect(keyIdOf((await encryptionOf()).publicKey)).toBe(keyId)
})

test('rotate: the kind of an encryption key without --encryption is a mistake', async () => {
  const { code, notes } = await devnet.mote('device', 'rotate', 'meter', '--encryption-key', 'p256')
  expect([code, notes]).toEqual([2, expect.stringContaining('--encryption')])
})
