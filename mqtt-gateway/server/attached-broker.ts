/**
 * The gateway beside a broker that others wrote, Mosquitto say: MQTT 5, the broker's own access rules, and topics that name the
 * device (docs/decisions/0034-existing-broker.md).
 *
 * Connections: one for each shard that this gateway has, with a fixed client id and a session that the broker keeps, so that what came
 * while no gateway was there is not lost, and another gateway takes the shard over by connecting with that client id; one that
 * hears what concerns every gateway; one that publishes.
 *
 * Invariants:
 * - a message is acknowledged to the broker when it is decided, and what is to be kept of it is on the disk; or, if the decision takes longer
 *   than `slowMs`, before it, so that no device holds up the others of its shard: it has no verdict then, and its device sends it again;
 * - what is to be recorded is acknowledged to the broker when this gateway has it on its disk, however long that takes, since no plain
 *   client sends again what the broker has acknowledged to it: without room or fresh trust data, it holds up its shard. It drops what is
 *   from a device that is not active by what the chain has at that moment;
 * - what is to be recorded is tried on the connection that it came on: on the next one the broker sends it again, and it is a repeat if it
 *   was kept, by an earlier process too, unless another gateway has had the shard since (docs/decisions/0041-plain-messages.md);
 * - messages of one device are decided one after another, in the order in which they came;
 * - the client id of a shard is known to gateways only, for whoever connects with it gets the session.
 */
import { randomBytes } from 'node:crypto'
import type { IPublishPacket } from 'mqtt'
import type { DeviceId } from '../../chain/brands.ts'
import { MoteError } from '../../chain/result.ts'
import { pause, unlessAborted } from '../../client/deadline.ts'
import {
  encodePresence,
  heardFilters,
  parsePresence,
  parseShardedTopic,
  presenceTopic,
  type Shard,
  shardFilters,
} from '../protocol/sharded-topics.ts'
import { parsePublishedTopic } from '../protocol/topics.ts'
import { AttachedDevices, nameOf } from './attached-devices.ts'
import type {
  Broker,
  BrokerAddress,
  BrokerFactory,
  BrokerHandlers,
  IncomingMessage,
  MessageExchange,
  OutgoingMessage,
} from './broker.ts'
import type { BrokerAccounts } from './broker-accounts.ts'
import { BrokerLink, type BrokerLinkOptions, type BrokerLogin } from './broker-link.ts'
import { propertiesOf } from './message-properties.ts'
import { claimFilter, ShardClaims } from './shard-claims.ts'

export interface AttachedBrokerOptions {
  readonly address: BrokerAddress
  /** PEM of the authorities that the broker's certificate may have; without it there is no TLS. */
  readonly ca?: string | undefined
  readonly login: BrokerLogin
  /** A secret of the gateways of this broker, which the client ids of the shards follow from. */
  readonly shardSecret: string
  readonly shards: readonly Shard[]
  /** Of the store that knows what came in the shards' sessions; without a dot. */
  readonly storeId: string
  /** For ending a device's connections. Undefined: the broker's operator does that. */
  readonly accounts: Pick<BrokerAccounts, 'cut'> | undefined
  /** Messages of one device that may wait for their decision. */
  readonly queuedPerDevice: number
  /** Told of every connection that broke or was taken over, and of what no device can be told of. */
  readonly onEvent: (event: BrokerEvent) => void
}

export type BrokerEvent =
  | { readonly type: 'connected'; readonly link: string }
  | { readonly type: 'broken'; readonly link: string; readonly reason: string }
  | { readonly type: 'taken-over'; readonly link: string; readonly reason: string }
  | { readonly type: 'failed'; readonly error: unknown }

/** How long the broker keeps what comes for a shard that no gateway has. */
const shardSessionSeconds = 7 * 24 * 3_600
/** How long a shard waits for one decision. */
const slowMs = 250
/** Time from one attempt to the next: to record a message, while there is no room for it or no fresh trust data; to ask who is there. */
const recordRetryMs = 1_000
/**
 * Messages of a shard after which what was tied before as many is repeated no more. Mosquitto has 64 unacknowledged, or a few more after a
 * connection broke, and gives their packet identifiers anew after 65,535.
 */
