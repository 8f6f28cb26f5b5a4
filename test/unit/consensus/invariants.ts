/**
 * What must hold after every step of every server, judged from outside (Figure 3, and the durability contract of
 * `types.ts`). Each violation throws with the name of the property.
 */
import type { RaftStatus } from '../../../consensus/status.ts'
import type { Effect, Entry, Message, NodeId } from '../../../consensus/types.ts'
import { entryAt, lastIndexOf, type Node } from './node.ts'

type Persist = Extract<Effect, { type: 'persist' }>
type AppendResponse = Extract<Message, { type: 'append-response' }>

export class Invariants {
  readonly #leaders = new Map<number, NodeId>()
  readonly #votes = new Map<string, NodeId>()
  /** For `index@term`: what the entry is, and the term of the one before it. */
  readonly #entries = new Map<string, string>()
  /** What was first applied anywhere, by index. */
  readonly #committed = new Map<number, Entry>()
  /** The lowest term of a server that applied this index: the entry was committed in it or before. */
  readonly #committedBy = new Map<number, number>()
  readonly #readFloors = new Map<number, number>()
  #highestCommitted = 0

  get highestCommitted(): number {
    return this.#highestCommitted
  }

  /** Judges one step of a node. `before` is its status ahead of it; its disk intentions include the step's write. */
  step(node: Node, before: RaftStatus, effects: readonly Effect[]): void {
    const after = node.raft?.status
    if (after === undefined) return
    this.#monotone(before, after)
    if (after.role === 'leader' && before.role !== 'leader') this.#elected(node, after.currentTerm)
    for (const effect of effects) {
      if (effect.type === 'commit') this.#applied(node, effect.entries)
      if (effect.type === 'read-ready') this.#read(effect.context, effect.index)
    }
  }

  /** Judges a write when the core asks for it; `node.intended` does not include it yet. */
  written(node: Node, before: RaftStatus, persist: Persist): void {
    const { truncateAfter, snapshot } = persist
    if (before.role === 'leader' && node.raft?.status.role === 'leader') {
      check(truncateAfter === undefined && snapshot === undefined, 'leader append-only', node.id)
    }
    check((truncateAfter ?? Infinity) >= node.lastApplied, 'applied entries are never cut', node.id)
    const cut = truncateAfter ?? lastIndexOf(node.intended)
    let previousTerm = entryAt(node.intended, cut)?.term ?? node.intended.before.term
    for (const entry of persist.entries) {
      const key = `${entry.index}@${entry.term}`
      const content = `${previousTerm} ${entry.type} ${entry.data.join()}`
      check((this.#entries.get(key) ?? content) === content, 'log matching', key)
      this.#entries.set(key, content)
      previousTerm = entry.term
    }
  }

  /** Judges a message at the moment it leaves: what it promises must be on disk. */
  leaves(node: Node, message: Message): void {
    const { hardState } = node.disk
    if (message.type === 'append-response' && message.success) {
      check(message.matchIndex <= lastIndexOf(node.disk), 'acknowledged entries are durable', node.id)
      this.#acknowledged(node, message)
      return
    }
    if (message.type !== 'request-vote' || message.preVote) return
    this.#voted(node.id, message.term, node.id)
    const isDurable = hardState.currentTerm > message.term || hardState.votedFor === node.id
    check(isDurable, 'a vote for oneself is durable', node.id)
  }

  /** What is acknowledged is on disk as it is in the log, not only as long; in a later term the log may have changed since. */
  #acknowledged({ id, raft, disk, intended }: Node, message: AppendResponse): void {
    const { matchIndex, term } = message
    if (raft?.status.currentTerm !== term || matchIndex <= intended.before.index) return
    const isSame = entryAt(disk, matchIndex)?.term === entryAt(intended, matchIndex)?.term
    check(isSame, 'what is acknowledged is durable as it is in the log', `${id} ${matchIndex}`)
  }

  /** Judges a granted vote at the moment it leaves. */
  voteLeaves(node: Node, to: NodeId, term: number): void {
    const { currentTerm, votedFor } = node.disk.hardState
    check(currentTerm > term || (currentTerm === term && votedFor === to), 'a vote is durable', node.id)
    this.#voted(node.id, term, to)
  }

  readStarted(context: number): void {
    this.#readFloors.set(context, this.#highestCommitted)
  }

  #voted(id: NodeId, term: number, to: NodeId): void {
    const key = `${id}@${term}`
    check((this.#votes.get(key) ?? to) === to, 'one vote per term', `${key} for ${to}`)
    this.#votes.set(key, to)
  }

  #elected(node: Node, term: number): void {
    check((this.#leaders.get(term) ?? node.id) === node.id, 'election safety', `term ${term}`)
    this.#leaders.set(term, node.id)
    for (const [index, entry] of this.#committed) {
      // Late votes may make a leader of a term that is over; it need not hold what later terms committed.
      if (index <= node.intended.before.index || (this.#committedBy.get(index) ?? 0) >= term) continue
      check(entryAt(node.intended, index)?.term === entry.term, 'leader completeness', `${node.id} ${index}`)
    }
  }

  #applied(node: Node, entries: readonly Entry[]): void {
    const { currentTerm = 0 } = node.raft?.status ?? {}
    let expected = node.lastApplied + 1
    for (const entry of entries) {
      check(entry.index === expected, 'applied in order, once', `${node.id} ${entry.index}`)
      check(entry.index <= lastIndexOf(node.disk), 'applied entries are durable', `${node.id} ${entry.index}`)
      const first = this.#committed.get(entry.index) ?? entry
      const isSame = first.term === entry.term && first.data.join() === entry.data.join()
      check(isSame, 'state machine safety', `${node.id} ${entry.index}`)
      this.#committed.set(entry.index, first)
      const known = this.#committedBy.get(entry.index) ?? currentTerm
      this.#committedBy.set(entry.index, Math.min(known, currentTerm))
      this.#highestCommitted = Math.max(this.#highestCommitted, entry.index)
      expected += 1
    }
  }

  #read(context: number, index: number): void {
    check(index >= (this.#readFloors.get(context) ?? 0), 'linearizable read', `${context}`)
  }

  #monotone(before: RaftStatus, after: RaftStatus): void {
    check(after.currentTerm >= before.currentTerm, 'currentTerm is monotone', after.id)
    check(after.commitIndex >= before.commitIndex, 'commitIndex is monotone', after.id)
    check(after.commitIndex <= after.lastLogIndex, 'commitIndex is in the log', after.id)
    if (after.currentTerm === before.currentTerm && before.votedFor !== null) {
      check(after.votedFor === before.votedFor, 'a vote is never cleared within a term', after.id)
    }
    for (const [id, follower] of after.followers) {
      const earlier = before.followers.get(id)
      check(follower.nextIndex > follower.matchIndex, 'nextIndex is past matchIndex', id)
      if (earlier === undefined) continue
      check(follower.matchIndex >= earlier.matchIndex, 'matchIndex is monotone', id)
    }
  }
}

function check(condition: boolean, property: string, where: string): void {
  if (!condition) throw new Error(`violated: ${property} (${where})`)
}
