/**
 * A ledger as a stream of chunks, and back (docs/FORMATS.md, section Snapshot chunks): the certified header first, then
 * leaves, then remembered transaction ids, then an end. The same ledger gives the same chunks, so that a fetch can be
 * resumed at any of them.
 *
 * Chunks are made when they are asked for: the sender's ledger is immutable, so nothing has to be copied or held up.
 * The receiver believes nothing: a snapshot is a ledger only if its parts have the roots that its header names, and if
 * the header is certified by the consenters that the receiver trusts.
 */
import type { Height, StateKey } from '../../chain/brands.ts'
import {
  bytes,
  type Codec,
  constant,
  decode,
  digest,
  encode,
  list,
  struct,
  uint,
  union,
} from '../../chain/codec.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import {
  executionVersion,
  type HistoryFrontier,
  historyFrontierCodec,
  type Ledger,
  restoreLedger,
} from '../../chain/ledger.ts'
import {
  advance,
  type CertifiedHeader,
  certifiedHeaderCodec,
  matchesChanges,
  type TrustedHead,
  throughHandovers,
} from '../../chain/light-client.ts'
import type { StoredSlot } from '../../chain/replay.ts'
import { assertNever, ok, type Result, refuse } from '../../chain/result.ts'
import { entries } from '../../chain/state-tree.ts'
import type { SnapshotMeta } from '../../consensus/types.ts'
import { isPlaceOf } from './compaction.ts'
import { isAtPlaceOf } from './members.ts'

const kibibyte = 1024
/** A chunk is closed once it holds this much; one leaf more fits any frame. */
const chunkBytes = 512 * kibibyte
const maxChunkBytes = 3 * 1024 * kibibyte
const maxItemsPerChunk = 65_536
/** A receiver that lacks more changes of the consenters than this needs a newer start. */
export const maxHandovers = 512

interface Leaf {
  readonly key: StateKey
  readonly value: Uint8Array
}

type Chunk =
  | {
      readonly type: 'head'
      readonly version: 1
      readonly head: CertifiedHeader
      readonly historyFrontier: HistoryFrontier
      /** Changes of the consenters that lead to the head, the newest last. */
      readonly handovers: readonly CertifiedHeader[]
    }
  | { readonly type: 'leaves'; readonly leaves: readonly Leaf[] }
  | { readonly type: 'replay'; readonly slots: readonly StoredSlot[] }
  | { readonly type: 'end' }

const chunkCodec: Codec<Chunk> = union<Chunk>({
  head: [
    1,
    struct({
      version: constant(1),
      head: certifiedHeaderCodec,
      historyFrontier: historyFrontierCodec,
      handovers: list(certifiedHeaderCodec, maxHandovers),
    }),
  ],
  leaves: [
    2,
    struct({
      leaves: list(
        struct<Leaf>({ key: digest<StateKey>(), value: bytes(0, maxChunkBytes) }),
        maxItemsPerChunk,
        1,
      ),
    }),
  ],
  replay: [
    3,
    struct({
      slots: list(struct<StoredSlot>({ slot: uint(), ids: bytes(0, maxChunkBytes) }), maxItemsPerChunk, 1),
    }),
  ],
  end: [4, struct({})],
})

/** A ledger at a certified height, with what proves that it is certified. */
export interface CertifiedLedger {
  readonly ledger: Ledger
  readonly head: CertifiedHeader
  /** Changes of the consenters up to the head, the newest last: all for a sender, the verified ones for a receiver. */
  readonly handovers: readonly CertifiedHeader[]
}

/** The chunks of one ledger for one receiver, mostly asked for in order. */
export class SnapshotStream {
  readonly #source: CertifiedLedger
  #chunks: Generator<Uint8Array>
  #next = 0
  #last: Uint8Array | undefined

  constructor(source: CertifiedLedger) {
    this.#source = source
    this.#chunks = chunksOf(source)
  }

  /** Chunk number `index`, from 0; undefined past the end. */
  chunk(index: number): Uint8Array | undefined {
    if (index < this.#next - 1) {
      this.#chunks = chunksOf(this.#source)
      this.#next = 0
    }
    while (this.#next <= index) {
      const next = this.#chunks.next()
      if (next.done) return undefined
      this.#last = next.value
      this.#next++
    }
    return this.#last
  }
}

function* chunksOf({ ledger, head, handovers }: CertifiedLedger): Generator<Uint8Array> {
  yield encode(chunkCodec, { type: 'head', version: 1, head, historyFrontier: ledger.history, handovers })
  for (const leaves of gathered(leavesOf(ledger), ({ value }) => value.length))
    yield encode(chunkCodec, { type: 'leaves', leaves })
  for (const slots of gathered(pieces(ledger.replay.stored()), ({ ids }) => ids.length))
    yield encode(chunkCodec, { type: 'replay', slots })
  yield encode(chunkCodec, { type: 'end' })
}

function* leavesOf({ tree }: Ledger): Generator<Leaf> {
  for (const [key, value] of entries(tree)) yield { key, value }
}

/** Slots in pieces that fit a chunk; an id is 32 bytes, and so divides one. */
function* pieces(slots: readonly StoredSlot[]): Generator<StoredSlot> {
  for (const { slot, ids } of slots)
    for (let offset = 0; offset < ids.length; offset += chunkBytes)
      yield { slot, ids: ids.subarray(offset, offset + chunkBytes) }
}

