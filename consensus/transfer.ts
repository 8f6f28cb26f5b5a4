/**
 * Handing leadership over (thesis section 3.10): the leader stops taking proposals, brings the target's log level
 * with its own, and tells it to stand for election at once.
 *
 * Given up after one election timeout, so that a target that died does not keep the cluster from working.
 */
import { send } from './durability.ts'
import type { Progress } from './progress.ts'
import type { LeaderState, State } from './state.ts'
import type { NodeId } from './types.ts'

/** Starts to transfer leadership to `to`, in place of a transfer that is under way. Only to another voter. */
export function transfer(state: State, to: NodeId): void {
  const { leadership } = state
  const { configuration } = state.configurations.latest
  if (leadership === undefined || to === state.config.id || !configuration.voters.includes(to)) return
  if (leadership.transfer?.to === to) return
  leadership.transfer = { to, startedAt: leadership.ticks, sent: false }
}

/** Tells the target to campaign as soon as it holds the whole log, and would take proposals. */
export function advanceTransfer(state: State, leadership: LeaderState): void {
  const { transfer } = leadership
  if (transfer === undefined) return
  const target = leadership.progress.get(transfer.to)
  if (target === undefined) {
    leadership.transfer = undefined
  } else if (!transfer.sent && target.state !== 'full' && target.matchIndex === state.log.lastIndex) {
    transfer.sent = true
    sendTimeoutNow(state, transfer.to)
  }
}

/** Repeats a request that may have been lost, or gives the transfer up. */
export function tickTransfer(state: State, leadership: LeaderState): void {
  const { transfer } = leadership
  if (transfer === undefined) return
  transfer.sent = false
  if (leadership.ticks - transfer.startedAt >= state.config.electionTimeoutTicks)
    leadership.transfer = undefined
}

/**
 * Asks the voter with the longest confirmed log to campaign, for a leader that is about to go; of several, one that is
 * not full.
 */
export function nominateSuccessor(state: State, leadership: LeaderState): void {
  let best: Progress | undefined
  for (const id of state.configurations.latest.configuration.voters) {
    const progress = leadership.progress.get(id)
    if (progress === undefined || progress.matchIndex === 0) continue
    const isBetter =
      best === undefined ||
      progress.matchIndex > best.matchIndex ||
      (progress.matchIndex === best.matchIndex && best.state === 'full')
    if (isBetter) best = progress
  }
  if (best !== undefined) sendTimeoutNow(state, best.id)
}

function sendTimeoutNow(state: State, to: NodeId): void {
  send(state, to, { type: 'timeout-now', from: state.config.id, term: state.currentTerm })
}
