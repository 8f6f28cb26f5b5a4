/**
 * Finds the packets of an MQTT byte stream (MQTT 3.1.1, section 2.2) and has each judged before the parser behind it sees
 * its end (packet-rules.ts): its size and kind before the body is kept, since the parser collects a whole packet first
 * and has no limit, its form before anybody works on it.
 *
 * The bytes go on unchanged. It keeps a body of bounded size, of a PUBLISH the beginning only. It stops before the body of a PUBLISH that
 * may not begin yet (`mayBegin`), and goes on from there with what it is given next.
 */
import {
  checkBody,
  checkedBytes,
  checkFirstByte,
  checkLength,
  type FixedHeader,
  type PacketLimits,
  packetTypes,
} from './packet-rules.ts'

export interface FramingOptions extends PacketLimits {
  /** Asked with the remaining length of each PUBLISH, until it says yes. Default: yes. */
  readonly mayBegin?: (bytes: number) => boolean
}

export class PacketFraming {
  readonly #limits: FramingOptions
  /** First byte of a packet whose length is not complete. */
  #first: number | undefined
  #length = 0
  #lengthBytes = 0
  #header: FixedHeader | undefined
  /** What is judged of the current body, as far as it is there. */
  #body = new Uint8Array()
  #filled = 0
  /** Bytes of the current body that are still to come. */
  #remaining = 0
  /** A PUBLISH that may not begin yet. */
  #waiting: FixedHeader | undefined
  #taken = 0

  constructor(limits: FramingOptions) {
    this.#limits = limits
  }

  /** Bytes of the last chunk that may go on; the others are to be given again later. */
  get taken(): number {
    return this.#taken
  }

  /** What is wrong with the first packet that breaks a rule, as soon as that is known; undefined while all is well. */
  accept(chunk: Uint8Array): string | undefined {
    this.#taken = 0
    while (this.#taken < chunk.length && this.#mayGoOn()) {
      const violation = this.#step(chunk)
      if (violation !== undefined) return violation
    }
    return undefined
  }

  #mayGoOn(): boolean {
    if (this.#waiting && (this.#limits.mayBegin?.(this.#waiting.length) ?? true)) this.#waiting = undefined
    return this.#waiting === undefined
  }

  #step(chunk: Uint8Array): string | undefined {
    if (this.#remaining === 0) {
      const byte = chunk[this.#taken] as number
      this.#taken += 1
      return this.#takeHeader(byte)
    }
    const part = chunk.subarray(this.#taken, this.#taken + this.#remaining)
    this.#taken += part.length
    return this.#takeBody(part)
  }

  #takeHeader(byte: number): string | undefined {
    if (this.#first === undefined) {
      this.#first = byte
      this.#length = 0
      this.#lengthBytes = 0
      return checkFirstByte(headerOf(byte), this.#limits)
    }
    this.#length += (byte & 0x7f) * 128 ** this.#lengthBytes
    this.#lengthBytes += 1
    if (byte >= 0x80)
      return this.#lengthBytes === 4 ? 'section 2.2.3: length: expected at most four bytes' : undefined
    const header = { ...headerOf(this.#first), length: this.#length }
    this.#first = undefined
    return this.#begin(header)
  }

  #begin(header: FixedHeader): string | undefined {
    const violation = checkLength(header, this.#limits)
    if (violation !== undefined) return violation
    this.#header = header
    this.#body = new Uint8Array(checkedBytes(header))
    this.#filled = 0
    this.#remaining = header.length
    if (header.type === packetTypes.publish) this.#waiting = header
    return header.length === 0 ? this.#judge(header) : undefined
  }

  #takeBody(bytes: Uint8Array): string | undefined {
    this.#remaining -= bytes.length
    const missing = this.#body.length - this.#filled
    if (missing === 0) return undefined
    const judged = bytes.subarray(0, missing)
    this.#body.set(judged, this.#filled)
    this.#filled += judged.length
    return this.#header && judged.length === missing ? this.#judge(this.#header) : undefined
  }

  #judge(header: FixedHeader): string | undefined {
    return checkBody(header, this.#body, this.#limits.filters)
  }
}

function headerOf(first: number): Pick<FixedHeader, 'type' | 'flags'> {
  return { type: first >> 4, flags: first & 0x0f }
}
