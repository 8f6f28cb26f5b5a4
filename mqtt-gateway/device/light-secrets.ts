/**
 * Secrets of light encryption (Qiu A8): a sender agrees on one with each recipient's key and keys many messages by it, so that the
 * public-key operation is paid once and not for each message. Every message carries the `enc` of its secret, and its key and nonce
 * follow from secret and header (envelope-sealing.ts): messages may be lost, repeated and reordered, and either side may start anew.
 *
 * Invariants: secrets are in memory only, for at most 24 hours; there is a bounded number of them, and one that was dropped is agreed
 * on anew. What that gives up is in docs/decisions/0021-light-encryption.md.
 */
import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js'
import type { ChainId, KeyId } from '../../chain/brands.ts'
import { domainBytes } from '../../chain/hashing.ts'
import { type EncryptionKey, keyIdOf } from '../../chain/keys.ts'
import { RecentMap } from '../../chain/recent-map.ts'
import { ok, type Result } from '../../chain/result.ts'
import { type Clock, systemClock } from '../../client/clock.ts'
import type { DecryptionKey, SharedSecret } from './decryption-key.ts'
import { receiveSecret, sendSecret } from './key-sealing.ts'

/** Recipients' keys with which a sender keeps a secret at least, and twice as many at most. */
export const maxSentSecrets = 128
/** Secrets that a recipient keeps at least, and twice as many at most. */
export const maxReceivedSecrets = 512
/** Longest time for which either side keeps one: 24 hours. */
export const lightSecretMs = 24 * 60 * 60 * 1000

/** By both clocks: the steady one may stand still while a machine sleeps, and the other one may be set back. */
class AgedSecrets<K, V> {
  readonly #clock: Pick<Clock, 'steady' | 'wall'>
  readonly #secrets: RecentMap<K, { readonly value: V; readonly steady: number; readonly wall: number }>

  constructor(perGeneration: number, clock: Pick<Clock, 'steady' | 'wall'>) {
    this.#clock = clock
    this.#secrets = new RecentMap(perGeneration)
  }

  get(key: K): V | undefined {
    const known = this.#secrets.get(key)
    if (!known) return undefined
    const { steady, wall } = this.#clock
    if (Math.max(steady() - known.steady, wall() - known.wall) < lightSecretMs) return known.value
    this.#secrets.delete(key)
    return undefined
  }

  set(key: K, value: V): void {
    this.#secrets.set(key, { value, steady: this.#clock.steady(), wall: this.#clock.wall() })
  }
}

/** What a sender keeps. */
export class SentSecrets {
  readonly #info: Uint8Array
  readonly #secrets: AgedSecrets<KeyId, SharedSecret>

  constructor(chainId: ChainId, clock: Pick<Clock, 'steady' | 'wall'> = systemClock) {
    this.#info = secretInfo(chainId)
    this.#secrets = new AgedSecrets(maxSentSecrets, clock)
  }

  /** The secret shared with the holder of this key. Refuses `key-not-usable`. */
  async secretFor(key: EncryptionKey): Promise<Result<SharedSecret>> {
    const keyId = keyIdOf(key)
    const known = this.#secrets.get(keyId)
    if (known) return ok(known)
    const made = await sendSecret(key, this.#info)
    if (made.ok) this.#secrets.set(keyId, made.value)
    return made
  }
}

/** What a recipient keeps, for one key of its own. */
export class ReceivedSecrets {
  readonly #info: Uint8Array
  readonly #key: DecryptionKey
  readonly #secrets: AgedSecrets<string, Uint8Array>

  constructor(chainId: ChainId, key: DecryptionKey, clock: Pick<Clock, 'steady' | 'wall'> = systemClock) {
    this.#info = secretInfo(chainId)
    this.#key = key
    this.#secrets = new AgedSecrets(maxReceivedSecrets, clock)
  }

  /** The secret in `enc`. Refuses `cannot-open`. */
  async secretOf(enc: Uint8Array): Promise<Result<Uint8Array>> {
    const known = this.#secrets.get(bytesToHex(enc))
    return known ? ok(known) : receiveSecret(this.#key, enc, this.#info)
  }

  /** Keeps a secret that has opened a message: what opens nothing takes nobody's place. */
  keep(enc: Uint8Array, secret: Uint8Array): void {
    if (!this.#secrets.get(bytesToHex(enc))) this.#secrets.set(bytesToHex(enc), secret)
  }
}

function secretInfo(chainId: ChainId): Uint8Array {
  return domainBytes('mote/envelope-light-secret/1', hexToBytes(chainId))
}
