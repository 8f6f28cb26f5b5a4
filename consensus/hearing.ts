/**
 * Who is heard. The paper's servers trust one another; here every full node of a chain can send, learners among them, and
 * one message of any of them could depose a leader, use up the terms, or put entries into a log.
 *
 * Who asks something of this server (a vote, to take entries or a snapshot, to stand for election) must be a voter of either
 * half of its latest configuration, or one of the voters that its driver knows by other means. The configuration alone is not
 * enough: of old voters {A, B, C} and new ones {D, E, F}, B may have missed the decision, C the last entry, and A is gone.
 * B does not know D then, and nobody else can ever be elected.
 *
 * An answer is heard from whom this server asks: a leader from its followers, a candidate from the voters.
 *
 * Not to hear a message is as safe as its loss.
 */
import { isVoter } from './configuration.ts'
import { progressOf } from './departing.ts'
import { maxTermLead } from './message-check.ts'
import type { State } from './state.ts'
import type { Message, NodeId } from './types.ts'

/**
 * A learner's newer term is followed once in this many election timeouts, for all learners together. One that was a
 * candidate before it became a learner takes nothing of a leader whose term is older than its own; one that makes terms up
 * deposes nobody twice.
 */
const learnerTermTimeouts = 120

export function isHeard(state: State, message: Message): boolean {
  if (message.term > highestTermHeard(state)) return false
  const { from, type } = message
  if (isQuestion(message)) return mayAsk(state, from) || isLeaderOf(state, message)
  if (type === 'vote') return campaigns(state) && isVoter(state.configurations.latest.configuration, from)
  return state.leadership !== undefined && progressOf(state.leadership, from) !== undefined
}

/** What only a voter may send: it asks something of the server that gets it. The rest are answers. */
export function isQuestion({ type }: Message): boolean {
  return (
    type === 'request-vote' ||
    type === 'append-entries' ||
    type === 'install-snapshot' ||
    type === 'timeout-now'
  )
}

/**
 * The highest term that is heard. One message with the last term that there is would otherwise be adopted, made durable and
 * spread, and nobody could ever stand for election again.
 *
 * It locks nobody out: a term grows by one for each election, an election takes an election timeout, and whoever is a million
 * elections behind is shown a certified header of the others' term.
 */
export function highestTermHeard({ currentTerm, certifiedTerm }: State): number {
  return Math.max(currentTerm, certifiedTerm) + maxTermLead
}

/** True if a newer term in this message, which is heard, is to be adopted. */
export function adoptsTermOf(state: State, message: Message): boolean {
  if (isQuestion(message)) return true
  const { from } = message
  if (isVoter(state.configurations.latest.configuration, from)) return true
  // A departing member's term is nobody's business any more.
  if (!state.leadership?.progress.has(from)) return false
  const since = state.ticks - state.learnerTermAdoptedAt
  if (since < learnerTermTimeouts * state.config.electionTimeoutTicks) return false
  state.learnerTermAdoptedAt = state.ticks
  return true
}

/**
 * Who leads this server in this term was a voter when it was elected, and goes on leading until the configuration that leaves
 * it out is committed.
 */
function isLeaderOf({ leader, currentTerm }: State, { from, term }: Message): boolean {
  return leader === from && currentTerm === term
}

function campaigns({ role }: State): boolean {
  return role === 'precandidate' || role === 'candidate'
}

function mayAsk({ configurations, knownVoters }: State, from: NodeId): boolean {
  return (
    knownVoters === undefined || knownVoters.has(from) || isVoter(configurations.latest.configuration, from)
  )
}
