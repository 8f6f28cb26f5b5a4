/**
 * `mote node verify`: reads all that a stopped full node keeps, executes every block again from the genesis on, and names what does not
 * come out as stored. So a record that somebody has rewritten in this database, checksum and all, is found, with its block; what peers
 * serve and light nodes believe is not touched by it, for no certificate covers it.
 *
 * A node that came by a snapshot lacks earlier blocks, and cannot execute what it has: then each block is compared with the roots in its
 * header, and the headers with each other and with the certificates, which say nothing about the state.
 */
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { decodeProposal, receiptCodec, receiptsCodec } from '../chain/block.ts'
import { Height, type TransactionId } from '../chain/brands.ts'
import { certificateCodec, verifyCertificate } from '../chain/certificate.ts'
import { encode } from '../chain/codec.ts'
import { type ConsenterSet, signersHash } from '../chain/consenters.ts'
import { executeBlock } from '../chain/execution.ts'
import { consentersOf, type GenesisDocument, genesisLedger } from '../chain/genesis.ts'
import { type Header, headerCodec, headerHash } from '../chain/header.ts'
import type { SignatureVerifier } from '../chain/keys.ts'
import type { Ledger } from '../chain/ledger.ts'
import { merkleRoot } from '../chain/merkle.ts'
import { MoteError, refusalOf } from '../chain/result.ts'
import { parseTransaction } from '../chain/transaction.ts'
import { readGenesisOf } from '../client/genesis-file.ts'
import { readKeyFile } from '../client/key-directory.ts'
import { nativeVerifier } from '../client/native-crypto.ts'
import { decodeStored } from '../client/stored-value.ts'
import { readFullNodeConfig } from './config.ts'
import { recoverChain } from './ledger/chain-recovery.ts'
import type { Storage } from './ports.ts'
import { openLevelStorage } from './storage/level-storage.ts'

/** What is not as it was certified. */
export interface VerifyFinding {
  readonly height: number
  readonly problem: string
  /** The transaction whose bytes are other ones than its receipt speaks of. */
  readonly transaction?: TransactionId
}

export interface VerifyReport {
  readonly height: number
  /** Blocks that are here. */
  readonly blocks: number
  /** How many of them were executed again, from the genesis on. */
  readonly executed: number
  readonly certificates: number
  readonly findings: readonly VerifyFinding[]
}

/** Findings after which reading stops. */
const maxFindings = 100

/** Throws `config-invalid`, `wrong-chain`, `in-use` while the node runs, `storage-failed`. */
export async function verifyNode(configFile: string): Promise<VerifyReport> {
  const config = await readFullNodeConfig(configFile)
  const genesis = await readGenesisOf(config)
  const keys = await readKeyFile(config.key)
  const directory = join(config.data, 'chain')
  await stat(directory).catch((cause: unknown) => {
    throw new MoteError('not-found', `${directory}: the node keeps nothing yet`, { cause })
  })
  const storage = await openLevelStorage(directory, { chainId: config.chainId, deviceId: keys.id })
  try {
    return await verifyStorage(storage, genesis, nativeVerifier)
  } finally {
    await storage.close()
  }
}

/** The same of a storage that nobody else uses. */
export async function verifyStorage(
  storage: Storage,
  genesis: GenesisDocument,
  verifier: SignatureVerifier,
): Promise<VerifyReport> {
  const walk = new Walk(storage, genesis, verifier)
  return walk.report()
}

/** What is stored of one height. */
interface StoredBlock {
  readonly header: Header
  readonly data: Uint8Array
  readonly receipts: Uint8Array
}

class Walk {
  readonly #storage: Storage
  readonly #genesis: GenesisDocument
  readonly #verifier: SignatureVerifier
  readonly #findings: VerifyFinding[] = []
  /** As long as every block before was here and came out as stored. */
  #ledger: Ledger | undefined
  #consenters: ConsenterSet | undefined
  #previous: Header | undefined
  #counts = { blocks: 0, executed: 0, certificates: 0 }

  constructor(storage: Storage, genesis: GenesisDocument, verifier: SignatureVerifier) {
    this.#storage = storage
    this.#genesis = genesis
    this.#verifier = verifier
    this.#ledger = genesisLedger(genesis)
    this.#consenters = consentersOf(genesis)
    this.#previous = this.#ledger.header
  }

