/**
 * The leader's side of the log: proposing, sending appends, judging answers, and the commit rule (sections 5.3 and
 * 5.4.2; thesis section 10.2.1 for pipelining).
 *
 * Sends are decided once, at the end of a step (`replicate`): whatever happened in it, a follower gets one append
 * with all that is new, or an empty one if a heartbeat, a read round or a higher `leaderCommit` is due.
 */
import { membersOf } from './configuration.ts'
import { heardFromRemoved, progressOf, recipients, seeOff } from './departing.ts'
import { appendToLog, send } from './durability.ts'
import { entryBytes, type Position } from './log.ts'
import { maxBytesPerMessage } from './message-check.ts'
import { Progress } from './progress.ts'
import { quorumValue } from './quorum.ts'
import { refuseNotLeader, refuseProposal } from './roles.ts'
import { isFull, type LeaderState, type State } from './state.ts'
import type { Entry, Input, Message } from './types.ts'

type AppendResponse = Extract<Message, { type: 'append-response' }>
type Heard = Extract<Message, { type: 'heard' }>
type Propose = Extract<Input, { type: 'propose' }>

const noData = new Uint8Array(0)

/** Section 5.3: "The leader appends the command to its log as a new entry". All of the input's commands, or none. */
export function propose(state: State, { data, context }: Propose): void {
  const { leadership, config } = state
  if (leadership === undefined) {
    refuseNotLeader(state, context)
    return
  }
  if (leadership.transfer !== undefined) {
    refuseProposal(state, context, 'transferring', `leadership is going to ${leadership.transfer.to}`)
    return
  }
  const firstIndex = state.log.lastIndex + 1
  const term = state.currentTerm
  const entries = data.map(
    (bytes, offset): Entry => ({ index: firstIndex + offset, term, type: 'command', data: bytes }),
  )
  // Followers would drop the append that carries it, and this leader would send it for ever.
  const largest = data.reduce((most, each) => Math.max(most, each.length), 0)
  if (largest > maxBytesPerMessage) {
    const detail = `command: expected at most ${maxBytesPerMessage} bytes, got ${largest}`
    refuseProposal(state, context, 'too-large', detail)
    return
  }
  const bytes = entries.reduce((sum, entry) => sum + entryBytes(entry), 0)
  const total = leadership.uncommittedBytes + bytes
  // A single proposal over the limit must be able to pass, or it could never be made.
  if (leadership.uncommittedBytes > 0 && total > config.maxUncommittedBytes) {
    const detail = `uncommitted bytes: expected at most ${config.maxUncommittedBytes}, got ${total}`
    refuseProposal(state, context, 'overloaded', detail)
    return
  }
  if (isFull(state)) {
    refuseProposal(
      state,
      context,
      'overloaded',
      `bytes to be applied: expected at most ${config.maxUncommittedBytes}, got ${state.unappliedBytes}`,
    )
    return
  }
  appendAsLeader(state, leadership, entries)
  state.effects.push({ type: 'proposed', context, firstIndex, lastIndex: state.log.lastIndex, term })
}

/** Appends an entry of this leader's term that carries no command. Gives its index. */
export function appendInternal(
  state: State,
  leadership: LeaderState,
  body: Pick<Entry, 'type' | 'configuration'>,
): number {
  const index = state.log.lastIndex + 1
  appendAsLeader(state, leadership, [{ index, term: state.currentTerm, data: noData, ...body }])
  return index
}

function appendAsLeader(state: State, leadership: LeaderState, entries: readonly Entry[]): void {
  appendToLog(state, entries)
  for (const entry of entries) leadership.uncommittedBytes += entryBytes(entry)
}

/**
 * Keeps one progress per member of the configuration in force, other than this server; a new one starts at the end of the
 * log. Who is no member any more departs.
 */
