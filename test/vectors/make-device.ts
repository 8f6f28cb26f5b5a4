/**
 * Makes test/vectors/device.json: what a device makes, and what it reads, byte for byte from given keys and randomness (docs/FORMATS.md,
 * "Envelope", "Group keys", "Assertion", "MQTT topics", "Blocks and receipts"), for implementations in other languages.
 * `node test/vectors/make-device.ts` writes the file.
 *
 * HPKE draws its ephemeral key from WebCrypto; here it draws the given ones, in the order in which they are listed, so that the code that
 * runs on devices makes these bytes. Ed25519 signatures follow from key and message.
 */
import { writeFileSync } from 'node:fs'
import { bytesToHex, hexToBytes, utf8ToBytes } from '@noble/hashes/utils.js'
import { type ChainEvent, type Receipt, receiptCodec, receiptNumbers } from '../../chain/block.ts'
import {
  ChainId,
  DeviceId,
  GrantId,
  type GroupId,
  Hash,
  Height,
  Milliseconds,
  TransactionId,
} from '../../chain/brands.ts'
import { encode } from '../../chain/codec.ts'
import { hashHex } from '../../chain/hashing.ts'
import { deviceIdOf, type EncryptionKey, keyIdOf } from '../../chain/keys.ts'
import { merkleRoot } from '../../chain/merkle.ts'
import { signerFromSeed, x25519PublicKey } from '../../chain/noble-crypto.ts'
import { groupIdOf } from '../../chain/records.ts'
import { unwrap } from '../../chain/result.ts'
import { sealEpochKey } from '../../mqtt-gateway/device/box-sealing.ts'
import { type SealTarget, sealEnvelope } from '../../mqtt-gateway/device/envelope-sealing.ts'
import { hpkeSeal } from '../../mqtt-gateway/device/hpke-seal.ts'
import { makeAssertion, parseAssertion } from '../../mqtt-gateway/protocol/assertion.ts'
import {
  boxesHash,
  epochKeyHash,
  memberBoxes,
  parseEpochBoxes,
} from '../../mqtt-gateway/protocol/epoch-boxes.ts'
import { encodeProofAnswer, encodeQuestion } from '../../mqtt-gateway/protocol/question.ts'

const filled = (byte: number, length = 32) => new Uint8Array(length).fill(byte)
const pkcs8Prefix = hexToBytes('302e020100300506032b656e04220420')

/** Runs `seal` with these X25519 secrets as the ephemeral keys that WebCrypto would have drawn. */
async function withEphemeral<T>(secrets: readonly Uint8Array[], seal: () => Promise<T>): Promise<T> {
  const { subtle } = globalThis.crypto
  const left = [...secrets]
  const drawn = async () => {
    const secret = left.shift()
    if (!secret) throw new Error('more ephemeral keys are drawn than given')
    const algorithm = { name: 'X25519' }
    const pkcs8 = Uint8Array.from([...pkcs8Prefix, ...secret])
    const publicKey = Uint8Array.from(x25519PublicKey(secret))
    return {
      privateKey: await subtle.importKey('pkcs8', pkcs8, algorithm, false, ['deriveBits']),
      publicKey: await subtle.importKey('raw', publicKey, algorithm, true, []),
    }
  }
  Object.defineProperty(subtle, 'generateKey', { value: drawn, configurable: true })
  try {
    return await seal()
  } finally {
    Reflect.deleteProperty(subtle, 'generateKey')
  }
}

/** RFC 9180, appendix A.1.1, the first encryption. */
const knownAnswer = {
  source: 'RFC 9180, A.1.1, sequence number 0',
  info: '4f6465206f6e2061204772656369616e2055726e',
  aad: '436f756e742d30',
  plaintext: '4265617574792069732074727574682c20747275746820626561757479',
  recipientSecret: '4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8',
  ephemeralSecret: '52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736',
} as const

