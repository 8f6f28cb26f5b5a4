/**
 * What every command has in common: the options `--dir`, `--timeout` and `--json` with their environment variables,
 * where output goes, and the end of it all: a deadline (exit 124) or a signal (exit 130).
 */

import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { MoteError } from '../chain/result.ts'
import { Deadline, unlessAborted } from '../client/deadline.ts'
import { Output, type Streams } from './output.ts'

export interface Environment {
  readonly variables: NodeJS.ProcessEnv
  readonly streams: Streams
  /** Fires on the first Ctrl-C or SIGTERM. */
  readonly interrupted: AbortSignal
}

/** The options that every command takes, as commander hands them over. */
export interface GlobalOptions {
  readonly dir?: string
  readonly timeout?: number
  readonly json?: boolean
}

export interface Context {
  readonly output: Output
  /** Directory of the devnet or node. */
  readonly directory: string
  /** True if the directory was given by option or environment. */
  readonly directoryNamed: boolean
  /** Milliseconds; the default is 30 s. */
  readonly timeoutMs: number
  /** True if the user gave a deadline: then it also binds commands that otherwise run until they are stopped. */
  readonly timeoutNamed: boolean
  /** Fires on a signal, and at the deadline of commands that have one. */
  readonly signal: AbortSignal
  readonly interrupted: AbortSignal
  readonly variables: NodeJS.ProcessEnv
}

export const defaultTimeoutMs = 30_000

/** Where a devnet lives when nobody names a directory: one per user. */
export function defaultDirectory(variables: NodeJS.ProcessEnv): string {
  const state = variables['XDG_STATE_HOME'] || join(variables['HOME'] || homedir(), '.local', 'state')
  return join(state, 'mote', 'devnet')
}

/** Reads a duration in seconds. Throws `usage`. */
export function parseSeconds(text: string): number {
  const seconds = Number(text)
  if (!Number.isFinite(seconds) || seconds <= 0 || seconds > 86_400 * 7)
    throw new MoteError('usage', `expected seconds above 0, got '${text}'`)
  return seconds
}

/** Reads a whole number within bounds. Throws `usage`. */
export function parseCount(what: string, min: number, max: number): (text: string) => number {
  return text => {
    const count = Number(text)
    if (!Number.isInteger(count) || count < min || count > max)
      throw new MoteError('usage', `${what}: expected a whole number from ${min} to ${max}, got '${text}'`)
    return count
  }
}

const unitMs: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 }

function durationMs(text: string): number | undefined {
  const [, count = '', unit = ''] = /^([1-9]\d{0,4})([mhd])$/.exec(text) ?? []
  return unit === '' ? undefined : Number(count) * (unitMs[unit] ?? 0)
}

/** Reads a time as 90m, 12h or 30d, in milliseconds, within bounds of the same form. Throws `usage`. */
export function parseDuration(
  what: string,
  { min, max }: { readonly min: string; readonly max: string },
): (text: string) => number {
  return text => {
    const [value = 0, least = 0, most = 0] = [text, min, max].map(durationMs)
    if (value < least || value > most)
      throw new MoteError('usage', `${what}: expected ${min} to ${max}, as 90m, 12h or 2d, got '${text}'`)
    return value
  }
}

/** @param hasDeadline false for commands that run until they are stopped */
export function makeContext(environment: Environment, options: GlobalOptions, hasDeadline: boolean): Context {
  const { variables, streams, interrupted } = environment
  const json = options.json ?? isOn(variables['MOTE_JSON'])
  const named = options.dir ?? variables['MOTE_DIR']
  const timeoutText = variables['MOTE_TIMEOUT']
  const seconds = options.timeout ?? (timeoutText ? parseSeconds(timeoutText) : undefined)
  const timeoutMs = seconds === undefined ? defaultTimeoutMs : seconds * 1_000
  const bounded = hasDeadline || options.timeout !== undefined
  return {
    output: new Output({ streams, json, environment: variables }),
    directory: resolve(named || defaultDirectory(variables)),
    directoryNamed: Boolean(named),
    timeoutMs,
    timeoutNamed: seconds !== undefined,
    signal: bounded ? new Deadline(timeoutMs, { signal: interrupted }).signal : interrupted,
    interrupted,
    variables,
  }
}

function isOn(text: string | undefined): boolean {
  return text !== undefined && text !== '' && text !== '0' && text !== 'false'
}

/** Runs `work` until it ends or the context does: `timeout` at the deadline, `interrupted` on a signal. */
export async function withinDeadline<T>(context: Context, work: () => Promise<T>): Promise<T> {
  const { signal, interrupted, timeoutMs } = context
  return unlessAborted(signal, work(), () =>
    interrupted.aborted
      ? new MoteError('interrupted', 'stopped by a signal')
      : new MoteError('timeout', `no answer within ${timeoutMs / 1_000} s`),
  )
}
