/**
 * What is read of a client, and how fast. Each packet is judged before the broker's parser has it (packet-framing.ts). A PUBLISH waits where it is
 * while as many are being decided as one client may have, or its device has used up its rate: the socket is not read then, so that TCP slows the client and
 * nothing is lost.
 *
 * aedes takes its input by `socket.read(null)` only: the one place where a packet is seen before it is kept, without another stream and its
 * buffer between. Bytes that have to wait go back to the socket's buffer, so that the end of the stream comes after them.
 */
import type { Socket } from 'node:net'
import { PacketFraming } from '../protocol/packet-framing.ts'
import type { PacketLimits } from '../protocol/packet-rules.ts'
import type { RateBucket } from './device-rates.ts'

export interface InputLimits {
  /** Messages of one client that are being decided. */
  readonly messages: number
  /** Their bytes; one message is taken however large it is. */
  readonly bytes: number
}

export interface ClientInputOptions {
  readonly packets: PacketLimits
  readonly limits: InputLimits
  /** Told of the first packet that breaks a rule. */
  readonly onViolation: (violation: string) => void
}

export class ClientInput {
  readonly #socket: Socket
  readonly #options: ClientInputOptions
  readonly #framing: PacketFraming
  /** Bytes of each message that was taken and is not decided. */
  readonly #open: number[] = []
  #openBytes = 0
  #rate: RateBucket | undefined
  #isWaiting = false
  #isStopped = false
  #timer: NodeJS.Timeout | undefined

  constructor(socket: Socket, options: ClientInputOptions) {
    this.#socket = socket
    this.#options = options
    this.#framing = new PacketFraming({ ...options.packets, mayBegin: bytes => this.#mayBegin(bytes) })
    const read = socket.read.bind(socket)
    socket.read = size => (size === 0 ? read(0) : this.#take(read, size))
    socket.once('close', () => clearTimeout(this.#timer))
  }

  /** From now on its messages count for the rate of a device. */
  countFor(rate: RateBucket): void {
    this.#rate = rate
  }

  /** The oldest message that was taken is decided. */
  decided(): void {
    this.#openBytes -= this.#open.shift() ?? 0
    if (this.#timer === undefined) this.#goOn()
  }

  /** Takes no further packet. */
  stop(): void {
    this.#isStopped = true
  }

  #take(read: (size?: number) => Buffer | null, size: number | undefined): Buffer | null {
    if (this.#isWaiting || this.#isStopped) return null
    const chunk = read(size)
    if (chunk === null) return null
    const violation = this.#framing.accept(chunk)
    if (violation !== undefined) {
      this.#options.onViolation(violation)
      return null
    }
    const { taken } = this.#framing
    if (taken < chunk.length) {
      this.#isWaiting = true
      this.#socket.unshift(chunk.subarray(taken))
    }
    return taken > 0 ? chunk.subarray(0, taken) : null
  }

  #mayBegin(bytes: number): boolean {
    const { limits } = this.#options
    const isFull = this.#open.length >= limits.messages
    if (isFull || (this.#open.length > 0 && this.#openBytes + bytes > limits.bytes)) return false
    const waitMs = this.#rate?.take(bytes) ?? 0
    if (waitMs > 0) {
      this.#timer = setTimeout(() => {
        this.#timer = undefined
        this.#goOn()
      }, waitMs)
      return false
    }
    this.#open.push(bytes)
    this.#openBytes += bytes
    return true
  }

  #goOn(): void {
    if (!this.#isWaiting) return
    this.#isWaiting = false
    // aedes reads when it hears that there is something.
    this.#socket.emit('readable')
  }
}
