/**
 * Makes test/vectors/transactions.json: one transaction of each kind, and bytes that must be refused, for
 * implementations in other languages. `node test/vectors/make-transactions.ts` writes the file.
 */
import { writeFileSync } from 'node:fs'
import { bytesToHex, concatBytes, hexToBytes, utf8ToBytes } from '@noble/hashes/utils.js'
import { ChainId, DeviceId, GroupId, Hash, Milliseconds } from '../../chain/brands.ts'
import { consenterSet } from '../../chain/consenters.ts'
import { deviceIdOf, keyIdOf, type Signer, type SigningSuite } from '../../chain/keys.ts'
import { signerFromSeed } from '../../chain/noble-crypto.ts'
import { unwrap } from '../../chain/result.ts'
import {
  bodies,
  type DeviceRecord,
  grantIdOf,
  grantTokenSigningBytes,
  keyPossessionSigningBytes,
  parseTransaction,
  reportKinds,
  signTransaction,
  type TransactionBody,
  type TransactionType,
  transactionSigningBytes,
} from '../../chain/transaction.ts'
import { encryptionKeyOf } from '../../client/encryption-keys.ts'
import { deployable } from '../support/sample-contract.ts'

export interface TransactionVectors {
  readonly about: string
  readonly transactions: readonly {
    readonly type: TransactionType
    readonly kind: number
    readonly suite: SigningSuite
    /** Secret key of the signer, 32 bytes. */
    readonly seed: string
    readonly payload: string
    readonly id: string
    /** The bytes that the signature covers. */
    readonly signed: string
    readonly wire: string
  }[]
  readonly refused: readonly { readonly what: string; readonly wire: string; readonly code: string }[]
}

const chainId = ChainId('c0'.repeat(32))
const seedOf = (n: number) => new Uint8Array(32).fill(n)
const device = signerFromSeed('ed25519', seedOf(1))
const secure = signerFromSeed('p256', seedOf(2))
const token = signerFromSeed('ed25519', seedOf(3))
const deviceId = deviceIdOf(device.publicKey)
const secureId = deviceIdOf(secure.publicKey)
const hash = Hash('ab'.repeat(32))
const group = GroupId('9d'.repeat(32))
const members = [DeviceId('01'.repeat(32)), DeviceId('02'.repeat(32))]
const spare = {
  purpose: 'sign',
  key: secure.publicKey,
  notAfter: Milliseconds(2_000_000_000_000),
  possession: secure.sign(keyPossessionSigningBytes(chainId, deviceId, secure.publicKey)),
} as const
const sealing = {
  purpose: 'encrypt',
  key: { suite: 'x25519', bytes: seedOf(7) },
  notAfter: undefined,
} as const

const contract = deployable({
  name: 'level',
  inputs: { level: 'number' },
  rules: ['range = level >= 0 and level <= 100'],
  decide: [{ when: 'level > 80', say: 'full' }, { say: 'not full' }],
})
const record: DeviceRecord = {
  source: undefined,
  topic: 'forest/north',
  payload: utf8ToBytes('{"level":81.5,"dry":true,"site":"north","count":-7}'),
  values: [
    { name: 'count', value: -7n },
    { name: 'dry', value: true },
    { name: 'level', value: 81.5 },
    { name: 'site', value: 'north' },
  ],
  claimedTime: Milliseconds(1_790_000_000_123),
  messageId: 'm-1',
}
/** What a gateway says that another device said. */
const attested: DeviceRecord = {
  ...record,
  source: DeviceId('5c'.repeat(32)),
  values: [],
  claimedTime: undefined,
  messageId: undefined,
}
const call: TransactionBody = {
  type: 'contract.action',
  qos: 1,
  contract: contract.address,
  input: { type: 'call', source: attested.source, values: [{ name: 'level', value: 0 }] },
  publishTopic: undefined,
}

