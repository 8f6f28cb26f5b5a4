/**
 * One MQTT connection of an application on this machine: MQTT 3.1 and 3.1.1 over `mqtt-packet`, with what the agent has to promise
 * and a broker would decide by itself (docs/decisions/0018-local-ports.md):
 *
 * - a PUBLISH at QoS 1 or 2 is acknowledged after `accept` has resolved, which is when the message is on the disk, and never if it
 *   was refused: then the connection is closed, the one way that MQTT 3.1.1 has to say so;
 * - packets of one connection are handled in the order in which they came, one after another;
 * - `offer` says whether the application has taken a message: its PUBACK, or at QoS 0 that it was written.
 *
 * QoS 2 is taken once per packet identifier and connection; deliveries are at QoS 1 at most. Nothing is retained, no session
 * outlives its connection: what an application has not taken is in the agent's inbox.
 */
import type { Socket } from 'node:net'
import mqttPacket, {
  type IConnectPacket,
  type IPublishPacket,
  type ISubscribePacket,
  type Packet,
} from 'mqtt-packet'
import { MoteError, type Refusal, type Result } from '../../chain/result.ts'
import { covers, isTopicFilter } from '../../chain/rights.ts'
import { Deadline } from '../../client/deadline.ts'
import { PacketFraming } from '../protocol/packet-framing.ts'

/** A message on a local topic. */
export interface LocalMessage {
  readonly topicName: string
  readonly payload: Uint8Array
}

export interface LocalClientLimits {
  /** Bytes of a packet, and of a CONNECT. */
  readonly packetBytes: number
  readonly connectBytes: number
  readonly subscriptions: number
  /** Deliveries that are not acknowledged, and QoS 2 messages that are not released. */
  readonly inFlight: number
  /** Bytes written and not taken by the socket. */
  readonly unsentBytes: number
  /** Time to CONNECT, and to acknowledge a delivery. */
  readonly connectMs: number
  readonly acknowledgeMs: number
}

export interface LocalClientHandlers {
  /** Resolves when the message is on the disk. */
  readonly accept: (message: LocalMessage) => Promise<Result<unknown>>
  /** Told of a CONNECT that is taken: an older connection of this client id ends. */
  readonly connected: (client: LocalClient) => void
  readonly subscribed: () => void
  /** Told why a connection is closed. */
  readonly cut: (reason: Refusal) => void
}

export class LocalClient {
  readonly #socket: Socket
  readonly #limits: LocalClientLimits
  readonly #handlers: LocalClientHandlers
  readonly #subscriptions = new Map<string, 0 | 1>()
  /** Deliveries that wait for their PUBACK. */
  readonly #inFlight = new Map<number, (isTaken: boolean) => void>()
  /** QoS 2 messages that were taken and are not released. */
  readonly #taken = new Set<number>()
  readonly #packets: Packet[] = []
  readonly #ended = Promise.withResolvers<void>()
  #handling = false
  #connect: IConnectPacket | undefined
  #said = false
  #isCut = false
  #nextId = 1

