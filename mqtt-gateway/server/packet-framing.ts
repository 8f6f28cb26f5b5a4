/**
 * Watches the MQTT fixed headers of a byte stream (MQTT 3.1.1, section 2.2) to learn a packet's size before its body
 * is buffered. The parser behind it collects a whole packet first, so without this a peer could make it hold 256 MiB.
 *
 * It keeps five numbers and never copies; the bytes go on unchanged.
 */
export class PacketFraming {
  readonly #limit: () => number
  /** Body bytes of the current packet that are still to come. */
  #remaining = 0
  #lengthBytes = 0
  #length = 0
  #inLength = false

  /** @param limit largest packet body that may begin now, in bytes */
  constructor(limit: () => number) {
    this.#limit = limit
  }

  /** False as soon as a packet announces more than the limit, or a length of more than four bytes [2.2.3]. */
  accept(chunk: Uint8Array): boolean {
    let offset = 0
    while (offset < chunk.length) {
      if (this.#remaining > 0) {
        const taken = Math.min(this.#remaining, chunk.length - offset)
        this.#remaining -= taken
        offset += taken
      } else if (!this.#inLength) {
        this.#inLength = true
        this.#length = 0
        this.#lengthBytes = 0
        offset += 1
      } else {
        const byte = chunk[offset] as number
        offset += 1
        this.#length += (byte & 0x7f) * 128 ** this.#lengthBytes
        this.#lengthBytes += 1
        if (byte >= 0x80) {
          if (this.#lengthBytes === 4) return false
          continue
        }
        if (this.#length > this.#limit()) return false
        this.#inLength = false
        this.#remaining = this.#length
      }
    }
    return true
  }
}
