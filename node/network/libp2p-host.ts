/**
 * The libp2p node of a motechain node: TCP, Noise, Yamux, nothing else. No discovery, no identify, no relay: whom
 * to talk to comes from the configuration and from coordination nodes, and who a peer is from hello.
 * `Dialler` keeps one peer connected.
 *
 * Noise and Yamux are made cheap for many small messages (docs/decisions/0014-small-messages.md).
 */
import { randomBytes } from 'node:crypto'
import { isIPv6 } from 'node:net'
import { type ICryptoInterface, type NoiseComponents, noise, pureJsCrypto } from '@chainsafe/libp2p-noise'
import { privateKeyFromRaw } from '@libp2p/crypto/keys'
import type {
  ConnectionEncrypter,
  Libp2p,
  Logger,
  MessageStream,
  PeerId,
  PeerStore,
  Stream,
} from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { createLibp2p } from 'libp2p'
import sodium from 'sodium-native'
import { nativeSignerFromSeed } from '../../client/native-crypto.ts'
import type { Clock } from '../ports.ts'
import { boundConnections, boundSelection, boundStreams, pendingShares } from './connection-setup.ts'
import { type NetworkLimits, protocols } from './protocols.ts'

export interface HostOptions {
  /** IP address to listen on. */
  readonly host: string
  /** 0 for any free port. */
  readonly port: number
  /** Ed25519 seed of the transport key, 32 bytes. */
  readonly transportSeed: Uint8Array
  readonly limits: NetworkLimits
  /** What its connections send. */
  readonly sends?: TurnSends
}

/** A libp2p node that is not started yet. */
export async function createHost(options: HostOptions): Promise<Libp2p> {
  const { host, port, transportSeed, limits, sends = new TurnSends() } = options
  // A place that is taken away is free a moment later.
  const maxPending = 2 * limits.maxPendingConnections
  const maxOpen = limits.maxConnections + limits.maxUnprovenConnections
  const { publicKey } = nativeSignerFromSeed('ed25519', transportSeed)
  const node = await createLibp2p({
    start: false,
    logger: { forComponent: () => silent },
    // Its own derivation from the seed is slow where it is the first one (portable code).
    privateKey: privateKeyFromRaw(Buffer.concat([transportSeed, publicKey.bytes])),
    addresses: { listen: [`/${isIPv6(host) ? 'ip6' : 'ip4'}/${host}/tcp/${port}`] },
    transports: [tcp({ maxConnections: maxOpen + maxPending })],
    connectionEncrypters: [turnwiseNoise(sends)],
    streamMuxers: [
      boundStreams(
        yamux({
          maxInboundStreams: Object.values(protocols).reduce((sum, { maxStreams }) => sum + maxStreams, 0),
          streamOptions: { maxReadBufferLength: 2 * protocols.raft.maxFrameBytes },
        }),
      ),
    ],
    connectionProtector: () => boundConnections,
    connectionGater: pendingShares(limits),
    connectionManager: {
      maxConnections: maxOpen,
      maxIncomingPendingConnections: maxPending,
      inboundConnectionThreshold: limits.maxNewConnectionsPerSecond,
      inboundUpgradeTimeout: limits.upgradeTimeoutMs,
      dialTimeout: limits.dialTimeoutMs,
      // Reconnecting is the dialler's.
      reconnectRetries: 0,
    },
  })
  keepNoProtocols(node.peerStore)
  return node
}

/**
 * libp2p writes down for each stream, before it is used, which protocol its peer speaks, and keeps that of everybody who ever
 * opened one. Nobody reads it: what a peer may ask is the business of hello and of the request table.
 */
function keepNoProtocols(store: PeerStore): void {
  const merge = store.merge.bind(store)
  store.merge = async (id, data, options) => {
    const isMore = Object.keys(data).some(field => field !== 'protocols')
    return isMore
      ? merge(id, data, options)
      : { id, addresses: [], protocols: [], metadata: new Map(), tags: new Map() }
  }
}

/** What libp2p has to say is for its own developers; its own logger is made anew for each stream, and asks each time for a terminal. */
const silent: Logger = Object.assign(() => {}, {
  error: () => {},
  trace: () => {},
  enabled: false,
  newScope: () => silent,
})

/** The Ed25519 key that Noise has proven the peer to hold; undefined for another kind of key. */
export function transportKeyOf(peer: PeerId): Uint8Array | undefined {
  return peer.publicKey?.type === 'Ed25519' ? peer.publicKey.raw : undefined
}

/*
 * Noise under every connection of a node (@chainsafe/libp2p-noise), made cheap for many small messages: what is sent in
 * one turn of the event loop leaves as one Noise message in one socket write, and libsodium seals it. Nothing waits
 * longer than its turn, and the bytes on the wire are Noise as ever.
 */

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

/** What connections keep until the turn ends, or until somebody says that it leaves now. */
export class TurnSends {
  #waiting = new Set<() => void>()

