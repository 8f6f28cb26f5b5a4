/**
 * What a follower has acknowledged, in a form that only it can have made: an answer to an append carries an HMAC over
 * chain, term and index under a key that follows from the follower's own key file. The leader keeps the newest of each
 * follower, cannot judge it, and shows it in the amnesia check (member-server.ts): a node whose directory was wiped or
 * restored knows its own word again, and nobody can put one into its mouth.
 *
 * Raft does not see it: it is put on when an answer leaves and left aside when one arrives. One is computed for each place
 * that is acknowledged, and repeated with each answer for the same place, so one that is lost costs nothing.
 */
import { createHmac, createSecretKey, hkdfSync, type KeyObject, timingSafeEqual } from 'node:crypto'
import { hexToBytes } from '@noble/hashes/utils.js'
import type { ChainId, DeviceId } from '../../chain/brands.ts'
import { domainBytes, u64be } from '../../chain/hashing.ts'
import { RecentMap } from '../../chain/recent-map.ts'
import { maxMembers } from '../../consensus/configuration.ts'
import type { Message } from '../../consensus/types.ts'
import type { Acknowledgement, RaftMessage } from '../ports.ts'

type AppendResponse = Extract<Message, { type: 'append-response' }>

const none = new Uint8Array()

export class Acknowledgements {
  readonly #chain: Uint8Array
  readonly #key: KeyObject
  #own: Acknowledgement | undefined
  /** The latest answer that left, and when, by the steady clock. */
  #last: { readonly answer: AppendResponse; readonly at: number } | undefined
  readonly #newest = new RecentMap<string, Acknowledgement>(maxMembers)

  /** `transportSeed`: of the node's own key file, 32 bytes. */
  constructor(chainId: ChainId, transportSeed: Uint8Array) {
    this.#chain = hexToBytes(chainId)
    const key = hkdfSync('sha256', transportSeed, none, domainBytes('mote/acknowledgement/1'), 32)
    this.#key = createSecretKey(new Uint8Array(key))
  }

  /** The message as it travels. */
  put(message: Message): RaftMessage {
    if (message.type !== 'append-response') return message
    const { success, term, matchIndex } = message
    return { ...message, mac: success && matchIndex > 0 ? this.#macOf(term, matchIndex) : undefined }
  }

  /**
   * An answer that says what the last one said is for the record: it may wait for company, and right after that one it need
   * not leave at all. Raft bears the loss of any message, and each heartbeat is answered anew. Everything else is news.
   * @param at by the steady clock
   * @param repeatAfterMs well below the time between heartbeats
   */
  leaves(message: Message, at: number, repeatAfterMs: number): 'now' | 'soon' | 'never' {
    if (message.type !== 'append-response') return 'now'
    const { answer, at: leftAt } = this.#last ?? {}
    const repeats = answer?.success === true && message.success && saysTheSame(message, answer)
    if (repeats && leftAt !== undefined && at - leftAt < repeatAfterMs) return 'never'
    this.#last = { answer: message, at }
    return repeats ? 'soon' : 'now'
  }

  /** A message has come from a follower. */
  heard(message: RaftMessage): void {
    if (message.type !== 'append-response' || !message.mac) return
    const { from, term, matchIndex: index, mac } = message
    const known = this.#newest.get(from)
    if (!known || isBeyond({ term, index }, known)) this.#newest.set(from, { term, index, mac })
  }

  /** The newest that this peer has acknowledged here, whoever has led since. */
  of(id: DeviceId): Acknowledgement | undefined {
    return this.#newest.get(id)
  }

  /** True if this node has said so itself. */
  isOwn({ term, index, mac }: Acknowledgement): boolean {
    const expected = this.#compute(term, index)
    return mac.length === expected.length && timingSafeEqual(mac, expected)
  }

  #macOf(term: number, index: number): Uint8Array | undefined {
    if (!this.#own || isBeyond({ term, index }, this.#own))
      this.#own = { term, index, mac: this.#compute(term, index) }
    return this.#own.term === term && this.#own.index === index ? this.#own.mac : undefined
  }

  #compute(term: number, index: number): Uint8Array {
    return createHmac('sha256', this.#key)
      .update(this.#chain)
      .update(u64be(term))
      .update(u64be(index))
      .digest()
  }
}

/** To a leader: of both, `success`. */
function saysTheSame(answer: AppendResponse, earlier: AppendResponse): boolean {
  return (
    answer.term === earlier.term &&
    answer.matchIndex === earlier.matchIndex &&
    answer.readContext === earlier.readContext &&
    answer.full === earlier.full
  )
}

type Place = Pick<Acknowledgement, 'term' | 'index'>

function isBeyond(place: Place, known: Place): boolean {
  return place.term > known.term || (place.term === known.term && place.index > known.index)
}
