/**
 * What a record takes on a full node's disk, and what is left of it once its block is forgotten: `node bench/retention.ts [records]`.
 *
 * Real blocks of signed records, executed and written as a node writes them, with certificates of two of three consenters and the record of
 * what this node signed, into LevelDB; then the node's own retention, all blocks but one. Not counted: the log, which is bounded by
 * `compaction` and holds the newest transactions a second time. Bytes are those of the files, each divided by the records:
 *
 *   before      as LevelDB has it when it has compacted everything
 *   after       when the node has forgotten and ended: it gives room back in large steps
 *   compacted   and when LevelDB has compacted everything
 */
import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { proposalCodec } from '../chain/block.ts'
import { LogIndex, Milliseconds, Term } from '../chain/brands.ts'
import { certificateCodec, certificateSigningBytes } from '../chain/certificate.ts'
import { encode } from '../chain/codec.ts'
import {
  chainIdOf,
  defaultGenesisParameters,
  type GenesisDocument,
  genesisDocument,
} from '../chain/genesis.ts'
import { deviceIdOf, keyIdOf } from '../chain/keys.ts'
import { assert } from '../chain/result.ts'
import { type DeviceRecord, signTransaction, type TransactionBody } from '../chain/transaction.ts'
import { openLevel } from '../client/level-directory.ts'
import { nativeSignerFromSeed, nativeVerifier } from '../client/native-crypto.ts'
import { valuesOfPayload } from '../client/record-values.ts'
import { recoverChain } from '../node/ledger/chain-recovery.ts'
import { defaultLiveChainLimits, LiveChain } from '../node/ledger/live-chain.ts'
import { Retention } from '../node/ledger/retention.ts'
import type { Storage } from '../node/ports.ts'
import { openLevelStorage } from '../node/storage/level-storage.ts'
import { machineLine } from './machine.ts'

const startedAt = 1_700_000_000_000
const signerOf = (i: number) => nativeSignerFromSeed('ed25519', new Uint8Array(32).fill(i))
const [first, second, third, device] = [signerOf(1), signerOf(2), signerOf(3), signerOf(4)]
const signers = [first, second, third, device]
const deviceId = deviceIdOf(device.publicKey)
const deviceKeyId = keyIdOf(device.publicKey)

const genesis: GenesisDocument = genesisDocument({
  name: 'bench',
  createdAt: Milliseconds(startedAt),
  consenters: signers.slice(0, 3).map(({ publicKey }) => ({ id: deviceIdOf(publicKey), key: publicKey })),
  quorumPolicy: 'majority',
  authorities: [{ id: deviceIdOf(first.publicKey), key: first.publicKey }],
  threshold: 1,
  parameters: defaultGenesisParameters,
  identities: signers.map(({ publicKey }, i) => ({
    inceptionKey: publicKey,
    label: i < 3 ? ('full' as const) : ('lightweight' as const),
    encryptionKey: undefined,
    transportKey: undefined,
    metadataHash: undefined,
  })),
})
const chainId = chainIdOf(genesis)

/** Hexadecimal digits that compress no better than they must. */
function noise(n: number, length: number): string {
  let text = ''
  for (let i = 0; text.length < length; i++) text += createHash('sha256').update(`${n} ${i}`).digest('hex')
  return text.slice(0, Math.max(0, length))
}

/** A reading of six values, as the fire example's. */
function reading(n: number, payloadBytes: number): DeviceRecord {
  const scalars = { CS: n % 997, P: n % 89, H0: n % 83, H1: n % 79, H2: n % 73, H3: n % 71 }
  const text = JSON.stringify(scalars)
  return {
    source: undefined,
    topic: 'forest/north',
    payload: Uint8Array.from(Buffer.from(text + noise(n, payloadBytes - text.length))),
    values: valuesOfPayload(scalars),
    claimedTime: Milliseconds(startedAt + n),
    messageId: undefined,
  }
}

interface Load {
  readonly name: string
  readonly payloadBytes: number
  readonly recordsPerTransaction: number
  readonly transactionsPerBlock: number
}

function transactionOf(load: Load, from: number, time: number): Uint8Array {
  const records = Array.from({ length: load.recordsPerTransaction }, (_, i) =>
    reading(from + i, load.payloadBytes),
  )
  const [only] = records
  const body: TransactionBody =
    records.length === 1 && only
      ? { type: 'record.one', qos: 1, record: only }
      : { type: 'record.batch', qos: 1, records }
  const nonce = new Uint8Array(16)
  new DataView(nonce.buffer).setUint32(0, from)
  const signer = { deviceId, keyId: deviceKeyId }
  return signTransaction(
    { version: 1, chainId, body, signer, nonce, expiry: Milliseconds(time + 60_000) },
    device,
  )
}

