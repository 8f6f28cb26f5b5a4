/**
 * What this node knows of the others' Raft beside its own log: who may vote and lead, and which term a quorum has reached.
 *
 * The core hears the voters of its latest configuration. That is not enough for a node that was away, or that knows the
 * genesis only, and whoever sends may make things up. So the voters that count are those of certified state: the present
 * consenters and the next ones, of this node's own executed state, or of a newer one that a peer proves: its own record as
 * an active full node, and the parameters, both under a certified header, with the handovers that lead there. A term far
 * beyond this node's own is heard once such a header has reached it.
 *
 * A peer is asked for the proof when it sends what only a voter may send and is none, or a term far ahead; until it has shown
 * it, the core does not hear it. One question at a time, and each peer again after `askAgainMs` only.
 */
import type { DeviceId, Height } from '../../chain/brands.ts'
import type { ChainParameters } from '../../chain/chain-parameters.ts'
import { type Codec, decode } from '../../chain/codec.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import {
  advance,
  type StateAnswer,
  type TrustedHead,
  throughHandovers,
  trustedHeadOf,
  verifyStateAnswer,
} from '../../chain/light-client.ts'
import { RecentMap } from '../../chain/recent-map.ts'
import { identityCodec, parametersCodec, stateKeyOf } from '../../chain/records.ts'
import { MoteError, unwrap } from '../../chain/result.ts'
import { isVoter } from '../../consensus/configuration.ts'
import { isQuestion } from '../../consensus/hearing.ts'
import { maxTermLead } from '../../consensus/message-check.ts'
import type { Message } from '../../consensus/types.ts'
import type { Execution, LiveChain } from '../ledger/live-chain.ts'
import type { Members } from '../ledger/members.ts'
import type { NodeEvents, NodeListener } from '../ledger/node-events.ts'
import { queries } from '../network/request-table.ts'
import { ask } from '../network/requests.ts'
import type { Clock, Network } from '../ports.ts'
import type { Replica } from './replica.ts'

export interface KnownVotersParts {
  readonly chain: Pick<LiveChain, 'certified' | 'ledger'>
  readonly members: Pick<Members, 'inForce'>
  readonly network: Pick<Network, 'request'>
  readonly clock: Pick<Clock, 'steady'>
  readonly verifier: SignatureVerifier
  readonly replica: Pick<Replica, 'leadership'>
  readonly events: Pick<NodeEvents, 'termCertified' | 'votersKnown'>
  readonly log: (detail: object, message: string) => void
}

const askTimeoutMs = 2_000
/** Between two questions to one peer: one that makes things up costs little. */
const askAgainMs = 1_000
/** Peers whose last question is remembered, at least: more than may be connected. */
const rememberedPeers = 1_024

export class KnownVoters implements NodeListener {
  readonly #parts: KnownVotersParts
  readonly #askedAt = new RecentMap<DeviceId, number>(rememberedPeers)
  #asking = false
  #certifiedTerm = 0
  /** Of the newest state that a peer has proven. */
  #proven: { readonly height: Height; readonly parameters: ChainParameters } | undefined
  #told: readonly DeviceId[] = []

  constructor(parts: KnownVotersParts) {
    this.#parts = parts
  }

  /** Says who the voters are by what was recovered. Comes before the first message. */
  begin(): void {
    this.#tell()
  }

  executed({ write }: Execution): void {
    if (write.leaves.has(stateKeyOf.parameters())) this.#tell()
  }

  installed(): void {
    this.#tell()
  }

  /** A Raft message has come. Asks its sender for a proof if the core does not hear it for want of one. */
  meets(from: DeviceId, message: Message): void {
    const isFar = message.term > this.#knownTerm + maxTermLead
    if (!isFar && !this.#isUnknown(from, message)) return
    const { clock, log } = this.#parts
    const now = clock.steady()
    if (this.#asking || now - (this.#askedAt.get(from) ?? Number.NEGATIVE_INFINITY) < askAgainMs) return
    this.#asking = true
    this.#askedAt.set(from, now)
    const asked = isFar ? this.#askTerm(from) : this.#askVoters(from)
    const unheard = isFar ? 'a term far ahead is not heard' : 'a peer that is no known voter is not heard'
    asked
      .catch((error: unknown) => log({ peer: from, term: message.term, error: String(error) }, unheard))
      .finally(() => {
        this.#asking = false
      })
  }

  get #knownTerm(): number {
    return Math.max(this.#parts.replica.leadership.term, this.#certifiedTerm)
  }

  #isUnknown(from: DeviceId, message: Message): boolean {
    return isQuestion(message) && !this.#told.includes(from) && !isVoter(this.#parts.members.inForce, from)
  }

  async #askTerm(from: DeviceId): Promise<void> {
    const { network, chain, verifier, events } = this.#parts
    const { header, certificate, handover } = await ask(network, from, queries.head, {}, askTimeoutMs)
    if (!certificate) throw new MoteError('bad-certificate', 'the newest header has none')
    unwrap(advance(trustedHeadOf(chain.certified), header, certificate, verifier, handover))
    this.#certifiedTerm = Math.max(this.#certifiedTerm, header.term)
    events.termCertified(header.term)
  }

  async #askVoters(from: DeviceId): Promise<void> {
    const { network, chain, verifier } = this.#parts
    const own = await ask(network, from, queries.ownStatus, { device: from }, askTimeoutMs)
    const { height } = own.answer
    const start = trustedHeadOf(chain.certified)
    const trusted = unwrap(throughHandovers(start, own.handovers, height, verifier))
    const { id, label, status } = this.#proofOf(trusted, stateKeyOf.identity(from), own.answer, identityCodec)
    if (id !== from || label !== 'full' || status !== 'active')
      throw new MoteError('not-authorised', `${from}: expected an active full node, got ${status} ${label}`)
    const key = stateKeyOf.parameters()
    const answer = await ask(network, from, queries.state, { key, height }, askTimeoutMs)
    const parameters = this.#proofOf(trusted, key, answer, parametersCodec)
    if (answer.height <= (this.#proven?.height ?? 0)) return
    this.#proven = { height: answer.height, parameters }
    this.#tell()
  }

  #proofOf<T>(
    trusted: TrustedHead,
    key: ReturnType<typeof stateKeyOf.parameters>,
    answer: StateAnswer,
    codec: Codec<T>,
  ): T {
    const { value } = unwrap(verifyStateAnswer(trusted, key, answer, this.#parts.verifier))
    if (value === undefined)
      throw new MoteError('bad-proof', 'expected a record, got a proof that there is none')
    return unwrap(decode(codec, value))
  }

  #tell(): void {
    const { ledger } = this.#parts.chain
    const proven = this.#proven && this.#proven.height > ledger.header.height ? this.#proven : undefined
    const ids = new Set([...votersOf(ledger.parameters), ...votersOf(proven?.parameters)])
    this.#told = [...ids]
    this.#parts.events.votersKnown(this.#told)
  }
}

/** The present consenters and those that are decided on. */
function votersOf(parameters: ChainParameters | undefined): DeviceId[] {
  const sets = [parameters?.consenters, parameters?.nextConsenters]
  return sets.flatMap(set => set?.consenters.map(({ id }) => id) ?? [])
}
