/** A queue on NATS servers is not begun with files that cannot be used. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { ChainId } from '../../../../chain/brands.ts'
import type { MessageStore } from '../../../../client/message-store.ts'
import { openQueue } from '../../../../mqtt-gateway/records/open-queue.ts'

test('open queue: an nkey that others may read, or that is not there, and authorities that are not there are refused', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'mote-nkey-'))
  const nkey = join(directory, 'gateway.nk')
  const config = { type: 'jetstream', servers: ['127.0.0.1:1'], replicas: 1, bytes: 2 ** 20 } as const
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
    await expect(open({ ca: nkey + '.pem' })).rejects.toMatchObject({ code: 'config-invalid' })
  } finally {
    await rm(directory, { recursive: true })
  }
})
