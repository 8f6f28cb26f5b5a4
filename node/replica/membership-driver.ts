/**
 * Brings the Raft members where the chain's state wants them (docs/CONSENSUS.md, "Changing the consenters"):
 *
 *   decided on chain → joint consensus → handover block, certified by the old and the new consenters → joint left
 *
 * Every step is decided from applied state alone, so any later leader goes on where the last one stopped. Active full
 * nodes that are no voters are learners. A change that would lose the quorum is refused by the core before anything is
 * in the log; it is tried again at every tick, and the reason is told once.
 *
 * Invariants: one step at a time, the next one only once the last is applied; a handover block names the set that joint
 * consensus leads to; joint consensus is left for the new voters only after its handover is certified by both, and for the old
 * ones only if no handover to the new ones can have been executed.
 */
import { type BlockProposal, proposalCodec } from '../../chain/block.ts'
import type { DeviceId, Milliseconds } from '../../chain/brands.ts'
import { encode } from '../../chain/codec.ts'
import { type ConsenterSet, quorumOf, signersHash } from '../../chain/consenters.ts'
import { assertNever } from '../../chain/result.ts'
import type { Configuration, Effect, Input } from '../../consensus/types.ts'
import type { HandoverProofs } from '../ledger/handovers.ts'
import type { LiveChain } from '../ledger/live-chain.ts'
import type { FullMembers } from '../ledger/members.ts'

/** What is applied at the leader. */
export interface MembershipView {
  /** The latest in the log. */
  readonly configuration: Configuration
  /** Sign the next block. */
  readonly consenters: ConsenterSet
  /** Decided on, and not in office yet. */
  readonly nextConsenters: ConsenterSet | undefined
  /** That decision is certified here: nobody enters joint consensus for one that may never have been. */
  readonly isCertified: boolean
  /** True for a full node that answers and takes the log: it can be counted on for the next signature. */
  readonly inStep: (id: DeviceId) => boolean
  /** What the newest handover still lacks before joint consensus may be left. */
  readonly handoverLacks: () => string | undefined
  /** All full nodes that the chain counts as active. */
  readonly fullNodes: ReadonlySet<DeviceId>
}

export type MembershipStep =
  | { readonly type: 'change'; readonly voters: readonly DeviceId[]; readonly learners: readonly DeviceId[] }
  | { readonly type: 'handover'; readonly to: ConsenterSet }
  | { readonly type: 'leave' }
  | { readonly type: 'abandon' }
  | { readonly type: 'wait'; readonly reason: string }

/** Learners beside the voters, at most: the leader sends the log to each of them. */
export const maxLearners = 64

/** The next step, or undefined if everything is as it should be. */
export function nextStep(view: MembershipView): MembershipStep | undefined {
  const { configuration, consenters, nextConsenters } = view
  const leads = (set: ConsenterSet | undefined) =>
    set !== undefined && isSame(configuration.voters, idsOf(set))
  if (configuration.votersOutgoing.length > 0) {
    if (leads(consenters)) {
      const reason = view.handoverLacks()
      return reason === undefined ? { type: 'leave' } : { type: 'wait', reason }
    }
    return nextConsenters && leads(nextConsenters) ? handOver(view, nextConsenters) : { type: 'abandon' }
  }
  if (nextConsenters && leads(nextConsenters)) return handOver(view, nextConsenters)
  const voters = idsOf(nextConsenters ?? consenters)
  const present = configuration.voters as readonly DeviceId[]
  // A new voter must hold the log first, or the change would cost the quorum.
  const learners = learnersBeside(present, view.fullNodes, voters)
  if (!isSame(configuration.learners, learners)) return { type: 'change', voters: present, learners }
  if (isSame(present, voters) || !view.isCertified) return undefined
  return { type: 'change', voters, learners: learnersBeside(voters, view.fullNodes, present) }
}

/** The handover block, once a quorum of both sets can sign it: afterwards there is no way back. */
function handOver({ consenters, inStep }: MembershipView, to: ConsenterSet): MembershipStep {
  for (const set of [consenters, to]) {
    const missing = idsOf(set).filter(id => !inStep(id))
    const present = set.consenters.length - missing.length
    if (present >= quorumOf(set)) continue
    const expected = `${quorumOf(set)} of ${set.consenters.length} ${set === to ? 'new' : 'present'} consenters`
    const reason = `handover: expected ${expected} in step, got ${present} (not in step: ${missing.join(', ')})`
    return { type: 'wait', reason }
  }
  return { type: 'handover', to }
}

/** Full nodes that are no voters; `first` are among them if there is not room for all. */
function learnersBeside(
  voters: readonly DeviceId[],
  fullNodes: ReadonlySet<DeviceId>,
  first: readonly DeviceId[],
): DeviceId[] {
  const others = [...fullNodes].filter(id => !voters.includes(id)).sort()
  const [wanted, rest] = [others.filter(id => first.includes(id)), others.filter(id => !first.includes(id))]
  return [...wanted, ...rest].slice(0, maxLearners)
}

function idsOf({ consenters }: ConsenterSet): DeviceId[] {
  return consenters.map(({ id }) => id)
}

function isSame(left: readonly string[], right: readonly string[]): boolean {
  return left.length === right.length && left.every(id => right.includes(id))
}

function isSameSet(left: ConsenterSet | undefined, right: ConsenterSet): boolean {
  return left !== undefined && signersHash(left) === signersHash(right)
}

