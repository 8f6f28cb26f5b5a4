/**
 * Up to which block the decisions of each shard have been published, in a file (client/atomic-file.ts).
 *
 * A block is recorded a while after its decisions were given to the broker (`recordAfterMs`): who is killed publishes those of that while once more.
 * Beside a broker that others wrote the while only spares the disk, since the broker goes on. With a broker of one's own it covers what was on its way to
 * clients when both were killed.
 */
import type { ChainId, Height } from '../../chain/brands.ts'
import { type Codec, constant, digest, encode, list, oneOf, struct, uint } from '../../chain/codec.ts'
import { MoteError } from '../../chain/result.ts'
import { type CheckpointStore, checkpointFile } from '../../client/checkpoint-file.ts'
import { type Clock, systemClock } from '../../client/clock.ts'
import { decodeStored } from '../../client/stored-value.ts'
import { allShards, type Shard } from '../protocol/sharded-topics.ts'

interface StoredCursor {
  readonly version: 1
  readonly chainId: ChainId
  readonly marks: readonly { readonly shard: Shard; readonly height: Height }[]
}

const storedCursorCodec: Codec<StoredCursor> = struct<StoredCursor>({
  version: constant(1),
  chainId: digest<ChainId>(),
  marks: list(
    struct<StoredCursor['marks'][number]>({
      shard: oneOf<Shard>(Object.fromEntries(allShards.map((shard, i) => [shard, i]))),
      height: uint<Height>(),
    }),
    allShards.length,
  ),
})

export interface CursorOptions {
  readonly path: string
  /** In place of a file at that path. */
  readonly store?: CheckpointStore
  readonly chainId: ChainId
  /** How long a block is published before it is recorded. */
  readonly recordAfterMs: number
  readonly clock?: Pick<Clock, 'steady'>
}

export class DecisionCursor {
  readonly #options: CursorOptions
  readonly #clock: Pick<Clock, 'steady'>
  readonly #marks: Map<Shard, Height>
  /** Something was passed that is neither on the disk nor on its way there. */
  #isAhead = false
  /** Marks on their way to the disk, and since when. */
  #waiting: { readonly since: number; readonly marks: ReadonlyMap<Shard, Height> } | undefined

  private constructor(options: CursorOptions, marks: Map<Shard, Height>) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#marks = marks
  }

  /** Throws `storage-corrupt`, `storage-failed`, and `wrong-chain` for the file of another chain. */
  static async open(options: CursorOptions): Promise<DecisionCursor> {
    const { path, chainId } = options
    const bytes = await storeOf(options).load()
    if (!bytes) return new DecisionCursor(options, new Map())
    const stored = decodeStored(storedCursorCodec, bytes, path)
    if (stored.chainId !== chainId)
      throw new MoteError('wrong-chain', `${path}: expected chain ${chainId}, got ${stored.chainId}`)
    return new DecisionCursor(options, new Map(stored.marks.map(({ shard, height }) => [shard, height])))
  }

  /** The last block whose decisions were published; undefined where nothing is known. */
  at(shard: Shard): Height | undefined {
    return this.#marks.get(shard)
  }

  /** The broker has everything of these shards up to this block. Never goes back. */
  pass(shards: Iterable<Shard>, height: Height): void {
    for (const shard of shards) {
      if ((this.at(shard) ?? -1) >= height) continue
      this.#marks.set(shard, height)
      this.#isAhead = true
    }
  }

  /** Writes what was passed long enough ago. Throws `storage-failed`. */
  async record(): Promise<void> {
    const now = this.#clock.steady()
    if (!this.#waiting && !this.#isAhead) return
    if (!this.#waiting) {
      this.#waiting = { since: now, marks: new Map(this.#marks) }
      this.#isAhead = false
    }
    const { since, marks } = this.#waiting
    if (now - since < this.#options.recordAfterMs) return
    this.#waiting = undefined
    await this.#write(marks)
  }

  /** Writes everything that was passed: for a program that ends and has given its clients what they were to get. Throws `storage-failed`. */
  async close(): Promise<void> {
    this.#waiting = undefined
    await this.#write(this.#marks)
  }

  async #write(marks: ReadonlyMap<Shard, Height>): Promise<void> {
    const { chainId } = this.#options
    const stored = [...marks].map(([shard, height]) => ({ shard, height }))
    const bytes = encode(storedCursorCodec, { version: 1, chainId, marks: stored })
    await storeOf(this.#options).save(bytes)
  }
}

function storeOf({ path, store = checkpointFile(path) }: CursorOptions): CheckpointStore {
  return store
}
