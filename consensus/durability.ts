/**
 * What must be durable before what: persists with tokens, and the messages that wait for them (Figure 2, "updated on
 * stable storage before responding to RPCs"; thesis section 10.2.1 for the leader's own write).
 *
 * A step collects its changes in `state.unwritten` and ends with at most one `persist` effect, ahead of its other
 * effects. Persists become durable in order, so a wait for the newest one is a wait for all.
 */
import { assert } from './assert.ts'
import type { State } from './state.ts'
import type { Entry, Message, NodeId, SnapshotMeta } from './types.ts'

/** Sets term and vote, and has them written. */
export function setHardState(state: State, currentTerm: number, votedFor: NodeId | null): void {
  state.currentTerm = currentTerm
  state.votedFor = votedFor
  state.unwritten.hardState = true
  state.hardStateToken = state.nextToken
}

/** Appends to the log in memory and on disk; configurations take effect at once (section 6). */
export function appendToLog(state: State, entries: readonly Entry[]): void {
  state.log.append(entries)
  for (const entry of entries) {
    state.unwritten.entries.push(entry)
    const { index, configuration } = entry
    if (configuration !== undefined) {
      state.configurations.append({ index, configuration })
      state.effects.push({ type: 'configuration', configuration, index })
    }
  }
}

/** Cuts the log after `index`, in memory and on disk. Never cuts what is committed. */
export function truncateLog(state: State, index: number): void {
  assert(index >= state.commitIndex, `log: truncating after ${index}, committed up to ${state.commitIndex}`)
  const previous = state.configurations.latest
  state.log.truncateAfter(index)
  state.configurations.truncateAfter(index)
  state.unwritten.truncateAfter = index
  capPersisted(state, index)
  const { latest } = state.configurations
  if (latest !== previous) state.effects.push({ type: 'configuration', ...latest })
}

/** Puts a fetched snapshot in place of the whole log, in memory and on disk. */
export function replaceBySnapshot(state: State, snapshot: SnapshotMeta): void {
  const { lastIncludedIndex: index, lastIncludedTerm: term, configuration } = snapshot
  assert(index > state.commitIndex, `snapshot: ${index} is not past the committed ${state.commitIndex}`)
  state.log.reset({ index, term })
  state.configurations.reset({ index, configuration })
  state.commitIndex = index
  state.delivered = index
  state.lastApplied = index
  state.unappliedBytes = 0
  state.unwritten.snapshot = snapshot
  // Until the snapshot is durable, no index of the new log is: an acknowledgement of it has to wait.
  capPersisted(state, 0)
  state.effects.push({ type: 'configuration', configuration, index })
}

/** Notes that all persists up to `token` are durable. */
export function markDurable(state: State, token: number): void {
  assert(token < state.nextToken, `persisted: token ${token} was never issued`)
  let done = 0
  for (const write of state.pendingWrites) {
    if (write.token > token) break
    state.persistedIndex = write.lastIndex
    done += 1
  }
  state.pendingWrites.splice(0, done)
  state.durableToken = Math.max(state.durableToken, token)
}

/** True once the current term and vote are durable. */
export function hardStateIsDurable(state: State): boolean {
  return state.hardStateToken <= state.durableToken
}

/** Sends at once: the message promises nothing. */
export function send(state: State, to: NodeId, message: Message): void {
  state.effects.push({ type: 'send', to, message })
}

/**
 * Sends a message that speaks of the current term and vote, and of the log up to `upTo`: it leaves when these are
 * durable.
 */
export function sendWhenDurable(state: State, to: NodeId, message: Message, upTo: number): void {
  if (hardStateIsDurable(state) && upTo <= state.persistedIndex) {
    send(state, to, message)
    return
  }
  const after = isWriteDue(state) ? state.nextToken : state.nextToken - 1
  state.effects.push({ type: 'send', to, message, after })
}

/** Ends a step: its changes as one `persist`, ahead of its other effects. */
export function flushWrites(state: State): void {
  if (!isWriteDue(state)) return
  const { unwritten, currentTerm, votedFor } = state
  const token = state.nextToken
  state.nextToken += 1
  state.effects.unshift({
    type: 'persist',
    token,
    entries: unwritten.entries,
    ...(unwritten.snapshot && { snapshot: unwritten.snapshot }),
    ...(unwritten.truncateAfter !== undefined && { truncateAfter: unwritten.truncateAfter }),
    ...(unwritten.hardState && { hardState: { currentTerm, votedFor } }),
  })
  state.pendingWrites.push({ token, lastIndex: state.log.lastIndex })
  unwritten.entries = []
  unwritten.snapshot = undefined
  unwritten.truncateAfter = undefined
  unwritten.hardState = false
}

function isWriteDue({ unwritten }: State): boolean {
  return (
    unwritten.hardState ||
    unwritten.entries.length > 0 ||
    unwritten.truncateAfter !== undefined ||
    unwritten.snapshot !== undefined
  )
}

/** What was durable, or is on its way, after `index` no longer stands for this log. */
function capPersisted(state: State, index: number): void {
  state.persistedIndex = Math.min(state.persistedIndex, index)
  for (const write of state.pendingWrites) write.lastIndex = Math.min(write.lastIndex, index)
}
