import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Hash, StateKey } from '../../../chain/brands.ts'
import { decode, encode } from '../../../chain/codec.ts'
import {
  emptyTree,
  entries,
  get,
  prove,
  rootOf,
  type StateProof,
  type StateTree,
  stateProofCodec,
  update,
  verifyStateProof,
} from '../../../chain/state-tree.ts'

type Model = ReadonlyMap<StateKey, Uint8Array>

function sha256(...parts: (string | Uint8Array)[]): Buffer {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest()
}

/** The definition of docs/FORMATS.md, word by word: no sharing, no batches. */
function naiveRoot(model: Model): Hash {
  const bits = (key: string) => BigInt(`0x1${key}`).toString(2).slice(1)
  const node = (leaves: [StateKey, Uint8Array][], depth: number): Buffer => {
    if (leaves.length === 0) return Buffer.alloc(32)
    const [first] = leaves
    if (leaves.length === 1)
      return sha256(
        'mote/state-leaf/1\0',
        Buffer.from(first![0], 'hex'),
        sha256('mote/state-value/1\0', first![1]),
      )
    const side = (bit: string) =>
      node(
        leaves.filter(([key]) => bits(key)[depth] === bit),
        depth + 1,
      )
    return sha256('mote/state-branch/1\0', side('0'), side('1'))
  }
  return node([...model], 0).toString('hex') as Hash
}

/** Keys that often share a long prefix, so that paths are deep and leaves move up and down. */
const key = fc
  .tuple(fc.constantFrom('00', '01', '80', 'ff'), fc.nat(3), fc.nat(7))
  .map(([head, a, b]) => StateKey(`${head}${'0'.repeat(20)}${a}${'0'.repeat(40)}${b}`))
const randomKey = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map(bytes => StateKey(Buffer.from(bytes).toString('hex')))
const anyKey = fc.oneof(key, randomKey)
const value = fc.uint8Array({ maxLength: 40 })
const writes = fc.array(fc.tuple(anyKey, fc.option(value)), { maxLength: 30 }).map(list => new Map(list))

function applyTo(model: Model, batch: ReadonlyMap<StateKey, Uint8Array | null>): Model {
  const next = new Map(model)
  for (const [at, what] of batch) {
    if (what) next.set(at, what)
    else next.delete(at)
  }
  return next
}

function treeOf(model: Model): StateTree {
  return update(emptyTree, model)
}

