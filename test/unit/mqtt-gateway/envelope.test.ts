/** The envelope: what goes in comes out for the right key, and nothing else does (FORMATS, "Envelope"). */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { ChainId, GroupId, Hash, Height, Milliseconds } from '../../../chain/brands.ts'
import { topicSuite } from '../../../chain/envelope-suites.ts'
import { deviceIdOf, encryptionSuites, keyIdOf } from '../../../chain/keys.ts'
import { nobleVerifier, signerFromSeed } from '../../../chain/noble-crypto.ts'
import { unwrap } from '../../../chain/result.ts'
import { makeEncryptionKeys } from '../../../client/encryption-keys.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import type { DecryptionKey } from '../../../mqtt-gateway/device/decryption-key.ts'
import {
  type OpeningKey,
  openEnvelope,
  type SealRequest,
  type SealTarget,
  sealEnvelope,
} from '../../../mqtt-gateway/device/envelope-sealing.ts'
import { SentSecrets } from '../../../mqtt-gateway/device/light-secrets.ts'
import { topicPairOf } from '../../../mqtt-gateway/device/topic-keys.ts'
import { maxContentBytes } from '../../../mqtt-gateway/protocol/content.ts'
import {
  checkDeliveryTime,
  checkSuite,
  deliverableUntil,
  maxEnvelopeBytes,
  maxEnvelopeLifetimeMs,
  maxKeepMs,
  notKept,
  parseEnvelope,
  signEnvelope,
  verifyEnvelope,
} from '../../../mqtt-gateway/protocol/envelope.ts'
import { deliveryTopic, recipientOf } from '../../../mqtt-gateway/protocol/topics.ts'
import { decryptionKey, openerOf } from '../../support/device-keys.ts'

const chainId = '11'.repeat(32) as ChainId
const otherChain = '22'.repeat(32) as ChainId
const signer = signerFromSeed('ed25519', new Uint8Array(32).fill(1))
const sender = deviceIdOf(signer.publicKey)
const recipient = deviceIdOf(signerFromSeed('ed25519', new Uint8Array(32).fill(2)).publicKey)
const group = '33'.repeat(32) as GroupId
const epochKey = new Uint8Array(32).fill(9)
const content = new TextEncoder().encode('valve 3 is open')

const keyPairs = encryptionSuites.map(suite => decryptionKey(suite, 7))
const toKey = ({ publicKey }: DecryptionKey): SealTarget => ({
  type: 'device',
  id: recipient,
  key: publicKey,
})
const toDevice = toKey(keyPairs[0]!)
const toGroup: SealTarget = {
  type: 'group',
  id: group,
  epoch: 4,
  epochKeyHash: '44'.repeat(32) as Hash,
  epochKey,
}

function request(target: SealTarget, changes: Partial<SealRequest> = {}): SealRequest {
  return {
    chainId,
    sender,
    signer,
    target,
    counter: 12,
    seenHeight: 30 as Height,
    expiry: 1_700_000_000_000 as Milliseconds,
    channel: 'valves/3',
    content,
    ...changes,
  }
}

async function sealed(target: SealTarget, changes: Partial<SealRequest> = {}): Promise<Uint8Array> {
  return unwrap(await sealEnvelope(request(target, changes))).bytes
}

interface Row {
  readonly name: string
  readonly target: SealTarget
  readonly opener: OpeningKey
  /** Another key of the same kind. */
  readonly wrong: OpeningKey
}
const rows: readonly Row[] = [
  ...keyPairs.map(key => rowOf(key.publicKey.suite, toKey(key), key)),
  ...(await Promise.all(keyPairs.map(lightRowOf))),
  {
    name: 'group',
    target: toGroup,
    opener: { type: 'group', epochKey },
    wrong: { type: 'group', epochKey: new Uint8Array(32).fill(8) },
  },
]

function rowOf(name: string, target: SealTarget, key: DecryptionKey): Row {
  // Under the same id, so that the cipher has to notice.
  const stranger = { ...strangerTo(key), publicKey: key.publicKey }
  return { name, target, opener: openerOf(chainId, key), wrong: openerOf(chainId, stranger) }
}

