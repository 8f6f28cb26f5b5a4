/**
 * Checks on the driver and on ourselves. A failed one is a programmer's mistake and throws, in production too;
 * what a peer sent is judged in message-check.ts and never gets here.
 */

/** Throws unless `condition` holds. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${message}`)
}

/** Closes a switch over a discriminated union: the compiler proves that no case is missing. */
export function assertNever(value: never): never {
  throw new Error(`assertion failed: unexpected ${JSON.stringify(value)}`)
}
