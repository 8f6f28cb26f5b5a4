/**
 * Noise under every connection of a node (@chainsafe/libp2p-noise), made cheap for many small messages: what is sent in
 * one turn of the event loop leaves as one Noise message in one socket write, and libsodium seals it. Nothing waits
 * longer than its turn, and the bytes on the wire are Noise as ever.
 */
import { randomBytes } from 'node:crypto'
import { type ICryptoInterface, type NoiseComponents, noise, pureJsCrypto } from '@chainsafe/libp2p-noise'
import type { ConnectionEncrypter, MessageStream } from '@libp2p/interface'
import sodium from 'sodium-native'
import { endLengthsCheaply } from './quiet-streams.ts'

/** Authentication tag of ChaCha20-Poly1305 (RFC 8439). */
const tagBytes = 16
/** What is gathered at most: the plaintext of one Noise message. */
const maxGatheredBytes = 65_519

/** The package's key derivation (RFC 5869) over libsodium's primitives. */
const sodiumCrypto: ICryptoInterface = {
  ...pureJsCrypto,
  hashSHA256(data) {
    const digest = Buffer.allocUnsafe(32)
    sodium.crypto_hash_sha256(digest, data.subarray())
    return digest
  },
  generateX25519KeyPair() {
    return sodiumCrypto.generateX25519KeyPairFromSeed(randomBytes(32))
  },
  generateX25519KeyPairFromSeed(privateKey) {
    const publicKey = Buffer.allocUnsafe(32)
    sodium.crypto_scalarmult_base(publicKey, privateKey)
    return { publicKey, privateKey }
  },
  /** Throws for a point of small order. */
  generateX25519SharedKey(privateKey, publicKey) {
    const shared = Buffer.allocUnsafe(32)
    sodium.crypto_scalarmult(shared, privateKey.subarray(), publicKey.subarray())
    return shared
  },
  chaCha20Poly1305Encrypt(plaintext, nonce, ad, key) {
    const sealed = Buffer.allocUnsafe(plaintext.byteLength + tagBytes)
    sodium.crypto_aead_chacha20poly1305_ietf_encrypt(sealed, plaintext.subarray(), ad, null, nonce, key)
    return sealed
  },
  chaCha20Poly1305Decrypt(ciphertext, nonce, ad, key) {
    const opened = Buffer.allocUnsafe(ciphertext.byteLength - tagBytes)
    sodium.crypto_aead_chacha20poly1305_ietf_decrypt(opened, null, ciphertext.subarray(), ad, nonce, key)
    return opened
  },
}

/** The connection encrypter of a libp2p node. */
export function turnwiseNoise(): (components: NoiseComponents) => ConnectionEncrypter {
  const create = noise({ crypto: sodiumCrypto })
  return components => {
    const inner = create(components)
    const secured = async <T extends { connection: MessageStream }>(
      socket: MessageStream,
      securing: Promise<T>,
    ): Promise<T> => {
      const result = await securing
      endLengthsCheaply(result.connection)
      gatherTurn(result.connection, socket)
      return result
    }
    return {
      protocol: inner.protocol,
      secureInbound: (socket, options) => secured(inOneWrite(socket), inner.secureInbound(socket, options)),
      secureOutbound: (socket, options) => secured(inOneWrite(socket), inner.secureOutbound(socket, options)),
    }
  }
}

/** The length and the body of a message in one write: the transport makes one of each piece. */
function inOneWrite<Socket extends MessageStream>(socket: Socket): Socket {
  const send = socket.send.bind(socket)
  socket.send = data => send(data.subarray())
  return socket
}

/** Keeps what is sent over `stream` until the turn ends. Closing it, or the socket under it, sends the rest first. */
function gatherTurn(stream: MessageStream, socket: MessageStream): void {
  const send = stream.send.bind(stream)
  let gathered: Uint8Array[] = []
  let size = 0
  const flush = (): boolean => {
    if (size === 0) return !stream.writableNeedsDrain
    const [first] = gathered
    const bytes = gathered.length === 1 && first ? first : Buffer.concat(gathered, size)
    gathered = []
    size = 0
    return stream.status === 'open' && send(bytes)
  }
  const flushAtEndOfTurn = () => {
    try {
      flush()
    } catch (error) {
      stream.abort(error as Error)
    }
  }
  stream.send = data => {
    // A full stream makes its writer wait for the socket to drain, as usual.
    if (stream.status !== 'open' || stream.writableNeedsDrain) {
      flush()
      return send(data)
    }
    if (size === 0) setImmediate(flushAtEndOfTurn)
    gathered.push(data.subarray())
    size += data.byteLength
    return size < maxGatheredBytes || flush()
  }
  for (const closing of new Set([stream, socket])) {
    const close = closing.close.bind(closing)
    closing.close = async options => {
      flush()
      await close(options)
    }
  }
}