async function lightRowOf(key: DecryptionKey): Promise<Row> {
  const { publicKey } = key
  const light = unwrap(await new SentSecrets(chainId).secretFor(publicKey))
  return rowOf(`light ${publicKey.suite}`, { type: 'device', id: recipient, key: publicKey, light }, key)
}

function strangerTo({ publicKey: { suite } }: DecryptionKey): DecryptionKey {
  if (suite !== 'rsa-oaep') return decryptionKey(suite, 8)
  const { publicKey, secret } = makeEncryptionKeys('rsa-2048')
  return { publicKey, secret: secret.expose() }
}

describe.each(rows)('envelope for $name', ({ target, opener, wrong }) => {
  test('envelope: opens to what was sealed, and the header says what was asked', async () => {
    const envelope = unwrap(parseEnvelope(chainId, await sealed(target)))
    expect(envelope.header).toMatchObject({
      sender,
      senderKeyId: keyIdOf(signer.publicKey),
      counter: 12,
      seenHeight: 30,
    })
    expect(envelope.channel).toBe('valves/3')
    expect(verifyEnvelope(envelope, signer.publicKey, nobleVerifier)).toBe(true)
    expect(unwrap(await openEnvelope(chainId, envelope, opener)).bytes).toEqual(content)
  })

  test('envelope: any changed byte is refused by the parser or by the signature', async () => {
    const wire = await sealed(target)
    for (let i = 0; i < wire.length; i++) {
      const altered = Uint8Array.from(wire)
      altered[i] = (altered[i] as number) ^ 0x01
      const parsed = parseEnvelope(chainId, altered)
      expect(
        parsed.ok && verifyEnvelope(parsed.value, signer.publicKey, nativeVerifier),
        `byte ${i} of ${wire.length}`,
      ).toBe(false)
    }
  })

  test('envelope: a body does not open under another header, channel, chain or key', async () => {
    const envelope = unwrap(parseEnvelope(chainId, await sealed(target)))
    const open = async (changed: typeof envelope, chain = chainId): Promise<string> => {
      const opened = await openEnvelope(chain, changed, opener)
      return opened.ok ? 'opened' : opened.error.code
    }
    expect(await open({ ...envelope, header: { ...envelope.header, counter: 13 } })).toBe('cannot-open')
    expect(await open({ ...envelope, channel: 'valves/4' })).toBe('cannot-open')
    expect(await open(envelope, otherChain)).toBe('cannot-open')
    expect(await openEnvelope(chainId, envelope, wrong)).toMatchObject({ error: { code: 'cannot-open' } })
  })

  test('envelope: a signature of one chain does not verify on another', async () => {
    const wire = await sealed(target)
    const elsewhere = unwrap(parseEnvelope(otherChain, wire))
    expect(verifyEnvelope(elsewhere, signer.publicKey, nobleVerifier)).toBe(false)
  })
})

test('envelope: a P-256 device signs too', async () => {
  const p256 = signerFromSeed('p256', new Uint8Array(32).fill(5))
  const envelope = unwrap(parseEnvelope(chainId, await sealed(toDevice, { signer: p256 })))
  expect(verifyEnvelope(envelope, p256.publicKey, nobleVerifier)).toBe(true)
  expect(verifyEnvelope(envelope, signer.publicKey, nobleVerifier)).toBe(false)
})

test('envelope: overhead stays under 320 bytes, for P-256 under 350, for RSA under 550', async () => {
  const most = { x25519: 320, 'p256-ecdh': 350, 'rsa-oaep': 550, group: 320 } as Readonly<
    Record<string, number>
  >
  for (const { name, target } of rows)
    expect((await sealed(target, { channel: '' })).length - content.length, name).toBeLessThan(
      most[name.replace('light ', '')]!,
    )
})

