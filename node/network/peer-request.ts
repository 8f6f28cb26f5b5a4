/** The asking side of the request protocols: one request frame, one answer frame. */
import { MoteError } from '../../chain/result.ts'
import type { OutgoingRequest } from '../ports.ts'
import { type AnswerFrame, decodeAnswerFrame, refusalFrom } from './answer-frame.ts'
import type { Conversation } from './conversation.ts'
import type { PeerLink } from './peer-link.ts'

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
  if (!link.confirmed && of === 'confirmed')
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