describe('state tree', () => {
  test('state tree: root, values and size follow the model through batches of writes and removals', () => {
    fc.assert(
      fc.property(fc.array(writes, { maxLength: 6 }), batches => {
        let tree = emptyTree
        let model: Model = new Map()
        for (const batch of batches) {
          tree = update(tree, batch)
          model = applyTo(model, batch)
          expect(rootOf(tree)).toBe(naiveRoot(model))
          expect(tree.size).toBe(model.size)
          expect(new Map(entries(tree))).toEqual(model)
          for (const at of batch.keys()) expect(get(tree, at)).toEqual(model.get(at))
        }
      }),
      { numRuns: 40 },
    )
  })

  test('state tree: an update leaves the old tree as it was and shares untouched nodes', () => {
    fc.assert(
      fc.property(writes, writes, (first, second) => {
        const before = update(emptyTree, first)
        const root = naiveRoot(applyTo(new Map(), first))
        update(before, second)
        expect(rootOf(before)).toBe(root)
        expect(update(before, new Map(entries(before))).root).toBe(before.root)
      }),
      { numRuns: 100 },
    )
  })

  test('state tree: every key has a proof of its value or of its absence', () => {
    fc.assert(
      fc.property(writes, fc.array(anyKey, { maxLength: 10 }), (batch, others) => {
        const tree = update(emptyTree, batch)
        for (const at of [...batch.keys(), ...others]) {
          const found = get(tree, at)
          const proof = prove(tree, at)
          expect(verifyStateProof(rootOf(tree), at, found, proof)).toBe(true)
          expect(verifyStateProof(rootOf(tree), at, found ? undefined : new Uint8Array(3), proof)).toBe(false)
          expect(verifyStateProof(rootOf(tree), at, Uint8Array.of(...(found ?? []), 1), proof)).toBe(false)
          expect(decode(stateProofCodec, encode(stateProofCodec, proof))).toEqual({ ok: true, value: proof })
        }
      }),
      { numRuns: 100 },
    )
  })

  test('state tree: a proof with one byte changed, added or taken away does not verify', () => {
    const model = new Map<StateKey, Uint8Array>()
    for (let i = 0; i < 60; i++) model.set(StateKey(sha256(`key ${i}`).toString('hex')), sha256(`value ${i}`))
    const tree = treeOf(model)
    const [present] = model.keys()
    const absent = Array.from({ length: 40 }, (_, i) => StateKey(sha256(`absent ${i}`).toString('hex')))
    const proofs = absent.map(at => prove(tree, at))
    const besideLeaf = proofs.findIndex(proof => proof.other)
    const atEmpty = proofs.findIndex(proof => !proof.other)
    expect(besideLeaf).toBeGreaterThanOrEqual(0)
    expect(atEmpty).toBeGreaterThanOrEqual(0)
    const oneBit = [1, 2, 4, 8, 16, 32, 64, 128]
    const everyChange = Array.from({ length: 255 }, (_, i) => i + 1)
    const { depth, present: levels } = prove(tree, present!)
    // Depth and levels, each with what MessagePack puts before it, and the latter before the hashes.
    const beforeHashes = encode(stateProofCodec, {
      depth,
      present: levels,
      siblings: new Uint8Array(0),
      other: undefined,
    }).length
    for (const at of [present!, absent[besideLeaf]!, absent[atEmpty]!]) {
      const found = get(tree, at)
      const bytes = encode(stateProofCodec, prove(tree, at))
      let refused = 0
      let accepted = 0
      const accepts = (changed: Uint8Array) => {
        const proof = decode(stateProofCodec, changed)
        return proof.ok && verifyStateProof(rootOf(tree), at, found, proof.value)
      }
      expect(accepts(bytes)).toBe(true)
      // Every change of a byte that is no part of a hash; of the others every bit by itself.
      let tried = 0
      for (let position = 0; position < bytes.length; position++)
        for (const mask of position < beforeHashes || position === bytes.length - 1 ? everyChange : oneBit) {
          tried++
          if (accepts(bytes.with(position, bytes[position]! ^ mask))) accepted++
          else refused++
        }
      expect(accepted).toBe(0)
      expect(refused).toBe(tried)
      expect(accepts(bytes.slice(0, -1))).toBe(false)
      expect(accepts(Uint8Array.of(...bytes, 0))).toBe(false)
    }
  })

  test('state tree: a proof of one key does not verify for another', () => {
    fc.assert(
      fc.property(writes, anyKey, value, anyKey, (batch, one, what, other) => {
        fc.pre(one !== other)
        const tree = update(emptyTree, new Map([...batch, [one, what]]))
        expect(verifyStateProof(rootOf(tree), other, get(tree, one), prove(tree, one))).toBe(false)
      }),
    )
  })

  test('state tree: refuses proofs that are not in their one form', () => {
    const model = new Map([
      [StateKey('0'.repeat(64)), Uint8Array.of(1)],
      [StateKey(`02${'1'.repeat(62)}`), Uint8Array.of(2)],
    ])
    const tree = treeOf(model)
    const [at] = model.keys()
    const good = prove(tree, at!)
    const check = (proof: StateProof) => verifyStateProof(rootOf(tree), at!, Uint8Array.of(1), proof)
    expect(check(good)).toBe(true)
    const level = good.depth - 1
    // The empty siblings above the last one, given as if they were hashes.
    const spelledOut = {
      ...good,
      present: Uint8Array.of(0xff & (0xff << (7 - level))),
      siblings: Uint8Array.of(...new Uint8Array(32 * level), ...good.siblings),
    }
    expect(check(spelledOut)).toBe(false)
    expect(check({ ...good, present: Uint8Array.of(...good.present, 0) })).toBe(false)
    expect(check({ ...good, present: good.present.with(0, good.present[0]! | 1) })).toBe(false)
    expect(check({ ...good, siblings: Uint8Array.of(...good.siblings, 0) })).toBe(false)
    expect(check({ ...good, depth: 257 })).toBe(false)
  })

  test('state tree: a value cannot be hidden behind its own leaf', () => {
    const [at, found] = [StateKey('7'.repeat(64)), Uint8Array.of(1)]
    const tree = treeOf(new Map([[at, found]]))
    const valueHash = sha256('mote/state-value/1\0', found).toString('hex') as Hash
    const proof = { ...prove(tree, at), other: { key: at, valueHash } }
    expect(verifyStateProof(rootOf(tree), at, undefined, proof)).toBe(false)
    expect(verifyStateProof(rootOf(tree), at, found, proof)).toBe(false)
  })

  test('state tree: under a root that no tree has, a misplaced leaf proves nothing', () => {
    const [at, elsewhere, found] = [StateKey('0'.repeat(64)), StateKey('f'.repeat(64)), Uint8Array.of(1)]
    const valueHash = sha256('mote/state-value/1\0', found)
    const leafOf = (key: StateKey) => sha256('mote/state-leaf/1\0', Buffer.from(key, 'hex'), valueHash)
    const other = { key: elsewhere, valueHash: valueHash.toString('hex') as Hash }
    const sibling = Uint8Array.from(leafOf(elsewhere))
    const misplaced = sha256('mote/state-branch/1\0', leafOf(elsewhere), sibling).toString('hex') as Hash
    const proof = { depth: 1, present: Uint8Array.of(0x80), siblings: sibling, other }
    expect(verifyStateProof(misplaced, at, undefined, proof)).toBe(false)
    const lone = sha256('mote/state-branch/1\0', leafOf(at), new Uint8Array(32)).toString('hex') as Hash
    const beside = { depth: 1, present: Uint8Array.of(0), siblings: new Uint8Array(0), other: undefined }
    expect(verifyStateProof(lone, at, found, beside)).toBe(false)
  })

  test('state tree: the vectors of test/vectors/state-tree.json', () => {
    const { trees } = JSON.parse(
      readFileSync(new URL('../../vectors/state-tree.json', import.meta.url), 'utf8'),
    ) as {
      trees: {
        leaves: [StateKey, string][]
        root: Hash
        proofs: { key: StateKey; value: string | null; proof: string }[]
      }[]
    }
    expect(trees.length).toBeGreaterThan(3)
    for (const { leaves, root, proofs } of trees) {
      const model = new Map(leaves.map(([at, text]) => [at, Uint8Array.from(Buffer.from(text, 'hex'))]))
      const tree = treeOf(model)
      expect(rootOf(tree)).toBe(root)
      for (const { key: at, value: text, proof } of proofs) {
        const found = text === null ? undefined : Uint8Array.from(Buffer.from(text, 'hex'))
        const bytes = Uint8Array.from(Buffer.from(proof, 'hex'))
        expect(encode(stateProofCodec, prove(tree, at))).toEqual(bytes)
        const decoded = decode(stateProofCodec, bytes)
        expect(decoded.ok && verifyStateProof(root, at, found, decoded.value)).toBe(true)
      }
    }
  })
})
