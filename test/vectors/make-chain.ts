/**
 * Makes test/vectors/state-tree.json and test/vectors/header.json: language-neutral examples of docs/FORMATS.md.
 * Values are hexadecimal, encoded objects too. They pin the formats: a difference after running this again is a change that
 * breaks every chain. Run: node test/vectors/make-chain.ts
 */
import { writeFileSync } from 'node:fs'
import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js'
import {
  type ChainId,
  type Hash,
  Height,
  LogIndex,
  Milliseconds,
  type StateKey,
  Term,
} from '../../chain/brands.ts'
import { certificateCodec, certificateSigningBytes } from '../../chain/certificate.ts'
import { encode } from '../../chain/codec.ts'
import { consenterSet, consenterSetCodec, signersHash } from '../../chain/consenters.ts'
import { changesHash, type Header, headerCodec, headerHash, restHashOf } from '../../chain/header.ts'
import { deviceIdOf, keyIdOf } from '../../chain/keys.ts'
import { stateAnswer, stateAnswerCodec } from '../../chain/light-client.ts'
import { emptyMerkleRoot, HistoryTree } from '../../chain/merkle.ts'
import { signerFromSeed } from '../../chain/noble-crypto.ts'
import { emptyTree, get, prove, rootOf, stateProofCodec, update } from '../../chain/state-tree.ts'

function digestOf(text: string): string {
  return bytesToHex(sha256(utf8ToBytes(text)))
}

function write(name: string, content: object): void {
  writeFileSync(
    new URL(name, import.meta.url),
    `${JSON.stringify({ comment: 'Made by make-chain.ts. Hexadecimal.', ...content }, undefined, 2)}\n`,
  )
}

function treeVector(keys: readonly string[], absent: readonly string[]) {
  const leaves = keys.map((key, i) => [key as StateKey, utf8ToBytes(`value ${i}`)] as const)
  const tree = update(emptyTree, new Map(leaves))
  return {
    leaves: leaves.map(([key, value]) => [key, bytesToHex(value)]),
    root: rootOf(tree),
    proofs: [...keys, ...absent].map(text => {
      const key = text as StateKey
      const value = get(tree, key)
      return {
        key,
        value: value ? bytesToHex(value) : null,
        proof: bytesToHex(encode(stateProofCodec, prove(tree, key))),
      }
    }),
  }
}

const zeros = '0'.repeat(64)
const [one, two, three] = ['device 1', 'device 2', 'device 3'].map(digestOf) as [string, string, string]
write('state-tree.json', {
  trees: [
    treeVector([], [one]),
    treeVector([one], [two]),
    treeVector([one, two, three], [digestOf('absent')]),
    treeVector([zeros, `${'0'.repeat(63)}1`], [`${'0'.repeat(63)}2`, `8${'0'.repeat(63)}`]),
    treeVector(
      Array.from({ length: 40 }, (_, i) => digestOf(`device ${i}`)),
      [digestOf('absent'), digestOf('missing')],
    ),
  ],
})

const signers = [1, 2, 3].map(i => signerFromSeed(i === 3 ? 'p256' : 'ed25519', new Uint8Array(32).fill(i)))
const set = consenterSet(
  signers.map(({ publicKey }) => ({ id: deviceIdOf(publicKey), key: publicKey })),
  'majority',
)
const tree = update(emptyTree, new Map([[one as StateKey, utf8ToBytes('record')]]))
const header: Header = {
  version: 1,
  chainId: digestOf('chain') as ChainId,
  incarnation: 0,
  height: Height(5_000_000_000),
  term: Term(7),
  index: LogIndex(5_000_000_321),
  time: Milliseconds(1_790_000_000_123),
  previousHash: digestOf('previous') as Hash,
  transactionsRoot: emptyMerkleRoot,
  receiptsRoot: emptyMerkleRoot,
  stateRoot: rootOf(tree),
  replayRoot: digestOf('replay') as Hash,
  changesHash: changesHash([one as StateKey]),
  historyRoot: HistoryTree.empty.append(utf8ToBytes('header 0')).append(utf8ToBytes('header 1')).root(),
  signersHash: signersHash(set),
  nextSignersHash: signersHash(set),
  authoritiesHash: digestOf('authorities') as Hash,
  executionVersion: 1,
}
const hash = headerHash(header)
const message = certificateSigningBytes(header.chainId, header.incarnation, header.height, hash)
const signatures = set.consenters.map((consenter, signer) => {
  const owner = signers.find(({ publicKey }) => deviceIdOf(publicKey) === consenter.id)
  if (!owner) throw new Error('a consenter without signer')
  return { signer, signature: owner.sign(message) }
})
const certificate = { height: header.height, headerHash: hash, signatures }

write('header.json', {
  keys: signers.map(({ publicKey }) => ({
    suite: publicKey.suite,
    key: bytesToHex(publicKey.bytes),
    keyId: keyIdOf(publicKey),
    deviceId: deviceIdOf(publicKey),
  })),
  consenterSet: bytesToHex(encode(consenterSetCodec, set)),
  signersHash: signersHash(set),
  changes: { keys: [one], changesHash: header.changesHash },
  header: { ...header, encoded: bytesToHex(encode(headerCodec, header)) },
  restHash: restHashOf(header),
  headerHash: hash,
  certificateSigningBytes: bytesToHex(message),
  certificate: bytesToHex(encode(certificateCodec, certificate)),
  stateAnswer: {
    key: one,
    encoded: bytesToHex(
      encode(
        stateAnswerCodec,
        stateAnswer(header, certificate, get(tree, one as StateKey), prove(tree, one as StateKey)),
      ),
    ),
  },
})