const repeatableDeliveries = 2_048
/** Time after which a session that has nothing to record is asked for again: the store forgets one that it does not hear of. */
const sessionRefreshMs = 86_400_000
/** Decisions that took longer and are under way; with as many, a shard waits for each. */
const maxSlowDecisions = 256

export function attachedBroker(options: AttachedBrokerOptions): BrokerFactory {
  return handlers => new AttachedBroker(options, handlers)
}

/** What the broker keeps for a shard, as this gateway knows it. */
interface ShardSession {
  readonly incarnation: Promise<string>
  /** By the steady clock. */
  readonly askedAt: number
  /** Since `passed` was said last. */
  deliveries: number
}

class AttachedBroker implements Broker {
  readonly #options: AttachedBrokerOptions
  readonly #handlers: BrokerHandlers
  readonly #devices: AttachedDevices
  readonly #closing = new AbortController()
  /** Comes back after everything that the broker had retained when this gateway subscribed. */
  readonly #marker = `mote/1/here/-/${randomBytes(16).toString('hex')}`
  readonly #retainedSeen = Promise.withResolvers<void>()
  readonly #claims: ShardClaims
  readonly #shards = new Map<Shard, BrokerLink>()
  /** Of those that the broker keeps for the shards. */
  readonly #sessions = new Map<Shard, ShardSession>()
  #heard: BrokerLink | undefined
  #publishing: BrokerLink | undefined
  /** The connections that have said something of themselves since the last (re)connection. */
  #said = new Set<string>()
  #slow = 0