const itemOverheadBytes = 48

function* gathered<T>(items: Iterable<T>, bytesOf: (item: T) => number): Generator<T[]> {
  let chunk: T[] = []
  let size = 0
  for (const item of items) {
    chunk.push(item)
    size += bytesOf(item) + itemOverheadBytes
    if (size < chunkBytes && chunk.length < maxItemsPerChunk) continue
    yield chunk
    chunk = []
    size = 0
  }
  if (chunk.length > 0) yield chunk
}

/** What a receiver judges a snapshot by. */
export interface SnapshotJudge {
  /** The height of its own newest ledger: a snapshot must be ahead of it. */
  readonly height: Height
  /** Where in the log the snapshot is said to stand: what its receiver then acknowledges. */
  readonly place: SnapshotMeta
  /** Its newest certified head: whatever is above has to prove itself, handovers that it has executed included. */
  readonly trusted: TrustedHead
  readonly verifier: SignatureVerifier
  readonly maxBytes: number
}

type HeadChunk = Extract<Chunk, { type: 'head' }>

/** Chunks in order, put together. */
export class SnapshotAssembly {
  readonly #judge: SnapshotJudge
  readonly #leaves = new Map<StateKey, Uint8Array>()
  readonly #slots: StoredSlot[] = []
  #head: HeadChunk | undefined
  /** Verified, ascending. */
  #handovers: readonly CertifiedHeader[] = []
  #bytes = 0

  constructor(judge: SnapshotJudge) {
    this.#judge = judge
  }

  /** Takes the next chunk. Refuses what no honest sender sends; `end` says that it was the last one. */
  add(bytes: Uint8Array): Result<'more' | 'end'> {
    this.#bytes += bytes.length
    const { maxBytes } = this.#judge
    if (this.#bytes > maxBytes) return refuse('too-large', `snapshot: expected at most ${maxBytes} bytes`)
    const decoded = decode(chunkCodec, bytes, maxChunkBytes)
    if (!decoded.ok) return decoded
    const chunk = decoded.value
    if ((chunk.type === 'head') !== (this.#head === undefined))
      return refuse('malformed', 'snapshot: expected one head, first')
    switch (chunk.type) {
      case 'head': {
        const certified = checkHead(chunk, this.#judge)
        if (!certified.ok) return certified
        this.#head = chunk
        this.#handovers = certified.value
        return ok('more')
      }
      case 'leaves':
        for (const { key, value } of chunk.leaves) this.#leaves.set(key, value)
        return ok('more')
      case 'replay':
        for (const slot of chunk.slots) this.#slots.push(slot)
        return ok('more')
      case 'end':
        return ok('end')
      default:
        return assertNever(chunk)
    }
  }

  /**
   * The ledger, after `end`. Refuses `storage-corrupt` when a part does not have the root in the certified header, and
   * `bad-header` when the members that came with the offer are not those of its state.
   */
  finish(): Result<CertifiedLedger> {
    const chunk = this.#head
    if (!chunk) return refuse('malformed', 'snapshot: no head')
    const { head, historyFrontier } = chunk
    const ledger = restoreLedger({
      header: head.header,
      leaves: this.#leaves,
      replay: this.#slots,
      historyFrontier,
    })
    if (!ledger.ok) return ledger
    if (!isAtPlaceOf(this.#judge.place.configuration, ledger.value.parameters.consenters))
      return refuse('bad-header', 'snapshot: expected the consenters of its state among the voters')
    return ok({ ledger: ledger.value, head, handovers: this.#handovers })
  }
}

/** The header is ahead of the receiver, and certified by the consenters it trusts or by those that took over from them. */
function checkHead(
  { head, handovers }: HeadChunk,
  { height, place, trusted, verifier }: SnapshotJudge,
): Result<readonly CertifiedHeader[]> {
  const { header, certificate, changes } = head
  const { chainId, incarnation } = trusted
  if (header.chainId !== chainId)
    return refuse('wrong-chain', `snapshot: expected chain ${chainId}, got ${header.chainId}`)
  if (header.incarnation !== incarnation || header.height <= height)
    return refuse('bad-header', `snapshot: expected a height above ${height}, got ${header.height}`)
  if (!isPlaceOf(place, header))
    return refuse(
      'bad-header',
      `snapshot: expected entry ${place.lastIncludedIndex} of term ${place.lastIncludedTerm}, got ${header.index} of ${header.term}`,
    )
  if (header.executionVersion !== executionVersion)
    return refuse('unknown-version', `snapshot: expected execution version ${executionVersion}`)
  if (!matchesChanges(header, changes))
    return refuse('bad-header', 'snapshot: expected the changed keys that the header names')
  if (!certificate) return refuse('bad-certificate', 'snapshot: expected a certificate for its header')
  // Handovers at or below the trusted head are dropped: the checks that follow do not cover them.
  const above = handovers.filter(
    ({ header: { height: at } }) => at > trusted.header.height && at < header.height,
  )
  const through = throughHandovers(trusted, above, header.height, verifier)
  if (!through.ok) return through
  const advanced = advance(through.value, header, certificate, verifier, head.handover)
  return advanced.ok ? ok(head.handover ? [...above, head] : above) : advanced
}
