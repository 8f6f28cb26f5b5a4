/**
 * The servers of one scenario, their disks, and the messages on their way. Nothing happens by itself but what a
 * disk does that is not held: the scenario decides the rest.
 *
 * Servers and their disks are those of the core's own tests (`node.ts`), and so are the invariants, which are judged
 * after every step; `CommitLedger` adds what only shows in `commitIndex`, before anything is applied.
 */
import type { Effect, Entry, Input, Message, NodeId, SnapshotMeta } from '../../consensus/types.ts'
import { Invariants } from '../unit/consensus/invariants.ts'
import { Node, type StoredLog } from '../unit/consensus/node.ts'
import { FuzzRandom } from '../unit/consensus/random.ts'
import { command } from '../unit/consensus/server.ts'
import { CommitLedger } from './commit-ledger.ts'
import type { Selector, Settings } from './statements.ts'

/** Every server's shortest election timeout. */
const electionTimeoutTicks = 10

interface Envelope {
  readonly from: NodeId
  readonly to: NodeId
  readonly message: Message
}

type Answer = Extract<Effect, { type: 'proposed' | 'refused' }>

/** Chance of one server: its place among the others decides its timeout, and restarts recover the whole log. */
class Patience extends FuzzRandom {
  override readonly fraction: () => number

  constructor(place: number) {
    super(0)
    const fraction = ((2 * place) % electionTimeoutTicks) / electionTimeoutTicks + 0.05
    this.fraction = () => fraction
  }

  override below(): number {
    return 0
  }
}

export class ScenarioWorld {
  readonly nodes = new Map<NodeId, Node>()
  /** Messages on their way, oldest first. */
  network: Envelope[] = []
  #delayed: Envelope[] = []
  readonly #fetches = new Map<NodeId, { readonly from: NodeId; readonly snapshot: SnapshotMeta }>()
  readonly #cut = new Set<string>()
  readonly #heldDisks = new Set<NodeId>()
  readonly #heldApplying = new Set<NodeId>()
  readonly #invariants = new Invariants()
  readonly #ledger = new CommitLedger()
  readonly #answers = new Map<number, Answer>()
  /** Reads by context: the index of the answer, or why there is none. */
  readonly #reads = new Map<number, number | 'waiting' | 'refused'>()
  #context = 0

  addNode(
    id: NodeId,
    {
      voters,
      learners,
      settings,
    }: { voters: readonly NodeId[]; learners: readonly NodeId[]; settings: Settings },
  ): void {
    const node = new Node(id, {
      config: { electionTimeoutTicks, ...settings },
      initial: { voters, votersOutgoing: [], learners },
      random: new Patience(this.nodes.size),
    })
    this.nodes.set(id, node)
    node.start()
  }

  node(id: NodeId): Node {
    const node = this.nodes.get(id)
    if (node === undefined) throw new Error(`no node ${id}`)
    return node
  }

  /** Starts the server anew with these entries on disk; they count as written, so logs have to match. */
  preset(id: NodeId, terms: readonly number[], hardState: StoredLog['hardState']): void {
    const node = this.node(id)
    const before = node.raft?.status
    const entries: Entry[] = terms.map((term, offset) => command(offset + 1, term))
    if (before !== undefined) this.#invariants.written(node, before, { type: 'persist', token: 0, entries })
    node.disk = { ...node.disk, hardState, entries }
    node.intended = node.disk
    node.start()
  }

  /** Steps one server and carries out what it asks for. A server that does not run takes no input. */
  step(node: Node, input: Input): void {
    const before = node.raft?.status
    if (before === undefined) return
    const { intended } = node
    const effects = node.step(input)
    const after = node.intended
    node.intended = intended
    for (const effect of effects)
      if (effect.type === 'persist') this.#invariants.written(node, before, effect)
    node.intended = after
    this.#invariants.step(node, before, effects)
    this.#ledger.step(node, before)
    for (const effect of effects) this.#perform(node, effect)
    if (!this.#heldDisks.has(node.id)) this.persist(node, Infinity)
  }

  #perform(node: Node, effect: Effect): void {
    switch (effect.type) {
      case 'send':
        if (node.mayLeave(effect)) this.#leave(node, effect)
        return
      case 'commit':
        node.apply(effect.entries)
        if (!this.#heldApplying.has(node.id)) this.#tellApplied(node)
        return
      case 'load':
        this.step(node, node.load(effect))
        return
      case 'fetch-snapshot':
        this.#fetches.set(node.id, effect)
        return
      case 'proposed':
      case 'refused':
        this.#answers.set(effect.context, effect)
        return
      case 'read-ready':
        this.#ledger.readAnswered(effect.context, effect.index)
        this.#reads.set(effect.context, effect.index)
        return
      case 'read-refused':
        this.#reads.set(effect.context, 'refused')
        return
      default:
        return
    }
  }

  #leave(node: Node, { to, message }: { readonly to: NodeId; readonly message: Message }): void {
    this.#invariants.leaves(node, message)
    this.#ledger.leaves(node, message)
    if (message.type === 'vote' && message.voteGranted && !message.preVote) {
      this.#invariants.voteLeaves(node, to, message.term)
    }
    this.network.push({ from: node.id, to, message })
  }

  /** Completes writes, oldest first, and tells the core of each. */
  persist(node: Node, count: number): void {
    for (let written = 0; written < count; written += 1) {
      const done = node.sync()
      if (done === undefined) return
      for (const send of done.sends) this.#leave(node, send)
      this.step(node, { type: 'persisted', token: done.token })
    }
  }

