/**
 * Makes test/vectors/governance.json: the three proposals that the log orders, the slot of an authority's approval, the
 * events of a decision, the rights of an identity, and a genesis with its leaves, for implementations in other languages. `node test/vectors/make-governance.ts` writes the file.
 */
import { writeFileSync } from 'node:fs'
import { bytesToHex } from '@noble/hashes/utils.js'
import { type BlockProposal, proposalCodec, type Receipt, receiptCodec } from '../../chain/block.ts'
import { Height, Milliseconds, TransactionId } from '../../chain/brands.ts'
import { encode } from '../../chain/codec.ts'
import { consenterSet, consenterSetCodec, signersHash } from '../../chain/consenters.ts'
import {
  chainIdOf,
  defaultGenesisParameters,
  genesisCodec,
  genesisDocument,
  genesisHeader,
  genesisState,
} from '../../chain/genesis.ts'
import { headerHash } from '../../chain/header.ts'
import { deviceIdOf } from '../../chain/keys.ts'
import { signerFromSeed, x25519PublicKey } from '../../chain/noble-crypto.ts'
import { approvalCodec, rightsCodec, stateKeyOf } from '../../chain/records.ts'
import { formatGenesis } from '../../client/genesis-file.ts'

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

/** One full node that certifies, one operator with a key to encrypt to, and messages sealed to X25519 and P-256 keys and to groups only. */
function genesisVector() {
  const [full, operator] = [1, 9].map(n => signerFromSeed('ed25519', new Uint8Array(32).fill(n)).publicKey)
  if (!full || !operator) throw new Error('two keys are made')
  const more = { transportKey: undefined, metadataHash: undefined }
  const encryptionKey = { suite: 'x25519', bytes: x25519PublicKey(new Uint8Array(32).fill(8)) } as const
  const document = genesisDocument({
    name: 'vectors',
    createdAt: time,
    consenters: [{ id: deviceIdOf(full), key: full }],
    quorumPolicy: 'majority',
    authorities: [{ id: deviceIdOf(operator), key: operator }],
    threshold: 1,
    parameters: {
      ...defaultGenesisParameters,
      envelopeSuites: ['hpke-x25519-aes128gcm', 'hpke-p256-aes128gcm', 'group-hkdf-sha256-aes256gcm'],
    },
    identities: [
      { inceptionKey: full, label: 'full', encryptionKey: undefined, ...more },
      { inceptionKey: operator, label: 'lightweight', encryptionKey, ...more },
    ],
  })
  const state = genesisState(document)
  return {
    file: JSON.parse(formatGenesis(document)) as object,
    encoded: bytesToHex(encode(genesisCodec, document)),
    chainId: chainIdOf(document),
    headerHash: headerHash(genesisHeader(document)),
    leaves: [...state].map(([stateKey, leaf]) => ({ stateKey, leaf: bytesToHex(leaf) })),
  }
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
    genesis: genesisVector(),
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
