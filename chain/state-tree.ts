/**
 * The state: a compact binary sparse Merkle tree over SHA-256, persistent (an update shares every node it does not
 * touch, so each block keeps its own tree for the price of what it wrote).
 *
 * A tree is empty, a leaf, or a branch. The path of a key is its bits, most significant first. A subtree with one
 * leaf is that leaf, wherever it hangs; so the shape, and with it the root, follow from the set of (key, value)
 * alone and not from its history (docs/FORMATS.md, "State tree").
 *
 *   empty   32 zero bytes
 *   leaf    hash('mote/state-leaf/1', key ‖ hash('mote/state-value/1', value))
 *   branch  hash('mote/state-branch/1', left ‖ right)
 *
 * A proof lists the non-empty siblings from the root down and says which levels have one. It ends at the leaf of
 * the key (inclusion), or at an empty place or another key's leaf (absence). Exactly one proof verifies for a key
 * and a root: no byte of it can be changed.
 */
import { concatBytes } from '@noble/hashes/utils.js'
import type { Hash, HashText, StateKey } from './brands.ts'
import { bytes, type Codec, digest, equalBytes, optional, struct, uint } from './codec.ts'
import { FixedHasher, hashOf, hashText, hashTextBytes, writeHashText } from './hashing.ts'
import { bytesToHex, hexToBytes, writeHex } from './hex.ts'
import { assert } from './result.ts'

interface Leaf {
  readonly kind: 'leaf'
  readonly key: StateKey
  readonly value: Uint8Array
  readonly hash: HashText
}

interface Branch {
  readonly kind: 'branch'
  readonly left: Node | undefined
  readonly right: Node | undefined
  readonly hash: HashText
}

type Node = Leaf | Branch

/** A state. Immutable. */
export interface StateTree {
  readonly root: Node | undefined
  /** Number of leaves. */
  readonly size: number
}

/** What a block does to the state: a value to put at a key, or null to remove the key. */
export type StateWrites = ReadonlyMap<StateKey, Uint8Array | null>

export interface StateProof {
  /** Levels from the root to where the path ends: 0 to 256. */
  readonly depth: number
  /** One bit a level, most significant first: whether the sibling there is not empty. Unused bits are zero. */
  readonly present: Uint8Array
  /** The hashes of the non-empty siblings, from the root down, 32 bytes each. */
  readonly siblings: Uint8Array
  /** In a proof of absence: the leaf of another key that stands where the key would. */
  readonly other: { readonly key: StateKey; readonly valueHash: Hash } | undefined
}

export const stateProofCodec: Codec<StateProof> = struct({
  depth: uint(256),
  present: bytes(0, 32),
  siblings: bytes(0, 256 * 32),
  other: optional(struct({ key: digest<StateKey>(), valueHash: digest<Hash>() })),
})

const emptyHash: HashText = hashText(new Uint8Array(32))

/** The state without any leaf. Its root is 32 zero bytes. */
export const emptyTree: StateTree = { root: undefined, size: 0 }

function bitAt(key: StateKey, depth: number): 0 | 1 {
  const code = key.charCodeAt(depth >> 2)
  const nibble = code < 58 ? code - 48 : code - 87
  return ((nibble >> (3 - (depth & 3))) & 1) as 0 | 1
}

const leafHasher = new FixedHasher('mote/state-leaf/1', 64)
const branchHasher = new FixedHasher('mote/state-branch/1', 64)

function leafHash(key: StateKey, valueHash: Uint8Array): HashText {
  writeHex(key, leafHasher.input, 0)
  leafHasher.input.set(valueHash, 32)
  return leafHasher.hash()
}

function branchHash(left: HashText, right: HashText): HashText {
  writeHashText(left, branchHasher.input, 0)
  writeHashText(right, branchHasher.input, 32)
  return branchHasher.hash()
}

function valueHashOf(value: Uint8Array): Uint8Array {
  return hashOf('mote/state-value/1', value)
}

function leaf(key: StateKey, value: Uint8Array): Leaf {
  return { kind: 'leaf', key, value, hash: leafHash(key, valueHashOf(value)) }
}