  hold(node: Node, what: 'disk' | 'applying'): void {
    if (what === 'disk') this.#heldDisks.add(node.id)
    else this.#heldApplying.add(node.id)
  }

  release(node: Node, what: 'disk' | 'applying'): void {
    if (what === 'disk') {
      this.#heldDisks.delete(node.id)
      this.persist(node, Infinity)
    } else {
      this.#heldApplying.delete(node.id)
      this.#tellApplied(node)
    }
  }

  #tellApplied(node: Node): void {
    this.step(node, { type: 'applied', index: node.lastApplied })
  }

  /** Stops the process; of the writes under way the first `keeping` are on disk, though nobody heard of it. */
  crash(node: Node, keeping: number): void {
    for (let written = 0; written < keeping; written += 1) node.sync()
    node.crash()
    this.#fetches.delete(node.id)
    this.#heldDisks.delete(node.id)
    this.#heldApplying.delete(node.id)
  }

  /** The disk refuses the writes under way: none of them happens, and nothing leaves that waited for them. */
  failDisk(node: Node): void {
    this.step(node, { type: 'persist-failed' })
    node.writes = []
  }

  /** Lets go of all that a stopped server had on disk. */
  wipe(node: Node, initial: SnapshotMeta): void {
    node.disk = {
      hardState: { currentTerm: 0, votedFor: null },
      snapshot: initial,
      before: { index: 0, term: 0 },
      entries: [],
    }
    node.intended = node.disk
    node.applied = []
  }

  /** The snapshot that the server is to fetch arrives from whoever offered it, or not. False if there is none. */
  fetch(node: Node, fails: boolean): boolean {
    const fetch = this.#fetches.get(node.id)
    if (fetch === undefined) return false
    this.#fetches.delete(node.id)
    const { lastIncludedIndex } = fetch.snapshot
    const { applied } = this.node(fetch.from)
    if (fails || this.#cut.has(`${fetch.from}>${node.id}`)) {
      this.step(node, { type: 'snapshot-failed', lastIncludedIndex })
    } else {
      node.fetched.set(lastIncludedIndex, applied.slice(0, lastIncludedIndex))
      this.step(node, { type: 'snapshot-installed', snapshot: fetch.snapshot })
    }
    return true
  }

  cut(from: NodeId, to: NodeId): void {
    this.#cut.add(`${from}>${to}`)
  }

  heal(): void {
    this.#cut.clear()
  }

  /** Takes the selected messages out of those on their way. */
  take(selector: Selector): Envelope[] {
    const taken = select(this.network, selector)
    this.network = this.network.filter(envelope => !taken.includes(envelope))
    return taken
  }

  /** Puts messages where nothing reaches them until they are resumed. */
  delay(selector: Selector): Envelope[] {
    const taken = this.take(selector)
    this.#delayed.push(...taken)
    return taken
  }

  /** Sends delayed messages on, behind everything that is on its way. */
  resume(selector: Selector): Envelope[] {
    const taken = select(this.#delayed, selector)
    this.#delayed = this.#delayed.filter(envelope => !taken.includes(envelope))
    this.network.push(...taken)
    return taken
  }

  /** `withholding`: so many entries are taken off the end of an append. */
  deliver({ from, to, message }: Envelope, withholding = 0): void {
    if (this.#cut.has(`${from}>${to}`)) return
    if (message.type !== 'append-entries' || withholding === 0) {
      this.step(this.node(to), { type: 'message', message })
      return
    }
    const entries = message.entries.slice(0, -withholding)
    this.step(this.node(to), { type: 'message', message: { ...message, entries }, withheld: true })
  }

  /** Delivers until nothing is on its way. */
  settle(): void {
    for (let count = 0; count < 10_000; count += 1) {
      const envelope = this.network.shift()
      if (envelope === undefined) return
      this.deliver(envelope)
    }
    throw new Error('messages never end')
  }

  /** Steps an input that is answered; the answer is undefined if there is none at once. */
  ask(node: Node, input: (context: number) => Input): Answer | undefined {
    this.#context += 1
    this.step(node, input(this.#context))
    return this.#answers.get(this.#context)
  }

  /** Begins a read; gives its context. */
  read(node: Node): number {
    this.#context += 1
    const context = this.#context
    this.#invariants.readStarted(context)
    this.#ledger.readStarted(context)
    this.#reads.set(context, 'waiting')
    this.step(node, { type: 'read', context })
    return context
  }

  readAnswer(context: number): number | 'waiting' | 'refused' | undefined {
    return this.#reads.get(context)
  }
}

/** The envelopes that a selector means, oldest first. */
export function select(envelopes: readonly Envelope[], selector: Selector): Envelope[] {
  const found = envelopes.filter(
    ({ from, to, message }) =>
      from === (selector.from ?? from) &&
      to === (selector.to ?? to) &&
      message.type === (selector.type ?? message.type) &&
      selector.fields.every(([name, value]) => fieldOf(message, name) === value),
  )
  if (selector.position === 'first') return found.slice(0, 1)
  return selector.position === 'last' ? found.slice(-1) : found
}

/** A field of a message as text; `entries` is their number. Empty if the message has no such field. */
function fieldOf(message: Message, name: string): string {
  if (name === 'entries') return message.type === 'append-entries' ? `${message.entries.length}` : ''
  if (name === 'lastIncludedIndex' && message.type === 'install-snapshot') {
    return `${message.snapshot.lastIncludedIndex}`
  }
  const value: unknown = Object.entries(message).find(([key]) => key === name)?.[1]
  return value === undefined ? '' : `${value}`
}