const samples: { readonly [K in TransactionType]: Extract<TransactionBody, { type: K }> } = {
  'identity.grant': {
    type: 'identity.grant',
    tokenKey: token.publicKey,
    quota: 65_535,
    expiry: Milliseconds(1_800_000_000_000),
    highestLabel: 'coordination',
  },
  'identity.register': {
    type: 'identity.register',
    inceptionKey: secure.publicKey,
    label: 'lightweight',
    keys: [sealing],
    transportKey: signerFromSeed('ed25519', seedOf(8)).publicKey.bytes,
    profile: { connectionLifetime: 'hours', cores: 1, memoryMebibytes: 64, storageMebibytes: 70_000 },
    metadataHash: hash,
    grant: grantIdOf(token.publicKey),
    tokenSignature: token.sign(grantTokenSigningBytes(chainId, secureId)),
    challenge: {
      coordinator: deviceId,
      nonce: new Uint8Array(16).fill(5),
      issuedAt: Milliseconds(1_790_000_000_000),
    },
  },
  'identity.suspend': {
    type: 'identity.suspend',
    subject: secureId,
    reason: 'lost in the field',
  },
  'identity.revoke': { type: 'identity.revoke', subject: secureId, reason: '' },
  'identity.rights': {
    type: 'identity.rights',
    subject: secureId,
    expectedVersion: 2,
    publish: ['plant/+/alarm', 'plant/hall-3/#'],
    subscribe: ['plant/#'],
    observe: false,
    gateway: true,
  },
  'identity.credentials': {
    type: 'identity.credentials',
    subject: deviceId,
    expectedVersion: 1,
    credentials: [
      { hash: Hash('aa'.repeat(32)), expiresAt: Milliseconds(1_790_100_000_000), scope: 'receive' },
      { hash: Hash('bb'.repeat(32)), expiresAt: Milliseconds(1_790_200_000_000), scope: 'send' },
    ],
  },
  'key.add': { type: 'key.add', subject: deviceId, expectedVersion: 1, key: spare },
  'key.rotate': {
    type: 'key.rotate',
    subject: deviceId,
    expectedVersion: 2,
    oldKey: keyIdOf(device.publicKey),
    key: spare,
    overlap: Milliseconds(3_600_000),
  },
  'key.revoke': {
    type: 'key.revoke',
    subject: deviceId,
    expectedVersion: 3,
    key: keyIdOf(secure.publicKey),
  },
  'group.create': { type: 'group.create', name: 'hsu0001', epochKeyHash: undefined },
  'group.add': { type: 'group.add', group, membershipVersion: 1, members },
  'group.remove': { type: 'group.remove', group, membershipVersion: 2, members },
  'group.rekey': {
    type: 'group.rekey',
    group,
    membershipVersion: 3,
    epoch: 1,
    epochKeyHash: hash,
    boxesHash: hash,
    topicKey: encryptionKeyOf('x25519', seedOf(9)).bytes,
  },
  'group.owner': { type: 'group.owner', group, from: deviceId, owner: secureId },
  'governance.consenters': {
    type: 'governance.consenters',
    target: consenterSet(
      [device, secure].map(({ publicKey }) => ({ id: deviceIdOf(publicKey), key: publicKey })),
      'majority',
    ),
  },
  'record.one': { type: 'record.one', record, qos: 0 },
  'record.batch': { type: 'record.batch', records: [record, attested], qos: 1 },
  'contract.deploy': { type: 'contract.deploy', contract: contract.bytes },
  'contract.retire': { type: 'contract.retire', contract: contract.address },
  'contract.action': {
    type: 'contract.action',
    contract: contract.address,
    input: { type: 'record', record },
    publishTopic: 'fire/north',
    qos: 2,
  },
  'contract.guard': {
    type: 'contract.guard',
    topic: 'forest/north',
    expectedVersion: 0,
    guards: [contract.address],
  },
}

function signed(body: TransactionBody, signer: Signer): Uint8Array {
  return signTransaction(
    {
      version: 1,
      chainId,
      body,
      signer: { deviceId: deviceIdOf(signer.publicKey), keyId: keyIdOf(signer.publicKey) },
      nonce: new Uint8Array(16).fill(6),
      expiry: Milliseconds(1_790_000_600_000),
    },
    signer,
  )
}

const openTopic: TransactionBody = {
  type: 'group.create',
  name: 'hsu0002',
  epochKeyHash: undefined,
  topic: { publishers: group },
}

function vectorOf(body: TransactionBody): TransactionVectors['transactions'][number] {
  const { type } = body
  const signer = type === 'identity.register' ? secure : device
  const wire = signed(body, signer)
  const { payload, id } = unwrap(parseTransaction(wire))
  return {
    type,
    kind: bodies[type][0],
    suite: signer.publicKey.suite,
    seed: bytesToHex(signer === secure ? seedOf(2) : seedOf(1)),
    payload: bytesToHex(payload),
    id,
    signed: bytesToHex(transactionSigningBytes(payload)),
    wire: bytesToHex(wire),
  }
}

