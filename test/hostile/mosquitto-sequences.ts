/**
 * Plays the packet sequences of Mosquitto's own test suite to a broker, and says what that does on each that its authors
 * would not expect. The sequences are theirs and are not here: `MOTE_MOSQUITTO_DATA` names the directory in which
 * the JSON files of its broker tests are. Of them, those of MQTT 3.1.1, since the gateway speaks nothing else.
 *
 * A sequence begins with a CONNECT that is taken, unless it says otherwise, and ends in a closed connection, unless it says otherwise.
 */
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { Deadline } from '../../client/deadline.ts'

interface Step {
  readonly type: 'send' | 'recv' | 'publish'
  /** Hexadecimal, with spaces; of `publish` text. */
  readonly payload?: string
  readonly topic?: string
  readonly qos?: number
}

export interface Sequence {
  /** File without its ending, group and name. */
  readonly name: string
  readonly startsConnected: boolean
  readonly endsClosed: boolean
  readonly steps: readonly Step[]
}

interface Group {
  readonly group: string
  readonly disable?: boolean
  readonly tests: readonly {
    readonly name: string
    readonly ver?: number
    readonly connect?: boolean
    readonly expect_disconnect?: boolean
    readonly msgs: readonly Step[]
  }[]
}

/** The sequences of MQTT 3.1.1 in a directory, in order of their files. */
export function readSequences(directory: string): readonly Sequence[] {
  const files = readdirSync(directory).filter(file => file.endsWith('.json'))
  return files.sort().flatMap(file =>
    (JSON.parse(readFileSync(join(directory, file), 'utf8')) as readonly Group[])
      .filter(({ group, disable }) => !disable && !/^v(3\.1 |5)/.test(group))
      .flatMap(({ tests }) => tests)
      .filter(({ ver = 4 }) => ver === 4)
      .map(({ name, connect = true, expect_disconnect = true, msgs }) => ({
        name: `${file.replace(/\.json$/, '')}: ${name}`,
        startsConnected: connect,
        endsClosed: expect_disconnect,
        steps: msgs,
      })),
  )
}

/** How long a broker has for what it is expected to do. */
const patienceMs = 5_000

class Conversation {
  readonly #socket: Socket
  #received = ''
  /** Of the message received last, which is the broker's choice. */
  #identifier: string | undefined
  #isClosed = false
  #news = Promise.withResolvers<void>()

  constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', chunk => {
      this.#received += chunk.toString('hex')
      this.#wake()
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      this.#isClosed = true
      this.#wake()
    })
  }

  #wake(): void {
    this.#news.resolve()
    this.#news = Promise.withResolvers()
  }

  /** An acknowledgement of a message of the broker has the identifier that the broker has chosen. */
  send(hex: string): void {
    const plain = hex.replaceAll(' ', '')
    const own = this.#identifier !== undefined && /^[4567].02/.test(plain)
    this.#socket.write(Buffer.from(own ? plain.slice(0, 4) + this.#identifier : plain, 'hex'))
  }

  /** Undefined if the next bytes are these. */
  async expect(hex: string): Promise<string | undefined> {
    let expected = hex.replaceAll(' ', '').toLowerCase()
    const turn = new Deadline(patienceMs)
    while (this.#received.length < expected.length && !this.#isClosed && !turn.isOver)
      await turn.race(this.#news.promise)
    const got = this.#received.slice(0, expected.length)
    this.#received = this.#received.slice(expected.length)
    const message = /^3[2-5]/.test(expected) ? placeOfIdentifier(expected) : undefined
    if (message !== undefined) {
      this.#identifier = got.slice(message, message + 4)
      expected = expected.slice(0, message) + this.#identifier + expected.slice(message + 4)
    }
    return got === expected
      ? undefined
      : `got ${got || (this.#isClosed ? 'a closed connection' : 'nothing')}, not ${expected}`
  }

  async isClosed(withinMs: number): Promise<boolean> {
    const turn = new Deadline(withinMs)
    while (!this.#isClosed && !turn.isOver) await turn.race(this.#news.promise)
    return this.#isClosed
  }
}

/** Where the packet identifier of a short PUBLISH begins, in hexadecimal digits. */
function placeOfIdentifier(publish: string): number {
  return 8 + 2 * Number.parseInt(publish.slice(4, 8), 16)
}

let clients = 0
/** A CONNECT with a user name and a password, since the gateway takes no other. */
function connectPacket(): string {
  const text = (value: string) =>
    `${value.length.toString(16).padStart(4, '0')}${Buffer.from(value).toString('hex')}`
  const body = `00044d51545404c2003c${text(`c${++clients}`)}${text('u')}${text('p')}`
  return `10${(body.length / 2).toString(16).padStart(2, '0')}${body}`
}
const connack = '20020000'

/** What is not as expected; undefined if all is. `closingMs`: how long the broker may keep what it is expected to close. */
export async function play(sequence: Sequence, port: number, closingMs: number): Promise<string | undefined> {
  const open = async () => {
    const socket = connect(port, '127.0.0.1')
    const conversation = new Conversation(socket)
    await once(socket, 'connect')
    return { socket, conversation }
  }
  const { socket, conversation } = await open()
  try {
    if (sequence.startsConnected) {
      conversation.send(connectPacket())
      const refused = await conversation.expect(connack)
      if (refused !== undefined) return `CONNECT: ${refused}`
    }
    for (const { type, payload = '', topic = '' } of sequence.steps) {
      if (type === 'send') conversation.send(payload)
      else if (type === 'recv') {
        const other = await conversation.expect(payload)
        if (other !== undefined) return other
      } else {
        const helper = await open()
        const length = (2 + topic.length + 2 + payload.length).toString(16).padStart(2, '0')
        const name = `${topic.length.toString(16).padStart(4, '0')}${Buffer.from(topic).toString('hex')}`
        helper.conversation.send(connectPacket())
        await helper.conversation.expect(connack)
        helper.conversation.send(`32${length}${name}0001${Buffer.from(payload).toString('hex')}`)
        await helper.conversation.expect('40020001')
        helper.socket.destroy()
      }
    }
    if (sequence.endsClosed) return (await conversation.isClosed(closingMs)) ? undefined : 'stayed open'
    conversation.send('c000')
    return await conversation.expect('d000')
  } finally {
    socket.destroy()
  }
}