  async report(): Promise<VerifyReport> {
    const height = await this.#state()
    for (let at = 1; at <= height && this.#findings.length < maxFindings; at++) await this.#block(Height(at))
    return { height, ...this.#counts, findings: this.#findings }
  }

  /** The state against the newest header: recovery does that. Its height, or how far headers go if it is damaged. */
  async #state(): Promise<number> {
    try {
      return (await recoverChain(this.#storage, this.#genesis)).ledger.header.height
    } catch (error) {
      const { code, detail } = refusalOf(error)
      if (code !== 'storage-corrupt') throw error
      this.#find(0, `state: ${detail}`)
      const latest = await this.#storage.latestCertificate().catch(() => undefined)
      return latest?.height ?? 0
    }
  }

  #find(height: number, problem: string, transaction?: TransactionId): void {
    this.#findings.push({ height, problem, ...(transaction && { transaction }) })
  }

  async #block(height: Height): Promise<void> {
    try {
      const stored = await this.#stored(height)
      if (!stored) {
        // Before a snapshot.
        this.#ledger = undefined
        this.#consenters = undefined
        this.#previous = undefined
        return
      }
      this.#counts.blocks++
      this.#links(stored.header)
      this.#contents(stored)
      this.#executes(stored)
      await this.#certified(stored.header)
      this.#previous = stored.header
    } catch (error) {
      this.#find(height, refusalOf(error).detail)
      this.#ledger = undefined
      this.#previous = undefined
    }
  }

  async #stored(height: Height): Promise<StoredBlock | undefined> {
    const [header, data, receipts] = await Promise.all([
      this.#storage.header(height),
      this.#storage.block(height),
      this.#storage.receipts(height),
    ])
    if (!header || !data || !receipts) return undefined
    return { header: decodeStored(headerCodec, header, 'header', Number.MAX_SAFE_INTEGER), data, receipts }
  }

  #links({ height, previousHash }: Header): void {
    if (this.#previous && headerHash(this.#previous) !== previousHash)
      this.#find(height, 'header: does not follow from the one before')
  }

  /** Transactions and receipts against the roots in the header. */
  #contents({ header, data, receipts: stored }: StoredBlock): void {
    const proposal = decodeProposal(data)
    if (!proposal.ok) {
      this.#find(header.height, `block: ${proposal.error.detail}`)
      return
    }
    const transactions = proposal.value.type === 'handover' ? [] : proposal.value.transactions
    const receipts = decodeStored(receiptsCodec, stored, 'receipts', Number.MAX_SAFE_INTEGER)
    const leaves = receipts.map(receipt => encode(receiptCodec, receipt))
    if (merkleRoot(leaves) !== header.receiptsRoot)
      this.#find(header.height, 'receipts: other ones than the header names')
    if (merkleRoot(transactions) === header.transactionsRoot) return
    const found = this.#findings.length
    for (const [i, { id, code }] of receipts.entries()) {
      const parsed = parseTransaction(transactions[i] ?? new Uint8Array(0))
      const isUnreadable = code === 'malformed' || code === 'unknown-version' || code === 'too-large'
      if (!isUnreadable && (!parsed.ok || parsed.value.id !== id))
        this.#find(header.height, `transaction ${i}: other bytes than were certified`, id)
    }
    if (this.#findings.length === found)
      this.#find(header.height, 'transactions: other ones than the header names')
  }

  #executes({ header, data }: StoredBlock): void {
    const proposal = decodeProposal(data)
    if (!this.#ledger || !proposal.ok) return
    const { term, index, height } = header
    const block = executeBlock(this.#ledger, {
      proposal: proposal.value,
      term,
      index,
      verify: this.#verifier,
    })
    if (block.headerHash !== headerHash(header)) {
      this.#find(height, 'execution: gives another header than is stored')
      this.#ledger = undefined
      return
    }
    this.#counts.executed++
    this.#ledger = block.ledger
  }

  /** By the consenters whom the state names, or, without one, as long as none were replaced. */
  async #certified(header: Header): Promise<void> {
    const { height, signersHash: signers, chainId, incarnation } = header
    const bytes = await this.#storage.certificate(height)
    if (bytes && this.#consenters && signersHash(this.#consenters) === signers) {
      const certificate = decodeStored(certificateCodec, bytes, 'certificate', Number.MAX_SAFE_INTEGER)
      const isOf = certificate.height === height && certificate.headerHash === headerHash(header)
      const verified = verifyCertificate(this.#consenters, chainId, incarnation, certificate, this.#verifier)
      if (!isOf) this.#find(height, 'certificate: is of another header')
      else if (!verified.ok) this.#find(height, `certificate: ${verified.error.detail}`)
      else this.#counts.certificates++
    }
    this.#consenters = this.#ledger?.parameters.consenters ?? this.#consenters
  }
}
