/**
 * Linearizable reads without a log entry and without a lease (section 8; thesis section 6.4): the leader notes
 * `commitIndex`, confirms with a quorum that it still is the leader, then answers.
 *
 * A round is one number, `readContext`, which every append carries and every answer returns; a follower that returns
 * it was in this leader's term after the round began. At most one round is out; reads that come meanwhile share the
 * next one, so reads cost messages per round trip, not per read.
 */
import { quorumValue } from './quorum.ts'
import { refuseRead } from './roles.ts'
import type { LeaderState, State } from './state.ts'

const maxReadsWaiting = 65_536

/** Takes a read; answered by `read-ready` or `read-refused`. */
export function read(state: State, context: number): void {
  const { leadership } = state
  if (leadership === undefined || leadership.reads.waiting.length >= maxReadsWaiting) {
    refuseRead(state, context)
    return
  }
  leadership.reads.waiting.push(context)
}

/** Answers the round that is out if a quorum has confirmed it, and starts the next one. */
export function advanceReads(state: State, leadership: LeaderState): void {
  const { reads } = leadership
  finishRound(state, leadership)
  // Section 8: a leader knows what is committed only once an entry of its own term is.
  if (reads.round !== undefined || reads.waiting.length === 0 || state.commitIndex < leadership.noopIndex)
    return
  reads.readContext += 1
  reads.round = { readContext: reads.readContext, index: state.commitIndex, contexts: reads.waiting }
  reads.waiting = []
  for (const progress of leadership.progress.values()) progress.mustSend = true
  finishRound(state, leadership)
}

function finishRound(state: State, leadership: LeaderState): void {
  const { reads, progress } = leadership
  if (reads.round === undefined) return
  const confirmed = quorumValue(state.configurations.latest.configuration, id =>
    id === state.config.id ? reads.readContext : (progress.get(id)?.readContext ?? 0),
  )
  const { readContext, index, contexts } = reads.round
  if (confirmed < readContext) return
  reads.round = undefined
  for (const context of contexts) state.effects.push({ type: 'read-ready', context, index })
}
