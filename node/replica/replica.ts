/**
 * Drives one Raft core: feeds it inputs, carries its effects out in order, executes what is committed, and keeps
 * everything durable in the right order. The same code runs in a node and in the simulator: the world is reached
 * through node/ports.ts alone, and chance is injected.
 *
 * Invariants:
 *   - inputs are stepped one at a time, in order of arrival; effects are carried out before the next input;
 *   - a send that waits for a persist leaves after that persist is durable, and not before;
 *   - committed entries are executed in order, synchronously, and what they leave behind is written behind the entries
 *     that they come from (executor.ts);
 *   - after the disk has refused a write nothing is acknowledged any more: the replica stops and says so.
 *
 * Not here: who may submit (submission.ts), what a block does (chain/), when to cut one (producer.ts).
 */
import type { DeviceId } from '../../chain/brands.ts'
import { assert, assertNever, type MoteError } from '../../chain/result.ts'
import { Raft } from '../../consensus/raft.ts'
import { type RaftStatus, successorsOf } from '../../consensus/status.ts'
import type {
  Configuration,
  Effect,
  Entry,
  Input,
  Message,
  Config as RaftConfig,
  Random,
  Recovered,
  SnapshotMeta,
} from '../../consensus/types.ts'
import { withholdUnproven } from '../ledger/members.ts'
import type { Leadership, NodeListener } from '../ledger/node-events.ts'
import type { VerifiedSnapshot } from '../ledger/snapshots.ts'
import type { Network } from '../ports.ts'
import type { Acknowledgements } from './acknowledgements.ts'
import { type ClockExchange, LateProposals } from './block-time.ts'
import { Executor, type ExecutorParts } from './executor.ts'
import { ReadRounds } from './linearizable-reads.ts'
import { HeldSends, storageFailure, WriteWatch, writeDeadlineMs, writeStallMs } from './pending-writes.ts'
import { Proposer, type ProposerParts } from './producer.ts'

export interface ReplicaParts extends ExecutorParts, ProposerParts {
  readonly raft: RaftConfig
  readonly recovered: Recovered
  readonly random: Random
  readonly tickMs: number
  readonly network: Pick<Network, 'send' | 'flush'>
  readonly clocks: ClockExchange
  readonly acknowledgements: Pick<Acknowledgements, 'put' | 'leaves'>
  /** No part is taken in elections before this index is applied (rebuild.ts). */
  readonly rebuildUpTo: number
}

export class Replica implements NodeListener {
  readonly #parts: ReplicaParts
  readonly #raft: Raft
  readonly #proposer: Proposer
  readonly #executor: Executor
  #inputs: Input[] = []
  #stepping = false
  #stopped = false
  #cancelTick: (() => void) | undefined
  readonly #held = new HeldSends()
  readonly #reads = new ReadRounds()
  /** Raft waits for a snapshot to offer that reaches this index, and there was none. */
  #owesOffer: number | undefined
  /** In force: the latest in the log, committed or not. */
  #configuration: Configuration
  #leadership: Leadership
  readonly #writes: WriteWatch
  readonly #late: LateProposals

  constructor(parts: ReplicaParts) {
    this.#parts = parts
    this.#raft = new Raft(parts.raft, parts.recovered, parts.random)
    this.#executor = new Executor(parts, parts.recovered.applied)
    this.#configuration = this.#raft.status.configuration
    this.#proposer = new Proposer(parts, this.#raft, parts.raft.electionTimeoutTicks)
    this.#writes = new WriteWatch(parts.tickMs)
    this.#late = new LateProposals(parts.clocks, parts.raft.electionTimeoutTicks, parts.recovered.entries)
    this.#leadership = { role: 'follower', term: parts.recovered.hardState.currentTerm, leader: undefined }
  }

  get leadership(): Leadership {
    return this.#leadership
  }

  /** Raft index executed so far. */
  get appliedIndex(): number {
    return this.#executor.applied
  }

  get configuration(): Configuration {
    return this.#configuration
  }

  /** The consensus core as it stands, for metrics and for those who judge it from outside. */
  get consensus(): RaftStatus {
    return this.#raft.status
  }

  /** What is on its way to the disk, and messages that wait for it. */
  get waiting(): { readonly writes: number; readonly sends: number } {
    return { writes: this.#writes.inFlight, sends: this.#held.size }
  }

  get stopped(): boolean {
    return this.#stopped
  }

  /** The log that this node acknowledged is not all here again yet. */
  get #rebuilding(): boolean {
    return this.#executor.written < this.#parts.rebuildUpTo
  }

  /** Begins to tick. */
  start(): void {
    this.#scheduleTick()
  }

