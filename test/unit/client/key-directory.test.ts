import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { bytesToHex } from '@noble/hashes/utils.js'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { deviceIdOf } from '../../../chain/keys.ts'
import { nobleVerifier } from '../../../chain/noble-crypto.ts'
import { ok, unwrap } from '../../../chain/result.ts'
import { withDirectoryLock } from '../../../client/atomic-file.ts'
import { encryptionKeyKinds, kindOfEncryptionKey } from '../../../client/encryption-keys.ts'
import { KeyDirectory, makeKeys, readKeyFile, signerOf, writeKeyFile } from '../../../client/key-directory.ts'

import { decryptionKeyOf } from '../../../mqtt-gateway/device/decryption-key.ts'
import { openWithKey, sealToKey } from '../../../mqtt-gateway/device/key-sealing.ts'

let base: string
beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'mote-keys-'))
})
afterEach(() => rm(base, { recursive: true, force: true }))

const mode = async (path: string) => ((await stat(path)).mode & 0o777).toString(8)

describe('key directory', () => {
  it('key directory: directories are 0700 and files 0600, whatever was there and whatever the umask', async () => {
    const directory = join(base, 'd')
    await mkdir(directory, { mode: 0o755 })
    const umask = process.umask(0)
    try {
      const keys = await KeyDirectory.open(directory)
      await keys.create('sensor', { transport: true })
    } finally {
      process.umask(umask)
    }
    expect(await mode(directory)).toBe('700')
    expect(await mode(join(directory, 'keys'))).toBe('700')
    expect(await mode(join(directory, 'keys', 'sensor.json'))).toBe('600')
    expect(await mode(join(directory, 'names.json'))).toBe('600')
    expect((await readdir(directory)).sort()).toEqual(['keys', 'names.json'])
  })

  it('key directory: gives back the keys it made, for both signing suites', async () => {
    for (const suite of ['ed25519', 'p256'] as const) {
      const keys = await KeyDirectory.open(base)
      const made = await keys.create(`sensor-${suite}`, { suite, transport: true })
      const loaded = await keys.load(`sensor-${suite}`)
      expect(loaded).toEqual(made)
      expect(loaded.id).toBe(deviceIdOf(loaded.signing.publicKey))
      expect(bytesToHex(loaded.transport!.seed.expose())).toBe(bytesToHex(made.transport!.seed.expose()))
      const message = new TextEncoder().encode('message')
      const signature = signerOf(loaded).sign(message)
      expect(nobleVerifier.verify(made.signing.publicKey, message, signature)).toBe(true)
    }
  })

  it.each(encryptionKeyKinds)('key directory: gives back an encryption key of kind %s', async kind => {
    const keys = await KeyDirectory.open(base)
    const made = await keys.create('sensor', { encryption: kind })
    const loaded = await keys.load('sensor')
    expect(loaded).toEqual(made)
    expect(kindOfEncryptionKey(loaded.encryption.publicKey)).toBe(kind)
    const context = { info: Uint8Array.of(1), aad: Uint8Array.of(2) }
    const sealed = unwrap(await sealToKey(made.encryption.publicKey, Uint8Array.of(3), context))
    expect(await openWithKey(decryptionKeyOf(loaded.encryption), sealed, context)).toEqual(
      ok(Uint8Array.of(3)),
    )
    const path = join(base, 'keys', 'sensor.json')
    const content = await readFile(path, 'utf8')
    const secret = bytesToHex(made.encryption.secret.expose())
    for (const damage of [
      content.replace(secret, secret.slice(2)),
      content.replace(bytesToHex(made.encryption.publicKey.bytes), 'ab'.repeat(32)),
      content.replace(`"${made.encryption.publicKey.suite}"`, '"x448"'),
    ]) {
      await writeFile(path, damage)
      const error = await keys.load('sensor').catch((cause: unknown) => cause)
      expect(error).toMatchObject({ code: 'key-invalid', detail: expect.stringContaining('encryption.') })
      expect(inspect(error)).not.toContain(secret.slice(4, 20))
    }
  })

  it('key directory: a seed never shows itself in a log', async () => {
    const keys = makeKeys('sensor', { transport: true })
    const seeds = [keys.signing.seed, keys.encryption.secret, keys.transport!.seed]
    const shown = [JSON.stringify(keys), inspect(keys, { depth: 9, showHidden: true }), `${seeds[0]}`].join()
    for (const seed of seeds) {
      expect(shown).not.toContain(bytesToHex(seed.expose()))
      expect(shown).not.toContain(seed.expose().join(','))
      expect(shown).not.toContain(inspect(seed.expose()).slice(16, 40))
    }
    expect(shown).toContain('[secret]')
  })

  it('key directory: never overwrites keys, and a name means one identity', async () => {
    const keys = await KeyDirectory.open(base)
    const made = await keys.create('sensor')
    await expect(keys.create('sensor')).rejects.toMatchObject({ code: 'already-exists' })
    expect(await keys.load('sensor')).toEqual(made)
    await rm(join(base, 'names.json'))
    await expect(keys.create('sensor')).rejects.toMatchObject({ code: 'already-exists' })
    await keys.alias('sensor', made.id)
    const other = makeKeys('other')
    await expect(keys.alias('sensor', other.id)).rejects.toMatchObject({ code: 'already-exists' })
    await keys.alias('friend', other.id)
    await expect(keys.create('friend')).rejects.toMatchObject({ code: 'already-exists' })
  })

  it('key directory: resolves names and written ids', async () => {
    const keys = await KeyDirectory.open(base)
    const sensor = await keys.create('sensor')
    const friend = makeKeys('friend').id
    await keys.alias('friend', friend)
    expect(await keys.resolve('sensor')).toBe(sensor.id)
    expect(await keys.resolve('friend')).toBe(friend)
    expect(await keys.resolve(friend)).toBe(friend)
    expect(await keys.resolve('stranger')).toBeUndefined()
    expect(await keys.names()).toEqual([
      { name: 'friend', id: friend, hasKeys: false },
      { name: 'sensor', id: sensor.id, hasKeys: true },
    ])
    await expect(keys.load('friend')).rejects.toMatchObject({ code: 'key-not-found' })
  })

  it('key directory: refuses names that are paths or look like ids', async () => {
    const keys = await KeyDirectory.open(base)
    for (const name of ['../up', 'a/b', '', '.hidden', 'a'.repeat(65), 'ab'.repeat(32)])
      await expect(keys.create(name)).rejects.toMatchObject({ code: 'usage' })
  })

  it('key directory: many editors at once lose nothing', async () => {
    const names = Array.from({ length: 20 }, (_, i) => `device-${i}`)
    await Promise.all(names.map(async name => (await KeyDirectory.open(base)).create(name)))
    const listed = await (await KeyDirectory.open(base)).names()
    expect(listed.map(entry => entry.name)).toEqual(names.toSorted())
  })

  it('key directory: takes over the lock of a process that is gone, not that of a live one', async () => {
    await writeFile(join(base, '.lock'), '4194305')
    expect(await withDirectoryLock(base, async () => 'done')).toBe('done')
    let inside = false
    await withDirectoryLock(base, async () => {
      const second = withDirectoryLock(base, async () => inside)
      inside = true
      await new Promise(resolve => setImmediate(resolve))
      inside = false
      return { second }
    }).then(async ({ second }) => expect(await second).toBe(false))
  })

  it('key directory: a damaged file names the field and shows no secret', async () => {
    const path = join(base, 'key.json')
    const keys = makeKeys('node', { transport: true })
    await writeKeyFile(path, keys)
    expect(await readKeyFile(path)).toEqual(keys)
    expect(await mode(path)).toBe('600')
    const content = await readFile(path, 'utf8')
    const seed = bytesToHex(keys.signing.seed.expose())
    for (const damage of [
      content.slice(0, -5),
      content.replace(seed, `${'00'.repeat(31)}01`),
      content.replace('"ed25519"', '"rsa"'),
      content.replace('"version": 1', '"version": 2'),
    ]) {
      await writeFile(path, damage)
      const error = await readKeyFile(path).catch((cause: unknown) => cause)
      expect(error).toMatchObject({ code: 'key-invalid' })
      expect(inspect(error)).not.toContain(seed.slice(0, 16))
    }
    await rm(path)
    await expect(readKeyFile(path)).rejects.toMatchObject({ code: 'key-not-found' })
  })
})
