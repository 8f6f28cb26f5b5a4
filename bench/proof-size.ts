/**
 * The size of a complete answer to "is key K of device D valid now?": header parts, certificate of 2 of 3 consenters, and
 * state proof, without the record itself. Builds a real state tree, encodes real answers, verifies each, and prints the
 * distribution. The design asks for at most 1,024 bytes at the median with a million identities.
 *
 * Run: node bench/proof-size.ts [identities, 1000000 unless told] [answers, 2000]
 */
import { createHash } from 'node:crypto'
import {
  type ChainId,
  type Hash,
  Height,
  LogIndex,
  Milliseconds,
  type StateKey,
  Term,
} from '../chain/brands.ts'
import { certificateSigningBytes } from '../chain/certificate.ts'
import { encode } from '../chain/codec.ts'
import { consenterSet, signersHash } from '../chain/consenters.ts'
import { type Header, headerHash, noHash } from '../chain/header.ts'
import { deviceIdOf } from '../chain/keys.ts'
import { checkpointOf, stateAnswer, stateAnswerCodec, verifyStateAnswer } from '../chain/light-client.ts'
import { unwrap } from '../chain/result.ts'
import { emptyTree, get, prove, rootOf, type StateTree, update } from '../chain/state-tree.ts'
import { nativeSignerFromSeed, nativeVerifier } from '../client/native-crypto.ts'

function keyOf(number: number): StateKey {
  return createHash('sha256').update(`identity ${number}`).digest('hex') as StateKey
}

/** A tree of `identities` leaves; the values do not matter, since the record is not counted. */
function treeOf(identities: number): StateTree {
  const value = new Uint8Array(1)
  let tree = emptyTree
  for (let from = 0; from < identities; from += 50_000) {
    const size = Math.min(50_000, identities - from)
    tree = update(tree, new Map(Array.from({ length: size }, (_, i) => [keyOf(from + i), value])))
  }
  return tree
}

/** Bytes beyond the record of `answers` present and as many absent keys, each verified; ascending. */
export function answerSizes(
  identities: number,
  answers: number,
): { readonly present: readonly number[]; readonly absent: readonly number[] } {
  const signers = [1, 2, 3].map(i => nativeSignerFromSeed('ed25519', new Uint8Array(32).fill(i)))
  const set = consenterSet(
    signers.map(({ publicKey }) => ({ id: deviceIdOf(publicKey), key: publicKey })),
    'majority',
  )
  const tree = treeOf(identities)
  const chainId = noHash as string as ChainId
  const header: Header = {
    version: 1,
    chainId,
    incarnation: 0,
    height: Height(100_000_000),
    term: Term(12),
    index: LogIndex(1_234_567),
    time: Milliseconds(1_790_000_000_000),
    previousHash: noHash,
    transactionsRoot: noHash,
    receiptsRoot: noHash,
    stateRoot: rootOf(tree),
    replayRoot: noHash,
    changesHash: noHash,
    historyRoot: noHash,
    signersHash: signersHash(set),
    nextSignersHash: signersHash(set),
    authoritiesHash: noHash as Hash,
    executionVersion: 1,
  }
  const hash = headerHash(header)
  const message = certificateSigningBytes(chainId, header.incarnation, header.height, hash)
  const signatures = [0, 1].map(place => {
    const id = set.consenters[place]?.id
    const signer = signers.find(({ publicKey }) => deviceIdOf(publicKey) === id)
    if (!signer) throw new Error('a consenter without signer')
    return { signer: place, signature: signer.sign(message) }
  })
  const certificate = { height: header.height, headerHash: hash, signatures }
  const trusted = unwrap(checkpointOf(header, set))

  const sizeOf = (key: StateKey): number => {
    const value = get(tree, key)
    const answer = stateAnswer(header, certificate, value, prove(tree, key))
    unwrap(verifyStateAnswer(trusted, key, answer, nativeVerifier))
    return encode(stateAnswerCodec, answer).length - (value?.length ?? 0)
  }
  const step = Math.max(1, Math.floor(identities / answers))
  const sizes = (first: number) =>
    Array.from({ length: answers }, (_, i) => sizeOf(keyOf(first + i * step))).sort((a, b) => a - b)
  return { present: sizes(0), absent: sizes(identities * 2) }
}

/** The value below which `part` of the sorted numbers lie. */
export function quantile(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0
}

if (import.meta.main) {
  const [identities = 1_000_000, answers = 2000] = process.argv.slice(2).map(Number)
  const { present, absent } = answerSizes(identities, answers)
  console.log(
    `answers beyond the record, ${identities} identities, certificate of 2 of 3, ${answers} answers each`,
  )
  for (const [name, sizes] of Object.entries({ present, absent }))
    console.log(
      `  ${name.padEnd(8)} p50 ${quantile(sizes, 0.5)}  p99 ${quantile(sizes, 0.99)}  max ${sizes.at(-1)} bytes`,
    )
}
