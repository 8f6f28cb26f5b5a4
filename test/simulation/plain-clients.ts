/**
 * Plain clients of simulated gateways: each publishes with QoS 1 or 2 and keeps what is not acknowledged. When its connection ends it comes again, and sends
 * that again with DUP [MQTT-4.4.0-1], or, where its session was clean, as something new.
 */
import type { DeviceId } from '../../chain/brands.ts'
import type { SimulatedGateway } from './gateway.ts'
import type { ConnectedClient, Publish, SimulatedEdge, SimulatedMessage } from './gateway-edge.ts'
import type { Site } from './host.ts'
import { MqttLink } from './mqtt-link.ts'
import type { SeededRandom } from './random.ts'

export interface SimulatedClientParts {
  readonly site: Site
  readonly random: SeededRandom
  readonly name: string
  readonly device: DeviceId
  readonly isClean: boolean
  readonly gateway: SimulatedGateway
  readonly nextMessage: () => SimulatedMessage
  /** One exchange of a message begins. */
  readonly onDelivery: (message: SimulatedMessage) => void
}

interface Exchange {
  readonly message: SimulatedMessage
  readonly qos: 1 | 2
  wasSent: boolean
  /** PUBREC has come. */
  isReceived: boolean
}

/** Messages that are not acknowledged at the same time. */
const windowMax = 4

export class SimulatedClient implements ConnectedClient {
  readonly name: string
  readonly device: DeviceId
  readonly isClean: boolean
  readonly #parts: SimulatedClientParts
  readonly #meanMs: number
  /** By packet identifier, in the order in which they began. */
  #open = new Map<number, Exchange>()
  #connection: { readonly link: MqttLink; readonly edge: SimulatedEdge } | undefined
  #isConnected = false
  #stopped = false

  constructor(parts: SimulatedClientParts) {
    this.#parts = parts
    this.name = parts.name
    this.device = parts.device
    this.isClean = parts.isClean
    this.#meanMs = parts.random.pick([100, 300, 800])
  }

  /** Nothing waits to be acknowledged, and nothing comes. */
  get idle(): boolean {
    return this.#stopped && this.#open.size === 0
  }

  get openNumbers(): readonly number[] {
    return [...this.#open.values()].map(({ message }) => message.number)
  }

  stop(): void {
    this.#stopped = true
  }

  start(): void {
    this.#connect()
    this.#think()
  }

  connected(): void {
    this.#isConnected = true
    const before = [...this.#open]
    if (this.isClean) this.#open = new Map()
    for (const [packetIdentifier, exchange] of before) {
      if (this.isClean) this.#begin(exchange.message, exchange.qos)
      else if (exchange.isReceived) this.#release(packetIdentifier)
      else this.#send(packetIdentifier, exchange)
    }
  }

  acknowledged(packetIdentifier: number): void {
    const exchange = this.#open.get(packetIdentifier)
    if (exchange?.qos === 1) this.#open.delete(packetIdentifier)
    if (exchange?.qos !== 2 || exchange.isReceived) return
    exchange.isReceived = true
    this.#release(packetIdentifier)
  }

  completed(packetIdentifier: number): void {
    this.#open.delete(packetIdentifier)
  }

  #think(): void {
    const { random } = this.#parts
    this.#later(random.exponential(this.#meanMs), () => {
      if (this.#stopped) return
      if (this.#open.size < windowMax) this.#begin(this.#parts.nextMessage(), random.chance(0.5) ? 1 : 2)
      this.#think()
    })
  }

  #begin(message: SimulatedMessage, qos: 1 | 2): void {
    let packetIdentifier = 1
    while (this.#open.has(packetIdentifier)) packetIdentifier++
    const exchange = { message, qos, wasSent: false, isReceived: false }
    this.#open.set(packetIdentifier, exchange)
    this.#parts.onDelivery(message)
    if (this.#isConnected) this.#send(packetIdentifier, exchange)
  }

  #send(packetIdentifier: number, exchange: Exchange): void {
    const { message, qos, wasSent: dup } = exchange
    exchange.wasSent = true
    const packet: Publish = { packetIdentifier, qos, dup, message }
    this.#toServer(`publish ${message.number}`, (link, edge) => edge.publish(link, packet))
  }

  #release(packetIdentifier: number): void {
    this.#toServer('pubrel', (link, edge) => edge.release(link, packetIdentifier))
  }

  #toServer(label: string, happen: (link: MqttLink, edge: SimulatedEdge) => void): void {
    const connection = this.#connection
    if (connection) connection.link.toServer(label, () => happen(connection.link, connection.edge))
  }

  #connect(): void {
    const { gateway, random, site } = this.#parts
    const { process } = gateway
    if (this.idle) return
    const edge = process?.alive ? process.edge : undefined
    if (!process || !edge) {
      this.#later(random.between(20, 200), () => this.#connect())
      return
    }
    const onClosed = () => {
      this.#isConnected = false
      this.#connection = undefined
      this.#later(random.between(1, 150), () => this.#connect())
    }
    const link = new MqttLink({ site, random, server: process, onClosed })
    this.#connection = { link, edge }
    edge.opened(link, this)
    this.#toServer('connect', () => edge.connect(link))
  }

  #later(delayMs: number, happen: () => void): void {
    this.#parts.site.timeline.schedule(delayMs, undefined, 'plain client', happen)
  }
}