/** Executes and stores blocks of the load as a node does; the chain they make. */
async function write(storage: Storage, load: Load, records: number): Promise<LiveChain> {
  const chain = new LiveChain(await recoverChain(storage, genesis), nativeVerifier, defaultLiveChainLimits)
  const perBlock = load.recordsPerTransaction * load.transactionsPerBlock
  for (let from = 0; from < records; from += perBlock) {
    const time = startedAt + from
    const transactions = Array.from({ length: load.transactionsPerBlock }, (_, i) =>
      transactionOf(load, from + i * load.recordsPerTransaction, time),
    )
    const proposal = { version: 1, type: 'block', time: Milliseconds(time), transactions } as const
    const index = LogIndex(chain.height + 1)
    const execution = chain.execute(encode(proposalCodec, proposal), { term: Term(1), index })
    assert(execution, 'a proposal makes a block')
    const [refused] = execution.outcomes.filter(({ code }) => code !== 'ok')
    assert(!refused, `every record is recorded: ${refused?.code}`)
    const { height, headerHash } = execution.block
    const signed = { height, headerHash, incarnation: 0 }
    await storage.apply({ applied: index, blocks: [{ ...execution.write, signed }] })
    const message = certificateSigningBytes(chainId, 0, height, headerHash)
    const signatures = [first, second].map((signer, i) => ({ signer: i, signature: signer.sign(message) }))
    const certificate = { height, headerHash, signatures }
    storage.putCertificate(height, encode(certificateCodec, certificate))
    chain.adopt(certificate)
  }
  return chain
}

/** The node's own retention, without its pauses, to the end. */
async function forget(storage: Storage, chain: LiveChain): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const retention = new Retention({
      chain,
      storage,
      clock: {
        after: (_delayMs, callback) => {
          const timer = setTimeout(callback, 0)
          return () => clearTimeout(timer)
        },
      },
      events: { fault: reject },
      limits: { blocks: 1, ageMs: 0 },
    })
    retention.certified()
    const look = async () => {
      const lowest = await storage.blockAtOrAbove(chain.certifiedHeight)
      const below = await storage.forgotten(
        ((chain.certifiedHeight as number) - 1) as typeof chain.certifiedHeight,
      )
      if (lowest !== undefined && below) resolve()
      else setTimeout(look, 20)
    }
    look().catch(reject)
  })
}

function bytesOf(directory: string): number {
  return readdirSync(directory).reduce((sum, name) => sum + statSync(join(directory, name)).size, 0)
}

async function compact(directory: string): Promise<void> {
  const encoding = { keyEncoding: 'view', valueEncoding: 'view' } as const
  const level = await openLevel<Uint8Array, Uint8Array>(directory, encoding)
  // LevelDB has it, and the type that `level` shares with browsers has not.
  const compactable = level as unknown as { compactRange(from: Uint8Array, to: Uint8Array): Promise<void> }
  await compactable.compactRange(new Uint8Array(1), Uint8Array.of(255))
  await level.close()
}

const records = Number(process.argv[2] ?? 32_000)
const loads: readonly Load[] = [
  { name: 'one to a block', payloadBytes: 60, recordsPerTransaction: 1, transactionsPerBlock: 1 },
  { name: '100 to a block', payloadBytes: 60, recordsPerTransaction: 1, transactionsPerBlock: 100 },
  {
    name: 'of 1 KiB, 100 to a block',
    payloadBytes: 1024,
    recordsPerTransaction: 1,
    transactionsPerBlock: 100,
  },
  {
    name: 'batches of 32, 4 to a block',
    payloadBytes: 60,
    recordsPerTransaction: 32,
    transactionsPerBlock: 4,
  },
]
console.log(machineLine())
console.log('bytes of files for each record')
for (const load of loads) {
  // Each block is synced to disk.
  const count = load.transactionsPerBlock === 1 ? records / 8 : records
  const directory = mkdtempSync(join(tmpdir(), 'mote-retention-'))
  const owner = { chainId, deviceId: deviceIdOf(first.publicKey) }
  try {
    const storage = await openLevelStorage(directory, owner)
    const chain = await write(storage, load, count)
    await storage.close()
    await compact(directory)
    const before = bytesOf(directory)
    const again = await openLevelStorage(directory, owner)
    await forget(again, chain)
    await again.close()
    const after = bytesOf(directory)
    await compact(directory)
    const each = (bytes: number) => String(Math.round(bytes / count)).padStart(6)
    console.log(
      `${load.name.padEnd(28)} ${String(count).padStart(6)} records: before ${each(before)}, after ${each(after)}, compacted ${each(bytesOf(directory))}`,
    )
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}
