/**
 * Confirmations from agent to agent, by two reserved first levels of an envelope's channel (docs/FORMATS.md, "Confirmations"):
 *
 *   mote.ask/<stream>/<sequence>[/<channel>]    the sender wants to know that the recipient has it on its disk
 *   mote.got/<stream>/<sequence>                the recipient has
 *
 * A stream is one queue of one sender; its sequence grows from message to message. A recipient takes a number once, and only
 * above the last one, however often and in however many envelopes it comes. The gateway sees that, and can do nothing about
 * it: the channel is under the sender's signature.
 */
import type { DeviceId } from '../../chain/brands.ts'
import { MoteError } from '../../chain/result.ts'

/** Which message of which queue. */
export interface MessageNumber {
  /** 8 characters: 0 to 9, a to f. */
  readonly stream: string
  readonly sequence: number
}

/** What a channel says. */
export type ChannelUse =
  | { readonly type: 'plain'; readonly channel: string }
  | { readonly type: 'ask'; readonly number: MessageNumber; readonly channel: string }
  | { readonly type: 'got'; readonly number: MessageNumber }

const reservedPattern = /^mote\.(ask|got)\/([0-9a-f]{8})\/(0|[1-9a-z][0-9a-z]{0,10})(?:\/(.+))?$/
/** Longest channel beside a question for a confirmation: what is left of 64 characters. */
export const maxAskedChannelCharacters = 34

/** The channel of a message that wants a confirmation. Throws `malformed` for one that is too long. */
export function askingChannel({ stream, sequence }: MessageNumber, channel: string): string {
  if (channel.length > maxAskedChannelCharacters)
    throw new MoteError(
      'malformed',
      `channel: expected at most ${maxAskedChannelCharacters} characters with a confirmation, got ${channel.length}`,
    )
  const asked = `mote.ask/${stream}/${sequence.toString(36)}`
  return channel === '' ? asked : `${asked}/${channel}`
}

/** The channel of a confirmation. */
export function confirmationChannel({ stream, sequence }: MessageNumber): string {
  return `mote.got/${stream}/${sequence.toString(36)}`
}

/** True for a channel that an application may not use by itself. */
export function isReservedChannel(channel: string): boolean {
  return channel.startsWith('mote.')
}

/** Reads a channel; undefined for a reserved one of another form. */
export function parseChannel(channel: string): ChannelUse | undefined {
  if (!isReservedChannel(channel)) return { type: 'plain', channel }
  const [, type, stream, digits, rest] = reservedPattern.exec(channel) ?? []
  if (stream === undefined || digits === undefined) return undefined
  const sequence = Number.parseInt(digits, 36)
  if (!Number.isSafeInteger(sequence)) return undefined
  const number = { stream, sequence }
  if (type === 'ask') return { type, number, channel: rest ?? '' }
  return rest === undefined ? { type: 'got', number } : undefined
}

/** A confirmation that is waited for, until `stop`. */
export interface Confirmation {
  readonly arrived: Promise<true>
  readonly isThere: () => boolean
  readonly stop: () => void
}

/** Who waits for which confirmation. */
export class PendingConfirmations {
  readonly #waiting = new Map<string, () => void>()

  expect(from: string, number: MessageNumber): Confirmation {
    const { promise, resolve } = Promise.withResolvers<true>()
    const name = nameOf(from, number)
    let isThere = false
    this.#waiting.set(name, () => {
      isThere = true
      resolve(true)
    })
    return { arrived: promise, isThere: () => isThere, stop: () => this.#waiting.delete(name) }
  }

  /** A device says that it has what this number names; one that nobody waits for changes nothing. */
  arrived(from: DeviceId, number: MessageNumber): void {
    this.#waiting.get(nameOf(from, number))?.()
  }
}

/** Confirmations that the gateway has not decided on: one that is on its way answers every attempt that comes meanwhile. */
export class ConfirmationsUnderWay {
  readonly #names = new Set<string>()

  /** Rejects as `send`, which is not called if there is one under way. */
  async send(to: DeviceId, number: MessageNumber, send: () => Promise<void>): Promise<void> {
    const name = nameOf(to, number)
    if (this.#names.has(name)) return
    this.#names.add(name)
    try {
      await send()
    } finally {
      this.#names.delete(name)
    }
  }
}

function nameOf(from: string, { stream, sequence }: MessageNumber): string {
  return `${from}/${stream}/${sequence}`
}
