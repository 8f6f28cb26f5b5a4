/** The key pair of an open topic: by the RFC, and bound to chain, topic and epoch. */
import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js'
import { expect, test } from 'vitest'
import type { ChainId, GroupId } from '../../../chain/brands.ts'
import { deriveX25519Pair, topicPairOf } from '../../../mqtt-gateway/device/topic-keys.ts'

test('topic keys: DeriveKeyPair gives the pairs of RFC 9180, appendix A.1.1', () => {
  const rows = [
    [
      '7268600d403fce431561aef583ee1613527cff655c1343f29812e66706df3234',
      '52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736',
      '37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431',
    ],
    [
      '6db9df30aa07dd42ee5e8181afdb977e538f5e1fec8a06223f33f7013e525037',
      '4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8',
      '3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d',
    ],
  ] as const
  for (const [ikm, secret, publicKey] of rows) {
    const pair = deriveX25519Pair(hexToBytes(ikm))
    expect([bytesToHex(pair.secret), bytesToHex(pair.publicKey.bytes)]).toEqual([secret, publicKey])
  }
})

test('topic keys: another chain, topic, epoch or epoch key gives another pair', () => {
  const name = { chainId: '11'.repeat(32) as ChainId, group: '22'.repeat(32) as GroupId, epoch: 1 }
  const epochKey = new Uint8Array(32).fill(9)
  const pairs = [
    topicPairOf(name, epochKey),
    topicPairOf({ ...name, chainId: '12'.repeat(32) as ChainId }, epochKey),
    topicPairOf({ ...name, group: '23'.repeat(32) as GroupId }, epochKey),
    topicPairOf({ ...name, epoch: 2 }, epochKey),
    topicPairOf(name, new Uint8Array(32).fill(8)),
  ]
  expect(new Set(pairs.map(({ publicKey }) => bytesToHex(publicKey.bytes))).size).toBe(pairs.length)
})