function hashOfNode(node: Node | undefined): HashText {
  return node ? node.hash : emptyHash
}

/** The subtree of two children; a lone leaf moves up. */
function join(left: Node | undefined, right: Node | undefined): Node | undefined {
  if (!left && (!right || right.kind === 'leaf')) return right
  if (!right && left?.kind === 'leaf') return left
  return { kind: 'branch', left, right, hash: branchHash(hashOfNode(left), hashOfNode(right)) }
}

type Write = readonly [key: StateKey, value: Uint8Array | null]

/** First index in [from, to) whose key has bit 1 at `depth`; the keys are sorted and agree before it. */
function split(keys: readonly (readonly [StateKey, unknown])[], from: number, to: number, depth: number) {
  let low = from
  let high = to
  while (low < high) {
    const middle = (low + high) >> 1
    if (bitAt((keys[middle] as Write)[0], depth) === 0) low = middle + 1
    else high = middle
  }
  return low
}

function build(
  leaves: readonly (readonly [StateKey, Leaf])[],
  from: number,
  to: number,
  depth: number,
): Node | undefined {
  if (from === to) return undefined
  if (to - from === 1) return leaves[from]?.[1]
  const middle = split(leaves, from, to, depth)
  return join(build(leaves, from, middle, depth + 1), build(leaves, middle, to, depth + 1))
}

/** The subtree that `writes[from, to)` make where one leaf or nothing was. */
function grow(
  old: Leaf | undefined,
  writes: readonly Write[],
  from: number,
  to: number,
  depth: number,
): Node | undefined {
  const leaves: [StateKey, Leaf][] = []
  let kept = old
  for (let i = from; i < to; i++) {
    const [key, value] = writes[i] as Write
    if (kept && kept.key < key) {
      leaves.push([kept.key, kept])
      kept = undefined
    }
    const same = kept?.key === key ? kept : undefined
    if (same) kept = undefined
    if (value) leaves.push([key, same && equalBytes(same.value, value) ? same : leaf(key, value)])
  }
  if (kept) leaves.push([kept.key, kept])
  return build(leaves, 0, leaves.length, depth)
}

function apply(
  node: Node | undefined,
  writes: readonly Write[],
  from: number,
  to: number,
  depth: number,
): Node | undefined {
  if (from === to) return node
  if (!node || node.kind === 'leaf') return grow(node, writes, from, to, depth)
  const middle = split(writes, from, to, depth)
  const left = apply(node.left, writes, from, middle, depth + 1)
  const right = apply(node.right, writes, middle, to, depth + 1)
  return left === node.left && right === node.right ? node : join(left, right)
}

/** The tree after `writes`, in any order. `tree` stays as it was. Values are kept by reference: do not change them. */
export function update(tree: StateTree, writes: StateWrites): StateTree {
  const sorted: Write[] = [...writes].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
  let size = tree.size
  for (const [key, value] of sorted) {
    const had = get(tree, key) !== undefined
    if (value && !had) size++
    if (!value && had) size--
  }
  return { root: apply(tree.root, sorted, 0, sorted.length, 0), size }
}

function hexOf(hash: HashText): Hash {
  return bytesToHex(hashTextBytes(hash)) as Hash
}

/** The root hash: 64 hexadecimal characters. */
export function rootOf(tree: StateTree): Hash {
  return hexOf(hashOfNode(tree.root))
}

/** The value at `key`. */
export function get(tree: StateTree, key: StateKey): Uint8Array | undefined {
  let node = tree.root
  for (let depth = 0; node?.kind === 'branch'; depth++) node = bitAt(key, depth) ? node.right : node.left
  return node?.key === key ? node.value : undefined
}

/** The leaves in the order of their keys; only those above `after`, if given. */
export function* entries(tree: StateTree, after?: StateKey): Generator<readonly [StateKey, Uint8Array]> {
  const stack: (Node | undefined)[] = after === undefined ? [tree.root] : subtreesAbove(tree, after)
  while (stack.length > 0) {
    const node = stack.pop()
    if (node?.kind === 'branch') stack.push(node.right, node.left)
    else if (node) yield [node.key, node.value]
  }
}

