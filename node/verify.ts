/**
 * `mote node verify`: reads all that a stopped full node keeps, executes every block again from the genesis on, and names what does not
 * come out as stored. So a record that somebody has rewritten in this database, checksum and all, is found, with its block; what peers
 * serve and light nodes believe is not touched by it, for no certificate covers it.
 *
 * The headers are judged as a light client judges them: certificate by certificate from the genesis on, over each handover with both
 * certificates. So whoever rewrites a block with all that follows from it has no certificate for it, and whoever takes the newest
 * certificates away leaves blocks that none covers. What this node has signed itself is compared as well.
 *
 * A node that came by a snapshot lacks earlier blocks, and one that forgets (ledger/retention.ts) has their leaf hashes only. It cannot
 * execute what follows: then each block, or its leaf hashes, is compared with the roots in its header alone.
 */

import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type BlockProposal,
  decodeProposal,
  type Receipt,
  receiptCodec,
  receiptsCodec,
} from '../chain/block.ts'
import { type BlockLeaves, foreignLeaves } from '../chain/block-leaves.ts'
import { Height, type TransactionId } from '../chain/brands.ts'
import { certificateCodec } from '../chain/certificate.ts'
import { type Codec, encode } from '../chain/codec.ts'
import { executeBlock } from '../chain/execution.ts'
import { checkpointFromGenesis, type GenesisDocument, genesisLedger } from '../chain/genesis.ts'
import { type Header, headerCodec, headerHash } from '../chain/header.ts'
import type { SignatureVerifier } from '../chain/keys.ts'
import type { Ledger } from '../chain/ledger.ts'
import { advance, type CertifiedHeader, type TrustedHead, throughHandovers } from '../chain/light-client.ts'
import { merkleRoot } from '../chain/merkle.ts'
import { MoteError, refusalOf } from '../chain/result.ts'
import { parseTransaction } from '../chain/transaction.ts'
import { readGenesisOf } from '../client/genesis-file.ts'
import { readKeyFile } from '../client/key-directory.ts'
import { nativeVerifier } from '../client/native-crypto.ts'
import { decodeStored } from '../client/stored-value.ts'
import { readFullNodeConfig } from './config.ts'
import { recoverChain } from './ledger/chain-recovery.ts'
import { forgottenBlockCodec, handoverCodec } from './ledger/live-chain.ts'
import type { Storage } from './ports.ts'
import { openLevelStorage } from './storage/level-storage.ts'

/** What is not as it was certified. */
export interface VerifyFinding {
  readonly height: number
  readonly problem: string
  /** The transaction that is other than was certified, as its receipt names it. */
  readonly transaction?: TransactionId
}

export interface VerifyReport {
  readonly height: number
  /** Blocks that are here as a whole. */
  readonly blocks: number
  /** Heights without a block: a snapshot took their place, or somebody removed them. */
  readonly missing: number
  /** Blocks of which only the leaf hashes are kept. */
  readonly forgotten: number
  /** How many blocks were executed again, from the genesis on. */
  readonly executed: number
  readonly certificates: number
  /** The newest blocks, which no certificate here covers: a node that ends may lack those, and collects them when it runs. */
  readonly uncertified: number
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

/** What is stored of one height; without a body where a snapshot took the place of the block. */
interface StoredBlock {
  readonly header: Header
  readonly body: StoredBody | undefined
}

type StoredBody =
  | { readonly type: 'whole'; readonly data: Uint8Array; readonly receipts: readonly Receipt[] }
  | { readonly type: 'forgotten'; readonly leaves: BlockLeaves }

class Walk {
  readonly #storage: Storage
  readonly #genesis: GenesisDocument
  readonly #verifier: SignatureVerifier
  readonly #findings: VerifyFinding[] = []
  /** As long as every block before was here and came out as stored. */
  #ledger: Ledger | undefined
  /** The newest header that is certified here. */
  #trusted: TrustedHead
  /** Headers with the certificates of two sets, in order. */
  #handovers: CertifiedHeader[] = []
  #previous: Header | undefined
  #counts = { blocks: 0, missing: 0, forgotten: 0, executed: 0, certificates: 0 }

  constructor(storage: Storage, genesis: GenesisDocument, verifier: SignatureVerifier) {
    this.#storage = storage
    this.#genesis = genesis
    this.#verifier = verifier
    this.#ledger = genesisLedger(genesis)
    this.#trusted = checkpointFromGenesis(genesis)
    this.#previous = this.#ledger.header
  }

