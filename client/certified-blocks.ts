/**
 * Blocks up to the head of a follower, and what became of the transactions in them: for who acts on every block.
 *
 * A header below a trusted one is trusted when the one above names its hash, so this goes down from the head, link by link, and needs no
 * certificate and no handover. What the follower has walked over lately is in memory; the rest is asked for page by page.
 *
 * Of a block that wrote no leaf only the header is read: nothing that leaves a trace happened in it. Of another one the receipts are, which
 * the root in its header proves.
 */
import { type Receipt, receiptCodec } from '../chain/block.ts'
import { type Hash, Height, type Milliseconds } from '../chain/brands.ts'
import { encode } from '../chain/codec.ts'
import { changesHash, type Header, headerHash } from '../chain/header.ts'
import type { CertifiedHeader } from '../chain/light-client.ts'
import { merkleRoot } from '../chain/merkle.ts'
import { RecentMap } from '../chain/recent-map.ts'
import { MoteError } from '../chain/result.ts'
import { type ChainSource, maxHeadersPerAnswer, type SourcePool } from './chain-source.ts'
import type { HeaderFollower } from './header-follower.ts'

/** A block under a trusted header. */
export interface BlockReference {
  readonly height: Height
  readonly time: Milliseconds
  readonly receiptsRoot: Hash
}

/** Those that were asked for, ascending, without blocks that wrote nothing; and the head that was gone down from. */
export interface BlockRange {
  readonly blocks: readonly BlockReference[]
  readonly head: Height
}

interface Link extends BlockReference {
  readonly previousHash: Hash
  readonly isQuiet: boolean
}

/** Headers in memory below the head. */
const maxRecentHeaders = 1024
/** Blocks whose receipts are kept at least; twice as many at most. */
const maxKnownReceipts = 4
/** Headers that are gone down over at once: some 200 bytes each are kept. What is older counts as out of reach. */
export const maxBlocksBack = 131_072

export class CertifiedBlocks {
  readonly #follower: HeaderFollower
  readonly #pool: SourcePool
  readonly #stop: () => void
  /** Consecutive, ascending, up to the head. */
  #recent: Link[]
  readonly #receipts = new RecentMap<Hash, readonly Receipt[]>(maxKnownReceipts)
  /** What is being asked for: one question for all who want it. */
  readonly #asking = new Map<Hash, Promise<readonly Receipt[]>>()

  constructor(follower: HeaderFollower, pool: SourcePool) {
    this.#follower = follower
    this.#pool = pool
    this.#recent = [linkOf(follower.head.header)]
    this.#stop = follower.onAdvance(event => {
      if (event.type === 'skipped') this.#recent = [linkOf(event.head.header)]
      else this.#recent.push(...event.headers.map(({ header }) => linkOf(header)))
      this.#recent = this.#recent.slice(-maxRecentHeaders)
    })
  }

  get head(): Height {
    return this.#follower.head.header.height
  }

  /** Calls `listener` after each advance of the head. */
  onAdvance(listener: () => void): () => void {
    return this.#follower.onAdvance(listener)
  }

  /** The blocks above a height, from a time on: `maxBlocksBack` at most, the newest. Throws `MoteError` when no source serves their headers. */
  async above(height: number, since: Milliseconds): Promise<BlockRange> {
    let links: readonly Link[] = [...this.#recent]
    const { height: head } = links.at(-1) as Link
    while (links.length < maxBlocksBack) {
      const lowest = links[0] as Link
      if (lowest.height - 1 <= height || lowest.time < since) break
      links = [...(await this.#below(lowest, height + 1)), ...links]
    }
    const wanted = links.filter(link => link.height > height && link.time >= since && !link.isQuiet)
    return { head, blocks: wanted }
  }

  /** The block at a height, also one that wrote nothing, if it is in memory. */
  recent(height: Height): BlockReference | undefined {
    return this.#recent[height - (this.#recent[0] as Link).height]
  }

  /** What became of the transactions of a block. Throws `bad-proof` for receipts that are not its own, `height-not-available`. */
  receipts(block: BlockReference): Promise<readonly Receipt[]> {
    const known = this.#asking.get(block.receiptsRoot)
    if (known) return known
    const asking = this.#pool
      .attempt(source => this.receiptsFrom(source, block))
      .finally(() => this.#asking.delete(block.receiptsRoot))
    this.#asking.set(block.receiptsRoot, asking)
    return asking
  }

  /** The same from one source, unless they are known: what does not prove itself costs it. */
  async receiptsFrom(
    source: ChainSource,
    { height, receiptsRoot }: BlockReference,
  ): Promise<readonly Receipt[]> {
    const known = this.#receipts.get(receiptsRoot)
    if (known) return known
    const receipts = await source.receipts(height)
    const leaves = receipts.map(receipt => encode(receiptCodec, receipt))
    if (merkleRoot(leaves) !== receiptsRoot)
      throw new MoteError('bad-proof', `${source.name}: receipts of block ${height}: not those of the header`)
    this.#receipts.set(receiptsRoot, receipts)
    return receipts
  }

  close(): void {
    this.#stop()
  }

  /** The links right below one, down to `lowest` at most. */
  #below(above: Link, lowest: number): Promise<readonly Link[]> {
    const from = Math.max(lowest, above.height - maxHeadersPerAnswer)
    return this.#pool.attempt(async source => {
      const headers = await headersBetween(source, from, above.height - 1)
      const links: Link[] = []
      let { previousHash } = above
      for (const header of headers.toReversed()) {
        if (headerHash(header) !== previousHash)
          throw new MoteError('bad-header', `${source.name}: header ${header.height}: not the one below`)
        links.push(linkOf(header))
        previousHash = header.previousHash
      }
      return links.reverse()
    })
  }
}

/** One from each height; a source may cut its answers (chain-source.ts). */
async function headersBetween(source: ChainSource, from: number, to: number): Promise<readonly Header[]> {
  const headers: Header[] = []
  while (from + headers.length <= to) {
    const next = from + headers.length
    const page: readonly CertifiedHeader[] = await source.headersFrom(Height(next), to - next + 1)
    if (page.length === 0) throw new MoteError('stale', `${source.name}: lacks the headers from ${next} on`)
    headers.push(...page.slice(0, to - next + 1).map(({ header }) => header))
  }
  return headers
}

const nothingChanged = changesHash([])

function linkOf({ height, time, receiptsRoot, previousHash, changesHash: changes }: Header): Link {
  return { height, time, receiptsRoot, previousHash, isQuiet: changes === nothingChanged }
}
