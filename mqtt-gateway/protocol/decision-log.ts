/**
 * One line per decision, as JSON: who wanted what, what the gateway said and on which trust data (docs/FORMATS.md,
 * "Decision log"). It is how a refusal is explained afterwards, so it has both key ids of a mismatch and never a
 * payload.
 *
 * The file rotates by size and keeps a bounded number of old files.
 */
import { once } from 'node:events'
import { join } from 'node:path'
import type { Logger } from 'pino'
import roll from 'pino-roll'
import type { ErrorCode } from '../../chain/errors.ts'

export interface DecisionLine {
  /** Message id, of a record or call the id of its transaction; null when the bytes did not even parse. */
  readonly id: string | null
  /**
   * What was asked for: a message, one in the clear, one that is to be recorded, boxes of an epoch key, an answer, news of records, a vote on a key, a device's part
   * in one, what it came to, a copy of a key that a device has replaced, a kept message that is dropped, an acknowledgement of one, a subscription, a connection, or its being cut.
   */
  readonly event:
    | 'message'
    | 'plain'
    | 'record'
    | 'boxes'
    | 'ask'
    | 'watch'
    | 'vote'
    | 'check'
    | 'result'
    | 'copy'
    | 'kept'
    | 'got'
    | 'subscribe'
    | 'connect'
    | 'cut'
  /** Of a connection, who it says it is; empty where several are counted together. */
  readonly sender: string
  /** Where a connection came from. */
  readonly address?: string
  /** Device or group. */
  readonly recipient: string | null
  readonly topic: string | null
  readonly verdict: 'Check' | 'Error'
  /** An exact repeat of a message: acknowledged, and not relayed again. */
  readonly repeat?: true
  /** The will of a connection that ended without DISCONNECT. */
  readonly will?: true
  readonly code: ErrorCode | null
  readonly reason: string | null
  /** Both key ids where the recipient's key or the epoch key is not the chain's, or not another's. */
  readonly mismatch: KeyMismatch | CopyMismatch | CopyDifference | null
  readonly height: number
  readonly ageMs: number
}

/** The key id in the envelope and the one on the chain, where they differ: both go to the log (Hsu-Lu B2). */
export interface KeyMismatch {
  readonly inEnvelope: string
  readonly onChain: string | undefined
}

/** A device's copy of a key that cannot be used: what is wrong with it, and the id of the chain's key. */
export interface CopyMismatch {
  readonly inCopy: string
  readonly onChain: string | undefined
}

/** Two copies of one key that differ: the one that the sender has shown and another's; null for none. */
export interface CopyDifference {
  readonly inEnvelope: string | null
  readonly inCopy: string | null
}

export interface DecisionLog {
  write(line: DecisionLine): void
  close(): Promise<void>
}

/** Size at which the file rotates, and how many old ones stay. */
const rotateAt = '10m'
const oldFilesKept = 8

/** Writes to `DIRECTORY/decisions.N.log`, and one short line each to `logger`, if there is one. */
export async function fileDecisionLog(
  directory: string,
  logger?: Pick<Logger, 'debug'>,
): Promise<DecisionLog> {
  const file = join(directory, 'decisions')
  const stream = await roll({
    file,
    extension: '.log',
    size: rotateAt,
    limit: { count: oldFilesKept },
    mkdir: true,
    sync: true,
    mode: 0o600,
  })
  return {
    write: line => {
      stream.write(`${JSON.stringify({ time: new Date().toISOString(), ...line })}\n`)
      const { id, event, sender, recipient, verdict, code } = line
      logger?.debug({ id, event, sender, recipient, verdict, code }, 'decision')
    },
    close: async () => {
      const closed = once(stream, 'close')
      stream.end()
      await closed
    },
  }
}