  async report(): Promise<VerifyReport> {
    const height = await this.#state()
    await this.#readHandovers()
    for (let at = 1; at <= height && this.#findings.length < maxFindings; at++) await this.#block(Height(at))
    const uncertified = Math.max(0, height - this.#trusted.header.height)
    return { height, ...this.#counts, uncertified, findings: this.#findings }
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

  async #readHandovers(): Promise<void> {
    try {
      for await (const { height, record } of this.#storage.handovers()) {
        const { proven } = decodeStored(handoverCodec, record, `handover ${height}`, Number.MAX_SAFE_INTEGER)
        if (proven) this.#handovers.push(proven)
      }
    } catch (error) {
      this.#find(0, refusalOf(error).detail)
    }
  }

  #find(height: number, problem: string, transaction?: TransactionId): void {
    this.#findings.push({ height, problem, ...(transaction && { transaction }) })
  }

  async #block(height: Height): Promise<void> {
    try {
      const stored = await this.#stored(height)
      if (!stored?.body) {
        this.#counts.missing++
        this.#ledger = undefined
      }
      if (stored) {
        this.#links(stored.header)
        if (stored.body?.type === 'whole') this.#whole(stored.header, stored.body)
        if (stored.body?.type === 'forgotten') this.#forgotten(stored.header, stored.body.leaves)
        await this.#certified(stored.header)
        await this.#signed(stored.header)
      }
      this.#previous = stored?.header
    } catch (error) {
      this.#find(height, refusalOf(error).detail)
      this.#ledger = undefined
      this.#previous = undefined
    }
  }

  async #stored(height: Height): Promise<StoredBlock | undefined> {
    const [header, data, receipts, forgotten] = await Promise.all([
      this.#storage.header(height),
      this.#storage.block(height),
      this.#storage.receipts(height),
      this.#storage.forgotten(height),
    ])
    if (!header) return undefined
    const read = <T>(codec: Codec<T>, bytes: Uint8Array, name: string) =>
      decodeStored(codec, bytes, name, Number.MAX_SAFE_INTEGER)
    const bodyOf = (): StoredBody | undefined => {
      if (data && receipts)
        return { type: 'whole', data, receipts: read(receiptsCodec, receipts, 'receipts') }
      if (!forgotten) return undefined
      return { type: 'forgotten', leaves: read(forgottenBlockCodec, forgotten, 'forgotten').leaves }
    }
    return { header: read(headerCodec, header, 'header'), body: bodyOf() }
  }

  #links({ height, previousHash }: Header): void {
    if (this.#previous && headerHash(this.#previous) !== previousHash)
      this.#find(height, 'header: does not follow from the one before')
  }

  #forgotten(header: Header, leaves: BlockLeaves): void {
    this.#counts.forgotten++
    this.#ledger = undefined
    for (const tree of foreignLeaves(header, leaves))
      this.#find(header.height, `leaf hashes: those of the ${tree} are other ones than the header names`)
  }

  #whole(header: Header, { data, receipts }: Extract<StoredBody, { type: 'whole' }>): void {
    this.#counts.blocks++
    const proposal = decodeProposal(data)
    if (!proposal.ok) {
      this.#find(header.height, `block: ${proposal.error.detail}`)
      this.#ledger = undefined
      return
    }
    const transactions = proposal.value.type === 'handover' ? [] : proposal.value.transactions
    const leaves = receipts.map(receipt => encode(receiptCodec, receipt))
    if (merkleRoot(leaves) !== header.receiptsRoot)
      this.#find(header.height, 'receipts: other ones than the header names')
    if (merkleRoot(transactions) !== header.transactionsRoot) {
      this.#nameOthers(header.height, transactions, receipts)
      this.#ledger = undefined
      return
    }
    this.#executes(header, proposal.value, receipts)
  }

  /** Names the transactions that are not those of the receipts. */
  #nameOthers(height: Height, transactions: readonly Uint8Array[], receipts: readonly Receipt[]): void {
    const found = this.#findings.length
    for (const [i, { id, code }] of receipts.entries()) {
      const parsed = parseTransaction(transactions[i] ?? new Uint8Array(0))
      const isUnreadable = code === 'malformed' || code === 'unknown-version' || code === 'too-large'
      if (!isUnreadable && (!parsed.ok || parsed.value.id !== id))
        this.#find(height, `transaction ${i}: other bytes than were certified`, id)
    }
    if (this.#findings.length === found) this.#find(height, 'transactions: other ones than the header names')
  }

  /** Names the receipts, and the fields of the header, that execution gives otherwise. */
  #executes(header: Header, proposal: BlockProposal, receipts: readonly Receipt[]): void {
    if (!this.#ledger) return
    const { term, index, height } = header
    const block = executeBlock(this.#ledger, { proposal, term, index, verify: this.#verifier })
    for (const [i, given] of block.receipts.entries()) {
      const { id, code } = receipts[i] ?? { id: given.id, code: 'missing' }
      if (code !== given.code)
        this.#find(height, `transaction ${i}: its receipt says ${code}, execution ${given.code}`, id)
    }
    if (block.headerHash !== headerHash(header)) {
      const names = Object.keys(header) as (keyof Header)[]
      const others = names.filter(name => header[name] !== block.header[name])
      this.#find(height, `execution: gives another ${others.join(', ')} than is stored`)
      this.#ledger = undefined
      return
    }
    this.#counts.executed++
    this.#ledger = block.ledger
  }

  async #certified(header: Header): Promise<void> {
    const { height } = header
    const proven = this.#handovers.find(each => each.header.height === height)
    const bytes = await this.#storage.certificate(height)
    const stored = bytes && decodeStored(certificateCodec, bytes, 'certificate', Number.MAX_SAFE_INTEGER)
    const certificate = proven?.certificate ?? stored
    if (!certificate) return
    if (certificate.headerHash !== headerHash(header)) {
      this.#find(height, 'certificate: is of another header than is stored')
      return
    }
    // Those between the last certified header and this one, where a snapshot took the place of blocks.
    const before = throughHandovers(this.#trusted, this.#handovers, height, this.#verifier)
    const after = before.ok
      ? advance(before.value, header, certificate, this.#verifier, proven?.handover)
      : before
    if (!after.ok) {
      this.#find(height, after.error.detail)
      return
    }
    this.#trusted = after.value
    this.#counts.certificates++
  }

  /** What this node itself has promised with its signature. */
  async #signed(header: Header): Promise<void> {
    const { height, incarnation } = header
    const signed = await this.#storage.signedHeader({ incarnation, height })
    if (signed && signed.headerHash !== headerHash(header))
      this.#find(height, 'signature: this node has signed another header than is stored')
  }
}
