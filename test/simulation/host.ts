/**
 * A simulated machine and the processes that run on it one after another. A process is a `LedgerNode` as in production,
 * over the real storage logic; only the byte store, the network and the clock below them are simulated.
 *
 * A process can end at every place where it touches the world: from then on nothing that it still does has any effect.
 */
import { type DeviceId, Milliseconds } from '../../chain/brands.ts'
import { chainIdOf, type GenesisDocument } from '../../chain/genesis.ts'
import type { SignatureVerifier, Signer } from '../../chain/keys.ts'
import { MoteError } from '../../chain/result.ts'
import { type LedgerChoices, ledgerSettings } from '../../node/effective-configuration.ts'
import { recoverChain } from '../../node/ledger/chain-recovery.ts'
import type { CompactionLimits } from '../../node/ledger/compaction.ts'
import { LiveChain } from '../../node/ledger/live-chain.ts'
import { Members } from '../../node/ledger/members.ts'
import { NodeEvents } from '../../node/ledger/node-events.ts'
import type { RetentionLimits } from '../../node/ledger/retention.ts'
import { LedgerNode } from '../../node/ledger-node.ts'
import type { ApplyWrite, Clock, LogWrite, PeerMessage, RecoveredNode, Storage } from '../../node/ports.ts'
import { Acknowledgements } from '../../node/replica/acknowledgements.ts'
import type { ProducerLimits } from '../../node/replica/producer.ts'
import { openStorage } from '../../node/storage/chain-storage.ts'
import { copyPromises } from '../../node/storage/promises.ts'
import { seedOf } from '../support/sample-genesis.ts'
import { type CrashKind, type DiskUser, SimulatedDisk } from './disk.ts'
import type { NetworkUser, SimulatedNetwork } from './network.ts'
import { SeededRandom } from './random.ts'
import { SimulatedClock } from './simulated-clock.ts'
import type { SimulatedEvent, Timeline } from './timeline.ts'

/** Who judges what processes do. Called synchronously, before the effect reaches the world. */
export interface ProcessObserver {
  recovered(process: SimulatedProcess, found: RecoveredNode | undefined): void
  persists(process: SimulatedProcess, write: LogWrite): void
  applies(process: SimulatedProcess, write: ApplyWrite): void
  sends(process: SimulatedProcess, to: DeviceId, message: PeerMessage): void
  started(process: SimulatedProcess): void
  /** A message reaches it. */
  receives(process: SimulatedProcess, message: PeerMessage): void
  /** It cannot go on, and says so. */
  failed(process: SimulatedProcess, error: MoteError): void
  /** It threw what it never should. */
  threw(process: SimulatedProcess, error: unknown): void
}

/** What all hosts of a run share. */
export interface Site {
  readonly seed: number
  readonly timeline: Timeline
  readonly network: SimulatedNetwork
  readonly genesis: GenesisDocument
  /** Every host's id. */
  readonly members: readonly DeviceId[]
  readonly verifier: SignatureVerifier
  readonly observer: ProcessObserver
  readonly note: (text: string) => void
  readonly raft: {
    readonly tickMs: number
    readonly electionTimeoutTicks: number
    readonly heartbeatTicks: number
  }
  readonly limits: NonNullable<LedgerChoices['raft']>
  readonly compaction: Partial<CompactionLimits>
  readonly retention: Partial<RetentionLimits>
  readonly producer: Partial<ProducerLimits>
  readonly heartbeatMs: number
}

export interface HostIdentity {
  readonly name: string
  readonly id: DeviceId
  readonly signer: Signer
}

export class Host {
  readonly name: string
  readonly id: DeviceId
  readonly site: Site
  disk: SimulatedDisk
  process: SimulatedProcess | undefined
  /** The wall clock: how far it is ahead, and its speed. */
  readonly wall: SimulatedClock
  /** Its disk has been damaged, and has not been rebuilt since. */
  rotten = false
  /** Never comes back: its promises are lost, so it would have to join as a new member. */
  retired = false
  /** After a rebuild: promises not to vote before it has this much of the log again. */
  promisedUpTo = 0
  /** Its processes take their own clock for block time, as a faulty program might. */
  goesByOwnClock = false
  /** Blocks are missing here: it was rebuilt, or took a snapshot. */
  hasGaps = false
  /** While a graceful end or a rebuild is under way. */
  busy = false
  readonly #signer: Signer
  #processes = 0
  #disks = 0

