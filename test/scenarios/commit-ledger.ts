/**
 * What was ever committed, seen from outside: noted when any server's `commitIndex` passes it, which may be long
 * before anybody has applied it.
 *
 * Checked after each step: 1. what is committed never changes (state machine safety, Figure 3); 2. who becomes leader
 * holds all that was committed in earlier terms (leader completeness); 3. whoever's commitIndex covers an index holds
 * that entry; 4. a read is answered at an index that covers everything committed when it began; 5. what a server
 * acknowledges to the leader of its term is on its disk as it is in its log, not only as long.
 */

import type { RaftStatus } from '../../consensus/status.ts'
import type { Message } from '../../consensus/types.ts'
import { entryAt, type Node } from '../unit/consensus/node.ts'

interface Committed {
  readonly term: number
  readonly content: string
  /** The lowest term of a server that knew the entry to be committed. */
  knownIn: number
}

export class CommitLedger {
  readonly #committed = new Map<number, Committed>()
  #highest = 0
  readonly #readFloors = new Map<number, number>()

  /** Judges a step of a server; `before` is its status ahead of it. */
  step(node: Node, before: RaftStatus): void {
    const after = node.raft?.status
    if (after === undefined) return
    if (after.role === 'leader' && before.role !== 'leader') this.#elected(node, after.currentTerm)
    for (let index = before.commitIndex + 1; index <= after.commitIndex; index += 1) {
      this.#commits(node, index, after.currentTerm)
    }
  }

  /** Judges a message at the moment it leaves. */
  leaves({ id, raft, disk, intended }: Node, message: Message): void {
    if (message.type !== 'append-response' || !message.success) return
    const { matchIndex, term } = message
    // In a later term the log may have changed since; what the message speaks of was on disk then.
    if (raft?.status.currentTerm !== term || matchIndex <= intended.before.index) return
    if (entryAt(disk, matchIndex)?.term !== entryAt(intended, matchIndex)?.term) {
      throw new Error(`violated: acknowledged entries are durable (${id} ${matchIndex})`)
    }
  }

  readStarted(context: number): void {
    this.#readFloors.set(context, this.#highest)
  }

  readAnswered(context: number, index: number): void {
    const floor = this.#readFloors.get(context) ?? 0
    if (index < floor) throw new Error(`violated: linearizable read (at ${index}, committed ${floor})`)
  }

  #commits(node: Node, index: number, term: number): void {
    this.#highest = Math.max(this.#highest, index)
    // What a snapshot covers is not in the log; its term is judged where the snapshot was taken.
    if (index <= node.intended.before.index) return
    const entry = entryAt(node.intended, index)
    if (entry === undefined) throw new Error(`violated: committed is in the log (${node.id} ${index})`)
    const content = `${entry.term} ${entry.type} ${entry.data.join()}`
    const known = this.#committed.get(index)
    if (known === undefined) {
      this.#committed.set(index, { term: entry.term, content, knownIn: term })
      return
    }
    if (known.content !== content) {
      throw new Error(
        `violated: committed never changes (${node.id} ${index}: term ${entry.term}, was ${known.term})`,
      )
    }
    known.knownIn = Math.min(known.knownIn, term)
  }

  #elected(node: Node, term: number): void {
    for (const [index, { content, knownIn }] of this.#committed) {
      if (knownIn >= term || index <= node.intended.before.index) continue
      const entry = entryAt(node.intended, index)
      if (entry === undefined || `${entry.term} ${entry.type} ${entry.data.join()}` !== content) {
        throw new Error(`violated: leader completeness (${node.id} lacks ${index} in term ${term})`)
      }
    }
  }
}
