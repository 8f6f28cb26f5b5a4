/**
 * A simulated gateway and the processes that run on it one after another: the recorder with its store, queue and pump, the follower of
 * headers and the publisher of decisions as in production. Simulated are the disks, the clock and the chain's nodes below them, and the edge above: the
 * broker that clients are connected to, which answers as mqtt-gateway/server/ does.
 *
 * A process can end at every place where it touches the world, as a node's (host.ts).
 */
import { Milliseconds } from '../../chain/brands.ts'
import { chainIdOf } from '../../chain/genesis.ts'
import type { TrustedHead } from '../../chain/light-client.ts'
import type { AttestedBody } from '../../chain/record-bodies.ts'
import { MoteError } from '../../chain/result.ts'
import { CertifiedBlocks } from '../../client/certified-blocks.ts'
import { ChainClient } from '../../client/chain-client.ts'
import type { Clock } from '../../client/clock.ts'
import { pause } from '../../client/deadline.ts'
import { type IdentityKeys, makeKeys } from '../../client/key-directory.ts'
import { MessageStore } from '../../client/message-store.ts'
import { LevelQueue } from '../../mqtt-gateway/records/level-queue.ts'
import { type RunningRecorder, runRecorder } from '../../mqtt-gateway/records/open-recorder.ts'
import {
  exchangeDigest,
  type RecordOutcome,
  type RecordRequest,
} from '../../mqtt-gateway/records/recorder.ts'
import { mayPassLater } from '../../mqtt-gateway/server/broker.ts'
import { ClientMessages } from '../../mqtt-gateway/server/client-messages.ts'
import { seedOf } from '../support/sample-genesis.ts'
import { type CrashKind, type DiskUser, SimulatedDisk } from './disk.ts'
import type { Host, Site } from './host.ts'
import type { MqttLink } from './mqtt-link.ts'
import { nodeSource } from './node-source.ts'
import { SeededRandom } from './random.ts'
import { fileOn, messageDatabase } from './stored-texts.ts'
import type { SimulatedEvent } from './timeline.ts'

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

/** Who judges what gateways do. Called synchronously, before the effect reaches the world. */
export interface GatewayObserver {
  /** Bytes leave for a node. */
  submits(transaction: Uint8Array): void
  /** An acknowledgement leaves for a client. */
  acknowledges(message: SimulatedMessage, outcome: RecordOutcome): void
  threw(process: GatewayProcess, error: unknown): void
}

export interface GatewayParts {
  readonly site: Site
  readonly name: string
  readonly hosts: readonly Host[]
  readonly trusted: TrustedHead
  readonly observer: GatewayObserver
  /** A process could not start. */
  readonly onEnded: (gateway: SimulatedGateway) => void
}

const firstHeaderRetryMs = 200

export class SimulatedGateway {
  readonly name: string
  readonly keys: IdentityKeys
  readonly parts: GatewayParts
  /** Messages and queue; the follower's head; the cursor of decisions. */
  readonly disks: readonly [SimulatedDisk, SimulatedDisk, SimulatedDisk]
  process: GatewayProcess | undefined
  #processes = 0

  constructor(parts: GatewayParts) {
    const { site, name } = parts
    this.parts = parts
    this.name = name
    this.keys = makeKeys(name, { seedOf: purpose => seedOf(name, purpose) })
    const disk = (of: string) =>
      new SimulatedDisk(site.timeline, new SeededRandom(site.seed, `disk ${name} ${of}`))
    this.disks = [disk('messages'), disk('head'), disk('cursor')]
  }

  /** Starts a process, unless one runs. */
  start(): void {
    if (this.process?.alive) return
    const process = new GatewayProcess(this, this.#processes++)
    this.process = process
    this.parts.site.note(`${this.name} starts`)
    process.run().catch((error: unknown) => {
      if (!process.alive) return
      if (error instanceof MoteError && error.code === 'storage-failed') this.crash('process')
      else this.parts.observer.threw(process, error)
      this.parts.onEnded(this)
    })
  }

  crash(kind: CrashKind): void {
    const { process } = this
    if (!process?.alive) return
    process.alive = false
    process.paused = false
    const fates = this.disks.map(disk => disk.crash(kind))
    this.parts.site.note(`${this.name} crashes (${kind}, writes ${fates.join(' ')})`)
    process.hangUp()
  }
}

export class GatewayProcess implements DiskUser {
  readonly gateway: SimulatedGateway
  readonly name: string
  readonly backlog: SimulatedEvent[] = []
  alive = true
  paused = false
  /** Set to end it after it has touched the world this many times. */
  endsIn: { count: number; readonly kind: CrashKind } | undefined
  readonly #number: number
  readonly #links = new Set<MqttLink>()
  readonly #stopping = new AbortController()
  #records: RunningRecorder | undefined

  constructor(gateway: SimulatedGateway, number: number) {
    this.gateway = gateway
    this.name = gateway.name
    this.#number = number
  }

  readonly boundary = (): void => {
    if (!this.alive || !this.endsIn || --this.endsIn.count > 0) return
    this.gateway.crash(this.endsIn.kind)
  }

