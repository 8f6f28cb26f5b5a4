/**
 * The follower's side of the log: accepting appends (Figure 2, AppendEntries RPC, receiver implementation) and
 * handing out what is committed.
 *
 * Invariants: 1. An acknowledgement covers `prevLogIndex + entries.length` and nothing beyond it, however long the
 * log is: what follows may be another leader's. 2. Committed entries are never cut; a message that would do it is
 * impossible and ignored. 3. Entries are delivered in order, once, and only when durable here.
 */
import { assert } from './assert.ts'
import { appendToLog, hardStateIsDurable, send, sendWhenDurable, truncateLog } from './durability.ts'
import { entryBytes, type Position } from './log.ts'
import { isFull, type State } from './state.ts'
import type { Entry, Message } from './types.ts'

type AppendEntries = Extract<Message, { type: 'append-entries' }>

/**
 * Takes an append of this term's leader and answers it. `withheld`: its driver took entries off the end, so what is left
 * is a shorter append of the same leader, and the answer asks for no more.
 */
export function handleAppendEntries(state: State, message: AppendEntries, withheld: boolean): void {
  const { log } = state
  const full = withheld || isFull(state)
  const lastOfMessage = message.prevLogIndex + message.entries.length
  // What lies before the window is committed, and this leader holds it: only the rest has to be compared.
  if (lastOfMessage <= log.before.index) {
    acknowledge(state, message, { matchIndex: lastOfMessage, full })
    return
  }
  const { previous, entries } = insideWindow(state, message)
  const term = log.termAt(previous.index)
  if (term !== previous.term) {
    if (previous.index > state.commitIndex) reject(state, message, { previous, full })
    return
  }
  const fresh = newEntries(state, entries)
  if (fresh === undefined) return
  const taken = mayTake(state, fresh) ? fresh : []
  const covered = lastOfMessage - (fresh.length - taken.length)
  const first = taken[0]
  if (first !== undefined && first.index <= log.lastIndex) truncateLog(state, first.index - 1)
  appendToLog(state, taken)
  state.commitIndex = Math.max(state.commitIndex, Math.min(message.leaderCommit, covered))
  acknowledge(state, message, { matchIndex: covered, full })
}

/** The part of the message that can be compared with what is in memory. */
function insideWindow(
  { log }: State,
  { prevLogIndex, prevLogTerm, entries }: AppendEntries,
): { readonly previous: Position; readonly entries: readonly Entry[] } {
  const known = log.before.index - prevLogIndex
  if (known <= 0) return { previous: { index: prevLogIndex, term: prevLogTerm }, entries }
  const last = entries[known - 1]
  return {
    previous: { index: log.before.index, term: last?.term ?? prevLogTerm },
    entries: entries.slice(known),
  }
}

/**
 * False while too much waits to be applied here: the message then counts as a heartbeat, and the answer says `full`.
 * Entries in place of others are taken: they add nothing.
 *
 * This ends without anybody's help. What waits is committed and durable here, so the driver can apply it whatever the
 * others do, and the answer to the next heartbeat lets the leader go on.
 */
function mayTake(state: State, entries: readonly Entry[]): boolean {
  const first = entries[0]
  return first === undefined || first.index <= state.log.lastIndex || !isFull(state)
}

/** The tail of `entries` from the first one that the log lacks or holds otherwise. Undefined if that is impossible. */
function newEntries(state: State, entries: readonly Entry[]): readonly Entry[] | undefined {
  const { log } = state
  const start = entries.findIndex(entry => log.termAt(entry.index) !== entry.term)
  if (start === -1) return []
  const first = entries[start]
  if (first === undefined || first.index <= state.commitIndex) return undefined
  return start === 0 ? entries : entries.slice(start)
}

function acknowledge(
  state: State,
  message: AppendEntries,
  { matchIndex, full }: { readonly matchIndex: number; readonly full: boolean },
): void {
  if (matchIndex > state.persistedIndex && state.pendingWrites.length > 0) sayHeard(state, message)
  sendWhenDurable(
    state,
    message.from,
    {
      type: 'append-response',
      from: state.config.id,
      term: state.currentTerm,
      success: true,
      prevLogIndex: message.prevLogIndex,
      matchIndex,
      conflictIndex: 0,
      conflictTerm: 0,
      readContext: message.readContext,
      full,
    },
    matchIndex,
  )
}

/**
 * The answer waits behind an earlier write; that this server follows need not. A leader whose followers' disks are slow
 * would else be taken for one that is cut off: it would step down, and nobody could do better. An append that meets an idle
 * disk is answered alone: the next heartbeat comes before anybody asks, and the hot path costs what it did.
 *
 * Safe, although entries wait: no entry is claimed. What a read round asks is whether the term had gone on when this
 * server spoke. A later leader's majority, and any quorum that confirms a round, have a server in common; its vote was
 * durable, with its term, before it left, so it says nothing in an earlier term after it, a restart in between or not.
 * No answer names a term that is not durable yet: a server that restarts may never have been in it.
 */
function sayHeard(state: State, { from: to, readContext }: AppendEntries): void {
  if (!hardStateIsDurable(state)) return
  send(state, to, { type: 'heard', from: state.config.id, term: state.currentTerm, readContext })
}

/**
 * Section 5.3, "the follower can include the term of the conflicting entry", as etcd does it: the answer names the last
 * place here, at or before the one asked for, whose term is not above the leader's there. Nothing after it can agree with
 * the leader's log, because terms never decrease; so any number of terms that only one side has costs one answer.
 */
function reject(
  state: State,
  message: AppendEntries,
  { previous, full }: { readonly previous: Position; readonly full: boolean },
): void {
  const hint = state.log.lastPlaceNotAbove(previous)
  send(state, message.from, {
    type: 'append-response',
    from: state.config.id,
    term: state.currentTerm,
    success: false,
    prevLogIndex: message.prevLogIndex,
    matchIndex: 0,
    conflictIndex: hint.index,
    conflictTerm: hint.term,
    readContext: message.readContext,
    full,
  })
}

/** Answers a leader of an older term, so that it learns of ours and steps down. */
export function rejectStaleLeader(state: State, message: Message): void {
  send(state, message.from, {
    type: 'append-response',
    from: state.config.id,
    term: state.currentTerm,
    success: false,
    prevLogIndex: 0,
    matchIndex: 0,
    conflictIndex: 0,
    conflictTerm: 0,
    readContext: 0,
    full: false,
  })
}

/** Hands out entries that are committed and durable, on any server (Figure 2, rules for all servers). */
export function deliver(state: State): void {
  const upTo = Math.min(state.commitIndex, state.persistedIndex)
  if (upTo <= state.delivered) return
  const entries = state.log.range(state.delivered + 1, upTo)
  state.delivered = upTo
  const bytes = entries.reduce((sum, entry) => sum + entryBytes(entry), 0)
  state.unappliedBytes += bytes
  if (state.leadership !== undefined) state.leadership.uncommittedBytes -= bytes
  state.effects.push({ type: 'commit', entries })
}

/** The driver has applied up to `index`: memory may let go of what is older. */
export function markApplied(state: State, index: number): void {
  assert(index <= state.delivered, `applied: ${index} was not delivered, only up to ${state.delivered}`)
  for (let applied = state.lastApplied + 1; applied <= index; applied += 1) {
    const entry = state.log.entryAt(applied)
    if (entry !== undefined) state.unappliedBytes -= entryBytes(entry)
  }
  state.lastApplied = Math.max(state.lastApplied, index)
  state.log.shrink(state.lastApplied, state.config.maxLogBytesInMemory)
  state.configurations.forgetBefore(state.lastApplied)
}
