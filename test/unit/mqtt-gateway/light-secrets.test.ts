/** Light encryption: one secret for many messages, whatever is lost, comes late or starts anew (Qiu A8). */
import { beforeEach, expect, test } from 'vitest'
import { type ChainId, type DeviceId, type Height, Milliseconds } from '../../../chain/brands.ts'
import { type EncryptionKey, encryptionSuites } from '../../../chain/keys.ts'
import { unwrap } from '../../../chain/result.ts'
import { makeEncryptionKeys } from '../../../client/encryption-keys.ts'
import { nativeSignerFromSeed } from '../../../client/native-crypto.ts'
import { openEnvelope, sealEnvelope } from '../../../mqtt-gateway/device/envelope-sealing.ts'
import {
  lightSecretMs,
  maxReceivedSecrets,
  maxSentSecrets,
  ReceivedSecrets,
  SentSecrets,
} from '../../../mqtt-gateway/device/light-secrets.ts'
import { parseEnvelope } from '../../../mqtt-gateway/protocol/envelope.ts'
import { decryptionKey } from '../../support/device-keys.ts'

const chainId = '11'.repeat(32) as ChainId
const signer = nativeSignerFromSeed('ed25519', new Uint8Array(32).fill(1))
const content = new TextEncoder().encode('the same text')
const x25519 = decryptionKey('x25519', 3)

let now = { steady: 0, wall: 0 }
const clock = { steady: () => now.steady, wall: () => Milliseconds(now.wall) }
beforeEach(() => {
  now = { steady: 1_000, wall: 1_700_000_000_000 }
})

async function sealedWith(secrets: SentSecrets, key: EncryptionKey, counter: number) {
  const light = unwrap(await secrets.secretFor(key))
  const sealed = await sealEnvelope({
    chainId,
    sender: 'aa'.repeat(32) as DeviceId,
    signer,
    target: { type: 'device', id: 'bb'.repeat(32) as DeviceId, key, light },
    counter,
    seenHeight: 1 as Height,
    expiry: 1_000 as Milliseconds,
    channel: '',
    content,
  })
  return unwrap(parseEnvelope(chainId, unwrap(sealed).bytes))
}

test.each(encryptionSuites)(
  'light encryption: %s: one secret; lost, late and repeated messages open, after a restart too',
  async suite => {
    const key = decryptionKey(suite, 3)
    const secrets = new SentSecrets(chainId)
    const sent = []
    for (let counter = 0; counter < 6; counter++) sent.push(await sealedWith(secrets, key.publicKey, counter))
    expect(new Set(sent.map(({ sealed }) => Buffer.from(sealed.enc).toString('hex'))).size).toBe(1)
    const bodies = sent.map(({ sealed }) => Buffer.from(sealed.ciphertext.slice(0, -16)).toString('hex'))
    expect(new Set(bodies).size, 'no key and nonce twice').toBe(6)
    let received = new ReceivedSecrets(chainId, key)
    for (const [i, place] of [5, 1, 1, 4, 0].entries()) {
      if (i === 3) received = new ReceivedSecrets(chainId, key)
      const opened = await openEnvelope(chainId, sent[place]!, { type: 'device', key, secrets: received })
      expect(unwrap(opened).bytes).toEqual(content)
    }
    // A sender that starts anew, from an old copy of its counters.
    const again = await sealedWith(new SentSecrets(chainId), key.publicKey, 0)
    expect(again.sealed.enc).not.toEqual(sent[0]!.sealed.enc)
    expect(again.sealed.ciphertext).not.toEqual(sent[0]!.sealed.ciphertext)
    expect((await openEnvelope(chainId, again, { type: 'device', key, secrets: received })).ok).toBe(true)
  },
)

test.each(['steady', 'wall'] as const)(
  'light encryption: a secret is kept for 24 hours of the %s clock, by both sides',
  async which => {
    const sent = new SentSecrets(chainId, clock)
    const received = new ReceivedSecrets(chainId, x25519, clock)
    const first = unwrap(await sent.secretFor(x25519.publicKey))
    const opened = unwrap(await received.secretOf(first.enc))
    received.keep(first.enc, opened)
    now[which] += lightSecretMs - 1
    expect(unwrap(await sent.secretFor(x25519.publicKey))).toBe(first)
    expect(unwrap(await received.secretOf(first.enc))).toBe(opened)
    now[which] += 1
    expect(unwrap(await sent.secretFor(x25519.publicKey)).enc).not.toEqual(first.enc)
    const anew = unwrap(await received.secretOf(first.enc))
    expect(anew).not.toBe(opened)
    expect(anew).toEqual(opened)
  },
)

test('light encryption: a bounded number of secrets, the one used longest ago goes first', async () => {
  const sent = new SentSecrets(chainId)
  const first = unwrap(await sent.secretFor(x25519.publicKey))
  for (let i = 0; i < 2 * maxSentSecrets; i++) {
    const { publicKey } = makeEncryptionKeys('x25519')
    unwrap(await sent.secretFor(publicKey))
  }
  expect(unwrap(await sent.secretFor(x25519.publicKey)).enc).not.toEqual(first.enc)
  const received = new ReceivedSecrets(chainId, x25519)
  const kept = unwrap(await received.secretOf(first.enc))
  received.keep(first.enc, kept)
  for (let i = 0; i < 2 * maxReceivedSecrets; i++) received.keep(Uint8Array.of(i, i >> 8), new Uint8Array(32))
  expect(unwrap(await received.secretOf(first.enc))).not.toBe(kept)
})

test("light encryption: what opens no message takes nobody's place", async () => {
  const received = new ReceivedSecrets(chainId, x25519)
  const envelope = await sealedWith(new SentSecrets(chainId), x25519.publicKey, 1)
  const altered = { ...envelope, channel: 'elsewhere' }
  const key = { type: 'device', key: x25519, secrets: received } as const
  expect(await openEnvelope(chainId, altered, key)).toMatchObject({ error: { code: 'cannot-open' } })
  const { enc } = envelope.sealed
  expect(unwrap(await received.secretOf(enc))).not.toBe(unwrap(await received.secretOf(enc)))
  expect((await openEnvelope(chainId, envelope, key)).ok).toBe(true)
  expect(unwrap(await received.secretOf(enc))).toBe(unwrap(await received.secretOf(enc)))
  expect(await received.secretOf(new Uint8Array(32))).toMatchObject({ error: { code: 'cannot-open' } })
})

test('light encryption: a key that nobody can seal to is refused', async () => {
  const refused = await new SentSecrets(chainId).secretFor({ suite: 'x25519', bytes: new Uint8Array(32) })
  expect(refused).toMatchObject({ error: { code: 'key-not-usable' } })
})
