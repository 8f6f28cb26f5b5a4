/** The three frames of hello on a stream (hello.ts says what they mean). */

import type { DeviceId } from '../chain/brands.ts'
import { type Codec, decode, encode } from '../chain/codec.ts'
import { MoteError, type Result, refuse } from '../chain/result.ts'
import { refusalFrame } from './answer-frame.ts'
import type { Conversation } from './conversation.ts'
import {
  type HelloBook,
  type HelloVerdict,
  helloCodec,
  helloReplyCodec,
  helloVerdictCodec,
  judgeHello,
  ownHello,
  type ProvenPeer,
} from './hello.ts'

export interface HelloOutcome {
  /** Who the peer is. */
  readonly judged: Result<ProvenPeer>
  /** The peer took our proof. */
  readonly accepted: boolean
}

/** What an exchange needs to know of its connection. */
interface Connection {
  readonly transportKey: Uint8Array | undefined
}

/**
 * The side that dialled. A peer that refuses us although we showed a proof rejects the whole exchange with its
 * refusal; a newcomer without proof may stay. Throws `malformed`, `too-large`, `timeout`, `unreachable`.
 */
export async function sayHello(
  conversation: Conversation,
  options: { book: HelloBook; link: Connection; expected: DeviceId },
): Promise<HelloOutcome> {
  const { book, link, expected } = options
  const own = ownHello(book)
  conversation.send(encode(helloCodec, own))
  const reply = await next(conversation, helloReplyCodec)
  const judged =
    reply.hello.deviceId === expected
      ? judgeHello(book, reply.hello, link.transportKey)
      : refuse('hello-refused', `hello: expected ${expected}, got ${reply.hello.deviceId}`)
  conversation.send(encode(helloVerdictCodec, { verdict: verdictOn(judged) }))
  await conversation.finish()
  if (reply.verdict && own.proof.type !== 'none')
    throw new MoteError('hello-refused', `the peer said ${reply.verdict.code}: ${reply.verdict.detail}`)
  return { judged, accepted: reply.verdict === undefined }
}

/** The side that listened. `onProven` runs before the reply leaves: what the peer sends next finds it known. */
export async function answerHello(
  conversation: Conversation,
  options: { book: HelloBook; link: Connection; onProven: (peer: ProvenPeer) => void },
): Promise<HelloOutcome> {
  const { book, link, onProven } = options
  const hello = await next(conversation, helloCodec)
  const judged = judgeHello(book, hello, link.transportKey)
  if (judged.ok) onProven(judged.value)
  conversation.send(encode(helloReplyCodec, { verdict: verdictOn(judged), hello: ownHello(book) }))
  const { verdict } = await next(conversation, helloVerdictCodec)
  await conversation.finish()
  return { judged, accepted: judged.ok && verdict === undefined }
}

function verdictOn(judged: Result<ProvenPeer>): HelloVerdict {
  return judged.ok ? undefined : refusalFrame(judged.error)
}

async function next<T>(conversation: Conversation, codec: Codec<T>): Promise<T> {
  const decoded = decode(codec, await conversation.receive())
  if (decoded.ok) return decoded.value
  const failure = new MoteError(decoded.error.code, decoded.error.detail)
  conversation.fail(failure)
  throw failure
}
