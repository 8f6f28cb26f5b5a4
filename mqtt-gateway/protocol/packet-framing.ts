/**
 * Finds the packets of an MQTT byte stream (MQTT 3.1.1, section 2.2) and has each judged before the parser behind it sees
 * its end (packet-rules.ts): its size and kind before the body is kept, since the parser collects a whole packet first
 * and has no limit, its form before anybody works on it.
 *
 * The bytes go on unchanged. It keeps a body of bounded size, of a PUBLISH the beginning only.
 */
import {
  checkBody,
  checkedBytes,
  checkFirstByte,
  checkLength,
  type FixedHeader,
  type PacketLimits,
} from './packet-rules.ts'

export class PacketFraming {
  readonly #limits: PacketLimits
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

  constructor(limits: PacketLimits) {
    this.#limits = limits
  }

  /** What is wrong with the first packet that breaks a rule, as soon as that is known; undefined while all is well. */
  accept(chunk: Uint8Array): string | undefined {
    let offset = 0
    while (offset < chunk.length) {
      if (this.#remaining > 0) {
        const taken = chunk.subarray(offset, offset + this.#remaining)
        offset += taken.length
        const violation = this.#takeBody(taken)
        if (violation !== undefined) return violation
        continue
      }
      const violation = this.#takeHeader(chunk[offset] as number)
      if (violation !== undefined) return violation
      offset += 1
    }
    return undefined
  }

  #takeHeader(byte: number): string | undefined {
    if (this.#first === undefined) {
      this.#first = byte
      this.#length = 0
      this.#lengthBytes = 0
      return checkFirstByte(headerOf(byte))
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
