/**
 * Makes test/vectors/device.json: what a device makes, and what it reads, byte for byte from given keys and randomness (docs/FORMATS.md,
 * "Envelope", "Group keys", "Assertion", "MQTT topics", "Blocks and receipts"), for implementations in other languages.
 * `node test/vectors/make-device.ts` writes the file.
 *
 * HPKE draws its ephemeral key from WebCrypto; here it draws the given ones, in the order in which they are listed, so that the code that
 * runs on devices makes these bytes. What is sealed to an RSA key is made here from the given key and seed, and read by that code.
 * Ed25519 signatures follow from key and message.
 */
import { constants, createPublicKey, publicEncrypt } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { gcm } from '@noble/ciphers/aes.js'
import { p256 } from '@noble/curves/nist.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, concatBytes, hexToBytes, utf8ToBytes } from '@noble/hashes/utils.js'
import { type ChainEvent, type Receipt, receiptCodec, receiptNumbers } from '../../chain/block.ts'
import {
  ChainId,
  ContractAddress,
  DeviceId,
  GrantId,
  type GroupId,
  Hash,
  Height,
  Milliseconds,
  TransactionId,
} from '../../chain/brands.ts'
import { encode } from '../../chain/codec.ts'
import { domainBytes, hashHex } from '../../chain/hashing.ts'
import { deviceIdOf, type EncryptionKey, keyIdOf } from '../../chain/keys.ts'
import { merkleRoot } from '../../chain/merkle.ts'
import { signerFromSeed, x25519PublicKey } from '../../chain/noble-crypto.ts'
import { groupIdOf } from '../../chain/records.ts'
import { unwrap } from '../../chain/result.ts'
import { encryptionKeyOf } from '../../client/encryption-keys.ts'
import { sealEpochKey } from '../../mqtt-gateway/device/box-sealing.ts'
import type { DecryptionKey } from '../../mqtt-gateway/device/decryption-key.ts'
import { type SealTarget, sealEnvelope } from '../../mqtt-gateway/device/envelope-sealing.ts'
import { type HpkeKeySuite, hpkeSeal } from '../../mqtt-gateway/device/hpke-seal.ts'
import { SentSecrets } from '../../mqtt-gateway/device/light-secrets.ts'
import { topicPairOf } from '../../mqtt-gateway/device/topic-keys.ts'
import { makeAssertion, parseAssertion } from '../../mqtt-gateway/protocol/assertion.ts'
import { type ChunkPlace, encodeContent } from '../../mqtt-gateway/protocol/content.ts'
import { authenticatedBytes, signEnvelope } from '../../mqtt-gateway/protocol/envelope.ts'
import {
  boxesHash,
  epochKeyHash,
  memberBoxes,
  parseEpochBoxes,
} from '../../mqtt-gateway/protocol/epoch-boxes.ts'
import { encodeAcknowledgement } from '../../mqtt-gateway/protocol/kept-mail.ts'
import { encodeProofAnswer, encodeQuestion } from '../../mqtt-gateway/protocol/question.ts'
import { rsaTestSecret } from './rsa-key.ts'

const filled = (byte: number, length = 32) => new Uint8Array(length).fill(byte)
/** What WebCrypto would draw for a KEM. */
type Ephemeral = { readonly kem: HpkeKeySuite; readonly secret: Uint8Array }

async function webCryptoPair({ kem, secret }: Ephemeral) {
  const { subtle } = globalThis.crypto
  const base64url = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64url')
  const point = kem === 'x25519' ? x25519PublicKey(secret) : p256.getPublicKey(secret, false)
  const jwk =
    kem === 'x25519'
      ? { kty: 'OKP', crv: 'X25519', x: base64url(point) }
      : { kty: 'EC', crv: 'P-256', x: base64url(point.slice(1, 33)), y: base64url(point.slice(33)) }
  const algorithm = kem === 'x25519' ? { name: 'X25519' } : { name: 'ECDH', namedCurve: 'P-256' }
  return {
    privateKey: await subtle.importKey('jwk', { ...jwk, d: base64url(secret) }, algorithm, false, [
      'deriveBits',
    ]),
    publicKey: await subtle.importKey('jwk', jwk, algorithm, true, []),
  }
}

