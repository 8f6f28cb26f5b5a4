/**
 * Who a node without state of its own is, and who its peers are, for lightweight and coordination nodes: what it judges hellos
 * by, its genesis, its header follower, and the proofs it has seen (hello.ts); what it asks for once a hello has passed
 * (`PeerConfirmation`); what it shows beside the proof of its own record (`PassedHandovers`), and what that record has
 * against running it (`standingOf`).
 *
 * It holds no records but verified ones. Of an identity whose record a block has changed, and whose new record it has
 * not seen, it knows exactly that: then an older proof is refused, which is how a revoked peer stays out. What was proven
 * at a height is current only if the head is fresh and no list of changes between the two is missing.
 */
import type { ChainId, DeviceId, Height } from '../../chain/brands.ts'
import { decode, encode, equalBytes, list } from '../../chain/codec.ts'
import { type GenesisDocument, genesisState } from '../../chain/genesis.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import {
  type CertifiedHeader,
  certifiedHeaderCodec,
  isHandover,
  type StateAnswer,
  stateAnswerCodec,
  type TrustedHead,
  throughHandovers,
  verifyStateAnswer,
} from '../../chain/light-client.ts'
import { type IdentityRecord, identityCodec, stateKeyOf } from '../../chain/records.ts'
import { MoteError } from '../../chain/result.ts'
import type { CheckpointStore } from '../../client/checkpoint-file.ts'
import type { HeadEvent, HeaderFollower } from '../../client/header-follower.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import type { VerifiedChain } from '../../client/verified-chain.ts'
import type { LightConfiguration } from '../effective-configuration.ts'
import {
  type HelloProof,
  type IdentityProvider,
  type KnownIdentity,
  maxHelloHandovers,
} from '../network/hello.ts'
import type { Clock } from '../ports.ts'

export interface LightIdentityParts {
  readonly deviceId: DeviceId
  readonly genesis: GenesisDocument
  readonly records: VerifiedChain
  readonly handovers: Pick<PassedHandovers, 'newest'>
  readonly verifier: SignatureVerifier
  /** Where the proof of one's own record outlives the program. */
  readonly proofStore: CheckpointStore
  /** Whether the head is new enough to act on. */
  readonly isFresh: () => boolean
}

export class LightIdentityProvider implements IdentityProvider {
  readonly chainId: ChainId
  readonly deviceId: DeviceId
  readonly verifier: SignatureVerifier
  readonly #records: VerifiedChain
  readonly #handovers: Pick<PassedHandovers, 'newest'>
  readonly #genesis: ReturnType<typeof genesisState>
  readonly #proofStore: CheckpointStore
  readonly #isFresh: () => boolean
  #proof: HelloProof
  /** Height of the certified proof that is shown; it is signed by the consenters of there. */
  #proofHeight: Height | undefined

  private constructor(parts: LightIdentityParts, proof: HelloProof, proofHeight?: Height) {
    this.deviceId = parts.deviceId
    this.verifier = parts.verifier
    this.#records = parts.records
    this.#handovers = parts.handovers
    this.chainId = parts.records.follower.head.chainId
    this.#genesis = genesisState(parts.genesis)
    this.#proofStore = parts.proofStore
    this.#isFresh = parts.isFresh
    this.#proof = proof
    this.#proofHeight = proofHeight
  }

  /** Shows the stored proof of this node's record; without one, the genesis if it names this node. */
  static async open(parts: LightIdentityParts): Promise<LightIdentityProvider> {
    const stored = await parts.proofStore.load()
    const answer = stored && decode(stateAnswerCodec, stored)
    if (stored && answer?.ok) {
      const key = stateKeyOf.identity(parts.deviceId)
      const { handovers, verifier } = parts
      const { height } = answer.value
      // The proof may be newer than the checkpoint.
      const trusted = throughHandovers(parts.records.follower.head, handovers.newest, height, verifier)
      if (trusted.ok && verifyStateAnswer(trusted.value, key, answer.value, verifier).ok) {
        const proof = { type: 'certified', answer: stored, handovers: handovers.newest } as const
        return new LightIdentityProvider(parts, proof, height)
      }
    }
    const identities = new LightIdentityProvider(parts, { type: 'none' })
    if (identities.genesisIdentity(parts.deviceId)) identities.#proof = { type: 'genesis' }
    return identities
  }

