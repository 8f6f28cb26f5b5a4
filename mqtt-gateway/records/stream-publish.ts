/**
 * How one message gets into a stream of NATS servers: sent again until one of them says that it is stored. A message whose answer was lost may
 * be stored, and fill the stream by itself: when the servers then call it full, that says nothing of this message, and is no refusal.
 */
import { MoteError, ok, type Result, refuse } from '../../chain/result.ts'
import type { Deadline } from '../../client/deadline.ts'

/** Time from one attempt to the next. */
const retryDelayMs = 200

export interface StreamPublish {
  /** Asked until it answers once, before anything is sent. False: it would not have room. */
  readonly admit: () => Promise<boolean>
  /** True: it is stored. False: the stream is full. Throws when no answer came: it may be stored. */
  readonly send: () => Promise<boolean>
}

/** Refuses `overloaded` if the servers do not have it. Throws `unreachable` if they may. */
export async function publishUntilStored(
  { admit, send }: StreamPublish,
  deadline: Deadline,
): Promise<Result<void>> {
  let last: unknown = 'no server answers'
  let [isAdmitted, mayBeStored] = [false, false]
  while (!deadline.isOver) {
    try {
      isAdmitted ||= await admit()
      if (isAdmitted && (await send())) return ok(undefined)
      if (mayBeStored) break
      return refuse('overloaded', 'queue: the stream is full')
    } catch (error) {
      mayBeStored = isAdmitted
      last = error
    }
    await deadline.pause(retryDelayMs)
  }
  throw unreachable(last)
}

export function unreachable(cause: unknown): MoteError {
  const reason = cause instanceof MoteError ? cause.detail : cause instanceof Error ? cause.message : cause
  return new MoteError('unreachable', `queue: ${reason}`, { cause })
}