/** When a step is asked for. */
export interface MembershipMoment {
  /** Raft index up to which everything is executed and on disk. */
  readonly applied: number
  /** True if that is the whole log. */
  readonly isSettled: () => boolean
  readonly configuration: Configuration
  /** What a handover block's time is to be. */
  readonly time: Milliseconds | undefined
  readonly inStep: MembershipView['inStep']
}

/** What a `MembershipView` is made of: other objects, if it is another one. */
type Seen = readonly object[]

/** A step that was refused holds up blocks each time it is tried: not at every tick. */
const refusedTicks = 4

/** Contexts of the core's answers that belong here; a producer's begin above. */
export const membershipContext = 0

export interface MembershipDriverParts {
  readonly chain: Pick<LiveChain, 'ledger' | 'certified'>
  readonly handovers: Pick<HandoverProofs, 'lacks'>
  readonly fullMembers: Pick<FullMembers, 'ids'>
  readonly log: (detail: object, message: string) => void
}

export class MembershipDriver {
  readonly #parts: MembershipDriverParts
  /** Nothing is decided before this index is applied: earlier leaders' steps are below. */
  #from = Number.POSITIVE_INFINITY
  /** The step under way: asked for, then in the log at an index. */
  #pending: { readonly step: MembershipStep['type']; index: number | undefined } | undefined
  /** There was nothing to do in view of these: asked for after every input, so it must cost nothing then. */
  #done: Seen | undefined
  /** Refused, or told to wait: until so many ticks have passed. */
  #restingTicks = 0
  #refusal: string | undefined

  constructor(parts: MembershipDriverParts) {
    this.#parts = parts
  }

  /** Why the members are not what the chain's state wants, if they cannot be. */
  get refusal(): string | undefined {
    return this.#refusal
  }

  /** This node leads; its log ends at `lastLogIndex`, its own first entry included. */
  leads(lastLogIndex: number): void {
    this.#from = lastLogIndex
    this.#pending = undefined
  }

  /** This node leads no more. */
  follows(): void {
    this.#from = Number.POSITIVE_INFINITY
    this.#pending = undefined
    this.#refusal = undefined
  }

  tick(): void {
    this.#restingTicks = Math.max(0, this.#restingTicks - 1)
  }

  /**
   * The core's input for the next step, if there is one to be made now. `hold`: one is under way, or waits for the log to be
   * applied, and nothing else is to be put into the log.
   */
  next({ applied, isSettled, configuration, time, inStep }: MembershipMoment): Input | 'hold' | undefined {
    const pending = this.#pending
    if (pending) {
      if (pending.index === undefined || applied < pending.index) return 'hold'
      this.#pending = undefined
    }
    if (applied < this.#from || this.#restingTicks > 0) return undefined
    const seen = this.#seen(configuration)
    if (this.#done?.every((each, i) => each === seen[i])) return undefined
    const step = nextStep(this.#view(configuration, inStep))
    if (step && step.type !== 'wait' && !isSettled()) return 'hold'
    const input = step && step.type !== 'wait' ? inputOf(step, time) : undefined
    if (step?.type === 'handover' && !input) return undefined
    this.#done = step ? undefined : seen
    if (!step) this.#refusal = undefined
    else if (step.type === 'wait') this.#waits(step.reason, 1)
    else this.#pending = { step: step.type, index: undefined }
    return input
  }

  /** The core has put the step into the log. */
  proposed(index: number): void {
    this.#refusal = undefined
    if (this.#pending) this.#pending.index = index
  }

  refused({ reason, detail }: Extract<Effect, { type: 'refused' }>): void {
    this.#pending = undefined
    this.#restingTicks = refusedTicks
    // Others pass by themselves.
    if (reason !== 'would-lose-quorum' && reason !== 'invalid-members') return
    this.#waits(`${reason}: ${detail}`, refusedTicks)
  }

  #seen(configuration: Configuration): Seen {
    const { chain, fullMembers } = this.#parts
    return [configuration, chain.ledger.parameters, chain.certified.parameters, fullMembers.ids]
  }

  #view(configuration: Configuration, inStep: MembershipView['inStep']): MembershipView {
    const { chain, handovers, fullMembers } = this.#parts
    const { consenters, nextConsenters } = chain.ledger.parameters
    const handoverLacks = () => handovers.lacks()
    const certified = chain.certified.parameters.nextConsenters
    const isCertified = nextConsenters !== undefined && isSameSet(certified, nextConsenters)
    const decision = { consenters, nextConsenters, isCertified }
    return { configuration, ...decision, inStep, handoverLacks, fullNodes: fullMembers.ids }
  }

  /** Tried again after so many ticks, and told once. */
  #waits(reason: string, ticks: number): void {
    this.#restingTicks = ticks
    if (reason !== this.#refusal) this.#parts.log({ reason }, 'a change of members waits')
    this.#refusal = reason
  }
}

function inputOf(
  step: Exclude<MembershipStep, { type: 'wait' }>,
  time: Milliseconds | undefined,
): Input | undefined {
  const context = membershipContext
  switch (step.type) {
    case 'change':
      return { type: 'change-membership', voters: step.voters, learners: step.learners, context }
    case 'handover': {
      if (time === undefined) return undefined
      const proposal: BlockProposal = {
        version: 1,
        type: 'handover',
        time,
        signersHash: signersHash(step.to),
      }
      return { type: 'propose', data: [encode(proposalCodec, proposal)], context }
    }
    case 'leave':
      return { type: 'leave-joint', context }
    case 'abandon':
      return { type: 'leave-joint', abandon: true, context }
    default:
      return assertNever(step)
  }
}
