/** What comes back on a request stream, and the form of a refusal (docs/FORMATS.md, "Answers of request protocols"). */
import { bytes, type Codec, decode, encode, struct, text, union } from '../../chain/codec.ts'
import { type ErrorCode, errorTable } from '../../chain/errors.ts'
import type { Refusal, Result } from '../../chain/result.ts'
import type { RequestProtocol } from '../ports.ts'
import { type AnswerLimit, type ProtocolName, protocols } from './protocols.ts'

const maxDetailLength = 512
export const refusalFields = { code: text(64, /^[a-z0-9-]+$/), detail: text(maxDetailLength * 4) }

/** What comes back on a request stream: the protocol's own body, or a refusal. */
export type AnswerFrame =
  | { readonly type: 'body'; readonly body: Uint8Array }
  | { readonly type: 'refusal'; readonly code: string; readonly detail: string }

/** What an answer's frame adds to its body: two arrays, a number and the length. */
const answerFrameBytes = 8
const largestAnswerBytes = Math.max(...Object.values(protocols).map(({ maxAnswerBytes }) => maxAnswerBytes))

export const answerCodec: Codec<AnswerFrame> = union<AnswerFrame>({
  body: [1, struct({ body: bytes(0, largestAnswerBytes) })],
  refusal: [2, struct(refusalFields)],
})

/** Largest frame of an answer; one of hello has no frame of its own around it. */
export function maxAnswerFrameBytes(protocol: ProtocolName): AnswerLimit {
  return (protocols[protocol].maxAnswerBytes + answerFrameBytes) as AnswerLimit
}

/** The frame of an answer. A body over the limit becomes the refusal `too-large`: the asker could not take it. */
export function encodeAnswerFrame(protocol: RequestProtocol, answer: AnswerFrame): Uint8Array {
  const { maxAnswerBytes } = protocols[protocol]
  if (answer.type === 'refusal' || answer.body.length <= maxAnswerBytes) return encode(answerCodec, answer)
  const detail = `${protocol}: expected an answer of at most ${maxAnswerBytes} bytes, got ${answer.body.length}`
  return encode(answerCodec, { type: 'refusal', code: 'too-large', detail })
}

/** What is in a frame that `encodeAnswer` made. Refuses with `too-large` or `malformed`. */
export function decodeAnswerFrame(protocol: RequestProtocol, frame: Uint8Array): Result<AnswerFrame> {
  return decode(answerCodec, frame, maxAnswerFrameBytes(protocol))
}

/** A refusal as it is sent: the detail is cut to what a frame takes. */
export function refusalFrame({ code, detail }: Refusal): Refusal {
  return { code, detail: detail.slice(0, maxDetailLength) }
}

/** A peer's refusal; a code that this version does not know is `internal`. */
export function refusalFrom({ code, detail }: { code: string; detail: string }): Refusal {
  return Object.hasOwn(errorTable, code)
    ? { code: code as ErrorCode, detail }
    : { code: 'internal', detail: `${code}: ${detail}` }
}