  /** `leave` is called once, then. It does not throw. */
  wait(leave: () => void): void {
    if (this.#waiting.size === 0) setImmediate(() => this.flush())
    this.#waiting.add(leave)
  }

  flush(): void {
    if (this.#waiting.size === 0) return
    const leaving = this.#waiting
    this.#waiting = new Set()
    for (const leave of leaving) leave()
  }
}

/** The connection encrypter of a libp2p node. */
function turnwiseNoise(sends: TurnSends): (components: NoiseComponents) => ConnectionEncrypter {
  const create = noise({ crypto: sodiumCrypto })
  return components => {
    const inner = create(components)
    const secured = async <T extends { connection: MessageStream; streamMuxer?: unknown }>(
      socket: MessageStream,
      securing: Promise<T>,
    ): Promise<T> => {
      const result = await securing
      // Nodes of this make agree on the multiplexer within Noise; others select it behind it.
      if (!result.streamMuxer) boundSelection(result.connection)
      endLengthsCheaply(result.connection)
      gatherTurn(result.connection, socket, sends)
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
function gatherTurn(stream: MessageStream, socket: MessageStream, sends: TurnSends): void {
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
  const leave = () => {
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
    if (size === 0) sends.wait(leave)
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

/*
 * Two habits of the libraries under a connection that cost a small message more than the message itself. Both are changed on
 * the object in hand, since neither library has an option; where it looks different in a later release nothing is changed
 * (test/unit/node/libp2p-host.test.ts says so), and all goes on as before.
 */

/** What @libp2p/yamux 8 calls the receiving half of a stream. */
interface YamuxReceiver {
  recvWindow: number
  recvWindowCapacity: number
  sendWindowUpdate(): void
}

function isYamuxReceiver(stream: object): stream is YamuxReceiver {
  const { recvWindow, recvWindowCapacity, sendWindowUpdate } = stream as Partial<YamuxReceiver>
  return (
    typeof recvWindow === 'number' &&
    typeof recvWindowCapacity === 'number' &&
    typeof sendWindowUpdate === 'function'
  )
}

/**
 * Opens the window of an established stream again when half of it is used up, and not after every frame: an update is one
 * more message, which the peer wakes up for. The sender never stalls, since what is left it may still send.
 * @returns false if this is no such stream
 */
export function updateWindowByHalves(stream: Stream): boolean {
  if (!isYamuxReceiver(stream)) return false
  const update = stream.sendWindowUpdate.bind(stream)
  stream.sendWindowUpdate = () => {
    if (stream.recvWindowCapacity < stream.recvWindow / 2) update()
  }
  return true
}

/** The part of @libp2p/utils 7 that reads lengths for @chainsafe/libp2p-noise 17. */
interface LengthReader {
  readonly decoder: { lengthDecoder(data: { readonly length: number }): number }
}

function readsLengths(stream: object): stream is LengthReader {
  return typeof (stream as Partial<LengthReader>).decoder?.lengthDecoder === 'function'
}

const lengthBytes = 2
/** Longer than any message, and so never there: the reader of lengths stops and waits for more. */
const notThereYet = 2 ** (8 * lengthBytes)

/**
 * Ends the reading of lengths without an error, which the decoder would throw and catch once a message.
 * @returns false if the stream reads them in another way
 */
export function endLengthsCheaply(stream: MessageStream): boolean {
  if (!readsLengths(stream)) return false
  const { decoder } = stream
  const read = decoder.lengthDecoder
  decoder.lengthDecoder = data => (data.length < lengthBytes ? notThereYet : read(data))
  return true
}

/*
 * Keeps one peer connected: dials at once, then again after a growing pause with a random part, for ever, until it
 * is stopped. It rests while the peer is connected, whoever dialled.
 */

export interface DiallerOptions {
  readonly clock: Clock
  /** Pause before the first attempt after a loss. Of two peers that dial each other one leaves the other time to. */
  readonly firstDelayMs: number
  readonly retryDelayMs: number
  readonly retryDelayMsMax: number
  /** From 0 (inclusive) to 1 (exclusive). */
  readonly random: () => number
  /** One attempt: resolves when the peer is connected, rejects if not. Ends early when `signal` aborts. */
  readonly connect: (signal: AbortSignal) => Promise<void>
  readonly isConnected: () => boolean
  readonly onFailure: (error: unknown, attempt: number) => void
}

export class Dialler {
  readonly #options: DiallerOptions
  readonly #stopping = new AbortController()
  #state: 'connected' | 'dialling' | 'waiting' = 'connected'
  #cancelWait: (() => void) | undefined
  #failures = 0

  constructor(options: DiallerOptions) {
    this.#options = options
  }

  /** The peer is not connected (any more). */
  disconnected(): void {
    if (this.#stopping.signal.aborted || this.#state !== 'connected') return
    this.#wait(this.#options.firstDelayMs)
  }

  /** The peer is connected, by this dialler or by itself. */
  connected(): void {
    this.#cancelWait?.()
    this.#cancelWait = undefined
    this.#failures = 0
    if (this.#state === 'waiting') this.#state = 'connected'
  }

  stop(): void {
    this.#stopping.abort()
    this.#cancelWait?.()
  }

  #attempt(): void {
    this.#state = 'dialling'
    this.#options.connect(this.#stopping.signal).then(
      () => {
        this.#state = 'connected'
        this.#failures = 0
        if (!this.#options.isConnected()) this.disconnected()
      },
      error => this.#retryAfter(error),
    )
  }

  #retryAfter(error: unknown): void {
    if (this.#stopping.signal.aborted) return
    this.#options.onFailure(error, ++this.#failures)
    if (this.#options.isConnected()) {
      this.#state = 'connected'
      return
    }
    const { retryDelayMs, retryDelayMsMax, random } = this.#options
    const delay = Math.min(retryDelayMsMax, retryDelayMs * 2 ** Math.min(this.#failures - 1, 16))
    this.#wait(delay * (0.5 + random() / 2))
  }

  #wait(delayMs: number): void {
    this.#state = 'waiting'
    this.#cancelWait = this.#options.clock.after(delayMs, () => this.#attempt())
  }
}
