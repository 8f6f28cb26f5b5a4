/**
 * A simulated network between processes: what is sent may be late, lost, doubled or overtaken; links can be cut, each way
 * on its own. Requests get one answer, a refusal, or none in time.
 *
 * `from` on arrival is the sender's id, as the real transport guarantees.
 */
import type { DeviceId } from '../../chain/brands.ts'
import { MoteError } from '../../chain/result.ts'
import type {
  Network,
  NetworkEvents,
  OutgoingRequest,
  PeerMessage,
  PeerStatus,
  RequestHandler,
  RequestProtocol,
} from '../../node/ports.ts'
import type { SeededRandom } from './random.ts'
import type { SimulatedActor, Timeline } from './timeline.ts'

export interface NetworkFaults {
  lossChance: number
  duplicateChance: number
  /** A message of which everything behind it may be overtaken. */
  reorderChance: number
  reorderMsMax: number
  delayMsMin: number
  delayMsMax: number
}

export const calmNetwork: NetworkFaults = {
  lossChance: 0,
  duplicateChance: 0,
  reorderChance: 0,
  reorderMsMax: 0,
  delayMsMin: 1,
  delayMsMax: 4,
}

/** A process on the network. */
export interface NetworkUser extends SimulatedActor {
  readonly id: DeviceId
  readonly boundary: () => void
  /** The process is about to let this go. */
  readonly sends: (to: DeviceId, message: PeerMessage) => void
  readonly receives: (message: PeerMessage) => void
}

export class SimulatedNetwork {
  faults: NetworkFaults = { ...calmNetwork }
  /** Signatures get lost, and nothing else: blocks are committed that nobody can prove. */
  losesSignatures = false
  readonly #timeline: Timeline
  readonly #random: SeededRandom
  readonly #endpoints = new Map<DeviceId, Endpoint>()
  /** `from>to`: nothing gets through. */
  readonly #cut = new Set<string>()

  constructor(timeline: Timeline, random: SeededRandom) {
    this.#timeline = timeline
    this.#random = random
  }

  /** The network of a new process, in place of an older one with its id. */
  attach(user: NetworkUser): Network {
    const endpoint = new Endpoint(this, user)
    this.#endpoints.set(user.id, endpoint)
    return endpoint
  }

  cut(from: DeviceId, to: DeviceId): void {
    this.#cut.add(`${from}>${to}`)
  }

  get isWhole(): boolean {
    return this.#cut.size === 0
  }

  /** All links work again. Those that were cut long enough to be noticed are made anew. */
  heal(reconnectChance: number): void {
    const cut = [...this.#cut]
    this.#cut.clear()
    for (const link of cut) {
      const [from, to] = link.split('>') as [DeviceId, DeviceId]
      if (this.#random.chance(reconnectChance)) this.#connected(from, to)
    }
  }

  isReachable(from: DeviceId, to: DeviceId): boolean {
    return !this.#cut.has(`${from}>${to}`) && this.#endpoints.get(to)?.user.alive === true
  }

  others(id: DeviceId): DeviceId[] {
    return [...this.#endpoints.keys()].filter(other => other !== id)
  }

  /** A process has begun or ended: the others notice. */
  changed(id: DeviceId, state: 'connected' | 'disconnected'): void {
    for (const other of this.others(id)) {
      if (state === 'connected') {
        this.#connected(id, other)
        this.#connected(other, id)
      } else this.#tell(other, events => events.peer(id, 'disconnected'))
    }
  }

  #connected(from: DeviceId, to: DeviceId): void {
    this.#tell(from, events => {
      if (this.isReachable(from, to) && this.isReachable(to, from)) events.peer(to, 'connected')
    })
  }