  constructor(options: AttachedBrokerOptions, handlers: BrokerHandlers) {
    this.#options = options
    this.#handlers = handlers
    this.#claims = new ShardClaims(options.storeId)
    this.#devices = new AttachedDevices({
      handlers,
      queuedPerDevice: options.queuedPerDevice,
      forget: (device, place) => this.#forget(device, place),
      onError: error => options.onEvent({ type: 'failed', error }),
    })
  }

  get connections(): number {
    return this.#devices.count
  }

  /** Who is there is known when it resolves. Rejects with `interrupted` when it is closed before the broker answers. */
  async listen(): Promise<BrokerAddress> {
    const { address, shards, shardSecret } = this.#options
    const own = `mote-${randomBytes(8).toString('hex')}`
    this.#publishing = await this.#open('publishing', { clientId: `${own}-out` })
    this.#heard = await this.#open('presence', {
      clientId: `${own}-in`,
      topicFilters: [...heardFilters, claimFilter],
      onMessage: (packet, connection) => this.#take(packet, { connection }),
      onSession: () => this.#reconnected(),
      onOpen: () => void this.#askForMarker(),
    })
    const closed = () => new MoteError('interrupted', 'broker: closed before it answered')
    await unlessAborted(this.#closing.signal, this.#retainedSeen.promise, closed)
    await Promise.all(shards.map(shard => this.#takeShard(shard, `mote-${shardSecret}-${shard}`)))
    return address
  }

  async publish(message: OutgoingMessage): Promise<void> {
    const { topicName, payload, qos, retain } = message
    await this.#link().publish(topicName, payload, { qos, retain, properties: propertiesOf(message) })
  }

  disconnect(clientId: string): void {
    const device = clientId.slice(0, 64) as DeviceId
    this.#options.accounts?.cut(device).catch((error: unknown) => this.#failed(error))
    this.#devices.end(device)
  }

  async close(): Promise<void> {
    this.#closing.abort()
    // No more comes in; what is under way is decided and told, and then acknowledged by nobody: it comes again, to the next process.
    await Promise.all([this.#heard, ...this.#shards.values()].map(link => link?.close()))
    await this.#devices.close()
    await this.#publishing?.close()
  }

  async #takeShard(shard: Shard, clientId: string): Promise<void> {
    // What another gateway had of the session is not known here.
    let isKnown = await this.#claim(shard)
    const link = await this.#open(linkOf(shard), {
      clientId,
      sessionSeconds: shardSessionSeconds,
      topicFilters: shardFilters(shard),
      onSession: isPresent => {
        this.#beginSession(shard, isPresent && isKnown ? 'kept' : 'new')
        isKnown = true
      },
      onMessage: (packet, connection) => this.#take(packet, { connection, shard }),
      onReleased: packetIdentifier => this.#handlers.released(linkOf(shard), packetIdentifier),
    })
    if (this.#claims.has(shard)) this.#shards.set(shard, link)
    else await link.close()
  }

  /** Resolves when it stands after all others; whether none of them is another gateway's since this one had the shard. */
  async #claim(shard: Shard): Promise<boolean> {
    const { topicName, payload, wasOwn } = this.#claims.claim(shard)
    await this.#link().publish(topicName, payload, { retain: true })
    const closed = () => new MoteError('interrupted', 'broker: closed before it answered')
    return unlessAborted(this.#closing.signal, wasOwn, closed)
  }

  /** The broker keeps it, so what is tied to it has to outlive the connection from the first one on. */
  #beginSession(shard: Shard, start: 'kept' | 'new'): void {
    const incarnation = this.#handlers.incarnationOf(linkOf(shard), start)
    // Whoever needs it finds that out.
    incarnation.catch(() => {})
    const { deliveries = 0 } = this.#sessions.get(shard) ?? {}
    this.#sessions.set(shard, { incarnation, askedAt: performance.now(), deliveries })
  }

  async #loseShard(shard: Shard): Promise<void> {
    const link = this.#shards.get(shard)
    this.#shards.delete(shard)
    this.#options.onEvent({
      type: 'taken-over',
      link: linkOf(shard),
      reason: 'another gateway has claimed it',
    })
    await link?.close()
  }

  #link(): BrokerLink {
    if (!this.#publishing) throw new Error('broker: not listening')
    return this.#publishing
  }

  #open(
    name: string,
    part: Pick<BrokerLinkOptions, 'clientId'> & Partial<BrokerLinkOptions>,
  ): Promise<BrokerLink> {
    const { address, ca, login, onEvent } = this.#options
    const options: BrokerLinkOptions = {
      ...address,
      ca,
      login,
      sessionSeconds: 0,
      topicFilters: [],
      onBroken: (reason, isOver) => onEvent({ type: isOver ? 'taken-over' : 'broken', link: name, reason }),
      ...part,
      onOpen: () => {
        onEvent({ type: 'connected', link: name })
        part.onOpen?.()
      },
    }
    return BrokerLink.open(options, this.#closing.signal)
  }

  async #take(
    packet: IPublishPacket,
    { connection, shard }: { readonly connection: AbortSignal; readonly shard?: Shard },
  ): Promise<void> {
    const { topic, payload, qos, retain, properties } = packet
    if (topic === this.#marker) return this.#markerSeen()
    const bytes = Uint8Array.from(Buffer.isBuffer(payload) ? payload : Buffer.from(payload))
    const lost = this.#claims.lostBy(topic, bytes, retain)
    if (lost !== undefined) return this.#loseShard(lost)
    if (shard !== undefined) this.#count(shard)
    const parsed = parseShardedTopic(topic)
    if (!parsed) return
    const { device } = parsed
    if (parsed.type === 'published') {
      const { responseTopic, correlationData } = properties ?? {}
      const reply = { responseTopic, correlationData: correlationData && Uint8Array.from(correlationData) }
      const message = { topicName: parsed.topicName, payload: bytes, qos, reply }
      return isRecorded(parsed.topicName)
        ? this.#record(
            device,
            {
              ...message,
              exchange: await this.#exchangeOf(packet, shard),
              isOver: () => connection.aborted,
              asOfNow: true,
            },
            connection,
          )
        : this.#decide(this.#devices.published(device, message))
    }
    const presence = parsePresence(bytes)
    if (!presence) return this.#forget(device, parsed.place)
    if (presence !== 'gone') this.#said.add(nameOf(device, parsed.place))
    return this.#decide(this.#devices.present(device, parsed.place, presence))
  }

  /** The broker's with this gateway; the device's is none of its business. */
  async #exchangeOf(
    { qos, messageId: packetIdentifier, dup: isRepeat }: IPublishPacket,
    shard: Shard | undefined,
  ): Promise<MessageExchange | undefined> {
    if (qos === 0 || packetIdentifier === undefined || shard === undefined) return undefined
    const { askedAt = 0 } = this.#sessions.get(shard) ?? {}
    if (performance.now() - askedAt > sessionRefreshMs) this.#beginSession(shard, 'kept')
    const incarnation = (await this.#sessions.get(shard)?.incarnation) ?? ''
    return { client: linkOf(shard), incarnation, packetIdentifier, qos, isRepeat }
  }

  /** A packet identifier that comes round again names another message: what it named before has to be forgotten by then. */
  #count(shard: Shard): void {
    const session = this.#sessions.get(shard)
    if (!session) return
    session.deliveries = (session.deliveries + 1) % repeatableDeliveries
    if (session.deliveries > 0) return
    this.#handlers.passed(linkOf(shard)).catch((error: unknown) => this.#failed(error))
  }

  /**
   * Resolves when it need not come again. Rejects with `interrupted` if it is not so far when its connection ends: the broker sends it again on
   * the next one, to this gateway or another, and whoever went on with it here would record it beside that.
   */
  async #record(device: DeviceId, message: IncomingMessage, connection: AbortSignal): Promise<void> {
    for (;;) {
      const answer = await this.#devices.published(device, message)
      if (answer === 'acknowledge') return
      if (typeof answer === 'object') {
        answer.later.catch((error: unknown) => this.#failed(error))
        if (await answer.kept) return
      }
      await pause(recordRetryMs, connection)
      if (connection.aborted) throw new MoteError('interrupted', 'broker: the connection ended')
    }
  }

  /** Waits for a decision, but not for ever. */
  async #decide(decision: Promise<unknown>): Promise<void> {
    if (this.#slow >= maxSlowDecisions) return void (await decision)
    const over = new AbortController()
    const late = pause(slowMs, over.signal).then(() => 'late' as const)
    const first = await Promise.race([decision, late])
    over.abort()
    if (first !== 'late') return
    this.#slow += 1
    void decision.finally(() => {
      this.#slow -= 1
    })
  }

  /** Before anything comes: what is retained may come in one breath with the SUBACK. */
  #reconnected(): void {
    this.#said = new Set()
    this.#claims.reconnected()
  }

  /** Until the broker has the question, or it is asked on a later connection: the link that asks may come back after the one that hears. */
  async #askForMarker(): Promise<void> {
    const said = this.#said
    while (said === this.#said && !this.#closing.signal.aborted) {
      try {
        return await this.#link().publish(this.#marker, new Uint8Array(0))
      } catch (error) {
        this.#failed(error)
        await pause(recordRetryMs, this.#closing.signal)
      }
    }
  }

  async #markerSeen(): Promise<void> {
    // Their way back was a connection that broke, or the broker was killed before it had written them.
    for (const { topicName, payload } of this.#claims.unheard)
      this.#link()
        .publish(topicName, payload, { retain: true })
        .catch((error: unknown) => this.#failed(error))
    await this.#devices.keepOnly(this.#said)
    this.#retainedSeen.resolve()
  }

  #forget(device: DeviceId, place: string): void {
    if (this.#closing.signal.aborted) return
    this.#link()
      .publish(presenceTopic(device, place), encodePresence('gone'), { retain: true })
      .catch((error: unknown) => this.#failed(error))
  }

  #failed(error: unknown): void {
    this.#options.onEvent({ type: 'failed', error })
  }
}

function isRecorded(topicName: string): boolean {
  const type = parsePublishedTopic(topicName)?.type
  return type === 'report' || type === 'record'
}

const shardLink = 'shard '

function linkOf(shard: Shard): string {
  return shardLink + shard
}

/** The shard whose connection has this name; undefined for the name of another. */
export function shardOfLink(name: string): Shard | undefined {
  return name.startsWith(shardLink) ? name.slice(shardLink.length) : undefined
}
