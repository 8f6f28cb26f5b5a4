/** A chain of headers over a state tree, with real signatures and no execution: material for light-client tests. */
import { createHash } from 'node:crypto'
import { hexToBytes } from '@noble/hashes/utils.js'
import {
  type ChainId,
  type Hash,
  Height,
  LogIndex,
  Milliseconds,
  StateKey,
  Term,
} from '../../../chain/brands.ts'
import { type Certificate, certificateSigningBytes } from '../../../chain/certificate.ts'
import { type ConsenterSet, consenterSet, type QuorumPolicy, signersHash } from '../../../chain/consenters.ts'
import { changesHash, type Header, headerHash, noHash } from '../../../chain/header.ts'
import { deviceIdOf, type Signer } from '../../../chain/keys.ts'
import type { CertifiedHeader, StateAnswer } from '../../../chain/light-client.ts'
import { stateAnswer } from '../../../chain/light-client.ts'
import { emptyMerkleRoot, HistoryTree } from '../../../chain/merkle.ts'
import { emptyTree, get, prove, rootOf, type StateTree, update } from '../../../chain/state-tree.ts'
import { nativeSignerFromSeed } from '../../../client/native-crypto.ts'

export function keyOf(name: string): StateKey {
  return StateKey(createHash('sha256').update(name).digest('hex'))
}

export const sampleChainId = keyOf('sample chain') as string as ChainId

/** Consenters whose seeds are `from`, `from`+1, …; `signers` is in the order of the set. */
export interface Committee {
  readonly set: ConsenterSet
  readonly signers: readonly Signer[]
}

export function committee(size: number, from = 1, policy: QuorumPolicy = 'majority'): Committee {
  const signers = Array.from({ length: size }, (_, i) =>
    nativeSignerFromSeed(i % 3 === 2 ? 'p256' : 'ed25519', new Uint8Array(32).fill(from + i)),
  )
  const set = consenterSet(
    signers.map(({ publicKey }) => ({ id: deviceIdOf(publicKey), key: publicKey })),
    policy,
  )
  const owner = new Map(signers.map(signer => [deviceIdOf(signer.publicKey) as string, signer]))
  return { set, signers: set.consenters.map(({ id }) => owner.get(id)!) }
}

export function certify(header: Header, by: Committee, who: readonly number[] = [0, 1]): Certificate {
  const hash = headerHash(header)
  const message = certificateSigningBytes(header.chainId, header.incarnation, header.height, hash)
  return {
    height: header.height,
    headerHash: hash,
    signatures: who.map(signer => ({ signer, signature: by.signers[signer]!.sign(message) })),
  }
}

export class SampleChain {
  readonly headers: Header[] = []
  readonly trees: StateTree[] = []
  readonly changes: (readonly StateKey[])[] = []
  consenters: Committee
  #history = HistoryTree.empty

  constructor(consenters: Committee) {
    this.consenters = consenters
    this.append({})
  }

  /** One more block that writes these names; `next` makes it a handover block. */
  append(
    writes: Readonly<Record<string, string | null>>,
    next?: Committee,
    wrong: Partial<Header> = {},
  ): Header {
    const batch = new Map(
      Object.entries(writes).map(([name, text]) => [
        keyOf(name),
        text === null ? null : Uint8Array.from(Buffer.from(text)),
      ]),
    )
    const tree = update(this.trees.at(-1) ?? emptyTree, batch)
    const keys = [...batch.keys()].sort()
    const parent = this.headers.at(-1)
    const header: Header = {
      version: 1,
      chainId: sampleChainId,
      incarnation: 0,
      height: Height(this.headers.length),
      term: Term(1),
      index: LogIndex(2 * this.headers.length),
      time: Milliseconds(1_790_000_000_000 + 1000 * this.headers.length),
      previousHash: parent ? headerHash(parent) : noHash,
      transactionsRoot: emptyMerkleRoot,
      receiptsRoot: emptyMerkleRoot,
      stateRoot: rootOf(tree),
      replayRoot: noHash,
      changesHash: changesHash(keys),
      historyRoot: this.#history.root(),
      signersHash: signersHash(this.consenters.set),
      nextSignersHash: signersHash((next ?? this.consenters).set),
      authoritiesHash: noHash as Hash,
      executionVersion: 1,
      ...wrong,
    }
    this.headers.push(header)
    this.trees.push(tree)
    this.changes.push(keys)
    this.#history = this.#history.append(hexToBytes(headerHash(header)))
    if (next) this.consenters = next
    return header
  }

  served(height: number, certificate?: Certificate): CertifiedHeader {
    return { header: this.headers[height]!, certificate, handover: undefined, changes: this.changes[height]! }
  }

  answer(
    height: number,
    name: string,
    by: Committee = this.consenters,
    who?: readonly number[],
  ): StateAnswer {
    const header = this.headers[height]!
    const tree = this.trees[height]!
    return stateAnswer(header, certify(header, by, who), get(tree, keyOf(name)), prove(tree, keyOf(name)))
  }
}