  #tell(id: DeviceId, what: (events: NetworkEvents) => void): void {
    this.#timeline.schedule(
      this.#delay(),
      () => this.#endpoints.get(id)?.user,
      'peer',
      () => {
        const events = this.#endpoints.get(id)?.events
        if (events) what(events)
      },
    )
  }

  #delay(): number {
    const { delayMsMin, delayMsMax, reorderChance, reorderMsMax } = this.faults
    const extra = this.#random.chance(reorderChance) ? this.#random.between(0, reorderMsMax) : 0
    return this.#random.between(delayMsMin, delayMsMax) + extra
  }

  post(from: DeviceId, to: DeviceId, message: PeerMessage): void {
    const random = this.#random
    const isMuted = this.losesSignatures && message.type === 'signatures'
    if (isMuted || !this.isReachable(from, to) || random.chance(this.faults.lossChance)) {
      // A transport notices some losses, not all, and not at once.
      if (random.chance(0.2)) this.#tell(from, events => events.unreachable(to))
      return
    }
    const copies = random.chance(this.faults.duplicateChance) ? 2 : 1
    const receiver = () => (this.isReachable(from, to) ? this.#endpoints.get(to)?.user : undefined)
    const label = describe(from, to, message)
    for (let copy = 0; copy < copies; copy++)
      this.#timeline.schedule(this.#delay(), receiver, label, () => {
        const endpoint = this.#endpoints.get(to)
        if (!endpoint?.events) return
        endpoint.user.receives(message)
        endpoint.events.message(from, message)
      })
  }

  request(from: NetworkUser, to: DeviceId, ask: OutgoingRequest, timeoutMs: number): Promise<Uint8Array> {
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>()
    const answered = (happen: () => void) =>
      this.#timeline.schedule(this.#delay(), from, `answer ${ask.protocol}`, happen)
    const isLost = () =>
      !this.isReachable(from.id, to) ||
      !this.isReachable(to, from.id) ||
      this.#random.chance(this.faults.lossChance)
    if (isLost()) {
      answered(() => reject(new MoteError('unreachable', `${to}: not connected`)))
      return promise
    }
    this.#timeline.schedule(timeoutMs, from, `no answer ${ask.protocol}`, () =>
      reject(new MoteError('timeout', `${to}: no answer in time`)),
    )
    const callee = () => (isLost() ? undefined : this.#endpoints.get(to)?.user)
    this.#timeline.schedule(this.#delay(), callee, `request ${ask.protocol}`, () => {
      const endpoint = this.#endpoints.get(to)
      const handler = endpoint?.handlers.get(ask.protocol)
      if (!handler) return
      const { user } = endpoint!
      const reply = (happen: () => void) => {
        if (user.alive && !isLost()) answered(happen)
      }
      const caller = { deviceId: from.id, isProven: true, remoteAddress: 'simulated', charge: () => {} }
      handler(caller, ask.body).then(
        answer => reply(() => resolve(answer)),
        (error: unknown) => reply(() => reject(error)),
      )
    })
    return promise
  }
}

function describe(from: DeviceId, to: DeviceId, message: PeerMessage): string {
  const route = `${from.slice(0, 4)}>${to.slice(0, 4)}`
  if (message.type !== 'raft') return `${route} ${message.type}`
  const { message: raft } = message
  const parts = [route, raft.type, `t${raft.term}`]
  if (raft.type === 'append-entries')
    parts.push(`${raft.prevLogIndex}+${raft.entries.length}`, `c${raft.leaderCommit}`)
  if (raft.type === 'append-response') parts.push(raft.success ? `m${raft.matchIndex}` : 'no')
  if (raft.type === 'vote') parts.push(`${raft.voteGranted}${raft.preVote ? ' pre' : ''}`)
  if (raft.type === 'request-vote')
    parts.push(`${raft.lastLogIndex}@${raft.lastLogTerm}${raft.preVote ? ' pre' : ''}`)
  if (raft.type === 'install-snapshot') parts.push(`${raft.snapshot.lastIncludedIndex}`)
  return parts.join(' ')
}

class Endpoint implements Network {
  readonly user: NetworkUser
  readonly handlers = new Map<RequestProtocol, RequestHandler>()
  events: NetworkEvents | undefined
  readonly #network: SimulatedNetwork

  constructor(network: SimulatedNetwork, user: NetworkUser) {
    this.#network = network
    this.user = user
  }

  async start(events: NetworkEvents): Promise<void> {
    this.events = events
    this.#network.changed(this.user.id, 'connected')
  }

  send(to: DeviceId, message: PeerMessage): void {
    this.user.boundary()
    if (!this.user.alive) return
    this.user.sends(to, message)
    this.#network.post(this.user.id, to, message)
  }

  request(to: DeviceId, request: OutgoingRequest, timeoutMs: number): Promise<Uint8Array> {
    this.user.boundary()
    if (!this.user.alive) return new Promise(() => {})
    return this.#network.request(this.user, to, request, timeoutMs)
  }

  flush(): void {}

  handle(protocol: RequestProtocol, handler: RequestHandler): void {
    this.handlers.set(protocol, handler)
  }

  keep(): void {}
  forget(): void {}
  recheck(): void {}

  peers(): readonly PeerStatus[] {
    return this.#network.others(this.user.id).map(id => ({
      id,
      state: this.#network.isReachable(this.user.id, id) ? 'connected' : 'disconnected',
      address: undefined,
    }))
  }

  addresses(): readonly string[] {
    return []
  }

  async stop(): Promise<void> {
    this.events = undefined
  }
}
