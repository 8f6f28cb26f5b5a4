/**
 * A whole chain in one object: a real ledger, real transactions, and real certificates of its three consenters, without
 * Raft, storage or network. `source()` serves it as full nodes do, and lies on demand.
 */
import { createHash } from 'node:crypto'
import type { Receipt } from '../../chain/block.ts'
import type { ChainId, DeviceId, GrantId, Hash } from '../../chain/brands.ts'
import {
  type GroupId,
  Height,
  Milliseconds,
  type StateKey,
  Term,
  type TransactionId,
} from '../../chain/brands.ts'
import { type Certificate, certificateSigningBytes } from '../../chain/certificate.ts'
import { decodeOwn } from '../../chain/codec.ts'
import type { ExecutedTransaction } from '../../chain/execution.ts'
import { executeBlock } from '../../chain/execution.ts'
import {
  checkpointFromGenesis,
  consentersOf,
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
  type StateAnswer,
  stateAnswer,
  type TrustedHead,
} from '../../chain/light-client.ts'
import { membersCodec, stateKeyOf } from '../../chain/records.ts'
import { MoteError } from '../../chain/result.ts'
import { get, prove } from '../../chain/state-tree.ts'
import { grantIdOf, type Label, parseTransaction, type TransactionBody } from '../../chain/transaction.ts'
import type {
  ChainSource,
  DeviceTransaction,
  GroupAnswer,
  NodeStatus,
  TransactionStatus,
} from '../../client/chain-source.ts'
import { type IdentityKeys, makeKeys, signerOf } from '../../client/key-directory.ts'
import { nativeSignerFromSeed, nativeVerifier } from '../../client/native-crypto.ts'
import { signedBody } from '../../client/submission.ts'

/** Keys that are the same in every run. */
export function keysOf(name: string): IdentityKeys {
  const seedOf = (purpose: string) => createHash('sha256').update(`${name} ${purpose}`).digest()
  return makeKeys(name, { seedOf, transport: true })
}

/** The token of a grant, the same in every run. */
export function tokenOf(name: string): Signer {
  return nativeSignerFromSeed('ed25519', createHash('sha256').update(`token ${name}`).digest())
}

interface ServedBlock {
  readonly ledger: Ledger
  readonly changes: readonly StateKey[]
  readonly certificate: Certificate | undefined
}

export interface TestChainOptions {
  /** Active from genesis on, besides three full nodes, a coordination node and the operator. */
  readonly devices?: readonly string[]
  readonly name?: string
  readonly startTime?: number
}

