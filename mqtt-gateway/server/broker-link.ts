/**
 * One connection of the gateway to a broker that others wrote: MQTT 5 by mqtt.js, opened again when it breaks, until another gateway takes
 * it over (DISCONNECT with reason code 0x8E, MQTT 5 section 3.14.2.1) or it is closed.
 *
 * Messages come one after another: the next one when `onMessage` has resolved for the one before, which is acknowledged then, by PUBACK or
 * PUBREC; not if it rejects: the broker sends it again on the next connection. So
 * what is published by this program, and waited for within `onMessage`, has to go on another connection.
 */
import mqtt, { type IClientOptions, type IPublishPacket, type MqttClient } from 'mqtt'
import type { Qos } from '../../chain/record-bodies.ts'
import { MoteError } from '../../chain/result.ts'
import { Deadline, unlessAborted } from '../../client/deadline.ts'

/** How a gateway logs in at a broker. */
export interface BrokerLogin {
  readonly username: string
  readonly password: string
}

export interface BrokerLinkOptions {
  readonly host: string
  readonly port: number
  /** PEM of the authorities that the broker's certificate may have; without it there is no TLS. */
  readonly ca?: string | undefined
  readonly login: BrokerLogin
  readonly clientId: string
  /** Time for which the broker keeps what has come for this client id while nobody is connected with it; 0: nothing. */
  readonly sessionSeconds: number
  /** What is subscribed to each time that there is no session. */
  readonly topicFilters: readonly string[]
  /** @param connection fires when the connection that it came on has ended: it is not acknowledged any more, and the broker sends it again */
  readonly onMessage?: (message: IPublishPacket, connection: AbortSignal) => Promise<void>
  /** PUBREL: told before PUBCOMP, which waits for it. If it rejects, the connection ends, and PUBREL comes again. */
  readonly onReleased?: (packetIdentifier: number) => Promise<void>
  /** Told each time that it is connected, before the first message. @param isPresent the broker has kept the session */
  readonly onSession?: (isPresent: boolean) => void
  /** Told each time that it is connected and subscribed. */
  readonly onOpen?: () => void
  /** Told why it is not, once until it is again: each attempt fails alike. It goes on, unless `isOver`. */
  readonly onBroken?: (reason: string, isOver: boolean) => void
}

const reconnectPeriodMs = 500
const keepAliveSeconds = 15
const connectTimeoutMs = 5_000
/** Time that the broker has to take a message. */
const publishTimeoutMs = 10_000
/** Messages that the broker may send before the first of them is acknowledged. */
const receiveMaximum = 64
/** DISCONNECT: session taken over. */
const takenOver = 0x8e

export class BrokerLink {
  readonly #options: BrokerLinkOptions
  readonly #client: MqttClient
  readonly #opened = Promise.withResolvers<void>()
  /** Of the connection that there is, or was last. */
  #connection = new AbortController()
  /** Over: closed by this end, or taken over. */
  #state: 'opening' | 'open' | 'broken' | 'over' = 'opening'

  private constructor(options: BrokerLinkOptions) {
    this.#options = options
    this.#client = this.#connect()
  }

  /** Resolves when it is connected and subscribed, however long that takes. Rejects with `interrupted` when it is closed first. */
  static async open(options: BrokerLinkOptions, signal: AbortSignal): Promise<BrokerLink> {
    const link = new BrokerLink(options)
    const closed = () => new MoteError('interrupted', 'broker: closed before it answered')
    try {
      await unlessAborted(signal, link.#opened.promise, closed)
      return link
    } catch (error) {
      await link.close()
      throw error
    }
  }

  /** Resolves when the broker has it, for good at QoS 2; at QoS 0, when it is sent. Throws `unreachable`. */
  async publish(
    topicName: string,
    payload: Uint8Array,
    {
      qos = 1,
      retain = false,
      properties,
    }: { qos?: Qos | undefined; retain?: boolean; properties?: IPublishPacket['properties'] } = {},
  ): Promise<void> {
    const unreachable = (why: string) => new MoteError('unreachable', `broker: ${why}`)
    if (!this.#client.connected) throw unreachable('not connected')
    const { buffer, byteOffset, length } = payload
    const sent = this.#client.publishAsync(topicName, Buffer.from(buffer, byteOffset, length), {
      qos,
      retain,
      ...(properties && { properties }),
    })
    const late = () => unreachable(`no acknowledgement within ${publishTimeoutMs} ms`)
    await new Deadline(publishTimeoutMs).within(sent, late).catch((error: unknown) => {
      throw error instanceof MoteError ? error : unreachable(String((error as Error).message))
    })
  }