  /** A Raft message from a peer that the transport has proven. */
  receive(message: Message): void {
    const electing = message.type === 'request-vote' || message.type === 'timeout-now'
    if (electing && this.#rebuilding) return
    if (message.type !== 'append-entries') this.#step({ type: 'message', message })
    else this.#step({ type: 'message', ...this.#takeable(message) })
  }

  votersKnown(ids: readonly DeviceId[]): void {
    this.#step({ type: 'known-voters', ids })
  }

  termCertified(term: number): void {
    this.#step({ type: 'certified', term })
  }

  /** The append without what is not to be taken for now: proposals from the future, configurations that nothing bears out. */
  #takeable(append: Extract<Message, { type: 'append-entries' }>) {
    const early = this.#late.withheldFrom(append)
    const proven = withholdUnproven(early.message, this.#executor, this.#parts.chain)
    return { ...proven, withheld: early.withheld || proven.withheld }
  }

  /** Messages to this peer were dropped, by the transport or by the gate. */
  unreachable(peer: DeviceId): void {
    this.#step({ type: 'unreachable', peer })
  }

  /** A block may have waited for it (producer.ts, certification lag). */
  certified(): void {
    this.wake()
  }

  /** Something may have become ready for a block: a transaction was admitted, a clock was heard. */
  wake(): void {
    if (this.#stepping || this.#stopped || this.#leadership.role !== 'leader') return
    this.#drain()
  }

  /** Transfers leadership to another voter, if this node has it. The outcome shows in `leadership` events. */
  transferTo(to: DeviceId): void {
    this.#step({ type: 'transfer', to })
  }

  /** The index that a linearizable read which begins now must have seen. Rejects with `no-leader`. */
  readIndex(): Promise<number> {
    return this.#reads.read(context => {
      if (this.#stopped) this.#reads.refused(context)
      else this.#step({ type: 'read', context })
    })
  }

  /** Takes no more input and waits until what was begun is on disk. */
  async stop(): Promise<void> {
    this.#halt()
    await this.#writes.idle()
  }

  #halt(): void {
    this.#stopped = true
    this.#inputs = []
    this.#held.clear()
    this.#reads.refuseAll()
    this.#cancelTick?.()
  }

  /** Stops for good and says why. */
  fault(error: MoteError): void {
    if (this.#stopped) return
    // Told before the halt, so that the core stops acknowledging in the same breath and names a successor.
    for (const effect of this.#raft.step({ type: 'persist-failed' }))
      if (effect.type === 'status' || (effect.type === 'send' && effect.after === undefined))
        this.#carryOut(effect)
    this.#halt()
    this.#parts.events.failed(error)
  }

  #scheduleTick(): void {
    this.#cancelTick = this.#parts.clock.after(this.#parts.tickMs, () => {
      if (this.#stopped) return
      this.#scheduleTick()
      this.#proposer.tick()
      this.#watchDisk()
      if (this.#owesOffer !== undefined) this.#offerSnapshot(this.#owesOffer)
      this.#parts.certifier.tick(this.#parts.clock.steady())
      this.#parts.clocks.tick()
      this.#late.tick(this.#leadership)
      if (!this.#rebuilding && !this.#late.sitsOut) this.#step({ type: 'tick' })
    })
  }

  /** A leader whose disk hangs would make every client wait, so it transfers its leadership. */
  #watchDisk(): void {
    this.#writes.tick()
    const { waitingMs } = this.#writes
    if (waitingMs <= writeStallMs) return
    if (waitingMs > writeDeadlineMs) this.fault(storageFailure(`no write has ended for ${waitingMs} ms`))
    const [best] = this.#leadership.role === 'leader' ? successorsOf(this.#raft.status) : []
    if (best && !best.isFull) this.transferTo(best.id as DeviceId)
  }

  #step(input: Input): void {
    if (this.#stopped) return
    this.#inputs.push(input)
    if (!this.#stepping) this.#drain()
  }

  /** Steps until nothing is left to do. Inputs that effects cause join the queue and are stepped here too. */
  #drain(): void {
    this.#stepping = true
    let proposal: Input | undefined
    try {
      do {
        while (this.#inputs.length > 0) {
          const inputs = this.#inputs
          this.#inputs = []
          for (const input of inputs) {
            if (this.#stopped) return
            for (const effect of this.#raft.step(input)) this.#carryOut(effect)
          }
        }
        if (proposal) this.#parts.network.flush() // The others write beside this node, not after it.
        this.#writeExecuted()
        if (this.#stopped || this.#late.sitsOut) continue
        proposal = this.#proposer.next(this.#executor.durable, this.#configuration)
        if (proposal) this.#inputs.push(proposal)
      } while (this.#inputs.length > 0 && !this.#stopped)
    } finally {
      this.#stepping = false
    }
  }

  #carryOut(effect: Effect): void {
    switch (effect.type) {
      case 'persist':
        this.#persist(effect)
        return
      case 'send':
        if (effect.after === undefined) this.#send(effect.to, effect.message)
        else this.#held.hold({ after: effect.after, to: effect.to, message: effect.message })
        return
      case 'commit':
        this.#parts.network.flush() // The others execute beside this node, not after it.
        for (const entry of effect.entries) this.#execute(entry)
        return
      case 'status':
        this.#becomes({
          role: effect.role,
          term: effect.currentTerm,
          leader: (effect.leader ?? undefined) as DeviceId | undefined,
        })
        return
      case 'proposed':
        this.#proposer.proposed(effect)
        return
      case 'refused':
        this.#proposer.refused(effect)
        return
      case 'load':
        this.#load(effect)
        return
      case 'configuration':
        this.#configuration = effect.configuration
        this.#parts.events.configurationChanged(effect.configuration)
        return
      case 'fetch-snapshot':
        this.#fetchSnapshot(effect)
        return
      case 'departing':
        this.#parts.events.departing(effect.members)
        return
      case 'send-snapshot':
        this.#parts.snapshots.keep(effect.snapshot)
        return
      case 'read-ready':
        this.#reads.ready(effect.context, effect.index)
        return
      case 'read-refused':
        this.#reads.refused(effect.context)
        return
      default:
        assertNever(effect)
    }
  }

  #send(to: string, message: Message): void {
    if (this.#late.sitsOut && message.type === 'append-entries') return
    const { network, acknowledgements: own, clock, tickMs } = this.#parts
    // While something waits for the disk, the leader hears of this node with each append.
    const leaves = own.leaves(message, clock.steady(), this.#writes.inFlight === 0 ? tickMs / 2 : 0)
    if (leaves !== 'never') network.send(to as DeviceId, { type: 'raft', message: own.put(message) }, leaves)
  }

  #persist({ token, snapshot: meta, ...rest }: Extract<Effect, { type: 'persist' }>): void {
    this.#late.persists(rest, meta)
    const snapshot = meta && this.#takeSnapshot(meta)
    const write = meta && snapshot ? { ...rest, snapshot: { meta, state: snapshot.state } } : rest
    const written = () => {
      if (meta && snapshot) this.#installed(meta, snapshot)
      for (const { to, message } of this.#held.release(token)) this.#send(to, message)
      this.#step({ type: 'persisted', token })
    }
    this.#track(this.#parts.storage.persist(write), written, snapshot ? 'large' : 'usual')
  }

  #fetchSnapshot({ from, snapshot }: Extract<Effect, { type: 'fetch-snapshot' }>): void {
    const { lastIncludedIndex } = snapshot
    const done = (fetched: boolean) =>
      this.#step(
        fetched ? { type: 'snapshot-installed', snapshot } : { type: 'snapshot-failed', lastIncludedIndex },
      )
    this.#parts.snapshots.fetch(from as DeviceId, snapshot, done)
  }

  /** The snapshot that Raft puts in place of everything; what is executed goes to disk ahead of it. */
  #takeSnapshot(meta: SnapshotMeta): VerifiedSnapshot {
    this.#writeExecuted()
    const snapshot = this.#parts.snapshots.take(meta)
    assert(snapshot, `snapshot ${meta.lastIncludedIndex}: to be installed, but never fetched`)
    return snapshot
  }

