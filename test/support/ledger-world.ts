/**
 * Several full nodes in one process over a network, disks and a clock in memory: the production code of node/ from
 * `LedgerNode` inwards. Nodes can be cut off, crash (what was not durable is lost) and come back.
 */
import type { DeviceId } from '../../chain/brands.ts'
import { Milliseconds } from '../../chain/brands.ts'
import type { ChainLimits } from '../../chain/chain-parameters.ts'
import { chainIdOf, type GenesisDocument } from '../../chain/genesis.ts'
import { keyIdOf } from '../../chain/keys.ts'
import { MoteError } from '../../chain/result.ts'
import { signTransaction, type TransactionBody } from '../../chain/transaction.ts'
import { nativeVerifier } from '../../client/native-crypto.ts'
import { ledgerSettings } from '../../node/effective-configuration.ts'
import { recoverChain } from '../../node/ledger/chain-recovery.ts'
import type { CompactionLimits } from '../../node/ledger/compaction.ts'
import { LiveChain } from '../../node/ledger/live-chain.ts'
import { Members } from '../../node/ledger/members.ts'
import { NodeEvents } from '../../node/ledger/node-events.ts'
import type { RetentionLimits } from '../../node/ledger/retention.ts'
import { LedgerNode } from '../../node/ledger-node.ts'
import type {
  Network,
  NetworkEvents,
  OutgoingRequest,
  PeerMessage,
  PeerStatus,
  RequestHandler,
  RequestProtocol,
  Storage,
} from '../../node/ports.ts'
import { Acknowledgements } from '../../node/replica/acknowledgements.ts'
import type { MempoolLimits } from '../../node/replica/mempool.ts'
import { openStorage } from '../../node/storage/chain-storage.ts'
import { ManualClock } from './manual-clock.ts'
import { MemoryDisk } from './memory-byte-store.ts'
import { type SampleIdentity, sampleGenesis, sampleIdentity } from './sample-genesis.ts'

class WorldNetwork implements Network {
  readonly id: DeviceId
  readonly handlers = new Map<RequestProtocol, RequestHandler>()
  events: NetworkEvents | undefined
  readonly #world: LedgerWorld

  constructor(id: DeviceId, world: LedgerWorld) {
    this.id = id
    this.#world = world
  }

  async start(events: NetworkEvents): Promise<void> {
    this.events = events
    for (const peer of this.#world.reachableFrom(this.id)) {
      events.peer(peer.id, 'connected')
      peer.events?.peer(this.id, 'connected')
    }
  }

  send(to: DeviceId, message: PeerMessage): void {
    this.#world.post(this.id, to, message)
  }

  async request(to: DeviceId, { protocol, body }: OutgoingRequest): Promise<Uint8Array> {
    const peer = this.#world.reachableFrom(this.id).find(other => other.id === to)
    const handler = peer?.handlers.get(protocol)
    if (!handler) throw new MoteError('unreachable', `${to}: not connected`)
    if (!this.#world.requestFilter(this.id, to, protocol, body))
      throw new MoteError('timeout', `${to}: no answer in time`)
    const sent = this.#world.requestInTransit(protocol, body)
    const caller = { deviceId: this.id, isProven: true, remoteAddress: 'memory', charge: () => {} }
    const answer = await handler(caller, sent)
    return this.#world.answerFilter(protocol, answer)
  }

  flush(): void {}

  handle(protocol: RequestProtocol, handler: RequestHandler): void {
    this.handlers.set(protocol, handler)
  }

  keep(): void {}
  forget(): void {}
  recheck(id: DeviceId): void {
    this.#world.rechecked.push({ at: this.id, peer: id })
  }
  peers(): readonly PeerStatus[] {
    const connected = this.#world.reachableFrom(this.id)
    return connected.map(({ id }) => ({ id, state: 'connected', address: undefined }))
  }
  addresses(): readonly string[] {
    return []
  }
  async stop(): Promise<void> {
    this.events = undefined
  }
}

interface WorldNode {
  readonly identity: SampleIdentity
  disk: MemoryDisk
  network: WorldNetwork
  storage: Storage | undefined
  node: LedgerNode | undefined
}

export class LedgerWorld {
  readonly clock = new ManualClock(1_700_000_100_000)
  /** How far each node's wall clock is ahead of `clock`. */
  readonly #aheadMs = new Map<number, number>()
  readonly #errors: string[][] = []
  readonly genesis: GenesisDocument
  readonly operator = sampleIdentity('operator')
  readonly failures: MoteError[] = []
  /** Peers whose connections a node had judged again. */
  readonly rechecked: { readonly at: DeviceId; readonly peer: DeviceId }[] = []
  readonly #nodes: WorldNode[]
  #mail: { from: DeviceId; to: DeviceId; message: PeerMessage }[] = []
  readonly #cutOff = new Set<DeviceId>()
  /** Tests may look at, or swallow, what travels. */
  filter: (from: DeviceId, to: DeviceId, message: PeerMessage) => boolean = () => true
  /** The same for requests: false loses one, and answers may be changed. */
  requestFilter: (from: DeviceId, to: DeviceId, protocol: RequestProtocol, body: Uint8Array) => boolean =
    () => true
  answerFilter: (protocol: RequestProtocol, answer: Uint8Array) => Uint8Array = (_protocol, answer) => answer
  /** Tests may change what travels. */
  inTransit: (message: PeerMessage) => PeerMessage = message => message
  requestInTransit: (protocol: RequestProtocol, body: Uint8Array) => Uint8Array = (_protocol, body) => body
  /** Nodes that are started from now on name each other in their own configurations. */
  peersAreConfigured = true
  /** For nodes that are started from now on. */
  compaction: Partial<CompactionLimits> = {}
  retention: Partial<RetentionLimits> = {}
  mempool: Partial<MempoolLimits> = {}
  maxLogBytesInMemory = 32 * 1024 * 1024
  #random = 1

