/**
 * A whole chain in one object: a real ledger, real transactions, and real certificates of its three consenters, without
 * Raft, storage or network. `source()` serves it as full nodes do, and lies on demand.
 */
import { createHash } from 'node:crypto'
import { type Block, type BlockProposal, devicesOf, type Receipt } from '../../chain/block.ts'
import type { ChainId, DeviceId, GrantId, Hash } from '../../chain/brands.ts'
import {
  type GroupId,
  Height,
  LogIndex,
  Milliseconds,
  type StateKey,
  Term,
  type TransactionId,
} from '../../chain/brands.ts'
import { type Certificate, certificateSigningBytes } from '../../chain/certificate.ts'
import { decodeOwn } from '../../chain/codec.ts'
import { type ConsenterSet, consenterSet, quorumOf, signersHash } from '../../chain/consenters.ts'
import { type ExecutedBlock, type ExecutedTransaction, executeBlock } from '../../chain/execution.ts'
import {
  checkpointFromGenesis,
  defaultGenesisParameters,
  type GenesisDocument,
  type GenesisIdentity,
  genesisDocument,
  genesisLedger,
  genesisState,
} from '../../chain/genesis.ts'
import type { Signer } from '../../chain/keys.ts'
import type { Ledger } from '../../chain/ledger.ts'
import {
  type CertifiedHeader,
  type Handover,
  type StateAnswer,
  stateAnswer,
  type TrustedHead,
} from '../../chain/light-client.ts'
import { membersCodec, stateKeyOf } from '../../chain/records.ts'
import { assert, MoteError } from '../../chain/result.ts'
import { get, prove } from '../../chain/state-tree.ts'
import { grantIdOf, type Label, type TransactionBody } from '../../chain/transaction.ts'
import type { DeviceTransaction, GroupAnswer, TransactionStatus } from '../../client/chain-source.ts'
import { type IdentityKeys, makeKeys, signerOf } from '../../client/key-directory.ts'
import { nativeSignerFromSeed, nativeVerifier } from '../../client/native-crypto.ts'
import { signedBody } from '../../client/submission.ts'
import { TestSource } from './test-source.ts'

export { TestSource }

/** Keys that are the same in every run. */
export function keysOf(name: string): IdentityKeys {
  const seedOf = (purpose: string) => createHash('sha256').update(`${name} ${purpose}`).digest()
  return makeKeys(name, { seedOf, transport: true })
}

const signers = new WeakMap<IdentityKeys, Signer>()

/** The signer of a full node, made once: to make one costs as much as its signature. */
function consenterSigner(keys: IdentityKeys): Signer {
  const signer = signers.get(keys) ?? signerOf(keys)
  signers.set(keys, signer)
  return signer
}

/** The token of a grant, the same in every run. */
export function tokenOf(name: string): Signer {
  return nativeSignerFromSeed('ed25519', createHash('sha256').update(`token ${name}`).digest())
}

interface ServedBlock extends Pick<Block, 'transactions' | 'receipts'> {
  readonly ledger: Ledger
  /** The set that took over after this block, and its certificate. */
  readonly handover: Handover | undefined
  readonly changes: readonly StateKey[]
  readonly certificate: Certificate | undefined
}

export interface TestChainOptions {
  /** Active from genesis on, besides three full nodes, a coordination node and the operator. */
  readonly devices?: readonly string[]
  /** Full nodes that are no consenters yet. */
  readonly spares?: readonly string[]
  /** Operators besides the one of that name, and how many must approve. Default none, and 1. */
  readonly operators?: readonly string[]
  readonly threshold?: number
  readonly name?: string
  readonly startTime?: number
}