  /** The same object until there is more to show. */
  ownProof(): HelloProof {
    const { newest } = this.#handovers
    if (this.#proof.type === 'certified' && this.#proof.handovers !== newest)
      this.#proof = { ...this.#proof, handovers: newest }
    return this.#proof
  }

  /**
   * Whether the proof is to be made anew after this advance: the record may have changed, or others certify from here on, and
   * who has seen that believes them alone. A proof at the handover itself is signed by those of before; it serves until
   * there is a block above.
   */
  isProofOverdue(event: HeadEvent): boolean {
    if (event.type === 'skipped') return true
    const key = stateKeyOf.identity(this.deviceId)
    if (event.headers.some(({ header, changes }) => isHandover(header) || changes.includes(key))) return true
    const { header, handoverHeight } = event.head
    if (this.#proofHeight === undefined || handoverHeight === undefined) return false
    return this.#proofHeight <= handoverHeight && header.height > handoverHeight
  }

  /** Shows no proof until there is a new one: who is refused with it may still ask for its own record without it. */
  withholdProof(): void {
    this.#proof = { type: 'none' }
    this.#proofHeight = undefined
  }

  /** Shows this proof of one's own record from now on. It must have been verified. */
  async showProof(answer: StateAnswer): Promise<void> {
    const bytes = encode(stateAnswerCodec, answer)
    this.#proof = { type: 'certified', answer: bytes, handovers: this.#handovers.newest }
    this.#proofHeight = answer.height
    await this.#proofStore.save(bytes)
  }

  trusted(): TrustedHead {
    return this.#records.follower.head
  }

  genesisIdentity(id: DeviceId): IdentityRecord | undefined {
    const leaf = this.#genesis.get(stateKeyOf.identity(id))
    const record = leaf && decode(identityCodec, leaf)
    return record?.ok ? record.value : undefined
  }

  known(id: DeviceId): KnownIdentity | undefined {
    const proven = this.#records.cachedDevice(id)
    if (proven) return { height: proven.height, record: proven.value }
    const changedAt: Height | undefined = this.#records.deviceChangedAt(id)
    return changedAt === undefined ? undefined : { height: changedAt, record: 'changed' }
  }

  isCurrent(id: DeviceId, height: Height): boolean {
    return this.#isFresh() && this.#records.deviceStands(id, height)
  }
}

/*
 * Confirms the peers of a node without state of its own: asks for the record of each at a fresh head, and has its
 * connections judged by that (hello.ts). A peer that was revoked since its proof was made is closed then; nothing that it
 * asked or said has counted until then.
 *
 * Which full node gives the record does not matter: it is proven under the head, and a list of changes that is left out
 * shows (client/verified-chain.ts). While no head is fresh nobody is confirmed; the next header asks again.
 */

export interface PeerConfirmationParts {
  readonly records: Pick<VerifiedChain, 'device'>
  readonly isFresh: () => boolean
  readonly clock: Clock
  /** Peers that are connected and not confirmed. */
  readonly unconfirmed: () => readonly DeviceId[]
  /** Judges a peer's connections by what is known now. */
  readonly recheck: (peer: DeviceId) => void
  readonly onFailure: (peer: DeviceId, error: unknown) => void
}

/** Pause before a record that did not come is asked for again. */
const askAgainMs = 250

export class PeerConfirmation {
  readonly #parts: PeerConfirmationParts
  readonly #asking = new Set<DeviceId>()
  #stopped = false

  constructor(parts: PeerConfirmationParts) {
    this.#parts = parts
  }

  /** Asks for the record of everyone who waits for it: after a hello, and after every header. */
  confirm(): void {
    const { isFresh, unconfirmed, recheck } = this.#parts
    if (this.#stopped || !isFresh()) return
    // The headers that came since the hello may say enough.
    for (const id of unconfirmed()) recheck(id)
    for (const id of unconfirmed()) if (!this.#asking.has(id)) void this.#ask(id)
  }

  stop(): void {
    this.#stopped = true
  }

  async #ask(id: DeviceId): Promise<void> {
    const { records, clock, recheck, onFailure } = this.#parts
    this.#asking.add(id)
    try {
      await records.device(id)
      this.#asking.delete(id)
      if (!this.#stopped) recheck(id)
    } catch (error) {
      onFailure(id, error)
      clock.after(askAgainMs, () => {
        this.#asking.delete(id)
        this.confirm()
      })
    }
  }
}

/*
 * The changes of the consenters that a node without blocks has passed, the newest of them: what it shows beside the proof
 * of its own record, to a peer that trusts the consenters of before (hello.ts).
 *
 * The follower has verified each. They are stored before a checkpoint that lies above them: the follower does not pass
 * them a second time.
 */

const handoversCodec = list(certifiedHeaderCodec, maxHelloHandovers)

export class PassedHandovers {
  readonly #store: CheckpointStore
  #newest: readonly CertifiedHeader[]
  #stored: readonly CertifiedHeader[]

  private constructor(store: CheckpointStore, stored: readonly CertifiedHeader[]) {
    this.#store = store
    this.#newest = stored
    this.#stored = stored
  }

  /** Those of earlier runs. What cannot be read is none: peers that are behind refuse this node until they have caught up. */
  static async open(store: CheckpointStore): Promise<PassedHandovers> {
    const bytes = await store.load()
    const stored = bytes && decode(handoversCodec, bytes)
    return new PassedHandovers(store, stored?.ok ? stored.value : [])
  }

  /** Ascending by height, at most `maxHelloHandovers`. The same array until there is another one. */
  get newest(): readonly CertifiedHeader[] {
    return this.#newest
  }

  /** Takes what the follower passes from now on. */
  follow(follower: Pick<HeaderFollower, 'onAdvance'>): void {
    follower.onAdvance(event => this.#take(event))
  }

  /** The store of checkpoints, before each of which the handovers are stored. */
  beforeCheckpoints(checkpoints: CheckpointStore): CheckpointStore {
    return {
      load: () => checkpoints.load(),
      save: async checkpoint => {
        await this.#save()
        await checkpoints.save(checkpoint)
      },
    }
  }

  #take(event: HeadEvent): void {
    const passed = event.type === 'skipped' ? [event.header] : event.headers
    const last = this.#newest.at(-1)?.header.height ?? 0
    const handovers = passed.filter(({ header }) => isHandover(header) && header.height > last)
    if (handovers.length > 0) this.#newest = [...this.#newest, ...handovers].slice(-maxHelloHandovers)
  }

  async #save(): Promise<void> {
    const newest = this.#newest
    if (newest === this.#stored) return
    await this.#store.save(encode(handoversCodec, newest))
    this.#stored = newest
  }
}

/* What the record of a light node, verified, has against running it; and its transport key, which the record must name. */

/** Why this record keeps its node from running; undefined if it does not. */
export function standingOf(
  { name, label }: LightConfiguration,
  keys: IdentityKeys,
  record: IdentityRecord | undefined,
  height: Height,
): MoteError | undefined {
  if (!record)
    return new MoteError(
      'unknown-subject',
      `${name}: device ${keys.id} is not on the chain; \`mote device join\` registers it`,
    )
  if (record.status === 'revoked')
    return new MoteError(
      'device-revoked',
      `${name} was revoked, known at height ${height}: no node takes its connections any more. ` +
        'A revoked identity does not come back; join under another name: `mote device join NAME --run`',
    )
  if (record.label !== label)
    return new MoteError(
      'config-invalid',
      `${name}: label: the chain says ${record.label}, the configuration ${label}`,
    )
  if (!record.transportKey || !equalBytes(record.transportKey, transportOf(keys).publicKey))
    return new MoteError(
      'config-invalid',
      `${name}: transport: the chain does not name the transport key of this key file`,
    )
  if (record.status === 'active') return undefined
  return new MoteError(
    'not-authorised',
    `${name} is ${record.status}, known at height ${height}; an operator decides`,
  )
}

/** True if no operator and no time can change it. */
export function isFinal({ code }: MoteError): boolean {
  return code === 'device-revoked' || code === 'config-invalid'
}

/** The transport key of a node's key file. Throws `config-invalid` if it has none. */
export function transportOf(keys: IdentityKeys): NonNullable<IdentityKeys['transport']> {
  if (keys.transport) return keys.transport
  throw new MoteError('config-invalid', `key: transport: a node needs a transport key, ${keys.name} has none`)
}
