/**
 * What execution answers: a value, or a refusal with a code that a receipt can carry. A `Result` whose codes are the
 * receipt codes, so that no refusal of execution lacks its number on the wire.
 */
import type { ChainEvent, RefusalCode } from './block.ts'

export type ExecutionResult<T> = { readonly ok: true; readonly value: T } | Rejection

export interface Rejection {
  readonly ok: false
  readonly error: {
    readonly code: RefusalCode
    readonly detail: string
    /** What the receipt says of it besides the code. */
    readonly events: readonly ChainEvent[]
  }
}

export function permit<T>(value: T): ExecutionResult<T> {
  return { ok: true, value }
}

export function reject(code: RefusalCode, detail: string, events: readonly ChainEvent[] = []): Rejection {
  return { ok: false, error: { code, detail, events } }
}
