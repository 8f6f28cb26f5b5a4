/**
 * A simulated gateway and the processes that run on it one after another: the recorder with its store, queue and pump, the follower of
 * headers and the publisher of decisions as in production. Simulated are the disks, the clock and the chain's nodes below them, and the edge
 * above (gateway-edge.ts).
 *
 * A process can end at every place where it touches the world, as a node's (host.ts).
 */
import { Milliseconds } from '../../chain/brands.ts'
import { chainIdOf } from '../../chain/genesis.ts'
import type { TrustedHead } from '../../chain/light-client.ts'
import { MoteError } from '../../chain/result.ts'
import { CertifiedBlocks } from '../../client/certified-blocks.ts'
import { ChainClient } from '../../client/chain-client.ts'
import type { Clock } from '../../client/clock.ts'
import { pause } from '../../client/deadline.ts'
import { type IdentityKeys, makeKeys } from '../../client/key-directory.ts'
import { MessageStore } from '../../client/message-store.ts'
import type { Shard } from '../../mqtt-gateway/protocol/sharded-topics.ts'
import { DecisionCursor } from '../../mqtt-gateway/records/decision-cursor.ts'
import { Decisions } from '../../mqtt-gateway/records/decisions.ts'
import { LevelQueue } from '../../mqtt-gateway/records/level-queue.ts'
import { runRecorder } from '../../mqtt-gateway/records/open-recorder.ts'
import { seedOf } from '../support/sample-genesis.ts'
import { type CrashKind, type DiskUser, SimulatedDisk } from './disk.ts'
import { SimulatedEdge, type SimulatedEdgeParts } from './gateway-edge.ts'
import type { Host, Site } from './host.ts'
import { nodeSource } from './node-source.ts'
import { SeededRandom } from './random.ts'
import { fileOn, messageDatabase } from './stored-texts.ts'
import type { SimulatedEvent } from './timeline.ts'

/** Who judges what gateways do. Called synchronously, before the effect reaches the world. */
export interface GatewayObserver {
  /** Bytes leave for a node. */
  submits(transaction: Uint8Array): void
  readonly acknowledges: SimulatedEdgeParts['onAcknowledge']
  /** A decision has reached the broker. */
  publishes(payload: Uint8Array): void
  threw(process: GatewayProcess, error: unknown): void
}

export interface GatewayParts {
  readonly site: Site
  readonly name: string
  readonly hosts: readonly Host[]
  readonly trusted: TrustedHead
  readonly observer: GatewayObserver
  /** Those that the gateway has now. */
  readonly shards: (gateway: SimulatedGateway) => readonly Shard[]
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
    process.edge?.hangUp()
  }
}

export class GatewayProcess implements DiskUser {
  readonly gateway: SimulatedGateway
  readonly name: string
  readonly backlog: SimulatedEvent[] = []
  alive = true
  paused = false
  /** Once clients may connect. */
  edge: SimulatedEdge | undefined
  /** Set to end it after it has touched the world this many times. */
  endsIn: { count: number; readonly kind: CrashKind } | undefined
  readonly #number: number
  readonly #stopping = new AbortController()

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
    const { recorder } = await runRecorder({
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
    const chainId = chainIdOf(site.genesis)
    const decisions = new Decisions({
      blocks,
      cursor: await DecisionCursor.open({
        path: 'decisions',
        store: fileOn(disks[2].open(this)),
        chainId,
        recordAfterMs,
        clock,
      }),
      shards: () => parts.shards(this.gateway),
      publish: ({ payload }) => this.#publish(payload, random),
      topicOf: publishTopic => `mote/1/decision/${publishTopic}`,
      now: () => client.records.time(),
      expiryMs: decisionExpiryMs,
      onError,
      clock,
    })
    void client.follower.run(this.#stopping.signal)
    await this.#firstHeader(client, clock)
    void decisions.run(this.#stopping.signal)
    this.#note(`serves ${chainId.slice(0, 8)} from block ${client.follower.head.header.height}`)
    this.edge = new SimulatedEdge({
      process: this,
      recorder,
      onAcknowledge: observer.acknowledges,
      note: text => this.#note(text),
    })
  }

  /** To a broker that others wrote: what fails may have reached it, or not. */
  #publish(payload: Uint8Array, random: SeededRandom): Promise<void> {
    const { site, observer } = this.gateway.parts
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.boundary()
    if (!this.alive) return promise
    const delay = () => random.between(0.5, 5)
    const fails = () => reject(new MoteError('unreachable', 'simulated broker: connection lost'))
    const isLost = random.chance(publishLossChance)
    const isHeard = !random.chance(publishLossChance)
    if (isLost) site.timeline.schedule(delay(), this, 'decision lost', fails)
    else
      site.timeline.schedule(delay(), undefined, `decision of ${this.name}`, () => {
        observer.publishes(payload)
        site.timeline.schedule(delay(), this, 'decision taken', isHeard ? resolve : fails)
      })
    return promise
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

/** As beside a broker that others wrote (mqtt-gateway/decision-publishing.ts). */
const recordAfterMs = 200
/** Longer than a run. */
const decisionExpiryMs = 600_000
const publishLossChance = 0.03
const wallStart = 1_700_000_100_000
