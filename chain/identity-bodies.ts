/**
 * What a transaction can say about identities and their keys: its variants, their numbers on the wire, and their codecs
 * (docs/FORMATS.md, "Transactions").
 */
import type { DeviceId, GrantId, Hash, KeyId, Milliseconds } from './brands.ts'
import { bytes, type Codec, digest, list, malformed, oneOf, optional, struct, text, uint } from './codec.ts'
import { type Credential, credentialsListCodec } from './credentials.ts'
import {
  type EncryptionKey,
  encryptionKeyCodec,
  type PublicKey,
  publicKeyCodec,
  signatureCodec,
} from './keys.ts'
import { maxGrantQuota, maxKeysPerIdentity } from './limits.ts'
import { type IdentityRights, rightsFields } from './rights.ts'

/** What a node does for the network (Qiu A2). */
export type Label = 'lightweight' | 'coordination' | 'full'
export const labelCodec: Codec<Label> = oneOf<Label>({ lightweight: 1, coordination: 2, full: 3 })

/** How long a device usually stays connected; one of the two inputs of a label. */
export type ConnectionLifetime = 'minutes' | 'hours' | 'days' | 'permanent'

/** What a newcomer says about its hardware. Advice to whoever chooses the label; execution does not judge it. */
export interface CapabilityProfile {
  readonly connectionLifetime: ConnectionLifetime
  readonly cores: number
  readonly memoryMebibytes: number
  readonly storageMebibytes: number
}

/**
 * A key that an identity is to have. A signing key proves that its owner holds it: `possession` is its signature over
 * `keyPossessionSigningBytes`. An encryption key cannot sign, so it has none.
 */
export type NewKey =
  | {
      readonly purpose: 'sign'
      readonly key: PublicKey
      readonly notAfter: Milliseconds | undefined
      readonly possession: Uint8Array
    }
  | { readonly purpose: 'encrypt'; readonly key: EncryptionKey; readonly notAfter: Milliseconds | undefined }

/** Proof that a newcomer spoke to a coordination node just now. Nothing in it is secret. */
export interface CoordinatorChallenge {
  readonly coordinator: DeviceId
  /** 16 bytes. */
  readonly nonce: Uint8Array
  readonly issuedAt: Milliseconds
}

/** An operator lets up to `quota` devices in: those for which `tokenKey` signs the device id. */
export interface GrantBody {
  readonly type: 'identity.grant'
  readonly tokenKey: PublicKey
  readonly quota: number
  readonly expiry: Milliseconds
  readonly highestLabel: Label
}

/** A newcomer asks to be let in. Signed by its own inception key; consumes one use of a grant. */
export interface RegisterBody {
  readonly type: 'identity.register'
  /** First signing key; its digest is the device id for ever. */
  readonly inceptionKey: PublicKey
  readonly label: Label
  /** Keys besides the inception key. */
  readonly keys: readonly NewKey[]
  /** Ed25519 key of the libp2p transport, 32 bytes, for labels that connect by libp2p. */
  readonly transportKey: Uint8Array | undefined
  readonly profile: CapabilityProfile
  readonly metadataHash: Hash | undefined
  readonly grant: GrantId
  /** The token key's signature over `grantTokenSigningBytes`: binds the grant to this device and no other. */
  readonly tokenSignature: Uint8Array
  readonly challenge: CoordinatorChallenge
}

/** Names no version: a record that its subject changes without end is suspended and revoked like any other. */
interface StatusEdit {
  readonly subject: DeviceId
  /** Printable ASCII, at most 64 characters. */
  readonly reason: string
}
export interface SuspendBody extends StatusEdit {
  readonly type: 'identity.suspend'
}
export interface RevokeBody extends StatusEdit {
  readonly type: 'identity.revoke'
}

/** Replaces the rights of an identity, whatever its own record's version is. */
export interface RightsBody extends IdentityRights {
  readonly type: 'identity.rights'
  readonly subject: DeviceId
  /** Of the rights, not of the identity; 0 where there are none yet. */
  readonly expectedVersion: number
}

/** Replaces the credentials of an identity: one that is left out is revoked. */
export interface CredentialsBody {
  readonly type: 'identity.credentials'
  readonly subject: DeviceId
  /** Of the credentials, not of the identity; 0 where there are none yet. */
  readonly expectedVersion: number
  readonly credentials: readonly Credential[]
}

interface KeyEdit {
  readonly subject: DeviceId
  readonly expectedVersion: number
}
export interface KeyAddBody extends KeyEdit {
  readonly type: 'key.add'
  readonly key: NewKey
}
/** Adds `key`; `oldKey` stays valid for `overlap` milliseconds of block time. */
export interface KeyRotateBody extends KeyEdit {
  readonly type: 'key.rotate'
  readonly oldKey: KeyId
  readonly key: NewKey
  readonly overlap: Milliseconds
}
export interface KeyRevokeBody extends KeyEdit {
  readonly type: 'key.revoke'
  readonly key: KeyId
}

export type IdentityBody =
  | GrantBody
  | RegisterBody
  | SuspendBody
  | RevokeBody
  | RightsBody
  | CredentialsBody
  | KeyAddBody
  | KeyRotateBody
  | KeyRevokeBody

