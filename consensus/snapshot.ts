/**
 * Snapshots as the core sees them (section 7): who needs one, and when a fetched one takes effect. The bytes are
 * fetched by the driver, resumably, and verified by it; the core handles what they cover.
 *
 *   leader: storage has compacted what a follower lacks ─ offer (`install-snapshot`) ─▶ follower: `fetch-snapshot`
 *   follower's driver: fetched and verified (`snapshot-installed`) ─▶ one atomic persist ─▶ `snapshot-response`
 *
 * A snapshot never takes back what is committed here: one that is not past `commitIndex` is answered and forgotten,
 * and one whose last entry the log holds only tells that this entry is committed (the entries after it are kept).
 */
import { letGo } from './departing.ts'
import { replaceBySnapshot, send, sendWhenDurable } from './durability.ts'
import type { LeaderState, State } from './state.ts'
import type { Message, NodeId, SnapshotMeta } from './types.ts'

type InstallSnapshot = Extract<Message, { type: 'install-snapshot' }>
type SnapshotResponse = Extract<Message, { type: 'snapshot-response' }>

/** Storage no longer has what some followers need: offers them the snapshot instead. */
export function offerSnapshot(state: State, leadership: LeaderState, snapshot: SnapshotMeta): void {
  for (const progress of leadership.progress.values()) {
    const { nextIndex, id } = progress
    if (
      !progress.mayAppend(state.config) ||
      nextIndex > snapshot.lastIncludedIndex ||
      nextIndex > state.log.before.index
    )
      continue
    progress.becomeSnapshot(snapshot)
    state.effects.push({ type: 'send-snapshot', to: id, snapshot })
    const { id: from } = state.config
    send(state, id, { type: 'install-snapshot', from, term: state.currentTerm, snapshot })
  }
  // It would bring them what is behind their removal.
  for (const [id, { progress }] of leadership.departing)
    if (progress.nextIndex <= state.log.before.index) letGo(leadership, id)
}

/** Takes the leader's offer, unless the log says that there is nothing to fetch. */
export function handleInstallSnapshot(state: State, { from, snapshot }: InstallSnapshot): void {
  if (takeAsCommitted(state, snapshot)) {
    respond(state, from, snapshot.lastIncludedIndex, true)
    return
  }
  const { fetching } = state
  const isRepeated =
    fetching?.from === from && fetching.snapshot.lastIncludedIndex === snapshot.lastIncludedIndex
  if (isRepeated) return
  state.fetching = { from, snapshot }
  state.effects.push({ type: 'fetch-snapshot', from, snapshot })
}

/** The driver has the verified snapshot: it takes the place of the log if it is still ahead of what is committed. */
export function snapshotFetched(state: State, snapshot: SnapshotMeta): void {
  state.fetching = undefined
  // A leader holds every committed entry, so a snapshot that it lacks cannot be one of this cluster.
  if (!takeAsCommitted(state, snapshot)) {
    if (state.leadership !== undefined) return
    replaceBySnapshot(state, snapshot)
  }
  if (state.leader !== null && state.leadership === undefined) {
    respond(state, state.leader, snapshot.lastIncludedIndex, true)
  }
}

/** The driver could not fetch or verify the snapshot: the leader is to offer one again. */
export function snapshotFetchFailed(state: State, lastIncludedIndex: number): void {
  const { fetching } = state
  if (fetching?.snapshot.lastIncludedIndex !== lastIncludedIndex) return
  state.fetching = undefined
  if (state.leader === fetching.from) respond(state, fetching.from, lastIncludedIndex, false)
}

/** The follower holds the snapshot, durably, or could not get it. */
export function handleSnapshotResponse(leadership: LeaderState, response: SnapshotResponse): void {
  const progress = leadership.progress.get(response.from)
  if (progress === undefined) return
  progress.answered(leadership.ticks)
  if (response.lastIncludedIndex !== progress.snapshot?.lastIncludedIndex) return
  if (response.success) {
    if (progress.acknowledge(response.lastIncludedIndex)) leadership.commitDue = true
    return
  }
  progress.becomeProbe(progress.matchIndex + 1)
  // Not at once: a fetch that fails at once would go round as fast as messages travel.
  progress.probeSent = true
}

/** True if the snapshot adds nothing but the knowledge that its last entry is committed. */
function takeAsCommitted(state: State, { lastIncludedIndex, lastIncludedTerm }: SnapshotMeta): boolean {
  if (lastIncludedIndex <= state.commitIndex) return true
  if (state.log.termAt(lastIncludedIndex) !== lastIncludedTerm) return false
  state.commitIndex = lastIncludedIndex
  return true
}

function respond(state: State, to: NodeId, lastIncludedIndex: number, success: boolean): void {
  const { currentTerm: term, config } = state
  const message = { type: 'snapshot-response', from: config.id, term, lastIncludedIndex, success } as const
  sendWhenDurable(state, to, message, success ? lastIncludedIndex : 0)
}