  async close(): Promise<void> {
    this.#state = 'over'
    this.#connection.abort()
    await this.#client.endAsync(true)
  }

  #connect(): MqttClient {
    const { host, port, ca, login, clientId, sessionSeconds } = this.#options
    const options: IClientOptions = {
      host,
      port,
      ...(ca === undefined ? { protocol: 'mqtt' } : { protocol: 'mqtts', ca, rejectUnauthorized: true }),
      ...login,
      clientId,
      protocolVersion: 5,
      clean: sessionSeconds === 0,
      properties: { sessionExpiryInterval: sessionSeconds, receiveMaximum },
      keepalive: keepAliveSeconds,
      reconnectPeriod: reconnectPeriodMs,
      connectTimeout: connectTimeoutMs,
      resubscribe: false,
      // An acknowledgement of the connection before would be sent on the next one.
      queueQoSZero: false,
      // mqtt.js hands a message of QoS 2 over at PUBREL, when the broker has forgotten it: it is taken here, before PUBREC.
      customHandleAcks: (_topic, _payload, packet, done) =>
        packet.qos === 2 ? this.#take(packet, () => done(0)) : done(0),
    }
    const client = mqtt.connect(options)
    client.handleMessage = (packet, done) =>
      packet.qos === 2 ? this.#release(packet, done) : this.#take(packet, done)
    client.on('connect', ({ sessionPresent }) => {
      this.#connection = new AbortController()
      this.#options.onSession?.(sessionPresent)
      void this.#subscribe()
    })
    client.on('error', error => this.#broken(error.message))
    client.on('close', () => {
      this.#connection.abort()
      this.#broken('the connection broke')
    })
    client.on('disconnect', ({ reasonCode }) => {
      if (reasonCode !== takenOver) return
      this.#broken('another gateway has taken over', 'over')
      client.end(true)
    })
    return client
  }

  /** Also where there is a session: it may be from before the filters were these. */
  async #subscribe(): Promise<void> {
    const { topicFilters, onOpen } = this.#options
    try {
      if (topicFilters.length > 0) await this.#client.subscribeAsync([...topicFilters], { qos: 2 })
      if (this.#state === 'over') return
      this.#state = 'open'
      onOpen?.()
      this.#opened.resolve()
    } catch (error) {
      this.#broken(`subscription: ${(error as Error).message}`)
    }
  }

  #broken(reason: string, state: 'broken' | 'over' = 'broken'): void {
    if (this.#state === 'over' || this.#state === state) return
    this.#state = state
    this.#options.onBroken?.(reason, state === 'over')
  }

  #release({ messageId = 0 }: IPublishPacket, done: () => void): void {
    const { stream } = this.#client
    const { onReleased = async () => {} } = this.#options
    onReleased(messageId).then(
      () => this.#answer(stream, done),
      () => stream.destroy(),
    )
  }

  #take(packet: IPublishPacket, done: () => void): void {
    const { stream } = this.#client
    const { onMessage = async () => {} } = this.#options
    onMessage(packet, this.#connection.signal).then(
      () => this.#answer(stream, done),
      () => {},
    )
  }

  /**
   * What came on a connection that is gone is not acknowledged on the next one: the broker sends it again there. Nor is anything once this is
   * closed, when mqtt.js has no store any more.
   */
  #answer(stream: MqttClient['stream'], done: () => void): void {
    if (this.#state !== 'over' && this.#client.stream === stream && this.#client.connected) done()
  }
}