const chainId = ChainId('c1'.repeat(32))
const now = Milliseconds(1_790_000_000_000)
const sender = signerFromSeed('ed25519', filled(1))
const senderId = deviceIdOf(sender.publicKey)
const recipientSecret = filled(3)
const recipientKey: EncryptionKey = { suite: 'x25519', bytes: x25519PublicKey(recipientSecret) }
const recipientId = deviceIdOf(signerFromSeed('p256', filled(2)).publicKey)
const group = groupIdOf(senderId, 'valves')
const epoch = 300
const epochKey = filled(0xe0)

async function hpkeVector() {
  const { info, aad, plaintext, recipientSecret: secret, ephemeralSecret } = knownAnswer
  const key: EncryptionKey = { suite: 'x25519', bytes: x25519PublicKey(hexToBytes(secret)) }
  const context = { info: hexToBytes(info), aad: hexToBytes(aad) }
  const sealed = await withEphemeral([hexToBytes(ephemeralSecret)], () =>
    hpkeSeal(key, hexToBytes(plaintext), context),
  )
  const { enc, ciphertext } = unwrap(sealed)
  return {
    ...knownAnswer,
    recipientKey: bytesToHex(key.bytes),
    enc: bytesToHex(enc),
    ciphertext: bytesToHex(ciphertext),
  }
}

async function envelopeVectors() {
  const made = []
  const name = { chainId, group, epoch }
  const targets: readonly SealTarget[] = [
    { type: 'device', id: recipientId, key: recipientKey },
    { type: 'group', id: group, epoch, epochKeyHash: epochKeyHash(name, epochKey), epochKey },
  ]
  for (const [i, target] of targets.entries()) {
    const fields = {
      counter: 4_294_967_296 + i,
      seenHeight: Height(70_000),
      expiry: Milliseconds(now + 60_000),
      channel: i === 0 ? 'kitchen/temperature' : '',
    }
    const content = utf8ToBytes('21.5 °C')
    const ephemeral = target.type === 'device' ? [filled(4)] : []
    const request = { chainId, sender: senderId, signer: sender, target, content, ...fields }
    const { bytes, messageId } = unwrap(await withEphemeral(ephemeral, () => sealEnvelope(request)))
    const to =
      target.type === 'device'
        ? { type: target.type, id: target.id, key: bytesToHex(target.key.bytes), keyId: keyIdOf(target.key) }
        : { type: target.type, id: target.id, epoch, epochKeyHash: target.epochKeyHash }
    made.push({
      to,
      ...fields,
      content: bytesToHex(content),
      ...(target.type === 'device'
        ? { ephemeralSecret: bytesToHex(filled(4)), recipientSecret: bytesToHex(recipientSecret) }
        : { epochKey: bytesToHex(epochKey) }),
      messageId,
      encoded: bytesToHex(bytes),
    })
  }
  return made
}

async function boxesVector() {
  const name = { chainId, group, epoch }
  const members = [5, 6].map(n => ({
    id: deviceIdOf(signerFromSeed('ed25519', filled(n)).publicKey),
    secret: filled(n + 0x10),
    key: { suite: 'x25519', bytes: x25519PublicKey(filled(n + 0x10)) } as const,
  }))
  const sorted = members.toSorted((a, b) => (a.id < b.id ? -1 : 1))
  const ephemeral = [filled(0x25), filled(0x26)]
  const sealed = await withEphemeral(ephemeral, () => sealEpochKey(name, epochKey, members))
  const { boxes } = unwrap(sealed)
  const single = memberBoxes(unwrap(parseEpochBoxes(boxes)))
  return {
    group,
    epoch,
    epochKey: bytesToHex(epochKey),
    epochKeyHash: epochKeyHash(name, epochKey),
    members: sorted.map(({ id, secret, key }, i) => ({
      id,
      secret: bytesToHex(secret),
      key: bytesToHex(key.bytes),
      keyId: keyIdOf(key),
      ephemeralSecret: bytesToHex(ephemeral[i] as Uint8Array),
      memberBox: bytesToHex(single[i]?.payload as Uint8Array),
    })),
    encoded: bytesToHex(boxes),
    boxesHash: boxesHash(boxes),
  }
}

