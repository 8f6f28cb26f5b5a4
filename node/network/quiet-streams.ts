/**
 * Two habits of the libraries under a connection that cost a small message more than the message itself. Both are changed on
 * the object in hand, since neither library has an option; where it looks different in a later release nothing is changed
 * (test/unit/node/quiet-streams.test.ts says so), and all goes on as before.
 */
import type { MessageStream, Stream } from '@libp2p/interface'

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
/** Made once: the decoder tells by an error that nothing is left, once a message, and a stack trace each time is dear. */
const nothingLeft = new RangeError('noise: no length left to read')

/**
 * Ends the reading of lengths without a new error each time.
 * @returns false if the stream reads them in another way
 */
export function endLengthsCheaply(stream: MessageStream): boolean {
  if (!readsLengths(stream)) return false
  const { decoder } = stream
  const read = decoder.lengthDecoder
  decoder.lengthDecoder = data => {
    if (data.length < lengthBytes) throw nothingLeft
    return read(data)
  }
  return true
}
