/**
 * What a leader sends a follower a second time, counted from outside: a rule of the schedules and of the simulator. A
 * leader that sends as fast as it is refused keeps the network busy and moves nothing.
 */
import { entryBytes } from '../../../consensus/log.ts'
import type { Message, NodeId } from '../../../consensus/types.ts'

interface Sent {
  readonly term: number
  highestIndex: number
  /** Bytes of entries at or below `highestIndex`, since the last reset. */
  bytesAgain: number
}

export class SentAgain {
  readonly #to = new Map<NodeId, Sent>()

  /** The leader has ticked: the count begins anew. */
  reset(): void {
    for (const sent of this.#to.values()) sent.bytesAgain = 0
  }

  /** Who is a follower no more gets everything anew when it comes back. */
  keep(followers: ReadonlyMap<NodeId, unknown>): void {
    for (const id of this.#to.keys()) if (!followers.has(id)) this.#to.delete(id)
  }

  /** Counts an append that leaves; gives the bytes that were sent again to this follower since the last reset. */
  count(to: NodeId, { term, entries }: Extract<Message, { type: 'append-entries' }>): number {
    const known = this.#to.get(to)
    const sent = known?.term === term ? known : { term, highestIndex: 0, bytesAgain: 0 }
    this.#to.set(to, sent)
    for (const entry of entries) {
      if (entry.index <= sent.highestIndex) sent.bytesAgain += entryBytes(entry)
      else sent.highestIndex = entry.index
    }
    return sent.bytesAgain
  }
}