function assertionVector() {
  const nonce = filled(7, 16)
  const request = { device: senderId, signer: sender, audience: chainId, now, nonce }
  const { password, expiresAt } = makeAssertion(request)
  const { payload, signature } = unwrap(parseAssertion(password))
  return {
    issuedAt: now,
    expiresAt,
    nonce: bytesToHex(nonce),
    payload: bytesToHex(payload),
    signature: bytesToHex(signature),
    password,
  }
}

function questionVectors() {
  const nonce = filled(8, 16)
  const proof = filled(9, 40)
  return {
    nonce: bytesToHex(nonce),
    device: {
      id: recipientId,
      encoded: bytesToHex(encodeQuestion(nonce, { type: 'device', id: recipientId })),
    },
    group: { id: group, encoded: bytesToHex(encodeQuestion(nonce, { type: 'group', id: group })) },
    /** `proof` stands for an encoded state answer or group answer. */
    answer: { proof: bytesToHex(proof), encoded: bytesToHex(encodeProofAnswer(nonce, proof)) },
  }
}

const grant = GrantId('9a'.repeat(32))
const target = Hash('7e'.repeat(32))
const events: { readonly [T in ChainEvent['type']]: Extract<ChainEvent, { type: T }> } = {
  'grant.created': { type: 'grant.created', grant },
  'identity.registered': {
    type: 'identity.registered',
    subject: recipientId,
    label: 'lightweight',
    status: 'active',
    grant,
  },
  'identity.status': { type: 'identity.status', subject: recipientId, status: 'suspended' },
  'key.added': { type: 'key.added', subject: recipientId, key: keyIdOf(recipientKey) },
  'key.ended': { type: 'key.ended', subject: recipientId, key: keyIdOf(recipientKey), at: now },
  'group.membership': {
    type: 'group.membership',
    group: group as GroupId,
    membershipVersion: 2,
    memberCount: 128,
  },
  'group.rekeyed': { type: 'group.rekeyed', group, epoch },
  'consenters.approved': {
    type: 'consenters.approved',
    authority: DeviceId('a0'.repeat(32)),
    target,
    approvals: 1,
  },
  'consenters.decided': { type: 'consenters.decided', target, parametersVersion: 2 },
  'identity.rights': { type: 'identity.rights', subject: recipientId, version: 3 },
  'group.owner': { type: 'group.owner', group, owner: recipientId },
}

function receiptVectors() {
  const id = TransactionId('1d'.repeat(32))
  const unreadable = Uint8Array.of(0xc1, 0xff)
  const unreadableId = hashHex('mote/unreadable-transaction/1', unreadable) as string as TransactionId
  const receipts: readonly Receipt[] = [
    ...Object.values(events).map((event): Receipt => ({ id, code: 'ok', events: [event] })),
    { id, code: 'key-not-usable', events: [] },
    { id: unreadableId, code: 'malformed', events: [] },
  ]
  const encoded = receipts.map(receipt => encode(receiptCodec, receipt))
  return {
    receipts: receipts.map(({ code, ...receipt }, i) => ({
      ...receipt,
      code,
      number: receiptNumbers[code],
      encoded: bytesToHex(encoded[i] as Uint8Array),
    })),
    unreadable: bytesToHex(unreadable),
    receiptsRoot: merkleRoot(encoded),
  }
}

export async function deviceVectors() {
  return {
    about: 'What a device makes, from given keys and randomness. Hexadecimal; times in milliseconds.',
    chainId,
    sender: {
      seed: bytesToHex(filled(1)),
      key: bytesToHex(sender.publicKey.bytes),
      keyId: keyIdOf(sender.publicKey),
      id: senderId,
    },
    hpke: await hpkeVector(),
    envelopes: await envelopeVectors(),
    boxes: await boxesVector(),
    assertion: assertionVector(),
    question: questionVectors(),
    receipts: receiptVectors(),
  }
}

if (import.meta.main)
  writeFileSync(
    new URL('device.json', import.meta.url),
    `${JSON.stringify(await deviceVectors(), undefined, 2)}\n`,
  )