export function trackMembers(state: State, leadership: LeaderState): void {
  const members = membersOf(state.configurations.latest.configuration)
  seeOff(state, leadership)
  for (const id of leadership.progress.keys()) {
    if (!members.has(id)) leadership.progress.delete(id)
  }
  for (const id of members) {
    if (id === state.config.id || leadership.progress.has(id)) continue
    leadership.progress.set(id, new Progress(id, state.log.lastIndex + 1, leadership.ticks))
  }
  leadership.commitDue = true
}

/** Judges a follower's answer. Its numbers are checked against our own log: nothing it says can exceed that. */
export function handleAppendResponse(state: State, leadership: LeaderState, response: AppendResponse): void {
  const progress = progressOf(leadership, response.from)
  if (progress === undefined || response.matchIndex > state.log.lastIndex) return
  progress.answered(leadership.ticks)
  confirmRound(leadership, progress, response.readContext)
  if (response.success) {
    if (progress.acknowledge(response.matchIndex)) leadership.commitDue = true
  } else {
    progress.reject(response.prevLogIndex, nextIndexHint(state, response))
    // A probe that memory cannot repeat: the follower is there, so storage is asked again.
    if (progress.state === 'probe' && state.log.termAt(progress.nextIndex - 1) === undefined) {
      progress.probeSent = false
    }
  }
  progress.heardFull(response.full)
  heardFromRemoved(leadership, response)
}

/**
 * A follower whose disk is slow follows all the same: check-quorum and read rounds ask for no more. Nothing of its log is
 * known by it, so it moves no progress, and nothing that needs the follower's disk counts on it (`isInStep`).
 */
export function handleHeard(leadership: LeaderState, { from, readContext }: Heard): void {
  const progress = leadership.progress.get(from)
  if (progress === undefined) return
  progress.heardAt = leadership.ticks
  confirmRound(leadership, progress, readContext)
}

/** A round that was never sent out confirms nothing. */
function confirmRound({ reads }: LeaderState, progress: Progress, readContext: number): void {
  if (readContext <= reads.readContext) progress.readContext = Math.max(progress.readContext, readContext)
}

/**
 * Section 5.3, the optimisation of the last paragraph, from this side: of what the follower names, only what is not above
 * its term can agree (follower.ts). Terms are compared by order: for equality, every term that only one side has would
 * cost a round trip.
 */
function nextIndexHint({ log }: State, { conflictTerm, conflictIndex }: AppendResponse): number {
  if (conflictIndex <= log.before.index) return conflictIndex + 1
  return log.lastPlaceNotAbove({ index: conflictIndex, term: conflictTerm }).index + 1
}

/**
 * Figure 2, rules for leaders: commit N if a majority holds it and it is of the current term (section 5.4.2).
 * The leader's own log counts as far as it is durable. True if `commitIndex` moved.
 */
export function advanceCommit(state: State, leadership: LeaderState): boolean {
  leadership.commitDue = false
  const { configuration } = state.configurations.latest
  const held = quorumValue(configuration, id =>
    id === state.config.id ? state.persistedIndex : (leadership.progress.get(id)?.matchIndex ?? 0),
  )
  if (held <= state.commitIndex || state.log.termAt(held) !== state.currentTerm) return false
  state.commitIndex = held
  return true
}

/** Sends what is due to every follower. */
export function replicate(state: State, leadership: LeaderState): void {
  for (const progress of recipients(leadership)) {
    const sentEntries = sendEntries(state, leadership, progress)
    const commitIsNews = progress.state === 'replicate' && progress.commitSent < commitFor(state, progress)
    if (!sentEntries && (progress.mustSend || commitIsNews)) sendEmpty(state, leadership, progress)
    progress.mustSend = false
  }
}

/** Figure 2: "upon election: send initial empty AppendEntries RPCs (heartbeat); repeat during idle periods". */
export function heartbeat(state: State, leadership: LeaderState): void {
  for (const progress of recipients(leadership)) {
    progress.beat()
    const { snapshot } = progress
    // The offer or its answer may have been lost; the follower takes a repeated one as one.
    if (snapshot === undefined) continue
    const { id: from } = state.config
    if (leadership.ticks - progress.heardAt <= state.config.electionTimeoutTicks)
      state.effects.push({ type: 'send-snapshot', to: progress.id, snapshot })
    send(state, progress.id, { type: 'install-snapshot', from, term: state.currentTerm, snapshot })
  }
}

