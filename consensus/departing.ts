/**
 * Members that a configuration leaves out, until they know it (section 6: removed servers that were never told disturb
 * the cluster for as long as they run).
 *
 * A configuration is in force when it is appended, so from then on who is left out is no follower any more. The leader
 * goes on sending to it all the same: the log up to the entry that removes it, and that this entry is committed; nothing
 * behind it. Who knows that much stands for no election (`mayCampaign`). It is let go when it has acknowledged both, or
 * three election timeouts after the commit: it may be gone for good.
 *
 * A later leader finds who was left out last in its own configurations and tells them as well, since the one before it may
 * have gone too soon; a leader that removes itself does so in the very step that commits it.
 *
 * Invariants: 1. Nobody is departing and a member. 2. Nothing behind `progress.end` is sent, and no higher `leaderCommit`.
 * 3. Who is departing counts for nothing: no commitment, no check-quorum, no read. To send it entries is as safe as to
 * send them to a learner.
 */
import { membersOf } from './configuration.ts'
import { Progress } from './progress.ts'
import type { LeaderState, State } from './state.ts'
import type { Message, NodeId } from './types.ts'

type AppendResponse = Extract<Message, { type: 'append-response' }>

/** Time to be told, from the commit on, in election timeouts: two may pass without any message. */
const farewellTimeouts = 3

/** Takes up whom the configuration in force leaves out of the one before it, with what is known of their logs. */
export function seeOff(state: State, leadership: LeaderState): void {
  const { latest } = state.configurations
  const members = membersOf(latest.configuration)
  const departing = new Map([...leadership.departing].filter(([id]) => !members.has(id)))
  const term = state.log.termAt(latest.index)
  // Of an older change the place may have left memory: it has had its time.
  if (term !== undefined) {
    for (const id of leftOut(state, members)) {
      const progress = leadership.progress.get(id) ?? new Progress(id, latest.index + 1, leadership.ticks)
      // It lacks what is compacted: a snapshot would bring it what is behind its removal.
      if (progress.state === 'snapshot') continue
      progress.end = { index: latest.index, term }
      departing.set(id, { progress, notice: undefined })
    }
  }
  leadership.departing = departing
}

function leftOut({ configurations, config }: State, members: ReadonlySet<NodeId>): NodeId[] {
  const { previous } = configurations
  if (previous === undefined) return []
  return [...membersOf(previous.configuration)].filter(id => !members.has(id) && id !== config.id)
}

/** Tells departing members of a removal in the step that commits it. */
export function tellRemoved(state: State, leadership: LeaderState): void {
  for (const departing of leadership.departing.values()) {
    const { progress, notice } = departing
    if (notice !== undefined || (progress.end?.index ?? 0) > state.commitIndex) continue
    // Answers return the number of their append: a new one tells those to earlier appends apart.
    leadership.reads.readContext += 1
    departing.notice = { readContext: leadership.reads.readContext, since: leadership.ticks }
    progress.mustSend = true
  }
}

/** Lets a departing member go once its answer shows that it holds the entry that removes it and knows it is committed. */
export function heardFromRemoved(leadership: LeaderState, response: AppendResponse): void {
  const departing = leadership.departing.get(response.from)
  if (departing?.notice === undefined) return
  const { progress, notice } = departing
  // A follower takes as committed what the append that says so covers: this very answer has to cover the entry.
  const knows = response.success && response.readContext >= notice.readContext
  if (knows && response.matchIndex >= (progress.end?.index ?? 0)) letGo(leadership, response.from)
}

/** Lets departing members go whose time has passed. */
export function tickDeparting(state: State, leadership: LeaderState): void {
  const most = farewellTimeouts * state.config.electionTimeoutTicks
  for (const [id, { notice }] of leadership.departing)
    if (notice !== undefined && leadership.ticks - notice.since > most) letGo(leadership, id)
}

/** Ends what is sent to it. The map is another one after each change. */
export function letGo(leadership: LeaderState, id: NodeId): void {
  leadership.departing = new Map([...leadership.departing].filter(([other]) => other !== id))
}

/** What is known of a follower, or of one that departs. */
export function progressOf({ progress, departing }: LeaderState, id: NodeId): Progress | undefined {
  return progress.get(id) ?? departing.get(id)?.progress
}

/** All servers to which the leader sends the log: the followers, then the departing members. */
export function* recipients({ progress, departing }: LeaderState): Generator<Progress> {
  yield* progress.values()
  for (const each of departing.values()) yield each.progress
}