  /** `size` consenters come first, then `more` full nodes that are none. */
  constructor(
    size: number,
    devices: readonly SampleIdentity[] = [],
    more = 0,
    limits: Partial<ChainLimits> = {},
  ) {
    const identities = Array.from({ length: size + more }, (_, i) => sampleIdentity(`full-${i + 1}`))
    const others = [
      ...identities.slice(size).map(identity => ({ identity, label: 'full' as const })),
      ...devices.map(identity => ({ identity, label: 'lightweight' as const })),
    ]
    this.genesis = sampleGenesis(identities.slice(0, size), others, limits)
    for (const _ of identities) this.#errors.push([])
    this.#nodes = identities.map(identity => ({
      identity,
      disk: new MemoryDisk(),
      network: new WorldNetwork(identity.id, this),
      storage: undefined,
      node: undefined,
    }))
  }

  node(i: number): LedgerNode {
    const node = this.#nodes[i]?.node
    if (!node) throw new Error(`node ${i} does not run`)
    return node
  }

  disk(i: number): MemoryDisk {
    return this.#nodes[i]!.disk
  }

  /** Another disk for a node that does not run. */
  replaceDisk(i: number, disk: MemoryDisk): void {
    this.#nodes[i]!.disk = disk
  }

  handler(i: number, protocol: RequestProtocol): RequestHandler {
    const handler = this.#nodes[i]?.network.handlers.get(protocol)
    if (!handler) throw new Error(`node ${i} does not answer ${protocol}`)
    return handler
  }

  identity(i: number): SampleIdentity {
    return this.#nodes[i]!.identity
  }

  id(i: number): DeviceId {
    return this.#nodes[i]!.identity.id
  }

  storage(i: number): Storage {
    return this.#nodes[i]!.storage!
  }

  /** What a node has logged as an error. */
  errorsOf(i: number): readonly string[] {
    return this.#errors[i] ?? []
  }

  isRunning(i: number): boolean {
    return this.#nodes[i]?.node !== undefined
  }

  get running(): LedgerNode[] {
    return this.#nodes.flatMap(({ node }) => (node ? [node] : []))
  }

  /** Index of the node that leads, if one does. */
  get leader(): number | undefined {
    const i = this.#nodes.findIndex(
      ({ node, identity }) => node?.replica.leadership.role === 'leader' && !this.#cutOff.has(identity.id),
    )
    return i < 0 ? undefined : i
  }

  async start(i: number): Promise<void> {
    const each = this.#nodes[i]!
    const { id, signer } = each.identity
    const owner = { chainId: chainIdOf(this.genesis), deviceId: id }
    const storage = await openStorage(each.disk.open(), owner)
    const network = new WorldNetwork(id, this)
    each.network = network
    each.storage = storage
    const recovered = await recoverChain(storage, this.genesis)
    const choices = {
      raft: {
        tickMs: 10,
        electionTimeoutTicks: 10,
        heartbeatTicks: 2,
        maxLogBytesInMemory: this.maxLogBytesInMemory,
      },
      compaction: this.compaction,
      retention: this.retention,
      heartbeatMs: 60_000,
    }
    const standard = ledgerSettings(choices, recovered.ledger.parameters)
    const settings = { ...standard, mempool: { ...standard.mempool, ...this.mempool } }
    each.node = new LedgerNode({
      name: each.identity.name,
      id,
      signer,
      acknowledgements: new Acknowledgements(owner.chainId, each.identity.transportSeed),
      recovered,
      chain: new LiveChain(recovered, nativeVerifier, settings.recent),
      events: new NodeEvents(),
      storage,
      network,
      clock: {
        wall: () => Milliseconds(this.clock.wall() + (this.#aheadMs.get(i) ?? 0)),
        steady: () => this.clock.steady(),
        after: (delayMs, callback) => this.clock.after(delayMs, callback),
      },
      random: () => this.#nextRandom(),
      verifier: nativeVerifier,
      settings,
      processId: 0,
      log: { info: () => {}, error: (_detail, message) => this.#errors[i]?.push(message) },
      members: new Members(
        id,
        this.#nodes.map(({ identity }) => identity.id).filter(peer => this.peersAreConfigured && peer !== id),
        recovered.raft,
      ),
      onFailed: error => this.failures.push(error),
    })
    await network.start(each.node)
    each.node.start()
  }

  async startAll(): Promise<void> {
    for (const i of this.#nodes.keys()) await this.start(i)
  }

  /** Starts everybody, and waits for a leader and a certified block on every node. */
  async startCertified(): Promise<this> {
    await this.startAll()
    await this.until('a leader with a certified block', () => {
      const { leader } = this
      return leader !== undefined && this.running.every(node => node.certifier.certifiedHeight > 0)
    })
    return this
  }

  /** The process is gone at once; what was not durable is lost. */
  crash(i: number): void {
    const each = this.#nodes[i]!
    each.disk.crash()
    each.network.events = undefined
    void each.node?.replica.stop()
    each.node?.submission.stop()
    each.node = undefined
    this.#mail = this.#mail.filter(({ from, to }) => from !== each.identity.id && to !== each.identity.id)
    for (const other of this.#nodes) other.network.events?.peer(each.identity.id, 'disconnected')
  }

  /** Somebody sets the wall clock of a node. */
  setClock(i: number, aheadMs: number): void {
    this.#aheadMs.set(i, aheadMs)
  }

  cutOff(i: number): void {
    this.#cutOff.add(this.id(i))
  }

  heal(): void {
    const back = [...this.#cutOff]
    this.#cutOff.clear()
    for (const id of back)
      for (const { network } of this.#nodes) {
        if (network.id === id) continue
        network.events?.peer(id, 'connected')
        this.#nodes.find(other => other.identity.id === id)?.network.events?.peer(network.id, 'connected')
      }
  }

  reachableFrom(id: DeviceId): WorldNetwork[] {
    if (this.#cutOff.has(id)) return []
    return this.#nodes
      .map(({ network }) => network)
      .filter(network => network.id !== id && network.events && !this.#cutOff.has(network.id))
  }

  post(from: DeviceId, to: DeviceId, message: PeerMessage): void {
    if (this.reachableFrom(from).some(peer => peer.id === to)) this.#mail.push({ from, to, message })
  }

  /** Lets `ms` pass, a tick at a time, delivering what is sent. */
  async run(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 10) {
      this.clock.advance(10)
      await this.settle()
    }
  }

  /** Runs until the condition holds; fails after `limitMs` of simulated time. */
  async until(what: string, condition: () => boolean, limitMs = 60_000): Promise<void> {
    for (let passed = 0; !condition(); passed += 10) {
      if (passed > limitMs) throw new Error(`${what}: not within ${limitMs} ms of simulated time`)
      await this.run(10)
    }
  }

  /** Delivers until nobody has anything to say and every write is done. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 2; quiet++) {
      await new Promise<void>(resolve => setImmediate(resolve))
      const mail = this.#mail
      this.#mail = []
      if (mail.length > 0) quiet = -1
      for (const { from, to, message } of mail) {
        const receiver = this.reachableFrom(from).find(peer => peer.id === to)
        if (receiver && this.filter(from, to, message))
          receiver.events?.message(from, this.inTransit(message))
      }
    }
  }

  /** A signed transaction of an identity of this world. */
  sign(identity: SampleIdentity, body: TransactionBody, options: { nonce?: number; expiryMs?: number } = {}) {
    const keyId = keyIdOf(identity.signer.publicKey)
    return signTransaction(
      {
        version: 1,
        chainId: chainIdOf(this.genesis),
        body,
        signer: { deviceId: identity.id, keyId },
        nonce: new Uint8Array(16).fill(options.nonce ?? 1),
        expiry: Milliseconds(this.clock.wall() + (options.expiryMs ?? 300_000)),
      },
      identity.signer,
    )
  }

  /** What the leader answers to a transaction, once it is certified or given up. */
  async answerOfLeader(bytes: Uint8Array): Promise<string | undefined> {
    let status: string | undefined
    void this.node(this.leader!)
      .submission.submit(bytes, 'certified')
      .then(answer => {
        status = answer.status
      })
    await this.until('an answer', () => status !== undefined)
    return status
  }

  /** A group that an identity makes: the smallest transaction that shows in the state. */
  group(identity: SampleIdentity, name: string): Uint8Array {
    return this.sign(identity, { type: 'group.create', name, epochKeyHash: undefined })
  }

  #nextRandom(): number {
    this.#random = (this.#random * 48_271) % 2_147_483_647
    return this.#random / 2_147_483_647
  }
}