export const transportKeyCodec: Codec<Uint8Array> = bytes(32)
const versionCodec = uint(0xffff_ffff)
const timeCodec = uint<Milliseconds>()
const reasonCodec = text(64, /^[\x20-\x7e]*$/)

type SigningKeyFields = Omit<Extract<NewKey, { purpose: 'sign' }>, 'purpose'>
type EncryptionKeyFields = Omit<Extract<NewKey, { purpose: 'encrypt' }>, 'purpose'>
const signingKeyFields: Codec<SigningKeyFields> = struct<SigningKeyFields>({
  key: publicKeyCodec,
  notAfter: optional(timeCodec),
  possession: signatureCodec,
})
const encryptionKeyFields: Codec<EncryptionKeyFields> = struct<EncryptionKeyFields>({
  key: encryptionKeyCodec,
  notAfter: optional(timeCodec),
})

/** Wire numbers of what a key is for. */
const purposeNumbers = { sign: 1, encrypt: 2 } as const

/** A codec for values told apart by `purpose`, as `[1 | 2, fields]`. */
export function byPurpose<T extends { readonly purpose: 'sign' | 'encrypt' }>(
  sign: Codec<Omit<Extract<T, { purpose: 'sign' }>, 'purpose'>>,
  encrypt: Codec<Omit<Extract<T, { purpose: 'encrypt' }>, 'purpose'>>,
): Codec<T> {
  const purposeCodec = oneOf<'sign' | 'encrypt'>(purposeNumbers)
  return {
    toWire: value => [
      purposeNumbers[value.purpose],
      (value.purpose === 'sign' ? sign : encrypt).toWire(value as never),
    ],
    fromWire: (wire, path) => {
      if (!Array.isArray(wire) || wire.length !== 2) malformed(path, 'a purpose and its fields', wire)
      const purpose = purposeCodec.fromWire(wire[0], `${path}.purpose`)
      const fields: object = (purpose === 'sign' ? sign : encrypt).fromWire(wire[1], `${path}.${purpose}`)
      return { purpose, ...fields } as unknown as T
    },
  }
}
const newKeyCodec: Codec<NewKey> = byPurpose<NewKey>(signingKeyFields, encryptionKeyFields)

const profileCodec = struct<CapabilityProfile>({
  connectionLifetime: oneOf<ConnectionLifetime>({ minutes: 1, hours: 2, days: 3, permanent: 4 }),
  cores: uint(0xffff),
  memoryMebibytes: uint(0xffff_ffff),
  storageMebibytes: uint(0xffff_ffff),
})

const statusEdit = { subject: digest<DeviceId>(), reason: reasonCodec }
const keyEdit = { subject: digest<DeviceId>(), expectedVersion: versionCodec }

type Fields<K extends IdentityBody['type']> = Omit<Extract<IdentityBody, { type: K }>, 'type'>

/** Number and codec of the fields, by kind. */
export const identityBodies: {
  readonly [K in IdentityBody['type']]: readonly [kind: number, fields: Codec<Fields<K>>]
} = {
  'identity.grant': [
    1,
    struct<Fields<'identity.grant'>>({
      tokenKey: publicKeyCodec,
      quota: uint(maxGrantQuota),
      expiry: timeCodec,
      highestLabel: labelCodec,
    }),
  ],
  'identity.register': [
    2,
    struct<Fields<'identity.register'>>({
      inceptionKey: publicKeyCodec,
      label: labelCodec,
      keys: list(newKeyCodec, maxKeysPerIdentity - 1),
      transportKey: optional(transportKeyCodec),
      profile: profileCodec,
      metadataHash: optional(digest<Hash>()),
      grant: digest<GrantId>(),
      tokenSignature: signatureCodec,
      challenge: struct<CoordinatorChallenge>({
        coordinator: digest<DeviceId>(),
        nonce: bytes(16),
        issuedAt: timeCodec,
      }),
    }),
  ],
  'identity.suspend': [4, struct<Fields<'identity.suspend'>>(statusEdit)],
  'identity.revoke': [6, struct<Fields<'identity.revoke'>>(statusEdit)],
  'identity.rights': [
    8,
    struct<Fields<'identity.rights'>>({
      subject: digest<DeviceId>(),
      expectedVersion: versionCodec,
      ...rightsFields,
    }),
  ],
  'identity.credentials': [
    9,
    struct<Fields<'identity.credentials'>>({
      subject: digest<DeviceId>(),
      expectedVersion: versionCodec,
      credentials: credentialsListCodec,
    }),
  ],
  'key.add': [
    16,
    struct<Fields<'key.add'>>({
      ...keyEdit,
      key: newKeyCodec,
    }),
  ],
  'key.rotate': [
    17,
    struct<Fields<'key.rotate'>>({
      ...keyEdit,
      oldKey: digest<KeyId>(),
      key: newKeyCodec,
      overlap: timeCodec,
    }),
  ],
  'key.revoke': [
    18,
    struct<Fields<'key.revoke'>>({
      ...keyEdit,
      key: digest<KeyId>(),
    }),
  ],
}