test("envelope: the suite has to be one for the key, and the key this device's", async () => {
  for (const key of keyPairs) {
    const envelope = unwrap(parseEnvelope(chainId, await sealed(toKey(key))))
    expect(checkSuite(envelope.header.suite, key.publicKey).ok).toBe(true)
    for (const other of keyPairs.filter(each => each !== key)) {
      expect(checkSuite(envelope.header.suite, other.publicKey)).toMatchObject({
        error: { code: 'suite-mismatch' },
      })
      const target = { type: 'device', id: recipient, keyId: keyIdOf(other.publicKey) } as const
      const named = { ...envelope, header: { ...envelope.header, target } }
      const opener = openerOf(chainId, other)
      expect(await openEnvelope(chainId, named, opener)).toMatchObject({ error: { code: 'suite-mismatch' } })
      const opened = await openEnvelope(chainId, envelope, opener)
      expect(opened).toMatchObject({
        error: { code: 'cannot-open', detail: expect.stringContaining('keyId') },
      })
    }
  }
})

test("envelope: an encapsulated key of another length than the suite's is malformed", async () => {
  for (const { name, target } of rows) {
    const { header, channel, sealed: body } = unwrap(parseEnvelope(chainId, await sealed(target)))
    const wrong = { ...body, enc: new Uint8Array(name === 'group' ? 32 : body.enc.length - 1) }
    const { bytes } = signEnvelope(chainId, { header, channel }, wrong, signer)
    expect(parseEnvelope(chainId, bytes), name).toMatchObject({ error: { code: 'malformed' } })
  }
})

test('envelope: the largest content fits, one byte more is refused', async () => {
  for (const { target } of rows) {
    const wire = await sealed(target, { content: new Uint8Array(maxContentBytes), channel: 'c'.repeat(64) })
    expect(wire.length).toBeLessThanOrEqual(maxEnvelopeBytes)
    expect(parseEnvelope(chainId, wire).ok).toBe(true)
  }
  const tooLarge = await sealEnvelope(request(toDevice, { content: new Uint8Array(maxContentBytes + 1) }))
  expect(tooLarge).toMatchObject({ ok: false, error: { code: 'too-large' } })
})

test('envelope: another format version is told apart from broken bytes', async () => {
  const wire = await sealed(toDevice)
  const withVersion = (...version: number[]) => {
    const parsed = parseEnvelope(chainId, Uint8Array.of(0x93, ...version, ...wire.subarray(2)))
    return parsed.ok ? 'ok' : parsed.error.code
  }
  expect(withVersion(1)).toBe('ok')
  for (const version of [0, 2, 127]) expect(withVersion(version)).toBe('unknown-version')
  // 128, 255, 256 and 2^32: more than a byte, and so no version.
  const longer = [
    [0xcc, 128],
    [0xcc, 255],
    [0xcd, 1, 0],
    [0xd3, 0, 0, 0, 1, 0, 0, 0, 0],
  ]
  for (const version of longer) expect(withVersion(...version)).toBe('malformed')
  expect(parseEnvelope(chainId, new Uint8Array(0))).toMatchObject({ ok: false, error: { code: 'malformed' } })
})

test('envelope: a recipient key of small order is refused, not sealed to', async () => {
  const target: SealTarget = {
    type: 'device',
    id: recipient,
    key: { suite: 'x25519', bytes: new Uint8Array(32) },
  }
  expect(await sealEnvelope(request(target))).toMatchObject({ ok: false, error: { code: 'key-not-usable' } })
})

test('envelope: the same counter with another expiry still makes another group key', async () => {
  const one = unwrap(parseEnvelope(chainId, await sealed(toGroup)))
  const two = unwrap(
    parseEnvelope(chainId, await sealed(toGroup, { expiry: 1_700_000_000_001 as Milliseconds })),
  )
  expect(one.sealed.ciphertext).not.toEqual(two.sealed.ciphertext)
})

