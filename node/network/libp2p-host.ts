/**
 * The libp2p node of a motechain node: TCP, Noise, Yamux, nothing else. No discovery, no identify, no relay: whom
 * to talk to comes from the configuration and from coordination nodes, and who a peer is from hello.
 */
import { isIPv6 } from 'node:net'
import { privateKeyFromRaw } from '@libp2p/crypto/keys'
import type { Libp2p, PeerId } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { createLibp2p } from 'libp2p'
import { nativeSignerFromSeed } from '../../client/native-crypto.ts'
import type { NetworkLimits } from './network-limits.ts'
import { turnwiseNoise } from './noise.ts'
import { protocols } from './protocols.ts'

export interface HostOptions {
  /** IP address to listen on. */
  readonly host: string
  /** 0 for any free port. */
  readonly port: number
  /** Ed25519 seed of the transport key, 32 bytes. */
  readonly transportSeed: Uint8Array
  readonly limits: NetworkLimits
}

/** A libp2p node that is not started yet. */
export async function createHost({ host, port, transportSeed, limits }: HostOptions): Promise<Libp2p> {
  const { publicKey } = nativeSignerFromSeed('ed25519', transportSeed)
  return createLibp2p({
    start: false,
    // Its own derivation from the seed is slow where it is the first one (portable code).
    privateKey: privateKeyFromRaw(Buffer.concat([transportSeed, publicKey.bytes])),
    addresses: { listen: [`/${isIPv6(host) ? 'ip6' : 'ip4'}/${host}/tcp/${port}`] },
    transports: [tcp({ maxConnections: limits.maxConnections + limits.maxPendingConnections })],
    connectionEncrypters: [turnwiseNoise()],
    streamMuxers: [
      yamux({
        maxInboundStreams: Object.values(protocols).reduce((sum, { maxStreams }) => sum + maxStreams, 0),
        streamOptions: { maxReadBufferLength: 2 * protocols.raft.maxFrameBytes },
      }),
    ],
    connectionManager: {
      maxConnections: limits.maxConnections,
      maxIncomingPendingConnections: limits.maxPendingConnections,
      inboundConnectionThreshold: limits.maxNewConnectionsPerSecond,
      inboundUpgradeTimeout: limits.upgradeTimeoutMs,
      dialTimeout: limits.dialTimeoutMs,
      // Reconnecting is the dialler's.
      reconnectRetries: 0,
    },
  })
}

/** The Ed25519 key that Noise has proven the peer to hold; undefined for another kind of key. */
export function transportKeyOf(peer: PeerId): Uint8Array | undefined {
  return peer.publicKey?.type === 'Ed25519' ? peer.publicKey.raw : undefined
}
