/**
 * Merkle trees of RFC 6962 (section 2.1): over the transactions and receipts of a block, and, growing, over all
 * earlier header hashes, so that an old header is proven in log n.
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

/** The largest power of two below `size`; `size` is at least 2. */
function splitOf(size: number): number {
  let k = 1
  while (k * 2 < size) k *= 2
  return k
}

/** Root over the data of `leaves`, in order. */
export function merkleRoot(leaves: readonly Uint8Array[]): Hash {
  return merkleRootOfHashes(leaves.map(leaf => merkleLeaf(leaf)))
}

/** The same over the hashes of the leaves, 32 bytes each (`merkleLeaf`). */
export function merkleRootOfHashes(hashes: readonly Uint8Array[]): Hash {
  let level = hashes
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

/** That a leaf stands at `index` of a tree of `size` leaves: the siblings from the leaf up (RFC 6962, 2.1.1). */
export interface MerkleProof {
  readonly index: number
  readonly size: number
  readonly path: readonly Hash[]
}

/** Hash of the perfect subtree whose leaves are [index·2^level, (index+1)·2^level). */
export type PerfectNode = (level: number, index: number) => Uint8Array

function rangeRoot(node: PerfectNode, start: number, size: number): Uint8Array {
  const level = Math.log2(size)
  if (Number.isInteger(level)) return node(level, start / size)
  const k = splitOf(size)
  return branch(rangeRoot(node, start, k), rangeRoot(node, start + k, size - k))
}

/**
 * The proof for leaf `index` of the first `size` leaves, from stored hashes of perfect subtrees.
 * @public docs/FORMATS.md promises these proofs
 */
export function proveMerkle(node: PerfectNode, index: number, size: number): MerkleProof {
  const path: Hash[] = []
  let start = 0
  let length = size
  while (length > 1) {
    const k = splitOf(length)
    if (index < start + k) {
      path.unshift(bytesToHex(rangeRoot(node, start + k, length - k)) as Hash)
      length = k
    } else {
      path.unshift(bytesToHex(rangeRoot(node, start, k)) as Hash)
      start += k
      length -= k
    }
  }
  return { index, size, path }
}

/**
 * The hashes of perfect subtrees over leaves held in memory, for `proveMerkle`; computed when asked for.
 * @public docs/FORMATS.md promises these proofs
 */
export function perfectNodesOf(leaves: readonly Uint8Array[]): PerfectNode {
  return perfectNodesOver(leaves.map(leaf => merkleLeaf(leaf)))
}

/** The same over the hashes of the leaves. */
export function perfectNodesOver(hashes: readonly Uint8Array[]): PerfectNode {
  const node: PerfectNode = (level, index) =>
    level === 0
      ? (hashes[index] as Uint8Array)
      : branch(node(level - 1, index * 2), node(level - 1, index * 2 + 1))
  return node
}

/** True if `proof` shows `leaf` at its index under `root` (RFC 9162, 2.1.3.2). */
export function verifyMerkleProof(root: Hash, leaf: Uint8Array, proof: MerkleProof): boolean {
  const { index, size, path } = proof
  if (!Number.isSafeInteger(index) || !Number.isSafeInteger(size) || index < 0 || index >= size) return false
  let position = index
  let last = size - 1
  let hash = merkleLeaf(leaf)
  for (const sibling of path) {
    if (last === 0) return false
    if (position % 2 === 1 || position === last) {
      hash = branch(hexToBytes(sibling), hash)
      while (position % 2 === 0 && position !== 0) {
        position /= 2
        last = Math.floor(last / 2)
      }
    } else {
      hash = branch(hash, hexToBytes(sibling))
    }
    position = Math.floor(position / 2)
    last = Math.floor(last / 2)
  }
  return last === 0 && bytesToHex(hash) === root
}

/** A perfect subtree that an append completed, for whoever stores them. */
export interface CompletedNode {
  readonly level: number
  readonly index: number
  readonly hash: Hash
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

  /**
   * The tree with one more leaf, and the perfect subtrees that this leaf completed (itself first).
   * @public docs/FORMATS.md promises these proofs
   */
  appendWithNodes(data: Uint8Array): {
    readonly tree: HistoryTree
    readonly completed: readonly CompletedNode[]
  } {
    const peaks = [...this.peaks]
    let hash = merkleLeaf(data)
    let index = this.size
    let level = 0
    const completed: CompletedNode[] = [{ level, index, hash: bytesToHex(hash) as Hash }]
    while (index % 2 === 1) {
      hash = branch(hexToBytes(peaks.pop() as Hash), hash)
      index = (index - 1) / 2
      level++
      completed.push({ level, index, hash: bytesToHex(hash) as Hash })
    }
    peaks.push(bytesToHex(hash) as Hash)
    return { tree: new HistoryTree(this.size + 1, peaks), completed }
  }

  /** The tree with one more leaf: `data` is a header hash, 32 bytes. */
  append(data: Uint8Array): HistoryTree {
    return this.appendWithNodes(data).tree
  }

  root(): Hash {
    if (this.size === 0) return emptyMerkleRoot
    const [last, ...rest] = [...this.peaks].reverse().map(peak => hexToBytes(peak))
    return bytesToHex(rest.reduce((right, left) => branch(left, right), last as Uint8Array)) as Hash
  }

  /**
   * The proof for leaf `index` of this tree, from stored hashes of perfect subtrees.
   * @public docs/FORMATS.md promises these proofs
   */
  prove(index: number, node: PerfectNode): MerkleProof {
    return proveMerkle(node, index, this.size)
  }
}
