/** A queue on NATS servers is not begun with files that cannot be used. */
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { ChainId } from '../../../../chain/brands.ts'
import type { MessageStore } from '../../../../client/message-store.ts'
import { openQueue } from '../../../../mqtt-gateway/records/open-queue.ts'
import { RecorderWorld } from '../../../support/recorder-world.ts'

const config = { type: 'jetstream', servers: ['127.0.0.1:1'], replicas: 1, bytes: 2 ** 20 } as const

test('open queue: an nkey that others may read, or that is not there, and authorities that are not there, and files with something else in them, are refused', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'mote-nkey-'))
  const nkey = join(directory, 'gateway.nk')
  const parts = { store: {} as MessageStore, chainId: 'ab'.repeat(32) as ChainId, onError: () => {} }
  const open = (files: { readonly ca?: string; readonly nkey?: string }) =>
    openQueue({ ...config, ca: undefined, nkey: undefined, ...files }, parts)
  try {
    await expect(open({ nkey })).rejects.toMatchObject({
      code: 'key-invalid',
      detail: expect.stringContaining('cannot be read'),
    })
    await writeFile(nkey, 'SU', { mode: 0o640 })
    await expect(open({ nkey })).rejects.toMatchObject({
      code: 'key-invalid',
      detail: expect.stringContaining('0640'),
    })
    await chmod(nkey, 0o600)
    await expect(open({ nkey })).rejects.toMatchObject({
      code: 'key-invalid',
      detail: expect.stringContaining('expected the seed of a user'),
    })
    const ca = join(directory, 'ca.pem')
    await expect(open({ ca })).rejects.toMatchObject({ code: 'config-invalid' })
    const begin = '-----BEGIN CERTIFICATE-----'
    for (const text of ['', `${begin}\nQUJD\n${begin.replace('BEGIN', 'END')}\n`]) {
      await writeFile(ca, text)
      await expect(open({ ca })).rejects.toMatchObject({
        code: 'config-invalid',
        detail: expect.stringMatching(/^queue\.ca: .*: expected certificates in PEM/),
      })
    }
  } finally {
    await rm(directory, { recursive: true })
  }
})

test('open queue: the status says what is wrong with the servers, and the log once', async () => {
  await using world = await RecorderWorld.open({ queue: { ...config, ca: undefined, nkey: undefined } })
  await expect.poll(() => world.status.queue).toMatch(/^unreachable: queue: /)
  await new Promise(resolve => setTimeout(resolve, 500))
  expect(world.errors).toHaveLength(1)
})