export class TestChain {
  readonly genesis: GenesisDocument
  readonly checkpoint: TrustedHead
  readonly operator = keysOf('operator')
  readonly coordination = keysOf('coordination-1')
  readonly fullNodes = ['full-1', 'full-2', 'full-3'].map(keysOf)
  /** Full nodes that are no consenters of the genesis. */
  readonly spares: readonly IdentityKeys[]
  /** By height; the first is genesis. */
  readonly blocks: ServedBlock[]
  readonly #placed = new Map<TransactionId, TransactionStatus>()
  readonly #history: {
    readonly id: TransactionId
    readonly height: Height
    readonly executed: ExecutedTransaction
  }[] = []
  readonly #waiting = new Set<() => void>()

  constructor(options: TestChainOptions = {}) {
    const { devices = [], spares = [], name = 'test-chain', startTime = 1_790_000_000_000 } = options
    const operators = [this.operator, ...(options.operators ?? []).map(keysOf)]
    this.spares = spares.map(keysOf)
    const identity = (keys: IdentityKeys, label: Label): GenesisIdentity => ({
      inceptionKey: keys.signing.publicKey,
      label,
      encryptionKey: keys.encryption.publicKey,
      transportKey: keys.transport?.publicKey,
      metadataHash: undefined,
    })
    this.genesis = genesisDocument({
      name,
      createdAt: Milliseconds(startTime),
      consenters: this.fullNodes.map(keys => ({ id: keys.id, key: keys.signing.publicKey })),
      quorumPolicy: 'majority',
      authorities: operators.map(({ id, signing }) => ({ id, key: signing.publicKey })),
      threshold: options.threshold ?? 1,
      parameters: defaultGenesisParameters,
      identities: [
        ...[...this.fullNodes, ...this.spares].map(keys => identity(keys, 'full')),
        identity(this.coordination, 'coordination'),
        ...operators.map(keys => identity(keys, 'lightweight')),
        ...devices.map(device => identity(keysOf(device), 'lightweight')),
      ],
    })
    this.checkpoint = checkpointFromGenesis(this.genesis)
    const changes = [...genesisState(this.genesis).keys()]
    const ledger = genesisLedger(this.genesis)
    const nothing = { transactions: [], receipts: [], certificate: undefined, handover: undefined }
    this.blocks = [{ ledger, changes, ...nothing }]
  }

  get chainId(): ChainId {
    return this.checkpoint.chainId
  }

  get height(): Height {
    return Height(this.blocks.length - 1)
  }

  get ledger(): Ledger {
    return this.at(this.height).ledger
  }

  get time(): Milliseconds {
    return this.ledger.header.time
  }

  at(height: number): ServedBlock {
    const block = this.blocks[height]
    if (!block) throw new MoteError('height-not-available', `height ${height}`)
    return block
  }

  /** One more block, a second later unless said otherwise. */
  append(
    transactions: readonly Uint8Array[] = [],
    options: { readonly certify?: boolean; readonly afterMs?: number } = {},
  ): readonly Receipt[] {
    const { certify = true, afterMs = 1000 } = options
    const time = Milliseconds(this.time + afterMs)
    const type = transactions.length > 0 ? 'block' : 'heartbeat'
    const executed = this.#execute({ version: 1, type, time, transactions }, certify)
    return executed.receipts
  }

  /** A block that hands over to these full nodes, certified by both sets; governance must have decided on them. */
  handOver(target: ConsenterSet): Height {
    const time = Milliseconds(this.time + 1000)
    const proposal = { version: 1, type: 'handover', time, signersHash: signersHash(target) } as const
    assert(this.#execute(proposal, true).handover, 'handover: governance has decided on another set')
    return this.height
  }

  /** The operator decides on these consenters, and they take over. */
  changeConsenters(nodes: readonly IdentityKeys[]): Height {
    const target = consenterSet(
      nodes.map(keys => ({ id: keys.id, key: keys.signing.publicKey })),
      'majority',
    )
    this.perform(this.operator, { type: 'governance.consenters', target })
    return this.handOver(target)
  }

  #execute(proposal: BlockProposal, certify: boolean): ExecutedBlock {
    const index = LogIndex(this.ledger.header.index + 2)
    const block = executeBlock(this.ledger, { proposal, term: Term(1), index, verify: nativeVerifier })
    const { ledger, header, headerHash, changes, executed, receipts } = block
    const { transactions } = 'transactions' in proposal ? proposal : { transactions: [] }
    const certificate = certify ? this.certify(header.height, headerHash) : undefined
    const handover = block.handover && {
      consenters: block.handover,
      certificate: this.certify(header.height, headerHash, undefined, block.handover),
    }
    this.blocks.push({ ledger, changes, transactions, receipts, certificate, handover })
    for (const item of executed) {
      const { id } = item.parsed
      const { code } = item.receipt
      const place = { id, height: header.height, term: header.term, index: item.index, time: header.time }
      this.#placed.set(
        id,
        code === 'ok' ? { ...place, status: 'certified' } : { ...place, status: 'invalid', code },
      )
      this.#history.push({ id, height: header.height, executed: item })
    }
    for (const wake of this.#waiting) wake()
    return block
  }

  /** The set whose turn it is to certify the block at this height. */
  signersAt(height: Height): ConsenterSet {
    return this.at(height - 1).ledger.parameters.consenters
  }

  /** A certificate by the quorum that comes first in the set; by others, of another set or for a wrong hash on demand. */
  certify(
    height: Height,
    headerHash: Hash,
    who?: readonly number[],
    set: ConsenterSet = this.signersAt(height),
  ): Certificate {
    const quorum = Array.from({ length: quorumOf(set) }, (_, signer) => signer)
    const message = certificateSigningBytes(this.chainId, 0, height, headerHash)
    const signatures = (who ?? quorum).map(signer => {
      const nodes = [...this.fullNodes, ...this.spares]
      const keys = nodes.find(node => node.id === set.consenters[signer]?.id)
      return { signer, signature: consenterSigner(keys!).sign(message) }
    })
    return { height, headerHash, signatures }
  }

  /** Signs and executes one transaction in a block of its own. Throws unless its receipt is ok. */
  perform(keys: IdentityKeys, body: TransactionBody): Height {
    const [receipt] = this.append([signedBody({ chainId: this.chainId, body, keys, time: this.time })])
    if (receipt?.code !== 'ok') throw new MoteError(receipt?.code ?? 'internal', `receipt of ${body.type}`)
    return this.height
  }

  /** The operator records a grant for the token of this name. */
  grant(token: string, terms: { quota?: number; highestLabel?: Label; validForMs?: number } = {}): GrantId {
    const { quota = 1, highestLabel = 'lightweight', validForMs = 600_000 } = terms
    const tokenKey = tokenOf(token).publicKey
    const expiry = Milliseconds(this.time + validForMs)
    this.perform(this.operator, { type: 'identity.grant', tokenKey, quota, expiry, highestLabel })
    return grantIdOf(tokenKey)
  }

  revoke(id: DeviceId): Height {
    return this.perform(this.operator, {
      type: 'identity.revoke',
      subject: id,
      reason: 'test',
    })
  }

  /* ------------------------------------------------------------ what full nodes serve */

  served(height: number): CertifiedHeader {
    const { ledger, changes, certificate, handover } = this.at(height)
    return { header: ledger.header, certificate, handover, changes }
  }

  block(height: number): Block {
    const { ledger, transactions, receipts } = this.at(height)
    return { header: ledger.header, transactions, receipts }
  }

  answer(key: StateKey, height: number): StateAnswer {
    const { ledger, certificate } = this.at(height)
    const proof = prove(ledger.tree, key)
    const signed = certificate ?? {
      height: ledger.header.height,
      headerHash: ledger.headerHash,
      signatures: [],
    }
    return stateAnswer(ledger.header, signed, get(ledger.tree, key), proof)
  }

  groupAnswer(id: GroupId, height: number): GroupAnswer {
    const members = get(this.at(height).ledger.tree, stateKeyOf.members(id))
    return {
      group: this.answer(stateKeyOf.group(id), height),
      members: members ? decodeOwn(membersCodec, members) : [],
    }
  }

  transactionStatus(id: TransactionId): TransactionStatus {
    return this.#placed.get(id) ?? { id, status: 'unknown' }
  }

  /** Newest first. */
  deviceTransactions(id: DeviceId): readonly DeviceTransaction[] {
    return this.#history
      .filter(({ executed }) => devicesOf(executed.parsed.unsigned).includes(id))
      .reverse()
      .map(item => ({
        id: item.id,
        height: item.height,
        index: item.executed.index,
        kind: item.executed.parsed.unsigned.body.type,
      }))
  }

  /** Resolves when a block comes or the time is over. */
  async news(timeoutMs: number, signal?: AbortSignal): Promise<void> {
    await new Promise<void>(resolve => {
      const done = () => {
        clearTimeout(timer)
        this.#waiting.delete(done)
        resolve()
      }
      const timer = setTimeout(done, timeoutMs)
      this.#waiting.add(done)
      signal?.addEventListener('abort', done, { once: true })
    })
  }

  source(name = 'honest'): TestSource {
    return new TestSource(this, name)
  }
}