/** Entries that storage gave for `load`: for the followers that wait at exactly this place. */
export function sendLoaded(
  state: State,
  leadership: LeaderState,
  { before, entries }: Extract<Input, { type: 'loaded' }>,
): void {
  for (const progress of recipients(leadership)) {
    const due = entries.filter(({ index }) => index <= lastFor(state, progress))
    if (progress.nextIndex - 1 !== before.index || due.length === 0) continue
    if (!progress.mayAppend(state.config)) continue
    sendAppend(state, leadership, progress, before, due)
  }
}

/** The last entry that this follower gets, now. */
function lastFor({ log }: State, { end }: Progress): number {
  return end?.index ?? log.lastIndex
}

/** What this follower may know to be committed. */
function commitFor({ commitIndex }: State, { end }: Progress): number {
  return Math.min(commitIndex, end?.index ?? commitIndex)
}

/** The term at a place in memory, or at the last place of one that departs: memory may let go of that. */
function termFor({ log }: State, { end }: Progress, index: number): number | undefined {
  return end?.index === index ? end.term : log.termAt(index)
}

function sendEntries(state: State, leadership: LeaderState, progress: Progress): boolean {
  const { config, log } = state
  const last = lastFor(state, progress)
  let sent = false
  while (progress.mayAppend(config) && (progress.state === 'probe' || progress.nextIndex <= last)) {
    const index = progress.nextIndex - 1
    const term = termFor(state, progress, index)
    if (term === undefined) {
      load(state, index + 1)
      return sent
    }
    const limit = {
      entries: Math.min(config.maxEntriesPerAppend, last - index),
      bytes: config.maxBytesPerAppend,
    }
    sendAppend(state, leadership, progress, { index, term }, log.slice(index + 1, limit))
    sent = true
  }
  return sent
}

/** An append without entries, where the next one would start, or at the edge of what is in memory and may be sent. */
function sendEmpty(state: State, leadership: LeaderState, progress: Progress): void {
  const { log } = state
  const index = progress.nextIndex - 1
  const term = termFor(state, progress, index)
  const { lastSent, end } = progress
  if (progress.state !== 'snapshot' && term !== undefined) {
    sendAppend(state, leadership, progress, { index, term }, [])
  } else if (lastSent?.index === index) {
    sendAppend(state, leadership, progress, lastSent, [])
  } else {
    const edge = end !== undefined && end.index < log.before.index ? end : log.before
    sendAppend(state, leadership, progress, edge, [])
  }
}

function sendAppend(
  state: State,
  leadership: LeaderState,
  progress: Progress,
  previous: Position,
  entries: readonly Entry[],
): void {
  const last = entries.at(-1)
  progress.count(entries)
  if (progress.state === 'probe') {
    if (previous.index === progress.nextIndex - 1) progress.probeSent = true
  } else if (last !== undefined) {
    const bytes = entries.reduce((sum, entry) => sum + entryBytes(entry), 0)
    progress.sent({ index: last.index, term: last.term }, bytes)
  }
  const leaderCommit = commitFor(state, progress)
  progress.commitSent = leaderCommit
  send(state, progress.id, {
    type: 'append-entries',
    from: state.config.id,
    term: state.currentTerm,
    prevLogIndex: previous.index,
    prevLogTerm: previous.term,
    entries,
    leaderCommit,
    readContext: leadership.reads.readContext,
  })
}

/** Asks storage for entries that memory has let go; one request at a time, whoever needs it first. */
function load(state: State, from: number): void {
  if (state.loading) return
  state.loading = true
  const to = Math.min(state.log.before.index, from + state.config.maxEntriesPerAppend - 1)
  state.effects.push({ type: 'load', from, to, maxBytes: state.config.maxBytesPerAppend })
}