/** What lies above a key, the lowest last. */
function subtreesAbove(tree: StateTree, key: StateKey): (Node | undefined)[] {
  const above: (Node | undefined)[] = []
  let node = tree.root
  for (let depth = 0; node?.kind === 'branch'; depth++) {
    const isRight = bitAt(key, depth) === 1
    if (!isRight) above.push(node.right)
    node = isRight ? node.right : node.left
  }
  if (node && node.key > key) above.push(node)
  return above
}

/** The proof that `key` has the value `get(tree, key)`, or that it has none. */
export function prove(tree: StateTree, key: StateKey): StateProof {
  const path: HashText[] = []
  let node = tree.root
  for (let depth = 0; node?.kind === 'branch'; depth++) {
    const [next, sibling]: [Node | undefined, Node | undefined] = bitAt(key, depth)
      ? [node.right, node.left]
      : [node.left, node.right]
    path.push(hashOfNode(sibling))
    node = next
  }
  const present = new Uint8Array(Math.ceil(path.length / 8))
  const siblings: Uint8Array[] = []
  path.forEach((hash, depth) => {
    if (hash === emptyHash) return
    present[depth >> 3] = (present[depth >> 3] as number) | (0x80 >> (depth & 7))
    siblings.push(hashTextBytes(hash))
  })
  return {
    depth: path.length,
    present,
    siblings: concatBytes(...siblings),
    other:
      node && node.key !== key
        ? { key: node.key, valueHash: bytesToHex(valueHashOf(node.value)) as Hash }
        : undefined,
  }
}

/** The siblings from the root down, or undefined if the proof does not have the one form it may have. */
function siblingsOf(proof: StateProof): HashText[] | undefined {
  const { depth, present, siblings } = proof
  if (depth > 256 || present.length !== Math.ceil(depth / 8)) return undefined
  const list: HashText[] = []
  let offset = 0
  for (let level = 0; level < present.length * 8; level++) {
    const set = ((present[level >> 3] as number) & (0x80 >> (level & 7))) !== 0
    if (level >= depth) {
      if (set) return undefined
      continue
    }
    const sibling = set ? hashText(siblings.subarray(offset, offset + 32)) : emptyHash
    if (set) {
      if (sibling.length !== 32 || sibling === emptyHash) return undefined
      offset += 32
    }
    list.push(sibling)
  }
  // A path never ends beside an empty place: the lone leaf would have moved up.
  if (depth > 0 && list.at(-1) === emptyHash) return undefined
  return offset === siblings.length ? list : undefined
}

function sharesPath(a: StateKey, b: StateKey, depth: number): boolean {
  for (let level = 0; level < depth; level++) if (bitAt(a, level) !== bitAt(b, level)) return false
  return true
}

/**
 * The root to which `proof` leads for `key` having `value` (undefined: for `key` being absent), or undefined if the
 * proof is not well-formed. The caller compares it with a root it trusts.
 */
export function rootOfProof(
  key: StateKey,
  value: Uint8Array | undefined,
  proof: StateProof,
): Hash | undefined {
  const siblings = siblingsOf(proof)
  if (!siblings) return undefined
  const { other } = proof
  let hash = emptyHash
  if (value) {
    if (other) return undefined
    hash = leafHash(key, valueHashOf(value))
  } else if (other) {
    if (other.key === key || !sharesPath(other.key, key, proof.depth)) return undefined
    hash = leafHash(other.key, hexToBytes(other.valueHash))
  }
  for (let level = siblings.length - 1; level >= 0; level--) {
    const sibling = siblings[level] as HashText
    hash = bitAt(key, level) ? branchHash(sibling, hash) : branchHash(hash, sibling)
  }
  return hexOf(hash)
}

/** True if `proof` shows that under `root` the key has `value`, or, with undefined, that it is absent. */
export function verifyStateProof(
  root: Hash,
  key: StateKey,
  value: Uint8Array | undefined,
  proof: StateProof,
): boolean {
  assert(key.length === 64, 'key: expected 64 hexadecimal characters')
  return rootOfProof(key, value, proof) === root
}
