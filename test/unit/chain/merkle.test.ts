import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Hash } from '../../../chain/brands.ts'
import {
  emptyMerkleRoot,
  HistoryTree,
  merkleRoot,
  perfectNodesOf,
  verifyMerkleProof,
} from '../../../chain/merkle.ts'

/** Leaves and roots of the tests of Google's certificate-transparency code: the tree of the first n leaves. */
const leaves = [
  '',
  '00',
  '10',
  '2021',
  '3031',
  '40414243',
  '5051525354555657',
  '606162636465666768696a6b6c6d6e6f',
].map(text => Uint8Array.from(Buffer.from(text, 'hex')))
const roots = [
  'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
  'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
  '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
  'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
  '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
] as Hash[]

/** Distinct leaves: equal ones prove each other's place. */
const data = fc.uniqueArray(fc.uint8Array({ maxLength: 40 }), {
  minLength: 1,
  maxLength: 70,
  selector: String,
})

describe('merkle', () => {
  test.each(roots.map((root, size) => [size, root] as const))(
    'merkle: root over %i leaves (RFC 6962, 2.1; certificate-transparency test data)',
    (size, root) => {
      expect(merkleRoot(leaves.slice(0, size))).toBe(root)
      const history = leaves.slice(0, size).reduce((tree, leaf) => tree.append(leaf), HistoryTree.empty)
      expect(history.root()).toBe(root)
    },
  )

  test('merkle: appending one by one gives the root over all; old trees stay as they were', () => {
    fc.assert(
      fc.property(data, list => {
        let tree = HistoryTree.empty
        const earlier: HistoryTree[] = []
        for (const leaf of list) {
          earlier.push(tree)
          tree = tree.append(leaf)
        }
        expect(tree.root()).toBe(merkleRoot(list))
        earlier.forEach((old, size) => {
          expect(old.root()).toBe(size === 0 ? emptyMerkleRoot : merkleRoot(list.slice(0, size)))
        })
      }),
    )
  })

  test('merkle: a proof made from the perfect subtrees that appends reported verifies, and nothing else does', () => {
    fc.assert(
      fc.property(data, fc.nat(), fc.nat(), (list, pick, level) => {
        const stored = new Map<string, Uint8Array>()
        let tree = HistoryTree.empty
        for (const leaf of list) {
          const next = tree.appendWithNodes(leaf)
          for (const node of next.completed)
            stored.set(`${node.level}/${node.index}`, Uint8Array.from(Buffer.from(node.hash, 'hex')))
          tree = next.tree
        }
        const index = pick % list.length
        const proof = tree.prove(index, (height, at) => stored.get(`${height}/${at}`)!)
        const root = tree.root()
        const leaf = list[index]!
        expect(proof).toEqual(tree.prove(index, perfectNodesOf(list)))
        expect(verifyMerkleProof(root, leaf, proof)).toBe(true)
        expect(verifyMerkleProof(root, Uint8Array.of(...leaf, 0), proof)).toBe(false)
        expect(verifyMerkleProof(root, leaf, { ...proof, index: index + 1 })).toBe(false)
        expect(verifyMerkleProof(root, leaf, { ...proof, path: [...proof.path, root] })).toBe(false)
        if (proof.path.length === 0) return
        const changed = proof.path.with(level % proof.path.length, emptyMerkleRoot)
        expect(verifyMerkleProof(root, leaf, { ...proof, path: changed })).toBe(false)
        expect(verifyMerkleProof(root, leaf, { ...proof, path: proof.path.slice(1) })).toBe(false)
      }),
    )
  })

  test('merkle: refuses a true path under a false size', () => {
    const [first, second] = [leaves[1]!, leaves[2]!]
    const one = merkleRoot([first])
    expect(verifyMerkleProof(one, first, { index: 0, size: 2, path: [] })).toBe(false)
    const proof = HistoryTree.empty
      .append(first)
      .append(second)
      .prove(0, perfectNodesOf([first, second]))
    const two = merkleRoot([first, second])
    expect(verifyMerkleProof(two, first, proof)).toBe(true)
    const other = HistoryTree.empty
      .append(first)
      .append(second)
      .prove(1, perfectNodesOf([first, second]))
    expect(verifyMerkleProof(two, second, { ...other, index: 0, size: 1 })).toBe(false)
    expect(verifyMerkleProof(two, first, { ...proof, size: 3 })).toBe(false)
  })

  test('merkle: a root binds neither index nor size, so that the caller must', () => {
    const [first, second, third] = [leaves[1]!, leaves[2]!, leaves[3]!]
    const tree = HistoryTree.empty.append(first).append(second).append(third)
    const proof = tree.prove(0, perfectNodesOf([first, second, third]))
    expect(verifyMerkleProof(tree.root(), first, proof)).toBe(true)
    expect(verifyMerkleProof(tree.root(), first, { ...proof, size: 4 })).toBe(true)
    const last = tree.prove(2, perfectNodesOf([first, second, third]))
    expect(verifyMerkleProof(tree.root(), third, { ...last, index: 1, size: 2 })).toBe(true)
  })

  test('merkle: refuses an index or size that is no place in a tree', () => {
    const [leaf] = leaves
    const root = merkleRoot([leaf!])
    expect(verifyMerkleProof(root, leaf!, { index: 0, size: 1, path: [] })).toBe(true)
    for (const [index, size] of [
      [1, 1],
      [0, 0],
      [-1, 1],
      [0.5, 1],
      [0, Number.NaN],
      [0, 2 ** 60],
    ])
      expect(verifyMerkleProof(root, leaf!, { index: index!, size: size!, path: [] })).toBe(false)
  })
})