  constructor(site: Site, { name, id, signer }: HostIdentity) {
    this.site = site
    this.name = name
    this.id = id
    this.#signer = signer
    this.disk = this.newDisk()
    this.wall = new SimulatedClock(site.timeline)
  }

  newDisk(): SimulatedDisk {
    return new SimulatedDisk(
      this.site.timeline,
      new SeededRandom(this.site.seed, `disk ${this.name} ${this.#disks++}`),
    )
  }

  get node(): LedgerNode | undefined {
    return this.process?.alive ? this.process.node : undefined
  }

  /** Starts a process, unless one runs. */
  start(): void {
    if (this.process?.alive || this.retired || this.busy) return
    const process = new SimulatedProcess(this, this.#processes++)
    this.process = process
    this.site.note(`${this.name} starts`)
    process.run(this.#signer).catch((error: unknown) => {
      if (!process.alive) return
      if (error instanceof MoteError) process.fails(error)
      else this.site.observer.threw(process, error)
    })
  }

  /** The process is gone at once. */
  crash(kind: CrashKind): void {
    const { process } = this
    if (!process?.alive) return
    process.alive = false
    process.paused = false
    const fate = this.disk.crash(kind)
    this.site.note(`${this.name} crashes (${kind}, write ${fate})`)
    this.site.network.changed(this.id, 'disconnected')
  }

  /** Ends as an operator would end it: leadership transferred, everything answered. */
  stop(then: () => void): void {
    const { process } = this
    if (!process?.alive || !process.node || process.ending || this.busy) return
    this.site.note(`${this.name} stops`)
    process.end().then(
      () => {
        if (process.alive) this.crash('process')
        then()
      },
      (error: unknown) => this.site.observer.threw(process, error),
    )
  }

  /** What `mote node rebuild` does: keeps the promises, leaves the rest to the peers. */
  rebuild(then: (rebuilt: boolean) => void): void {
    this.busy = true
    const fresh = this.newDisk()
    const tool: DiskUser = {
      name: `${this.name} rebuild`,
      alive: true,
      paused: false,
      backlog: [],
      boundary: () => {},
    }
    const [from, to] = [this.disk.open(tool), fresh.open(tool)]
    const copied = copyPromises(from, to).finally(() => Promise.all([from.close(), to.close()]))
    copied.then(
      ({ upTo }) => {
        this.site.note(`${this.name} rebuilt, promises up to ${upTo}`)
        this.disk = fresh
        this.promisedUpTo = upTo
        this.hasGaps = true
        this.rotten = false
        this.busy = false
        then(true)
      },
      (error: unknown) => {
        this.site.note(`${this.name} beyond repair: ${String(error).slice(0, 80)}`)
        this.retired = true
        this.busy = false
        then(false)
      },
    )
  }
}

export class SimulatedProcess implements DiskUser, NetworkUser {
  readonly host: Host
  readonly id: DeviceId
  readonly name: string
  readonly number: number
  readonly backlog: SimulatedEvent[] = []
  alive = true
  paused = false
  node: LedgerNode | undefined
  /** It has begun to end as an operator would end it. */
  ending = false
  /** Set to end it after it has touched the world this many times. */
  endsIn: { count: number; readonly kind: CrashKind } | undefined
  #storage: Storage | undefined

  constructor(host: Host, number: number) {
    this.host = host
    this.id = host.id
    this.name = host.name
    this.number = number
  }

  readonly boundary = (): void => {
    if (!this.alive || !this.endsIn || --this.endsIn.count > 0) return
    this.host.crash(this.endsIn.kind)
  }

