/**
 * Replay protection: the ids of executed transactions whose expiry lies ahead, by expiry slot of one second
 * (docs/decisions/0002-replay-slots.md).
 *
 * An id is remembered from its execution until block time has passed its slot; before, it is a duplicate, and after, its
 * expiry refuses it. `replayRoot` covers, per slot in order, the number of ids and a running digest of them in order of
 * execution, so that a node that restores the ids from storage or a snapshot can check them against a certified header.
 *
 * Values are immutable. Successive versions of a slot share one growing map of ids; a version knows those below its own
 * count. A version that is not the newest copies the map when it grows, so an old ledger can be executed upon again.
 */
import { concatBytes } from '@noble/hashes/utils.js'
import type { Hash, Milliseconds, TransactionId } from './brands.ts'
import { hashHex, hashOf, u64be } from './hashing.ts'
import { bytesToHex, hexToBytes } from './hex.ts'
import { assert, ok, type Result, refuse } from './result.ts'

interface Slot {
  /** Id to its place in the order of execution. Shared by versions; only places below `count` are this version's. */
  readonly ids: Map<TransactionId, number>
  readonly count: number
  /** hash('mote/replay-slot/1', digest of the ids before ‖ id), beginning with 32 zero bytes. */
  readonly digest: Uint8Array
  /** What `replayRoot` covers, made once, since most slots stay as they are from block to block; undefined until then. */
  hashed: Uint8Array | undefined
}

/** Ids of one slot in order of execution, 32 bytes each: what a node stores. */
export interface StoredSlot {
  readonly slot: number
  readonly ids: Uint8Array
}

const idBytes = 32
const noIds = new Uint8Array(idBytes)

/** The slot of an expiry: whole seconds. */
export function slotOf(expiry: Milliseconds): number {
  return Math.floor(expiry / 1000)
}

/** The ids remembered after some block. Immutable. */
export class ReplaySlots {
  static readonly empty: ReplaySlots = new ReplaySlots(new Map())

  /** Ascending. */
  readonly slots: ReadonlyMap<number, Slot>
  /** Ids in all slots. */
  readonly count: number
  readonly root: Hash

  constructor(slots: ReadonlyMap<number, Slot>) {
    this.slots = isAscending(slots.keys()) ? slots : new Map([...slots].sort(([a], [b]) => a - b))
    this.count = countOf(this.slots)
    this.root = rootOf(this.slots)
  }

  has(id: TransactionId, expiry: Milliseconds): boolean {
    return slotHas(this.slots.get(slotOf(expiry)), id)
  }

  /** Every slot with its ids, in order. */
  stored(): StoredSlot[] {
    return [...this.slots].map(([slot, { ids, count }]) => ({
      slot,
      ids: concatBytes(...[...ids.keys()].slice(0, count).map(id => hexToBytes(id))),
    }))
  }
}

/**
 * The slots that `stored` describes; one slot may come in several pieces, in order. Added to `base`, if it is given, as by
 * a block at `time`. Refuses `malformed` for pieces that are not whole ids or repeat one. The caller compares `root` with its header.
 */
export function restoreReplay(
  stored: Iterable<StoredSlot>,
  base: { readonly slots: ReplaySlots; readonly time: Milliseconds } | undefined = undefined,
): Result<ReplaySlots> {
  const floor = base ? slotOf(base.time) : 0
  const slots = new Map<number, Slot>([...(base?.slots.slots ?? [])].filter(([slot]) => slot >= floor))
  for (const { slot, ids } of stored) {
    if (!Number.isSafeInteger(slot) || slot < 0 || ids.length % idBytes !== 0)
      return refuse('malformed', `replay slot ${slot}: expected whole ids, got ${ids.length} bytes`)
    for (let offset = 0; offset < ids.length; offset += idBytes) {
      const id = bytesToHex(ids.subarray(offset, offset + idBytes)) as TransactionId
      const found = slots.get(slot)
      if (slotHas(found, id)) return refuse('malformed', `replay slot ${slot}: ${id} comes twice`)
      slots.set(slot, grown(found, id))
    }
  }
  return ok(new ReplaySlots(slots))
}

/** The slots while one block executes at `time`: those that are over are gone, and ids may be added. */
export class ReplayDraft {
  readonly #slots: Map<number, Slot>
  readonly #added = new Map<number, Uint8Array[]>()
  readonly #base: ReplaySlots
  #count: number
  /** Slots below this one are over. */
  readonly floor: number

  constructor(base: ReplaySlots, time: Milliseconds) {
    this.#base = base
    this.floor = slotOf(time)
    this.#slots = new Map(base.slots)
    for (const slot of base.slots.keys()) if (slot < this.floor) this.#slots.delete(slot)
    this.#count = countOf(this.#slots)
  }

  get count(): number {
    return this.#count
  }

  has(id: TransactionId, expiry: Milliseconds): boolean {
    return slotHas(this.#slots.get(slotOf(expiry)), id)
  }

  /** Remembers an id that is not there yet. */
  add(id: TransactionId, expiry: Milliseconds): void {
    assert(!this.has(id, expiry), `replay: ${id} is remembered already`)
    const slot = slotOf(expiry)
    this.#slots.set(slot, grown(this.#slots.get(slot), id))
    this.#count++
    const added = this.#added.get(slot)
    if (added) added.push(hexToBytes(id))
    else this.#added.set(slot, [hexToBytes(id)])
  }

  /** The ids added, by slot, 32 bytes each in order of execution. */
  added(): ReadonlyMap<number, Uint8Array> {
    return new Map([...this.#added].map(([slot, ids]) => [slot, concatBytes(...ids)]))
  }

  finish(): ReplaySlots {
    const unchanged = this.#added.size === 0 && this.#slots.size === this.#base.slots.size
    return unchanged ? this.#base : new ReplaySlots(this.#slots)
  }
}

function slotHas(slot: Slot | undefined, id: TransactionId): boolean {
  const place = slot?.ids.get(id)
  return slot !== undefined && place !== undefined && place < slot.count
}

function grown(slot: Slot | undefined, id: TransactionId): Slot {
  const before = slot ?? { ids: new Map<TransactionId, number>(), count: 0, digest: noIds }
  const ids = before.ids.size === before.count ? before.ids : new Map([...before.ids].slice(0, before.count))
  ids.set(id, before.count)
  const count = before.count + 1
  const digest = hashOf('mote/replay-slot/1', before.digest, hexToBytes(id))
  return { ids, count, digest, hashed: undefined }
}

function countOf(slots: ReadonlyMap<number, Slot>): number {
  let count = 0
  for (const slot of slots.values()) count += slot.count
  return count
}

function isAscending(numbers: Iterable<number>): boolean {
  let last = Number.NEGATIVE_INFINITY
  for (const number of numbers) {
    if (number < last) return false
    last = number
  }
  return true
}

/** hash('mote/replay/1', for each slot in order: u64be slot ‖ u64be count ‖ digest). */
function rootOf(slots: ReadonlyMap<number, Slot>): Hash {
  return hashHex('mote/replay/1', ...Array.from(slots, ([number, slot]) => hashedOf(number, slot)))
}

function hashedOf(number: number, slot: Slot): Uint8Array {
  slot.hashed ??= concatBytes(u64be(number), u64be(slot.count), slot.digest)
  return slot.hashed
}