test("envelope: the delivery topic is whom it goes to and the channel, of a group's mail too", async () => {
  const device = unwrap(parseEnvelope(chainId, await sealed(toDevice)))
  expect(deliveryTopic(recipient, device)).toBe(`mote/1/to/${recipient}/valves/3`)
  expect(recipientOf(deliveryTopic(recipient, device))).toBe(recipient)
  const plain = unwrap(parseEnvelope(chainId, await sealed(toGroup, { channel: '' })))
  expect(deliveryTopic(recipient, plain)).toBe(`mote/1/to/${recipient}`)
  expect(recipientOf(`mote/1/verdict/${recipient}`)).toBeUndefined()
})

test('envelope: hostile bytes are a typed refusal, never a throw (fuzz)', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), bytes => {
      const parsed = parseEnvelope(chainId, bytes)
      expect(parsed.ok ? 'malformed' : parsed.error.code).toMatch(/malformed|unknown-version/)
    }),
  )
})

test('envelope: mutated, cut and lengthened envelopes are refused (fuzz)', async () => {
  const wire = await sealed(toDevice)
  fc.assert(
    fc.property(fc.nat(wire.length - 1), fc.uint8Array({ minLength: 1, maxLength: 8 }), (at, patch) => {
      const spliced = Uint8Array.from([...wire.subarray(0, at), ...patch, ...wire.subarray(at + 1)])
      const parsed = parseEnvelope(chainId, spliced)
      const same = Buffer.from(spliced).equals(Buffer.from(wire))
      expect(parsed.ok && verifyEnvelope(parsed.value, signer.publicKey, nativeVerifier)).toBe(same)
    }),
  )
})

test('envelope: a time to keep it is after the expiry, and counts instead of it for who gets it', async () => {
  const expiry = 1_700_000_000_000
  const keeping = (keepUntil: number) => sealed(toDevice, { keepUntil: keepUntil as Milliseconds })
  expect(parseEnvelope(chainId, await keeping(expiry))).toMatchObject({ error: { code: 'malformed' } })
  const { header } = unwrap(parseEnvelope(chainId, await keeping(expiry + 5)))
  expect(deliverableUntil(header)).toBe(expiry + 5)
  const at = (head: number, now = head) => {
    const checked = checkDeliveryTime(header, { head: head as Milliseconds, now: now as Milliseconds })
    return checked.ok || checked.error.code
  }
  expect([at(expiry + 5), at(expiry + 6)]).toEqual([true, 'envelope-expired'])
  expect(at(expiry, expiry - maxKeepMs - maxEnvelopeLifetimeMs)).toBe('expiry-too-far')
  expect(unwrap(parseEnvelope(chainId, await sealed(toDevice))).header.keepUntil).toBe(notKept)
})

test('envelope: for an open topic it comes back with epoch and key id, opens with its pair alone, and is of one suite', async () => {
  const name = { chainId, group, epoch: 4 }
  const pair = topicPairOf(name, epochKey)
  const target: SealTarget = { type: 'topic', id: group, epoch: 4, key: pair.publicKey }
  const envelope = unwrap(parseEnvelope(chainId, await sealed(target)))
  expect(envelope.header).toMatchObject({
    suite: topicSuite,
    target: { type: 'topic', id: group, epoch: 4, keyId: keyIdOf(pair.publicKey) },
  })
  expect(unwrap(await openEnvelope(chainId, envelope, { type: 'topic', key: pair })).bytes).toEqual(content)
  const next = topicPairOf({ ...name, epoch: 5 }, epochKey)
  for (const key of [
    { type: 'topic', key: next },
    { type: 'group', epochKey },
  ] as const)
    expect(await openEnvelope(chainId, envelope, key)).toMatchObject({ error: { code: 'cannot-open' } })
  const kept = await sealed(target, { keepUntil: (envelope.header.expiry + 5) as Milliseconds })
  expect(parseEnvelope(chainId, kept).ok).toBe(true)
  const light = { ...envelope.header, suite: 'light-x25519-aes256gcm' } as const
  const forged = signEnvelope(chainId, { header: light, channel: '' }, envelope.sealed, signer)
  expect(parseEnvelope(chainId, forged.bytes)).toMatchObject({ error: { code: 'malformed' } })
})