  /** It is on disk. Nothing can have been committed here since: Raft waits for it. */
  #installed(meta: SnapshotMeta, snapshot: VerifiedSnapshot): void {
    this.#executor.skipTo(meta.lastIncludedIndex)
    this.#proposer.blockExecuted()
    snapshot.install()
    this.#parts.events.installed()
    this.#parts.certifier.skipTo(snapshot.certificate, snapshot.consenters)
  }

  #track(write: Promise<void>, then: () => void, size: 'usual' | 'large' = 'usual'): void {
    const written = () => (this.#stopped ? undefined : then())
    this.#writes.track(write, size, { written, failed: error => this.fault(error) })
  }

  #load({ from, to, maxBytes }: Extract<Effect, { type: 'load' }>): void {
    this.#parts.storage.readEntries({ from, to, maxBytes }).then(
      read => {
        if (read.type === 'entries')
          this.#step({ type: 'loaded', before: read.before, entries: read.entries })
        else this.#offerSnapshot(read.snapshot.lastIncludedIndex)
      },
      (error: unknown) => this.fault(storageFailure(error)),
    )
  }

  /** A follower needs entries up to `index`, which are forgotten. A snapshot from below would have it ask again, without end. */
  #offerSnapshot(index: number): void {
    const snapshot = this.#parts.snapshots.offer()
    const reaches = snapshot !== undefined && snapshot.lastIncludedIndex >= index
    this.#owesOffer = reaches ? undefined : index
    if (reaches) this.#step({ type: 'compacted', snapshot })
  }

  #execute(entry: Entry): void {
    this.#late.committed(entry.index)
    this.#proposer.committed(entry)
    if (this.#executor.execute(entry)) this.#proposer.blockExecuted()
  }

  #writeExecuted(): void {
    const write = this.#stopped ? undefined : this.#executor.write()
    if (!write) return
    this.#track(write.done, () => {
      this.#executor.wrote(write)
      this.#step({ type: 'applied', index: write.index })
      const due = this.#parts.snapshots.due()
      if (due) this.#track(this.#parts.storage.compact(due), () => {}, 'large')
    })
  }

  #becomes(leadership: Leadership): void {
    this.#leadership = leadership
    if (leadership.role === 'leader') this.#proposer.leads(this.#raft.status.lastLogIndex)
    else this.#proposer.follows()
    this.#parts.events.leadershipChanged(leadership)
  }
}