export class TestChain {
  readonly genesis: GenesisDocument
  readonly checkpoint: TrustedHead
  readonly operator = keysOf('operator')
  readonly coordination = keysOf('coordination-1')
  readonly fullNodes = ['full-1', 'full-2', 'full-3'].map(keysOf)
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
    const { devices = [], name = 'test-chain', startTime = 1_790_000_000_000 } = options
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
      authorities: [{ id: this.operator.id, key: this.operator.signing.publicKey }],
      threshold: 1,
      parameters: defaultGenesisParameters,
      identities: [
        ...this.fullNodes.map(keys => identity(keys, 'full')),
        identity(this.coordination, 'coordination'),
        identity(this.operator, 'lightweight'),
        ...devices.map(device => identity(keysOf(device), 'lightweight')),
      ],
    })
    this.checkpoint = checkpointFromGenesis(this.genesis)
    const changes = [...genesisState(this.genesis).keys()]
    this.blocks = [{ ledger: genesisLedger(this.genesis), changes, certificate: undefined }]
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
    const block = executeBlock(this.ledger, {
      proposal: { version: 1, type, time, transactions },
      term: Term(1),
      verify: nativeVerifier,
    })
    const { ledger, header, changes, executed } = block
    this.blocks.push({
      ledger,
      changes,
      certificate: certify ? this.certify(header.height, block.headerHash) : undefined,
    })
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
    return block.receipts
  }

  /** A certificate by two of three; by all, or by a wrong hash, on demand. */
  certify(height: Height, headerHash: Hash, who: readonly number[] = [0, 1]): Certificate {
    const set = consentersOf(this.genesis)
    const message = certificateSigningBytes(this.chainId, 0, height, headerHash)
    const signatures = who.map(signer => {
      const keys = this.fullNodes.find(node => node.id === set.consenters[signer]?.id)
      return { signer, signature: signerOf(keys!).sign(message) }
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

  revoke(id: DeviceId, expectedVersion = 1): Height {
    return this.perform(this.operator, {
      type: 'identity.revoke',
      subject: id,
      expectedVersion,
      reason: 'test',
    })
  }

  /* ------------------------------------------------------------ what full nodes serve */

  served(height: number): CertifiedHeader {
    const { ledger, changes, certificate } = this.at(height)
    return { header: ledger.header, certificate, handover: undefined, changes }
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

  deviceTransactions(id: DeviceId): readonly DeviceTransaction[] {
    return this.#history
      .filter(({ executed }) => executed.parsed.unsigned.signer.deviceId === id)
      .map(item => ({ id: item.id, height: item.height, kind: item.executed.parsed.unsigned.body.type }))
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

/** A full node of a `TestChain`. Its hooks turn it into a broken or lying one. */
export class TestSource implements ChainSource {
  readonly name: string
  readonly chain: TestChain
  /** Requests that arrived, by method. */
  readonly asked = new Map<string, number>()
  /** Every request fails with this. */
  failure: MoteError | undefined
  /** It has seen no block above this. */
  frozenAt: number = Number.POSITIVE_INFINITY
  /** State is answered as of this height, although headers go on: how a revocation is withheld. */
  stateFrozenAt: number | undefined
  tamperState: (answer: StateAnswer) => StateAnswer = answer => answer
  tamperGroup: (answer: GroupAnswer) => GroupAnswer = answer => answer
  tamperHeader: (header: CertifiedHeader) => CertifiedHeader = header => header
  /** Runs after a state answer was made and before it arrives. */
  beforeStateArrives: () => Promise<void> | void = () => {}

  constructor(chain: TestChain, name: string) {
    this.chain = chain
    this.name = name
  }

  async status(): Promise<NodeStatus> {
    this.#ask('status')
    const { header } = this.chain.ledger
    return {
      name: this.name,
      id: this.chain.fullNodes[0]!.id,
      label: 'full',
      chainId: this.chain.chainId,
      role: 'leader',
      term: 1,
      leader: undefined,
      height: header.height,
      certifiedHeight: this.#certifiedHeight(),
      lag: 0,
      time: header.time,
      pid: 1,
      api: '',
      addresses: [],
    }
  }

  async submit(bytes: Uint8Array): Promise<TransactionStatus> {
    this.#ask('submit')
    const parsed = parseTransaction(bytes)
    if (!parsed.ok) throw new MoteError(parsed.error.code, parsed.error.detail)
    const before = this.chain.transactionStatus(parsed.value.id)
    if (before.status !== 'unknown') return before
    const [receipt] = this.chain.append([bytes])
    const status = this.chain.transactionStatus(parsed.value.id)
    if (status.status !== 'unknown' || !receipt || receipt.code === 'ok') return status
    return { id: parsed.value.id, status: 'refused', code: receipt.code }
  }

  async transactionStatus(id: TransactionId): Promise<TransactionStatus> {
    this.#ask('transactionStatus')
    return this.chain.transactionStatus(id)
  }

  async certifiedHeader(height: Height | 'latest'): Promise<CertifiedHeader> {
    this.#ask('certifiedHeader')
    return this.tamperHeader(this.chain.served(height === 'latest' ? this.#certifiedHeight() : height))
  }

  async headersFrom(from: Height, limit: number): Promise<readonly CertifiedHeader[]> {
    this.#ask('headersFrom')
    const to = Math.min(from + limit - 1, this.#certifiedHeight())
    const headers: CertifiedHeader[] = []
    for (let height = from as number; height <= to; height++)
      headers.push(this.tamperHeader(this.chain.served(height)))
    return headers
  }

  async waitForHeader(
    after: Height,
    timeoutMs: number,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<CertifiedHeader | undefined> {
    this.#ask('waitForHeader')
    if (this.#certifiedHeight() <= after) await this.chain.news(timeoutMs, options.signal)
    this.#ask('waitForHeader')
    const height = this.#certifiedHeight()
    return height > after ? this.tamperHeader(this.chain.served(height)) : undefined
  }

  async state(key: StateKey, height?: Height): Promise<StateAnswer> {
    this.#ask('state')
    const answer = this.tamperState(this.chain.answer(key, height ?? this.#stateHeight()))
    await this.beforeStateArrives()
    return answer
  }

  async group(id: GroupId): Promise<GroupAnswer> {
    this.#ask('group')
    const answer = this.chain.groupAnswer(id, this.#stateHeight())
    return this.tamperGroup({ ...answer, group: this.tamperState(answer.group) })
  }

  async deviceTransactions(id: DeviceId): Promise<readonly DeviceTransaction[]> {
    this.#ask('deviceTransactions')
    return this.chain.deviceTransactions(id)
  }

  #ask(method: string): void {
    this.asked.set(method, (this.asked.get(method) ?? 0) + 1)
    if (this.failure) throw this.failure
  }

  #certifiedHeight(): Height {
    let height = Math.min(this.chain.height, this.frozenAt)
    while (height > 0 && !this.chain.at(height).certificate) height--
    return Height(height)
  }

  #stateHeight(): number {
    return Math.min(this.#certifiedHeight(), this.stateFrozenAt ?? Number.POSITIVE_INFINITY)
  }
}
