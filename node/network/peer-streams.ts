/**
 * What this node and a peer do on the streams of a link: messages that the peer sends are taken, its requests served, and
 * it is asked. Every byte that comes in here is from outside; the worst that it can do is to have its stream reset and its
 * connection closed.
 */
import type { Stream } from '@libp2p/interface'
import type { DeviceId } from '../../chain/brands.ts'
import { decode } from '../../chain/codec.ts'
import { MoteError, type Refusal } from '../../chain/result.ts'
import type {
  Clock,
  NetworkEvents,
  OutgoingRequest,
  PeerMessage,
  RequestHandler,
  RequestProtocol,
} from '../ports.ts'
import { updateWindowByHalves } from './libp2p-host.ts'
import type { PeerLink } from './peer-links.ts'
import { protocols, type StreamProtocol } from './protocols.ts'
import { Conversation, FrameReader } from './streams.ts'
import {
  type AnswerFrame,
  decodeAnswerFrame,
  encodeAnswerFrame,
  forwardCodec,
  raftStreamCodec,
  refusalFrame,
  refusalFrom,
  signaturesCodec,
} from './wire.ts'

/** Where the frames of a stream go. */
type FrameEvents = Pick<NetworkEvents, 'message' | 'isCounted'>

/** Takes the frames of a long-lived stream, from a proven full node only: nobody else has anything to say on one. */
export function takeFrames(
  protocol: StreamProtocol,
  stream: Stream,
  link: PeerLink,
  events: FrameEvents,
): void {
  const sender = () => link.confirmedFor(protocol)?.id
  const refuse = () => stream.abort(new MoteError('hello-required', `${protocol}: hello comes first`))
  if (!sender()) {
    refuse()
    // A peer that is not confirmed yet cannot know that.
    if (!link.peer) link.violation(`${protocol}: before hello`)
    return
  }
  if (link.peer?.record.label !== 'full') {
    link.violation(`${protocol}: expected a full node, got a ${link.peer?.record.label} one`, 'close')
    return
  }
  updateWindowByHalves(stream)
  const reader = new FrameReader(protocols[protocol].maxFrameBytes)
  const take = (chunk: Uint8Array): Refusal | undefined => {
    const from = sender()
    if (!from) {
      refuse()
      return undefined
    }
    const frames = reader.push(chunk)
    if (!frames.ok) return frames.error
    for (const frame of frames.value) {
      if (events.isCounted(from) && !link.takeFrame(frame.length)) continue
      const refusal = takeFrame(protocol, from, frame, events.message)
      if (refusal) return refusal
    }
    return undefined
  }
  stream.addEventListener('message', ({ data }) => {
    if (stream.status !== 'open') return
    for (const chunk of data instanceof Uint8Array ? [data] : data) {
      const refusal = take(chunk)
      if (!refusal) continue
      stream.abort(new MoteError(refusal.code, refusal.detail))
      link.violation(`${protocol}: ${refusal.detail}`)
      return
    }
  })
  // The other end only writes; this end has nothing to say.
  stream.addEventListener('remoteCloseWrite', () => void stream.close().catch(() => {}))
}

function takeFrame(
  protocol: StreamProtocol,
  from: DeviceId,
  frame: Uint8Array,
  onMessage: (from: DeviceId, message: PeerMessage) => void,
): Refusal | undefined {
  if (protocol === 'raft') {
    const decoded = decode(raftStreamCodec, frame)
    if (!decoded.ok) return decoded.error
    const { value } = decoded
    onMessage(from, value.type === 'raft' ? { type: 'raft', message: { ...value.message, from } } : value)
    return undefined
  }
  if (protocol === 'forward') {
    const decoded = decode(forwardCodec, frame)
    if (!decoded.ok) return decoded.error
    onMessage(from, decoded.value)
    return undefined
  }
  const decoded = decode(signaturesCodec, frame)
  if (!decoded.ok) return decoded.error
  onMessage(from, { type: 'signatures', signatures: decoded.value })
  return undefined
}

export interface ServeOptions {
  readonly protocol: RequestProtocol
  readonly handler: RequestHandler
  readonly timeoutMs: number
  readonly clock: Clock
  readonly isCounted: (peer: DeviceId) => boolean
  /** A handler threw something that is not a `MoteError`. */
  readonly onHandlerFailure: (error: unknown) => void
}

/** Reads one request, answers it, ends the stream. Throws what the conversation throws. */
export async function serveRequest(stream: Stream, link: PeerLink, options: ServeOptions): Promise<void> {
  const { protocol, timeoutMs, clock } = options
  const { maxFrameBytes } = protocols[protocol]
  const conversation = new Conversation(stream, { maxFrameBytes, timeoutMs, clock })
  const body = await conversation.receive()
  conversation.send(encodeAnswerFrame(protocol, await answerRequest(body, link, options)))
  await conversation.finish()
}

async function answerRequest(body: Uint8Array, link: PeerLink, options: ServeOptions): Promise<AnswerFrame> {
  const { protocol, handler, isCounted, onHandlerFailure } = options
  try {
    const confirmed = link.confirmedFor(protocol)
    // A caller without a proven identity pays for each request, a peer pays the cost of the request.
    if (!confirmed) link.takeRequest(1)
    const caller = {
      deviceId: confirmed?.id,
      isProven: link.peer !== undefined,
      remoteAddress: link.remoteAddress,
      charge: (cost: number) => {
        if (confirmed && (protocol !== 'member' || isCounted(confirmed.id))) link.takeRequest(cost)
      },
    }
    return { type: 'body', body: await handler(caller, body) }
  } catch (error) {
    if (error instanceof MoteError) return { type: 'refusal', ...refusalFrame(error) }
    onHandlerFailure(error)
    return { type: 'refusal', code: 'internal', detail: `${protocol}: the request failed` }
  }
}

/**
 * The body of the peer's answer. Throws `unreachable`, `timeout`, `too-large`, `malformed`, or the refusal that the peer
 * answered with; `not-ready` where the answer would count for something and the peer is not confirmed (hello.ts).
 */
export async function askPeer(
  link: PeerLink,
  { protocol, body, of }: OutgoingRequest,
  limits: { readonly timeoutMs: number; readonly deadline: AbortSignal },
): Promise<Uint8Array> {
  const { timeoutMs, deadline } = limits
  if (!link.confirmedFor(protocol) && of === 'confirmed')
    throw new MoteError('not-ready', `${link.peer?.id}: its record is not confirmed at a fresh head yet`)
  let conversation: Conversation | undefined
  try {
    conversation = await link.converse(protocol, timeoutMs, deadline)
    conversation.send(body)
    const answer = decodeAnswerFrame(protocol, await conversation.receive())
    if (!answer.ok) {
      link.violation(`${protocol}: ${answer.error.detail}`)
      throw new MoteError(answer.error.code, answer.error.detail)
    }
    void conversation.finish()
    return bodyOf(answer.value)
  } catch (cause) {
    const failure = failureOf(cause, deadline, `${protocol} to ${link.peer?.id}`)
    conversation?.fail(failure)
    throw failure
  }
}

function bodyOf(answer: AnswerFrame): Uint8Array {
  if (answer.type === 'body') return answer.body
  const { code, detail } = refusalFrom(answer)
  throw new MoteError(code, detail)
}

function failureOf(cause: unknown, deadline: AbortSignal, what: string): MoteError {
  if (cause instanceof MoteError) return cause
  if (deadline.aborted) return new MoteError('timeout', `${what}: no answer in time`, { cause })
  return new MoteError('unreachable', `${what}: ${String(cause)}`, { cause })
}
