/**
 * Makes test/vectors/governance.json: the three proposals that the log orders, the slot of an authority's approval, the
 * events of a decision, and the rights of an identity, for implementations in other languages. `node test/vectors/make-governance.ts` writes the file.
 */
import { writeFileSync } from 'node:fs'
import { bytesToHex } from '@noble/hashes/utils.js'
import { type BlockProposal, proposalCodec, type Receipt, receiptCodec } from '../../chain/block.ts'
import { Height, Milliseconds, TransactionId } from '../../chain/brands.ts'
import { encode } from '../../chain/codec.ts'
import { consenterSet, consenterSetCodec, signersHash } from '../../chain/consenters.ts'
import { deviceIdOf } from '../../chain/keys.ts'
import { signerFromSeed } from '../../chain/noble-crypto.ts'
import { approvalCodec, rightsCodec, stateKeyOf } from '../../chain/records.ts'

const target = consenterSet(
  [1, 2, 3].map(n => {
    const { publicKey } = signerFromSeed(n === 3 ? 'p256' : 'ed25519', new Uint8Array(32).fill(n))
    return { id: deviceIdOf(publicKey), key: publicKey }
  }),
  'majority',
)
const authority = deviceIdOf(signerFromSeed('ed25519', new Uint8Array(32).fill(9)).publicKey)
const time = Milliseconds(1_790_000_000_000)

const proposals: readonly BlockProposal[] = [
  { version: 1, type: 'block', time, transactions: [Uint8Array.of(1, 2, 3), new Uint8Array(300).fill(7)] },
  { version: 1, type: 'block', time, transactions: [] },
  { version: 1, type: 'heartbeat', time, transactions: [] },
  { version: 1, type: 'handover', time, signersHash: signersHash(target) },
]
const receipt: Receipt = {
  id: TransactionId('1d'.repeat(32)),
  code: 'ok',
  events: [
    { type: 'consenters.approved', authority, target: signersHash(target), approvals: 2 },
    { type: 'consenters.decided', target: signersHash(target), parametersVersion: 5 },
  ],
}

const rights = {
  id: authority,
  version: 200,
  publish: ['plant/+/alarm', 'plant/hall-3/#'],
  subscribe: [],
  observe: true,
  gateway: false,
  updatedAt: Height(70_000),
}

export function governanceVectors() {
  return {
    about: 'Proposals, and what a decision on consenters leaves behind. Hexadecimal; times in milliseconds.',
    target: { encoded: bytesToHex(encode(consenterSetCodec, target)), signersHash: signersHash(target) },
    proposals: proposals.map(proposal => ({
      type: proposal.type,
      time: proposal.time,
      ...(proposal.type === 'handover'
        ? { signersHash: proposal.signersHash }
        : { transactions: proposal.transactions.map(bytesToHex) }),
      encoded: bytesToHex(encode(proposalCodec, proposal)),
    })),
    approval: {
      authority,
      parametersVersion: 4,
      stateKey: stateKeyOf.approval(authority),
      leaf: bytesToHex(encode(approvalCodec, { target, parametersVersion: 4 })),
    },
    receipt: bytesToHex(encode(receiptCodec, receipt)),
    rights: {
      ...rights,
      stateKey: stateKeyOf.rights(rights.id),
      leaf: bytesToHex(encode(rightsCodec, rights)),
    },
  }
}

if (import.meta.main)
  writeFileSync(
    new URL('governance.json', import.meta.url),
    `${JSON.stringify(governanceVectors(), null, 2)}\n`,
  )
