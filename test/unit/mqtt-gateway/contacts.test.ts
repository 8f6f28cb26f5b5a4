/** The key that a contact is refreshed to is the one that a refusal names: the newest that can be sealed to. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Milliseconds } from '../../../chain/brands.ts'
import { keyIdOf } from '../../../chain/keys.ts'
import { makeKeys } from '../../../client/key-directory.ts'
import { judgeUnusableCopy, refreshContact } from '../../../mqtt-gateway/device/contacts.ts'
import { DeviceState } from '../../../mqtt-gateway/device/device-state.ts'
import { MemoryTrust } from '../../support/memory-trust.ts'

const [alice, bob] = [makeKeys('alice'), makeKeys('bob')]

test('contacts: a newer key that nothing can be sealed to is neither taken nor named', async () => {
  const trust = new MemoryTrust()
  trust.register(bob)
  const record = trust.record(bob.id)
  const lifetime = { notBefore: 0 as Milliseconds, notAfter: undefined, revokedAt: undefined }
  const unsealable = { suite: 'p256-ecdh', bytes: new Uint8Array(33) } as const
  trust.put({ ...record, keys: [...record.keys, { purpose: 'encrypt', key: unsealable, ...lifetime }] })
  const onChain = keyIdOf(bob.encryption.publicKey)
  const about = { sender: alice.id, recipient: bob.id, problem: 'copy: publicKey: there is none' }
  const { verdict, line } = await judgeUnusableCopy(trust, about, trust.now())
  expect(verdict.reason).toBe(`recipient ${bob.id}: ${about.problem}; on the chain: ${onChain}`)
  expect(line.mismatch).toEqual({ inCopy: about.problem, onChain })
  const directory = await mkdtemp(join(tmpdir(), 'mote-contacts-'))
  try {
    const state = await DeviceState.open(directory)
    expect(await refreshContact(state, trust, bob.id, trust.now())).toMatchObject({ keyId: onChain })
    trust.suites = ['hpke-p256-aes128gcm']
    await expect(refreshContact(state, trust, bob.id, trust.now())).rejects.toMatchObject({
      code: 'recipient-not-active',
    })
  } finally {
    await rm(directory, { recursive: true })
  }
})
