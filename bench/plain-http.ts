/**
 * The least HTTP/1.1 client that can post to one server over one kept connection, so that a load generator measures the
 * nodes and not itself. One request at a time; answers must have a `content-length`, as those of a node do.
 */
import { connect, type Socket } from 'node:net'

export interface PlainAnswer {
  readonly status: number
  readonly body: string
}

const headEnd = Buffer.from('\r\n\r\n')

export class PlainHttp {
  readonly #host: string
  readonly #port: number
  readonly #timeoutMs: number
  #socket: Socket | undefined
  #received: Buffer = Buffer.alloc(0)
  #settle: ((answer: PlainAnswer | undefined) => void) | undefined

  constructor(api: string, timeoutMs: number) {
    const { hostname, port } = new URL(api)
    this.#host = hostname
    this.#port = Number(port)
    this.#timeoutMs = timeoutMs
  }

  /** The answer, or undefined when there was none: no connection, a lost one, no answer in time. */
  post(path: string, body: Uint8Array): Promise<PlainAnswer | undefined> {
    const head = `POST ${path} HTTP/1.1\r\nhost: ${this.#host}\r\ncontent-type: application/octet-stream\r\ncontent-length: ${body.length}\r\n\r\n`
    const answer = new Promise<PlainAnswer | undefined>(resolve => {
      this.#settle = resolve
    })
    this.#open().write(Buffer.concat([Buffer.from(head, 'latin1'), body]))
    return answer
  }

  close(): void {
    this.#socket?.destroy()
  }

  #open(): Socket {
    if (this.#socket) return this.#socket
    const socket = connect({ host: this.#host, port: this.#port, noDelay: true })
    socket.setTimeout(this.#timeoutMs, () => socket.destroy())
    socket.on('data', chunk => this.#take(chunk))
    socket.on('error', () => {})
    socket.on('close', () => {
      if (this.#socket === socket) this.#socket = undefined
      this.#received = Buffer.alloc(0)
      this.#finish(undefined)
    })
    this.#socket = socket
    return socket
  }

  #take(chunk: Buffer): void {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk])
    const end = this.#received.indexOf(headEnd)
    if (end < 0) return
    const head = this.#received.toString('latin1', 0, end)
    const length = Number(/content-length: *(\d+)/i.exec(head)?.[1] ?? 0)
    const bodyStart = end + headEnd.length
    if (this.#received.length < bodyStart + length) return
    const body = this.#received.toString('utf8', bodyStart, bodyStart + length)
    this.#received = this.#received.subarray(bodyStart + length)
    if (/connection: *close/i.test(head)) this.#socket?.destroy()
    this.#finish({ status: Number(head.slice(9, 12)), body })
  }

  #finish(answer: PlainAnswer | undefined): void {
    const settle = this.#settle
    this.#settle = undefined
    settle?.(answer)
  }
}
