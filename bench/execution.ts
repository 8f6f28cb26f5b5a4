/**
 * How fast a ledger executes blocks, on one core and without network or disk: `node bench/execution.ts [identities]`.
 *
 * Each transaction is by another identity; they alternate between making a group (three leaves) and adding a key (one leaf).
 * Signatures count as verified on admission, as they are in a node. Prints the median block in time by the clock, and in
 * processor time of the process, which says something on a busy machine too. Fails if a transaction does.
 */
import { DeviceId, Height, LogIndex, Milliseconds, Term } from '../chain/brands.ts'
import { encode } from '../chain/codec.ts'
import { executeBlock } from '../chain/execution.ts'
import { defaultGenesisParameters, genesisDocument, genesisLedger } from '../chain/genesis.ts'
import { hashHex, u64be } from '../chain/hashing.ts'
import { keyIdOf } from '../chain/keys.ts'
import type { Ledger } from '../chain/ledger.ts'
import { signerFromSeed } from '../chain/noble-crypto.ts'
import { type IdentityRecord, identityCodec, stateKeyOf } from '../chain/records.ts'
import { rootOf, update } from '../chain/state-tree.ts'
import { signTransaction, type TransactionBody } from '../chain/transaction.ts'
// Hashes as a node does.
import '../client/native-crypto.ts'

const blockSize = 500
const blocks = 20
const startedAt = 1_700_000_000_000
const identities = Number(process.argv[2] ?? 100_000)
const signer = signerFromSeed('ed25519', new Uint8Array(32).fill(1))
const keyId = keyIdOf(signer.publicKey)

/** Every benchmark identity signs with one key, because signatures are not what is measured. */
function record(n: number): IdentityRecord {
  const entry = { notBefore: Milliseconds(0), notAfter: undefined, revokedAt: undefined }
  return {
    id: DeviceId(hashHex('mote/device/1', u64be(n))),
    version: 1,
    label: 'lightweight',
    status: 'active',
    trustLevel: 2,
    keys: [{ purpose: 'sign', key: signer.publicKey, ...entry }],
    admittedBy: undefined,
    credential: undefined,
    metadataHash: undefined,
    transportKey: undefined,
    incidents: 0,
    incidentsHash: undefined,
    registeredAt: Height(0),
    updatedAt: Height(0),
  }
}

function populated(): Ledger {
  const founder = { inceptionKey: signer.publicKey, label: 'full' as const }
  const id = DeviceId(hashHex('mote/device/1', Uint8Array.of(1), signer.publicKey.bytes))
  const empty = genesisLedger(
    genesisDocument({
      name: 'bench',
      createdAt: Milliseconds(startedAt),
      consenters: [{ id, key: signer.publicKey }],
      quorumPolicy: 'majority',
      authorities: [{ id, key: signer.publicKey }],
      threshold: 1,
      parameters: defaultGenesisParameters,
      identities: [
        { ...founder, encryptionKey: undefined, transportKey: undefined, metadataHash: undefined },
      ],
    }),
  )
  const leaves = new Map(
    Array.from({ length: identities }, (_, n) => {
      const identity = record(n)
      return [stateKeyOf.identity(identity.id), encode(identityCodec, identity)] as const
    }),
  )
  const tree = update(empty.tree, leaves)
  return { ...empty, tree, header: { ...empty.header, stateRoot: rootOf(tree) } }
}

function transactionsFor(ledger: Ledger, block: number): Uint8Array[] {
  return Array.from({ length: blockSize }, (_, i) => {
    const n = block * blockSize + i
    const deviceId = record(n).id
    const body: TransactionBody =
      n % 2 === 0
        ? { type: 'group.create', name: 'bench', epochKeyHash: undefined }
        : {
            type: 'key.add',
            subject: deviceId,
            expectedVersion: 1,
            key: {
              purpose: 'encrypt',
              key: { suite: 'x25519', bytes: new Uint8Array(32).fill(2 + (n % 100)) },
              notAfter: undefined,
            },
          }
    return signTransaction(
      {
        version: 1,
        chainId: ledger.header.chainId,
        body,
        signer: { deviceId, keyId },
        nonce: new Uint8Array(16).fill(n % 251),
        expiry: Milliseconds(startedAt + 60_000 + (n % 100)),
      },
      signer,
    )
  })
}

let ledger = populated()
const proposals = Array.from({ length: blocks }, (_, block) => transactionsFor(ledger, block))
const times: number[] = []
const processorTimes: number[] = []
for (const [block, transactions] of proposals.entries()) {
  const before = performance.now()
  const processorBefore = process.cpuUsage()
  const executed = executeBlock(ledger, {
    proposal: { version: 1, type: 'block', time: Milliseconds(startedAt + block), transactions },
    term: Term(1),
    index: LogIndex(ledger.header.index + 1),
    verify: 'skip',
  })
  times.push(performance.now() - before)
  const { user, system } = process.cpuUsage(processorBefore)
  processorTimes.push((user + system) / 1000)
  const refused = executed.receipts.find(receipt => receipt.code !== 'ok')
  if (refused) throw new Error(`a transaction was refused: ${refused.code}`)
  ledger = executed.ledger
}
/** Without the first quarter, in which code is compiled. */
function medianOf(values: readonly number[]): number {
  const warm = values.slice(Math.floor(blocks / 4)).sort((a, b) => a - b)
  return warm[Math.floor(warm.length / 2)] ?? 0
}

const median = medianOf(times)
console.log(
  JSON.stringify({
    identities,
    blockSize,
    medianBlockMs: Number(median.toFixed(2)),
    processorMicrosecondsPerTransaction: Math.round((medianOf(processorTimes) * 1000) / blockSize),
    transactionsPerSecond: Math.round((blockSize / median) * 1000),
  }),
)
