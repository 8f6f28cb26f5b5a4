/**
 * A long-running program of ours in this process: says when it is ready, and ends in order on a signal or when the
 * supervisor that started it is gone.
 */
import { exitCodes } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'
import { clockLineReader } from '../devnet/shifted-clock.ts'
import type { Context } from './context.ts'

/** What a program hands back once it serves. */
export interface RunningProgram {
  /** Told to people and programs in the ready line. */
  readonly ready: object
  /** Drains and resolves when everything is closed. */
  stop(): Promise<void>
  /** Resolves when the program has ended by itself, rejects with the reason if it failed. Never, if it just runs. */
  readonly ended?: Promise<void>
}

/** Started by a supervisor, which holds the other end of the program's standard input. */
export function isSupervised({ variables }: Pick<Context, 'variables'>): boolean {
  return variables['MOTE_SUPERVISED'] === '1'
}

/** A program that has not drained by then is ended all the same. */
const drainDeadlineMs = 8_000

/**
 * Starts, prints `{"ready":true,…}` unless whoever starts it says it in its own words, waits, stops. The exit code is 0
 * after an orderly stop.
 */
export async function runProgram(
  context: Context,
  start: (signal: AbortSignal) => Promise<RunningProgram>,
  { announce = true }: { readonly announce?: boolean } = {},
): Promise<number> {
  const orphaned = new AbortController()
  if (isSupervised(context)) {
    // The supervisor holds the other end: the end of the pipe is the end of the supervisor. It writes nothing but the lines
    // that shift this program's clock.
    process.stdin.on('end', () => orphaned.abort()).on('error', () => orphaned.abort())
    process.stdin.setEncoding('utf8').on('data', clockLineReader())
  }
  const signal = AbortSignal.any([context.signal, orphaned.signal])
  try {
    return await untilStopped(signal, start, announce)
  } catch (error) {
    // The supervisor reads it; people find it in the log.
    if (isSupervised(context) && error instanceof MoteError)
      process.stdout.write(`${JSON.stringify({ failed: { code: error.code, detail: error.detail } })}\n`)
    throw error
  }
}

async function untilStopped(
  signal: AbortSignal,
  start: (signal: AbortSignal) => Promise<RunningProgram>,
  announce: boolean,
): Promise<number> {
  const program = await start(signal)
  if (announce) process.stdout.write(`${JSON.stringify({ ready: true, ...program.ready })}\n`)
  const stopAsked = new Promise<void>(resolve => {
    if (signal.aborted) resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
  await Promise.race(program.ended ? [stopAsked, program.ended] : [stopAsked])
  const late = setTimeout(() => process.exit(exitCodes.failure), drainDeadlineMs)
  await program.stop()
  clearTimeout(late)
  return exitCodes.ok
}