  /** As mqtt-gateway/main.ts composes it. */
  async run(): Promise<void> {
    const { parts, keys, disks } = this.gateway
    const { site, trusted, observer, hosts } = parts
    const random = new SeededRandom(site.seed, `gateway ${this.name} ${this.#number}`)
    const clock = this.#clock()
    const onError = (error: unknown) => this.#note(String(error).slice(0, 120))
    const sourceParts = { site, random, caller: this, onSubmit: observer.submits.bind(observer) }
    const client = await ChainClient.open({
      sources: random.shuffled(hosts).map(host => nodeSource(host, sourceParts)),
      checkpoint: trusted,
      store: fileOn(disks[1].open(this)),
      verifier: site.verifier,
      clock,
      timers: clock,
      onError,
    })
    const blocks = new CertifiedBlocks(client.follower, client.pool)
    const store = new MessageStore(messageDatabase(disks[0].open(this)))
    this.#records = await runRecorder({
      keys,
      client,
      blocks,
      checkpoint: trusted,
      onError,
      store,
      queue: await LevelQueue.open(store, undefined, clock.wall),
      isShared: false,
      clock,
      verifier: site.verifier,
      random: length => random.bytes(length),
    })
    void client.follower.run(this.#stopping.signal)
    await this.#firstHeader(client, clock)
    this.#note(
      `serves ${chainIdOf(site.genesis).slice(0, 8)} from block ${client.follower.head.header.height}`,
    )
    this.isReady = true
  }
  /** Clients may connect. */
  isReady = false

  /** A connection to it, from before anything is sent. */
  opened(link: MqttLink): void {
    this.#links.add(link)
  }

  /** CONNECT. */
  connect(link: MqttLink, client: ConnectedClient): void {
    const { recorder } = this.#records as RunningRecorder
    const session = { link, client, messages: new ClientMessages(), incarnation: '' }
    recorder.incarnationOf(client.name, client.isClean ? 'clean' : 'kept').then(
      ({ incarnation }) => {
        session.incarnation = incarnation
        this.#answer(link, 'connack', () => client.connected())
      },
      error => this.#refuse(link, error),
    )
    this.#sessions.set(link, session)
  }
  readonly #sessions = new Map<MqttLink, Session>()

  publish(link: MqttLink, packet: Publish): void {
    const { client, messages, incarnation } = this.#sessions.get(link) as Session
    const { recorder } = this.#records as RunningRecorder
    const { packetIdentifier, qos, dup, message } = packet
    const { topicName, payload, body } = message
    const digest = exchangeDigest(topicName, payload)
    const exchange = { client: client.name, incarnation, packetIdentifier, qos, isRepeat: dup, digest }
    let outcome: RecordOutcome | undefined
    const judge = async () => {
      if (!link.isOpen) return 'close'
      const content = { type: 'attested', body } as const
      const accepted = await recorder.accept({
        exchange,
        device: client.device,
        messageId: undefined,
        content,
      })
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
    messages.judge(judge).then(
      answer => {
        if (answer === 'close') return this.#refuse(link, answer)
        this.#answer(
          link,
          qos === 1 ? 'puback' : 'pubrec',
          () => client.acknowledged(packetIdentifier),
          () => outcome && this.gateway.parts.observer.acknowledges(message, outcome),
        )
      },
      error => this.#refuse(link, error),
    )
  }

  /** PUBREL. */
  release(link: MqttLink, packetIdentifier: number): void {
    const { client } = this.#sessions.get(link) as Session
    const { recorder } = this.#records as RunningRecorder
    recorder.released(client.name, packetIdentifier).then(
      () => this.#answer(link, 'pubcomp', () => client.completed(packetIdentifier)),
      error => this.#refuse(link, error),
    )
  }

  /** All connections end. */
  hangUp(): void {
    for (const link of this.#links) link.end()
    this.#links.clear()
  }

  /** Something breaks one connection. */
  cut(random: SeededRandom): void {
    const open = [...this.#links].filter(({ isOpen }) => isOpen)
    if (open.length > 0) random.pick(open).end()
  }

  #answer(link: MqttLink, label: string, happen: () => void, leaves?: () => void): void {
    this.boundary()
    if (!this.alive || !link.isOpen) return
    leaves?.()
    link.toClient(label, happen)
  }

  #refuse(link: MqttLink, why: unknown): void {
    if (!this.alive) return
    this.#note(`closes a connection: ${String(why).slice(0, 100)}`)
    this.#links.delete(link)
    link.end()
  }

  async #firstHeader(client: ChainClient, clock: Clock): Promise<void> {
    for (;;) {
      try {
        await client.follower.sync()
        return
      } catch {
        await pause(firstHeaderRetryMs, this.#stopping.signal, clock)
      }
    }
  }

  #note(text: string): void {
    if (this.alive) this.gateway.parts.site.note(`${this.name}: ${text}`)
  }

  /** It shows the time of the world. */
  #clock(): Clock {
    const { timeline } = this.gateway.parts.site
    return {
      wall: () => Milliseconds(Math.floor(wallStart + timeline.now)),
      steady: () => timeline.now,
      after: (delayMs, callback) => {
        this.boundary()
        let cancelled = false
        timeline.schedule(delayMs, this, 'timer', () => {
          if (!cancelled) callback()
        })
        return () => {
          cancelled = true
        }
      },
    }
  }
}

interface Session {
  readonly link: MqttLink
  readonly client: ConnectedClient
  readonly messages: ClientMessages
  incarnation: string
}

const wallStart = 1_700_000_100_000
