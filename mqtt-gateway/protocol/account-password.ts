/**
 * The passwords of accounts at a broker that others wrote (docs/FORMATS.md, "Accounts at an existing broker"). Nobody is told one: the gateway
 * and the device each derive it from their own secret and the other's public key on the chain, by static Diffie-Hellman.
 *
 * A password of 256 bits is good as long as both keys are: it changes with either of them. The broker learns it when the
 * device logs in, and nothing follows from it but that account.
 */
import { createPrivateKey, createPublicKey, diffieHellman, ECDH, hkdfSync, type KeyObject } from 'node:crypto'
import type { ChainId, DeviceId } from '../../chain/brands.ts'
import { domainBytes } from '../../chain/hashing.ts'
import { hexToBytes } from '../../chain/hex.ts'
import { type EncryptionKey, keyIdOf } from '../../chain/keys.ts'
import { ok, type Result, refuse } from '../../chain/result.ts'
import type { EncryptionKeyPair } from '../../client/encryption-keys.ts'

/** Bytes of a password; as text 43 characters of base64url. */
const accountPasswordBytes = 32

/** An identity and its encryption key. */
export interface AccountEnd {
  readonly id: DeviceId
  readonly key: EncryptionKey
}

export interface AccountParties {
  readonly chainId: ChainId
  readonly gateway: AccountEnd
  readonly device: AccountEnd
  /** The secret half of the one or the other, as who asks has it. */
  readonly own: EncryptionKeyPair
}

/** The password of the device's account. Refuses `key-not-usable` where the two keys are not both X25519 or both P-256. */
export function accountPassword({ chainId, gateway, device, own }: AccountParties): Result<string> {
  const isGateway = keyIdOf(own.publicKey) === keyIdOf(gateway.key)
  const other = isGateway ? device.key : gateway.key
  const { suite } = own.publicKey
  if (suite === 'rsa-oaep' || other.suite !== suite)
    return refuse(
      'key-not-usable',
      `account: expected encryption keys of one kind, X25519 or P-256, of the gateway and the device, got ${gateway.key.suite} and ${device.key.suite}`,
    )
  const shared = diffieHellman({ privateKey: privateKeyOf(own), publicKey: publicKeyOf(other) })
  const ends = [gateway, device].flatMap(({ id, key }) => [hexToBytes(id), hexToBytes(keyIdOf(key))])
  return ok(expand(shared, domainBytes('mote/broker-account/1', hexToBytes(chainId), ...ends)))
}

/** What the gateway itself logs in with, or is known by, under this name: it follows from its encryption key alone. */
export function gatewaySecret(
  chainId: ChainId,
  gateway: DeviceId,
  { secret }: EncryptionKeyPair,
  name: string,
): string {
  const info = domainBytes(
    'mote/broker-gateway/1',
    hexToBytes(chainId),
    hexToBytes(gateway),
    Buffer.from(name),
  )
  return expand(secret.expose(), info)
}

function expand(secret: Uint8Array, info: Uint8Array): string {
  const bytes = hkdfSync('sha256', secret, new Uint8Array(0), info, accountPasswordBytes)
  return Buffer.from(bytes).toString('base64url')
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url')
}

/** The parameters of a public key in JSON (RFC 8037, section 2; RFC 7518, section 6.2.1). */
function jwkOf({ suite, bytes }: EncryptionKey): { kty: string; crv: string; x: string; y?: string } {
  if (suite === 'x25519') return { kty: 'OKP', crv: 'X25519', x: base64url(bytes) }
  const point = ECDH.convertKey(bytes, 'prime256v1', undefined, undefined, 'uncompressed') as Buffer
  return {
    kty: 'EC',
    crv: 'P-256',
    x: base64url(point.subarray(1, 33)),
    y: base64url(point.subarray(33)),
  }
}

function publicKeyOf(key: EncryptionKey): KeyObject {
  return createPublicKey({ format: 'jwk', key: jwkOf(key) })
}

/** Of the one pair that a process derives all its passwords with: importing it takes longer than the rest. */
const privateKeys = new WeakMap<EncryptionKeyPair, KeyObject>()

function privateKeyOf(pair: EncryptionKeyPair): KeyObject {
  const known = privateKeys.get(pair)
  if (known) return known
  const key = { ...jwkOf(pair.publicKey), d: base64url(pair.secret.expose()) }
  const imported = createPrivateKey({ format: 'jwk', key })
  privateKeys.set(pair, imported)
  return imported
}
