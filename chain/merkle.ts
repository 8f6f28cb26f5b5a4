/**
 * Merkle trees of RFC 6962 (section 2.1): over the transactions and receipts of a block, and, growing, over all
 * earlier header hashes.
 *
 *   leaf    SHA-256(0x00 ‖ data)        branch  SHA-256(0x01 ‖ left ‖ right)        empty  SHA-256()
 *
 * `HistoryTree` keeps only the roots of the perfect subtrees that make up the tree (the RFC's frontier): log n hashes
 * however long the chain is. Immutable; appending gives a new tree.
 */
import { sha256 } from '@noble/hashes/sha2.js'
import type { Hash } from './brands.ts'
import { hasherFor } from './hashing.ts'
import { bytesToHex, hexToBytes } from './hex.ts'

/** Root of the tree without leaves: SHA-256 of nothing. */
export const emptyMerkleRoot = bytesToHex(sha256(new Uint8Array(0))) as Hash

/** Hash of a leaf from its data. */
export const merkleLeaf: (data: Uint8Array) => Uint8Array = hasherFor(Uint8Array.of(0))

const branch: (left: Uint8Array, right: Uint8Array) => Uint8Array = hasherFor(Uint8Array.of(1))

/** Root over the data of `leaves`, in order. */
export function merkleRoot(leaves: readonly Uint8Array[]): Hash {
  let level = leaves.map(leaf => merkleLeaf(leaf))
  if (level.length === 0) return emptyMerkleRoot
  // Pairing from the left and carrying an odd last node up gives the RFC's shape.
  while (level.length > 1) {
    const next: Uint8Array[] = []
    for (let i = 0; i + 1 < level.length; i += 2)
      next.push(branch(level[i] as Uint8Array, level[i + 1] as Uint8Array))
    if (level.length % 2 === 1) next.push(level.at(-1) as Uint8Array)
    level = next
  }
  return bytesToHex(level[0] as Uint8Array) as Hash
}

/** A growing RFC 6962 tree, reduced to what is needed to append and to know its root. Immutable. */
export class HistoryTree {
  static readonly empty: HistoryTree = new HistoryTree(0, [])

  readonly size: number
  /** Roots of the perfect subtrees, the largest first: one for each set bit of `size`. */
  readonly peaks: readonly Hash[]

  constructor(size: number, peaks: readonly Hash[]) {
    this.size = size
    this.peaks = peaks
  }

  /** The tree with one more leaf: `data` is a header hash, 32 bytes. */
  append(data: Uint8Array): HistoryTree {
    const peaks = [...this.peaks]
    let hash = merkleLeaf(data)
    for (let index = this.size; index % 2 === 1; index = (index - 1) / 2)
      hash = branch(hexToBytes(peaks.pop() as Hash), hash)
    peaks.push(bytesToHex(hash) as Hash)
    return new HistoryTree(this.size + 1, peaks)
  }

  root(): Hash {
    if (this.size === 0) return emptyMerkleRoot
    const [last, ...rest] = [...this.peaks].reverse().map(peak => hexToBytes(peak))
    return bytesToHex(rest.reduce((right, left) => branch(left, right), last as Uint8Array)) as Hash
  }
}