/** The wire bytes around another payload: `[bin payload, bin signature]`. */
function wrap(payload: Uint8Array, signature: Uint8Array = new Uint8Array(64)): Uint8Array {
  const bin = (bytes: Uint8Array) =>
    concatBytes(
      bytes.length < 256
        ? Uint8Array.of(0xc4, bytes.length)
        : Uint8Array.of(0xc5, bytes.length >> 8, bytes.length & 0xff),
      bytes,
    )
  return concatBytes(Uint8Array.of(0x92), bin(payload), bin(signature))
}

/** Filters of a well-formed `identity.rights` that no rights may have, each put in the place of one of the same length. */
const filtersRefused: readonly (readonly [what: string, filter: string])[] = [
  ['under mote/', 'mote/#'],
  ['of every topic', '+/+/ab'],
  ['of a broker', '$SYS/#'],
  ['with # before its end', 'ab/#/c'],
  ['with + beside a letter', 'ab/c+d'],
  ['with an empty first level', '/ab/cd'],
]

function rightsRefusals(): TransactionVectors['refused'] {
  const spare = 'ab/cde'
  const body = { ...samples['identity.rights'], publish: [spare], subscribe: [] }
  const wire = bytesToHex(signed(body, device))
  return filtersRefused.map(([what, filter]) => ({
    what: `a right to a filter ${what}`,
    wire: wire.replace(hexOf(spare), hexOf(filter)),
    code: 'malformed',
  }))
}

/** The QoS is the last field of what a device reports. */
function qosRefusals(): TransactionVectors['refused'] {
  return reportKinds.map(type => {
    const { payload } = unwrap(parseTransaction(signed(samples[type], device)))
    const wire = wrap(Uint8Array.of(...payload.slice(0, -1), 3))
    return { what: `${type} by QoS 3`, wire: bytesToHex(wire), code: 'malformed' }
  })
}

function hexOf(text: string): string {
  return bytesToHex(utf8ToBytes(text))
}

function refusals(payload: Uint8Array): TransactionVectors['refused'] {
  const set = (at: number, value: number) => {
    const changed = Uint8Array.from(payload)
    changed[at] = value
    return wrap(changed)
  }
  // The name is the last field of the payload, with its length before it.
  const cases: readonly (readonly [what: string, wire: Uint8Array, code: string])[] = [
    ['nothing', new Uint8Array(0), 'malformed'],
    ['not an array', Uint8Array.of(0x01), 'malformed'],
    ['a signature of 63 bytes', wrap(payload, new Uint8Array(63)), 'malformed'],
    ['a byte behind the end', concatBytes(wrap(payload), Uint8Array.of(0)), 'malformed'],
    ['an empty payload', wrap(new Uint8Array(0)), 'malformed'],
    ['version 2', set(1, 2), 'unknown-version'],
    ['a kind without meaning', set(2, 120), 'malformed'],
    ['a reserved kind: governance.parameters', set(2, 66), 'kind-not-supported'],
    ['another kind than its fields', set(2, 35), 'malformed'],
    ['seven fields', set(0, 0x97), 'malformed'],
    ['an upper-case letter in a group name', set(payload.length - 3, 0x41), 'malformed'],
    [
      'an integer that is not in its shortest form',
      wrap(concatBytes(payload.slice(0, 1), Uint8Array.of(0xcc, 1), payload.slice(2))),
      'malformed',
    ],
    ['a byte behind the payload', wrap(concatBytes(payload, Uint8Array.of(0xc0))), 'malformed'],
  ]
  return cases.map(([what, wire, code]) => ({ what, wire: bytesToHex(wire), code }))
}

export function transactionVectors(): TransactionVectors {
  const transactions = [...Object.values(samples), openTopic, call].map(vectorOf)
  const group = transactions.find(vector => vector.type === 'group.create')
  return {
    about:
      'One transaction of each kind, an open topic and a call, on chain c0…c0; hexadecimal. `refused` are wire bytes and the code of their refusal.',
    transactions,
    refused: [...refusals(hexToBytes(group?.payload ?? '')), ...rightsRefusals(), ...qosRefusals()],
  }
}

if (import.meta.main)
  writeFileSync(
    new URL('transactions.json', import.meta.url),
    `${JSON.stringify(transactionVectors(), null, 2)}\n`,
  )