  constructor(socket: Socket, limits: LocalClientLimits, handlers: LocalClientHandlers) {
    this.#socket = socket
    this.#limits = limits
    this.#handlers = handlers
    socket.on('error', () => {})
    socket.once('close', () => this.#closed())
    socket.setTimeout(limits.connectMs, () => this.#cut('timeout', 'no packet in time'))
    this.#read()
  }

  /** The client id; undefined before CONNECT. */
  get clientId(): string | undefined {
    return this.#connect?.clientId
  }

  /** Resolves when the connection is gone. */
  get ended(): Promise<void> {
    return this.#ended.promise
  }

  /** The QoS at which this topic is subscribed to; undefined if it is not. */
  qosOf(topicName: string): 0 | 1 | undefined {
    let found: 0 | 1 | undefined
    for (const [filter, qos] of this.#subscriptions)
      if (covers(filter, topicName)) found = found === 1 ? 1 : qos
    return found
  }

  /** Sends a message at the QoS of its subscription. True when it is taken, false when the connection ended first. */
  async offer({ topicName, payload }: LocalMessage): Promise<boolean> {
    const qos = this.qosOf(topicName)
    if (qos === undefined || this.#socket.destroyed) return false
    const publish = {
      cmd: 'publish',
      topic: topicName,
      payload: Buffer.from(payload),
      retain: false,
      dup: false,
    } as const
    if (qos === 0) return this.#write({ ...publish, qos })
    if (this.#inFlight.size >= this.#limits.inFlight) return false
    const taken = Promise.withResolvers<boolean>()
    const messageId = this.#freeId()
    this.#inFlight.set(messageId, taken.resolve)
    this.#write({ ...publish, qos, messageId })
    const isTaken = await new Deadline(this.#limits.acknowledgeMs).race(taken.promise)
    this.#inFlight.delete(messageId)
    if (isTaken === undefined) this.#cut('too-slow', `no PUBACK within ${this.#limits.acknowledgeMs} ms`)
    return isTaken ?? false
  }

  close(): void {
    this.#socket.destroy()
  }

  #read(): void {
    const { packetBytes, connectBytes, subscriptions } = this.#limits
    const framing = new PacketFraming({
      connectBytes,
      publishBytes: () => (this.#connect ? packetBytes : connectBytes),
      filters: subscriptions,
    })
    const parser = mqttPacket.parser({ protocolVersion: 4 })
    parser.on('packet', packet => {
      this.#packets.push(packet)
    })
    parser.on('error', error => this.#cut('malformed', `packet: ${error.message}`))
    this.#socket.on('data', chunk => {
      const violation = framing.accept(chunk)
      if (violation !== undefined) return this.#cut('malformed', `packet: ${violation}`)
      parser.parse(chunk)
      void this.#handleAll()
    })
  }

  /** One packet after another; the socket is read again when all are handled. */
  async #handleAll(): Promise<void> {
    if (this.#handling) return
    this.#handling = true
    this.#socket.pause()
    try {
      for (let packet = this.#packets.shift(); packet; packet = this.#packets.shift()) {
        if (this.#isCut || this.#socket.destroyed) return
        await this.#handle(packet)
      }
    } catch (error) {
      this.#cut('internal', error instanceof MoteError ? error.message : 'the agent failed')
    } finally {
      this.#handling = false
      this.#socket.resume()
    }
  }

  async #handle(packet: Packet): Promise<void> {
    if (!this.#connect) {
      if (packet.cmd !== 'connect')
        return this.#cut('malformed', `[MQTT-3.1.0-1] expected CONNECT, got ${packet.cmd}`)
      return this.#accept(packet)
    }
    switch (packet.cmd) {
      case 'publish':
        return this.#publish(packet)
      case 'puback':
        return this.#inFlight.get(packet.messageId ?? 0)?.(true)
      case 'pubrel':
        this.#taken.delete(packet.messageId ?? 0)
        return void this.#write({ cmd: 'pubcomp', messageId: packet.messageId ?? 0 })
      case 'subscribe':
        return this.#subscribe(packet)
      case 'unsubscribe':
        for (const filter of packet.unsubscriptions) this.#subscriptions.delete(filter)
        return void this.#write({ cmd: 'unsuback', messageId: packet.messageId ?? 0, granted: [] })
      case 'pingreq':
        return void this.#write({ cmd: 'pingresp' })
      case 'disconnect':
        this.#said = true
        return void this.#socket.end()
      default:
        return this.#cut('malformed', `[MQTT-3.1.0-2] unexpected ${packet.cmd}`)
    }
  }

  #accept(connect: IConnectPacket): void {
    if (connect.protocolVersion !== 4 && connect.protocolVersion !== 3) {
      // Unacceptable protocol version (MQTT 3.1.1, section 3.2.2.3).
      this.#write({ cmd: 'connack', returnCode: 1, sessionPresent: false })
      this.#cut('unknown-version', `protocol level: expected 3 or 4, got ${connect.protocolVersion}`)
      return
    }
    this.#connect = connect
    const { keepalive = 0 } = connect
    // [MQTT-3.1.2-24]: one and a half times the keep-alive; 0 turns it off.
    this.#socket.setTimeout(keepalive * 1_500)
    this.#handlers.connected(this)
    this.#write({ cmd: 'connack', returnCode: 0, sessionPresent: false })
  }

  async #publish({ topic: topicName, payload, qos, messageId = 0 }: IPublishPacket): Promise<void> {
    if (qos === 2 && this.#taken.has(messageId)) return void this.#write({ cmd: 'pubrec', messageId })
    if (this.#taken.size >= this.#limits.inFlight)
      return this.#cut('overloaded', 'QoS 2: too many messages are not released')
    const accepted = await this.#handlers.accept({
      topicName,
      payload: Uint8Array.from(Buffer.from(payload)),
    })
    if (!accepted.ok) {
      const { code, detail } = accepted.error
      // At QoS 0 nothing was promised: there is nothing to refuse.
      return qos === 0 ? this.#handlers.cut(accepted.error) : this.#cut(code, detail)
    }
    if (qos === 1) this.#write({ cmd: 'puback', messageId })
    if (qos !== 2) return
    this.#taken.add(messageId)
    this.#write({ cmd: 'pubrec', messageId })
  }

  #subscribe({ subscriptions, messageId = 0 }: ISubscribePacket): void {
    const granted = subscriptions.map(({ topic, qos }) => {
      if (!isTopicFilter(topic)) return undefined
      const isNew = !this.#subscriptions.has(topic)
      if (topic.startsWith('$') || (isNew && this.#subscriptions.size >= this.#limits.subscriptions))
        return 0x80
      const most = qos === 0 ? 0 : 1
      this.#subscriptions.set(topic, most)
      return most
    })
    if (granted.includes(undefined)) {
      this.#cut('malformed', '[MQTT-4.7.1-2] a wildcard in a wrong place')
      return
    }
    this.#write({ cmd: 'suback', messageId, granted: granted as number[] })
    this.#handlers.subscribed()
  }

  #write(packet: Packet): boolean {
    if (this.#socket.destroyed) return false
    this.#socket.write(mqttPacket.generate(packet))
    if (this.#socket.writableLength <= this.#limits.unsentBytes) return true
    this.#cut('too-slow', `${this.#socket.writableLength} bytes were not taken`)
    return false
  }

  #freeId(): number {
    do this.#nextId = (this.#nextId % 0xffff) + 1
    while (this.#inFlight.has(this.#nextId))
    return this.#nextId
  }

  #cut(code: Refusal['code'], detail: string): void {
    // A second reason, or the time for the last bytes is over.
    if (this.#isCut) return void this.#socket.destroy()
    this.#isCut = true
    this.#handlers.cut({ code, detail })
    // What was written before, a CONNACK say, still goes out.
    this.#socket.setTimeout(this.#limits.connectMs)
    this.#socket.destroySoon()
  }

  #closed(): void {
    for (const settle of this.#inFlight.values()) settle(false)
    this.#subscriptions.clear()
    this.#packets.length = 0
    this.#ended.resolve()
    const will = this.#connect?.will
    if (!will || this.#said) return
    const payload = Uint8Array.from(Buffer.from(will.payload))
    void this.#handlers
      .accept({ topicName: will.topic, payload })
      .then(accepted => accepted.ok || this.#handlers.cut(accepted.error))
      .catch(() => {})
  }
}