/** Runs `seal` with these secrets as the ephemeral keys that WebCrypto would have drawn. */
async function withEphemeral<T>(secrets: readonly Ephemeral[], seal: () => Promise<T>): Promise<T> {
  const { subtle } = globalThis.crypto
  const left = [...secrets]
  const drawn = async () => {
    const next = left.shift()
    if (!next) throw new Error('more ephemeral keys are drawn than given')
    return webCryptoPair(next)
  }
  Object.defineProperty(subtle, 'generateKey', { value: drawn, configurable: true })
  try {
    return await seal()
  } finally {
    Reflect.deleteProperty(subtle, 'generateKey')
  }
}

/** RFC 9180, appendix A.1.1 and A.3.1, the first encryption of each. */
const knownAnswers = [
  {
    source: 'RFC 9180, A.1.1, sequence number 0',
    suite: 'x25519',
    recipientSecret: '4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8',
    ephemeralSecret: '52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736',
  },
  {
    source: 'RFC 9180, A.3.1, sequence number 0',
    suite: 'p256-ecdh',
    recipientSecret: 'f3ce7fdae57e1a310d87f1ebbde6f328be0a99cdbcadf4d6589cf29de4b8ffd2',
    ephemeralSecret: '4995788ef4b9d6132b249ce59a77281493eb39af373d236a1fe415cb0c2d7beb',
  },
] as const
const knownContext = {
  info: '4f6465206f6e2061204772656369616e2055726e',
  aad: '436f756e742d30',
  plaintext: '4265617574792069732074727574682c20747275746820626561757479',
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

async function hpkeVectors() {
  const { info, aad, plaintext } = knownContext
  const context = { info: hexToBytes(info), aad: hexToBytes(aad) }
  const made = []
  for (const known of knownAnswers) {
    const key = encryptionKeyOf(known.suite, hexToBytes(known.recipientSecret))
    const ephemeral = { kem: known.suite, secret: hexToBytes(known.ephemeralSecret) }
    const { enc, ciphertext } = await withEphemeral([ephemeral], () =>
      hpkeSeal(known.suite, key, hexToBytes(plaintext), context),
    )
    const sealed = { enc: bytesToHex(enc), ciphertext: bytesToHex(ciphertext) }
    made.push({ ...known, ...knownContext, recipientKey: bytesToHex(key.bytes), ...sealed })
  }
  return made
}

const content = utf8ToBytes('21.5 °C')
const fieldsOf = (i: number) => ({
  counter: 4_294_967_296 + i,
  seenHeight: Height(70_000),
  expiry: Milliseconds(now + 60_000),
  keepUntil: Milliseconds(i === 1 ? now + 172_800_000 : 0),
  channel: i === 0 ? 'kitchen/temperature' : '',
})

async function envelopeVectors() {
  const made = []
  const x25519 = { publicKey: recipientKey, secret: recipientSecret }
  const p256 = { publicKey: encryptionKeyOf('p256-ecdh', filled(10)), secret: filled(10) }
  for (const [i, { publicKey, secret }] of [x25519, p256].entries()) {
    const kem = publicKey.suite as HpkeKeySuite
    const request = { chainId, sender: senderId, signer: sender, content, ...fieldsOf(i) }
    const { bytes, messageId } = unwrap(
      await withEphemeral([{ kem, secret: filled(4) }], () =>
        sealEnvelope({ ...request, target: { type: 'device', id: recipientId, key: publicKey } }),
      ),
    )
    made.push({
      to: toDevice(publicKey),
      ...fieldsOf(i),
      content: bytesToHex(content),
      ephemeralSecret: bytesToHex(filled(4)),
      recipientSecret: bytesToHex(secret),
      messageId,
      encoded: bytesToHex(bytes),
    })
  }
  made.push(rsaEnvelopeVector(2), await groupEnvelopeVector(3), ...(await lightEnvelopeVectors(4)))
  made.push(await groupEnvelopeVector(7, lastChunk), await topicEnvelopeVector(8))
  return made
}

/** Each with the secret that is shared for many messages, and what it was made from. */
async function lightEnvelopeVectors(first: number) {
  const x25519 = await hpkeSecret({ publicKey: recipientKey, secret: recipientSecret })
  const p256 = await hpkeSecret({ publicKey: encryptionKeyOf('p256-ecdh', filled(10)), secret: filled(10) })
  const made = []
  for (const [i, { key, light, recipient, from }] of [x25519, rsaSecret(), p256].entries()) {
    const target = { type: 'device', id: recipientId, key, light } as const
    const request = { chainId, sender: senderId, signer: sender, content, ...fieldsOf(first + i), target }
    const { bytes, messageId } = unwrap(await sealEnvelope(request))
    made.push({
      to: toDevice(key),
      ...fieldsOf(first + i),
      content: bytesToHex(content),
      ...from,
      lightSecret: bytesToHex(light.secret),
      recipientSecret: bytesToHex(recipient),
      messageId,
      encoded: bytesToHex(bytes),
    })
  }
  return made
}

async function hpkeSecret({ publicKey: key, secret: recipient }: DecryptionKey) {
  const ephemeral = { kem: key.suite as HpkeKeySuite, secret: filled(4) }
  const made = await withEphemeral([ephemeral], () => new SentSecrets(chainId).secretFor(key))
  return { key, light: unwrap(made), recipient, from: { ephemeralSecret: bytesToHex(ephemeral.secret) } }
}

function rsaSecret() {
  const key = encryptionKeyOf('rsa-oaep', rsaTestSecret)
  const label = domainBytes('mote/envelope-light-secret/1', hexToBytes(chainId))
  const secret = filled(0x44)
  const light = { secret, enc: rsaWrapped(key, secret, label) }
  const from = { oaepLabel: bytesToHex(label), oaepSeed: bytesToHex(oaepSeed) }
  return { key, light, recipient: rsaTestSecret, from }
}

const toDevice = (key: EncryptionKey) =>
  ({
    type: 'device',
    id: recipientId,
    suite: key.suite,
    key: bytesToHex(key.bytes),
    keyId: keyIdOf(key),
  }) as const

/** The last of two chunks. */
const lastChunk: ChunkPlace = { transfer: filled(0x51, 16), index: 1, count: 2, whole: Hash('ab'.repeat(32)) }

async function groupEnvelopeVector(i: number, place?: ChunkPlace) {
  const hash = epochKeyHash({ chainId, group, epoch }, epochKey)
  const target: SealTarget = { type: 'group', id: group, epoch, epochKeyHash: hash, epochKey }
  const request = { chainId, sender: senderId, signer: sender, content, place, ...fieldsOf(i), target }
  const { bytes, messageId } = unwrap(await sealEnvelope(request))
  return {
    to: { type: target.type, id: group, epoch, epochKeyHash: hash },
    ...fieldsOf(i),
    content: bytesToHex(content),
    ...(place && { place: { ...place, transfer: bytesToHex(place.transfer) } }),
    epochKey: bytesToHex(epochKey),
    messageId,
    encoded: bytesToHex(bytes),
  }
}

/** To an open topic: the same to the key that follows from the epoch key. */
async function topicEnvelopeVector(i: number) {
  const pair = topicPairOf({ chainId, group, epoch }, epochKey)
  const target: SealTarget = { type: 'topic', id: group, epoch, key: pair.publicKey }
  const ephemeral = { kem: 'x25519', secret: filled(6) } as const
  const request = { chainId, sender: senderId, signer: sender, content, ...fieldsOf(i), target }
  const { bytes, messageId } = unwrap(await withEphemeral([ephemeral], () => sealEnvelope(request)))
  return {
    to: {
      type: target.type,
      id: group,
      epoch,
      key: bytesToHex(pair.publicKey.bytes),
      keyId: keyIdOf(pair.publicKey),
    },
    ...fieldsOf(i),
    content: bytesToHex(content),
    epochKey: bytesToHex(epochKey),
    topicSecret: bytesToHex(pair.secret),
    ephemeralSecret: bytesToHex(ephemeral.secret),
    messageId,
    encoded: bytesToHex(bytes),
  }
}

/** OpenSSL draws the seed of OAEP where nobody can give it: this one is padded here, by RFC 8017, section 7.1.1. */
function rsaEnvelopeVector(i: number) {
  const key = encryptionKeyOf('rsa-oaep', rsaTestSecret)
  const fields = fieldsOf(i)
  const header = {
    suite: 'rsa-oaep-sha256-aes256gcm',
    sender: senderId,
    senderKeyId: keyIdOf(sender.publicKey),
    target: { type: 'device', id: recipientId, keyId: keyIdOf(key) },
    ...fields,
  } as const
  const messageKey = Uint8Array.from([...filled(0x41), ...filled(0x42, 12)])
  const label = domainBytes('mote/envelope-info/1', hexToBytes(chainId))
  const enc = rsaWrapped(key, messageKey, label)
  const aad = authenticatedBytes({ header, channel: fields.channel })
  const ciphertext = gcm(messageKey.slice(0, 32), messageKey.slice(32), aad).encrypt(
    encodeContent({ bytes: content, place: undefined }),
  )
  const { bytes, messageId } = signEnvelope(
    chainId,
    { header, channel: fields.channel },
    { enc, ciphertext },
    sender,
  )
  return {
    to: toDevice(key),
    ...fields,
    content: bytesToHex(content),
    messageKey: bytesToHex(messageKey),
    oaepLabel: bytesToHex(label),
    oaepSeed: bytesToHex(oaepSeed),
    recipientSecret: bytesToHex(rsaTestSecret),
    messageId,
    encoded: bytesToHex(bytes),
  }
}

const oaepSeed = filled(0x43)

function rsaWrapped(key: EncryptionKey, message: Uint8Array, label: Uint8Array): Uint8Array {
  const publicKey = createPublicKey({ key: Buffer.from(key.bytes), format: 'der', type: 'pkcs1' })
  const padded = oaepPadded(message, label, oaepSeed, 256)
  return Uint8Array.from(publicEncrypt({ key: publicKey, padding: constants.RSA_NO_PADDING }, padded))
}

function oaepPadded(message: Uint8Array, label: Uint8Array, seed: Uint8Array, length: number): Uint8Array {
  const data = new Uint8Array(length - 33)
  data.set(sha256(label))
  data[data.length - message.length - 1] = 1
  data.set(message, data.length - message.length)
  const maskedData = exclusiveOr(data, mgf1(seed, data.length))
  return Uint8Array.of(0, ...exclusiveOr(seed, mgf1(maskedData, 32)), ...maskedData)
}

/** MGF1 with SHA-256 (RFC 8017, appendix B.2.1), for at most 256 blocks. */
function mgf1(seed: Uint8Array, length: number): Uint8Array {
  const blocks = Array.from({ length: Math.ceil(length / 32) }, (_, i) =>
    sha256(Uint8Array.of(...seed, 0, 0, 0, i)),
  )
  return concatBytes(...blocks).slice(0, length)
}

function exclusiveOr(a: Uint8Array, b: Uint8Array): Uint8Array {
  return a.map((byte, i) => byte ^ (b[i] as number))
}

async function boxesVector() {
  const name = { chainId, group, epoch }
  const suites = ['x25519', 'p256-ecdh', 'x25519'] as const
  const members = suites.map((suite, i) => ({
    id: deviceIdOf(signerFromSeed('ed25519', filled(5 + i)).publicKey),
    secret: filled(0x15 + i),
    key: encryptionKeyOf(suite, filled(0x15 + i)),
  }))
  const sorted = members.toSorted((a, b) => (a.id < b.id ? -1 : 1))
  const ephemeral = sorted.map(({ key }, i) => ({ kem: key.suite as HpkeKeySuite, secret: filled(0x25 + i) }))
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
      suite: key.suite,
      secret: bytesToHex(secret),
      key: bytesToHex(key.bytes),
      keyId: keyIdOf(key),
      ephemeralSecret: bytesToHex(ephemeral[i]?.secret as Uint8Array),
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
const contract = ContractAddress('ac'.repeat(32))
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
  'identity.credentials': { type: 'identity.credentials', subject: recipientId, version: 1 },
  'group.owner': { type: 'group.owner', group, owner: recipientId },
  'record.added': { type: 'record.added', item: 0, device: recipientId, attested: true },
  'record.refused': { type: 'record.refused', item: 1, contract, reason: 'step' },
  'contract.decided': {
    type: 'contract.decided',
    contract,
    caller: recipientId,
    attested: false,
    failed: false,
    decision: 'extreme',
    values: [{ name: 'DI', value: 81.16993166666667 }],
    publishTopic: 'fire/north',
    qos: 2,
  },
  'contract.deployed': { type: 'contract.deployed', contract },
  'contract.retired': { type: 'contract.retired', contract },
  'contract.guards': { type: 'contract.guards', topic: 'forest/north', version: 1 },
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
    hpke: await hpkeVectors(),
    envelopes: await envelopeVectors(),
    boxes: await boxesVector(),
    assertion: assertionVector(),
    question: questionVectors(),
    acknowledgement: {
      messageId: '2e'.repeat(32),
      encoded: bytesToHex(encodeAcknowledgement('2e'.repeat(32) as Hash)),
    },
    receipts: receiptVectors(),
  }
}

if (import.meta.main)
  writeFileSync(
    new URL('device.json', import.meta.url),
    `${JSON.stringify(await deviceVectors(), undefined, 2)}\n`,
  )
