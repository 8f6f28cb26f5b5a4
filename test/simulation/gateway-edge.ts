/**
 * The edge of a simulated gateway: the broker that plain clients are connected to, over the recorder. It answers as mqtt-gateway/server/ does: one
 * client's messages are judged in their order, PUBACK and PUBREC wait for the outcome, and what may pass later ends the connection.
 */
import type { AttestedBody } from '../../chain/record-bodies.ts'
import {
  exchangeDigest,
  type Recorder,
  type RecordOutcome,
  type RecordRequest,
} from '../../mqtt-gateway/records/recorder.ts'
import { mayPassLater } from '../../mqtt-gateway/server/broker.ts'
import { ClientMessages } from '../../mqtt-gateway/server/client-messages.ts'
import type { DiskUser } from './disk.ts'
import type { MqttLink } from './mqtt-link.ts'
import type { SeededRandom } from './random.ts'

/** A message as a client publishes it. */
export interface SimulatedMessage {
  readonly number: number
  readonly body: AttestedBody
  readonly topicName: string
  readonly payload: Uint8Array
}

export interface Publish {
  readonly packetIdentifier: number
  readonly qos: 1 | 2
  readonly dup: boolean
  readonly message: SimulatedMessage
}

/** Whom a connection is from, and what it hears. */
export interface ConnectedClient {
  readonly name: string
  readonly device: RecordRequest['device']
  readonly isClean: boolean
  connected(): void
  /** PUBACK or PUBREC. */
  acknowledged(packetIdentifier: number): void
  /** PUBCOMP. */
  completed(packetIdentifier: number): void
}

interface Session {
  readonly client: ConnectedClient
  readonly messages: ClientMessages
  incarnation: string
}

export interface SimulatedEdgeParts {
  readonly process: DiskUser
  readonly recorder: Recorder
  /** An acknowledgement leaves for a client; without an outcome, of what is refused for good before it is signed. */
  readonly onAcknowledge: (message: SimulatedMessage, outcome: RecordOutcome | undefined) => void
  readonly note: (text: string) => void
}

export class SimulatedEdge {
  readonly #parts: SimulatedEdgeParts
  readonly #sessions = new Map<MqttLink, Session>()

  constructor(parts: SimulatedEdgeParts) {
    this.#parts = parts
  }

  /** A connection to it, from before anything is sent. */
  opened(link: MqttLink, client: ConnectedClient): void {
    this.#sessions.set(link, { client, messages: new ClientMessages(), incarnation: '' })
  }

  /** CONNECT. */
  connect(link: MqttLink): void {
    const session = this.#sessionOf(link)
    const { client } = session
    this.#parts.recorder.incarnationOf(client.name, client.isClean ? 'clean' : 'kept').then(
      ({ incarnation }) => {
        session.incarnation = incarnation
        this.#answer(link, 'connack', () => client.connected())
      },
      error => this.#close(link, error),
    )
  }

  publish(link: MqttLink, { packetIdentifier, qos, dup, message }: Publish): void {
    const { client, messages, incarnation } = this.#sessionOf(link)
    const { topicName, payload, body } = message
    const digest = exchangeDigest(topicName, payload)
    const request: RecordRequest = {
      exchange: { client: client.name, incarnation, packetIdentifier, qos, isRepeat: dup, digest },
      device: client.device,
      messageId: undefined,
      content: { type: 'attested', body },
    }
    let outcome: RecordOutcome | undefined
    const judge = async () => {
      if (!link.isOpen) return 'close'
      const accepted = await this.#parts.recorder.accept(request)
      if (!accepted.ok) return mayPassLater(accepted.error.code) ? 'close' : 'acknowledge'
      const later = accepted.value.outcome.then(
        ended => {
          outcome = ended
          return 'acknowledge' as const
        },
        () => 'close' as const,
      )
      return { later, kept: Promise.resolve(true) }
    }
    const acknowledged = () => client.acknowledged(packetIdentifier)
    const leaves = () => this.#parts.onAcknowledge(message, outcome)
    messages.judge(judge).then(
      answer => {
        if (answer === 'close') this.#close(link, 'not acknowledged')
        else this.#answer(link, qos === 1 ? 'puback' : 'pubrec', acknowledged, leaves)
      },
      error => this.#close(link, error),
    )
  }

  /** PUBREL. */
  release(link: MqttLink, packetIdentifier: number): void {
    const { client } = this.#sessionOf(link)
    this.#parts.recorder.released(client.name, packetIdentifier).then(
      () => this.#answer(link, 'pubcomp', () => client.completed(packetIdentifier)),
      error => this.#close(link, error),
    )
  }

  /** All connections end. */
  hangUp(): void {
    for (const link of this.#sessions.keys()) link.end()
  }

  /** Something breaks one connection. */
  cut(random: SeededRandom): void {
    const open = [...this.#sessions.keys()].filter(({ isOpen }) => isOpen)
    if (open.length > 0) random.pick(open).end()
  }

  #sessionOf(link: MqttLink): Session {
    const session = this.#sessions.get(link)
    if (!session) throw new Error('a packet on a connection that was never opened')
    return session
  }

  #answer(link: MqttLink, label: string, happen: () => void, leaves?: () => void): void {
    const { process } = this.#parts
    process.boundary()
    if (!process.alive || !link.isOpen) return
    leaves?.()
    link.toClient(label, happen)
  }

  #close(link: MqttLink, why: unknown): void {
    const { process, note } = this.#parts
    if (!process.alive || !link.isOpen) return
    note(`closes a connection: ${String(why).slice(0, 100)}`)
    link.end()
  }
}