  readonly receives = (message: PeerMessage): void => this.host.site.observer.receives(this, message)

  readonly sends = (to: DeviceId, message: PeerMessage): void =>
    this.host.site.observer.sends(this, to, message)

  async run(signer: Signer): Promise<void> {
    const { host } = this
    const { site } = host
    const { genesis, verifier, raft, limits, compaction, retention, producer, heartbeatMs } = site
    const opened = await openStorage(host.disk.open(this), { chainId: chainIdOf(genesis), deviceId: host.id })
    const storage = this.#observed(opened)
    this.#storage = storage
    const recovered = await recoverChain(storage, genesis)
    if (!this.alive) return
    const choices = { raft: { ...raft, ...limits }, compaction, retention, producer, heartbeatMs }
    const settings = ledgerSettings(choices, recovered.ledger.parameters)
    const random = new SeededRandom(site.seed, `node ${host.name} ${this.number}`)
    const network = site.network.attach(this)
    const node = new LedgerNode({
      name: host.name,
      id: host.id,
      signer,
      acknowledgements: new Acknowledgements(chainIdOf(genesis), seedOf(host.name, 'transport')),
      recovered,
      chain: new LiveChain(recovered, verifier, settings.recent),
      events: new NodeEvents(),
      storage,
      network,
      clock: this.#clock(),
      random: random.fraction,
      verifier,
      settings,
      processId: 0,
      log: {
        info: (detail, message) => this.#note(`${message} ${JSON.stringify(detail)}`),
        error: (detail, message) => {
          this.#note(`${message} ${JSON.stringify(detail)}`)
          // One that has diverged stays up, so nobody else is told.
          if (node.failure?.code === 'execution-diverged') this.fails(node.failure)
        },
      },
      members: new Members(
        host.id,
        site.members.filter(id => id !== host.id),
        recovered.raft,
      ),
      onFailed: error => this.fails(error),
    })
    this.node = node
    const { clocks } = node
    const [time, latest] = [clocks.time.bind(clocks), clocks.latestAcceptable.bind(clocks)]
    const own = () => Milliseconds(Math.floor(host.wall.now))
    clocks.time = () => (host.goesByOwnClock ? own() : time())
    clocks.latestAcceptable = () => (host.goesByOwnClock ? Number.POSITIVE_INFINITY : latest())
    await network.start(node)
    node.start()
    site.observer.started(this)
  }

  async end(): Promise<void> {
    this.ending = true
    await this.node?.stop()
    if (this.alive) await this.#storage?.close()
  }

  fails(error: MoteError): void {
    if (!this.alive) return
    this.#note(`failed: ${error.message.slice(0, 120)}`)
    this.host.site.observer.failed(this, error)
  }

  #note(text: string): void {
    if (this.alive) this.host.site.note(`${this.name}: ${text}`)
  }

  #clock(): Clock {
    const { host } = this
    const { timeline } = host.site
    return {
      wall: () => Milliseconds(Math.floor(host.wall.now)),
      steady: () => timeline.now * host.wall.rate,
      after: (delayMs, callback) => {
        this.boundary()
        let cancelled = false
        timeline.schedule(delayMs / host.wall.rate, this, 'timer', () => {
          if (!cancelled) callback()
        })
        return () => {
          cancelled = true
        }
      },
    }
  }

  #observed(storage: Storage): Storage {
    const { observer } = this.host.site
    return new Proxy(storage, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name)
        if (typeof member !== 'function') return member
        return (...args: unknown[]) => {
          if (this.alive && name === 'persist') {
            const write = args[0] as LogWrite
            if (write.snapshot) this.host.hasGaps = true
            observer.persists(this, write)
          }
          if (this.alive && name === 'apply') observer.applies(this, args[0] as ApplyWrite)
          const result: unknown = member.apply(target, args)
          if (name !== 'recover') return result
          return (result as Promise<RecoveredNode | undefined>).then(found => {
            if (this.alive) observer.recovered(this, found)
            return found
          })
        }
      },
    })
  }
}
