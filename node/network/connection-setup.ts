/**
 * What a peer may take up before a connection is set up: a place of its address's share, and the few messages by which both
 * sides agree on a protocol (multistream-select 1.0.0; libp2p specifications, connections, "Protocol Negotiation").
 *
 * The bytes of such a selection are looked at before the library has them. Its reader (`lpStream`, @libp2p/utils 7) takes a
 * length byte by byte, and every byte that does not end the length is an error, thrown and caught; its own bound on a length's
 * bytes comes only behind that. So a length without end kept a processor busy at 110 kB a second, from anybody, before Noise.
 * It also answers any number of names. The place to mend both is that reader; it has no option, so the streams' own objects
 * are changed here, until a release of the library has the bound. Where one looks different nothing is changed
 * (test/unit/node/connection-setup.test.ts says so).
 *
 * Whoever selects sends nothing else until it has the answer, and whoever answers waits for what follows, as
 * docs/FORMATS.md, "libp2p protocols", says.
 */
import type {
  ConnectionGater,
  ConnectionProtector,
  MessageStream,
  MultiaddrConnection,
  Stream,
  StreamMuxer,
  StreamMuxerFactory,
} from '@libp2p/interface'
import { AddressShares, shareOf } from '../../client/address-shares.ts'
import type { NetworkLimits } from './protocols.ts'

/**
 * Connections before the end of Noise and Yamux. The connection manager counts them for all addresses together and refuses
 * the newest, so that whoever opens sockets and says nothing would shut everybody out.
 */
export function pendingShares(limits: NetworkLimits): ConnectionGater {
  const shares = new AddressShares<MultiaddrConnection>(
    { perAddress: limits.maxPendingPerAddress, all: limits.maxPendingConnections },
    socket => socket.abort(new Error('another connection is set up first')),
  )
  return {
    denyInboundConnection: socket => {
      shares.add(socket, shareOf(socket.remoteAddr.toString()))
      socket.addEventListener('close', () => shares.remove(socket))
      return false
    },
    denyInboundUpgradedConnection: (_peer, socket) => {
      shares.remove(socket)
      return false
    },
  }
}

/** What one side sends to agree on a protocol: the header, and a name or two. */
const maxSelectionMessages = 4
/** The longest message that a length of one byte announces. */
const maxSelectionMessageBytes = 127

/** The bytes of one side of a selection, in chunks of any size. */
export class SelectionBound {
  #messages = 0
  /** Bytes of the current message that are to come. */
  #missing = 0

  /** False if no selection has these next bytes. */
  admits(bytes: Uint8Array): boolean {
    let next = this.#missing
    for (; next < bytes.length; this.#messages++) {
      const length = bytes[next] ?? 0
      if (length > maxSelectionMessageBytes) return false
      if (this.#messages === maxSelectionMessages) return false
      next += 1 + length
    }
    this.#missing = next - bytes.length
    return true
  }
}

interface Bytes {
  subarray(): Uint8Array
}

/** The part of a stream of @libp2p/utils 7 that takes what has arrived, and keeps it until somebody listens. */
interface Receiver {
  readonly readBuffer: Bytes
  onData(data: Bytes): void
  removeEventListener(type: string, ...rest: unknown[]): void
}

function isReceiver(stream: object): stream is Receiver {
  const { readBuffer, onData, removeEventListener } = stream as Partial<Receiver>
  return (
    typeof readBuffer?.subarray === 'function' &&
    typeof onData === 'function' &&
    typeof removeEventListener === 'function'
  )
}

/**
 * Closes `connection` when what arrives on `stream`, which begins with a selection, is none. The selection is over when its
 * reader stops to listen.
 * @returns false if the stream takes what arrives in another way
 */
export function boundSelection(stream: MessageStream, connection = stream): boolean {
  const receiver: object = stream
  if (!isReceiver(receiver)) return false
  const { onData, removeEventListener } = receiver
  const bound = new SelectionBound()
  const admits = (data: Bytes): boolean => {
    if (bound.admits(data.subarray())) return true
    connection.abort(new Error('selection of a protocol: expected a few names, got other bytes'))
    return false
  }
  receiver.onData = data => {
    if (admits(data)) onData.call(receiver, data)
  }
  receiver.removeEventListener = (type, ...rest) => {
    removeEventListener.call(receiver, type, ...rest)
    if (type === 'message') Object.assign(receiver, { onData, removeEventListener })
  }
  // Behind Noise the first bytes may have come with the handshake's last ones.
  admits(receiver.readBuffer)
  return true
}

/** The first selection on a connection: of Noise. libp2p shows it every connection, accepted or dialled, before anything is read. */
export const boundConnections: ConnectionProtector = {
  protect: async connection => {
    boundSelection(connection)
    return connection
  },
}

/** What @libp2p/yamux 8 calls with a stream that its peer has opened. */
interface RemoteStreams {
  onRemoteStream(stream: Stream): void
}

/** A multiplexer whose streams, of both sides, begin with a selection. */
export function boundStreams<Components>(
  create: (components: Components) => StreamMuxerFactory,
): (components: Components) => StreamMuxerFactory {
  return components => {
    const factory = create(components)
    const createStreamMuxer = factory.createStreamMuxer.bind(factory)
    factory.createStreamMuxer = connection => {
      const muxer = createStreamMuxer(connection) as StreamMuxer & RemoteStreams
      const createStream = muxer.createStream.bind(muxer)
      muxer.createStream = async options => {
        const stream = await createStream(options)
        boundSelection(stream, connection)
        return stream
      }
      const onRemoteStream = muxer.onRemoteStream.bind(muxer)
      muxer.onRemoteStream = stream => {
        boundSelection(stream, connection)
        onRemoteStream(stream)
      }
      return muxer
    }
    return factory
  }
}
