/** `mote device rotate` on a chain in memory: the key that signs afterwards, and a crash between disk and chain. */
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
