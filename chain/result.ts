/**
 * The answer of a function that judges bytes from outside: a value, or a refusal with a stable code.
 *
 * Pure layers never throw on what a peer, a device or a user sent; they return a `Result`. They do throw
 * (`assert`) on a mistake of the caller.
 */
import type { ErrorCode } from './errors.ts'

/** Why something was refused. `code` is stable and listed in docs/ERRORS.md; `detail` reads `field: expected X, got Y`. */
export interface Refusal {
  readonly code: ErrorCode
  readonly detail: string
}

export type Result<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: Refusal }

export function ok<T>(value: T): Result<T> {
  return { ok: true, value }
}

export function refuse(code: ErrorCode, detail: string): { readonly ok: false; readonly error: Refusal } {
  return { ok: false, error: { code, detail } }
}

/** A refusal as an exception, for the edges (HTTP handlers, the command line) where unwinding is what is wanted. */
export class MoteError extends Error {
  readonly code: ErrorCode
  readonly detail: string

  constructor(code: ErrorCode, detail: string, options?: { cause?: unknown }) {
    super(`${code}: ${detail}`, options as ErrorOptions)
    this.name = 'MoteError'
    this.code = code
    this.detail = detail
  }
}

/** The value of a result, or a thrown `MoteError`. */
export function unwrap<T>(result: Result<T>): T {
  if (result.ok) return result.value
  throw new MoteError(result.error.code, result.error.detail)
}

/** A failure as a refusal, where one item must not end the whole. */
export function refusalOf(error: unknown): Refusal {
  return error instanceof MoteError ? error : { code: 'internal', detail: String(error) }
}

/** Fails on a programmer's mistake, in production too. Never call it on what a peer sent. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${message}`)
}

/** Closes a switch over a discriminated union: the compiler proves that no case is missing. */
export function assertNever(value: never): never {
  throw new Error(`assertion failed: unexpected ${String(value)}`)
}
