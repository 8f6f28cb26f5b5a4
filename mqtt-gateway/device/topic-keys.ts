/**
 * The key pair of an open topic (Hsu-Lu B4; docs/FORMATS.md, "Open topics"): it follows from the epoch key, so whoever has that has the
 * private half, and can tell whether the public one on the chain belongs to it.
 */
import { expand, extract, hkdf } from '@noble/hashes/hkdf.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { concatBytes, hexToBytes, utf8ToBytes } from '@noble/hashes/utils.js'
import { domainBytes, u64be } from '../../chain/hashing.ts'
import { assert } from '../../chain/result.ts'
import { encryptionKeyOf } from '../../client/encryption-keys.ts'
import { epochKeyBytes } from '../protocol/envelope.ts'
import type { EpochName } from '../protocol/epoch-boxes.ts'
import type { DecryptionKey } from './decryption-key.ts'

/** Bytes of a private key of X25519 (RFC 9180's Nsk), and of what it is derived from. */
const secretBytes = 32

/** The pair of this epoch. What it is derived from serves nothing else, and the epoch key itself seals nothing in a topic. */
export function topicPairOf({ chainId, group, epoch }: EpochName, epochKey: Uint8Array): DecryptionKey {
  assert(epochKey.length === epochKeyBytes, `epochKey: expected ${epochKeyBytes} bytes`)
  const salt = concatBytes(hexToBytes(chainId), hexToBytes(group), u64be(epoch))
  return deriveX25519Pair(hkdf(sha256, epochKey, salt, domainBytes('mote/topic-key/1'), secretBytes))
}

/** `DeriveKeyPair` of DHKEM(X25519, HKDF-SHA256) (RFC 9180, section 7.1.3). Our own, since the library's asks WebCrypto for what Node 24 warns of. */
export function deriveX25519Pair(ikm: Uint8Array): DecryptionKey {
  assert(ikm.length >= secretBytes, `ikm: expected at least ${secretBytes} bytes`)
  const suiteId = concatBytes(utf8ToBytes('HPKE-v1KEM'), Uint8Array.of(0, 0x20))
  const prk = extract(sha256, concatBytes(suiteId, utf8ToBytes('dkp_prk'), ikm))
  const info = concatBytes(Uint8Array.of(0, secretBytes), suiteId, utf8ToBytes('sk'))
  const secret = expand(sha256, prk, info, secretBytes)
  return { publicKey: encryptionKeyOf('x25519', secret), secret }
}
