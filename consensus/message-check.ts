/**
 * Judges what a peer sent before it touches any state: ranges, sizes and inner consistency. The wire's decoder has
 * checked types; this says what no correct peer sends. An ill-formed message is ignored whole.
 */
import { membersProblem } from './configuration.ts'
import type { Configuration, Entry, Message, SnapshotMeta } from './types.ts'

/** Entries, and bytes of their data, in one append. A leader holds itself to the same: `configProblems`, `propose`. */
export const maxEntriesPerMessage = 65_536
export const maxBytesPerMessage = 64 * 1024 * 1024
/** A message whose term is more than this above what is known to have been reached is not heard (raft.ts). */
export const maxTermLead = 2 ** 20
/** Far above what any cluster reaches, far below where numbers lose precision. */
const maxNatural = 2 ** 52

/** True if a correct peer could have sent this. */
export function isWellFormed(message: Message): boolean {
  if (typeof message.from !== 'string' || message.from === '') return false
  if (!isNatural(message.term)) return false
  // Term 0 is where a server starts; only its refusal of a pre-vote speaks of it.
  if (message.term === 0 && message.type !== 'vote') return false
  switch (message.type) {
    case 'request-vote':
      return (
        isNatural(message.lastLogIndex) &&
        isNatural(message.lastLogTerm) &&
        message.lastLogTerm < message.term
      )
    case 'append-entries':
      return (
        isNatural(message.leaderCommit) && isNatural(message.readContext) && areWellFormedEntries(message)
      )
    case 'append-response':
      return (
        isNatural(message.prevLogIndex) &&
        isNatural(message.matchIndex) &&
        isNatural(message.conflictIndex) &&
        isNatural(message.conflictTerm) &&
        isNatural(message.readContext) &&
        typeof message.full === 'boolean'
      )
    case 'heard':
      return isNatural(message.readContext)
    case 'install-snapshot':
      return isWellFormedSnapshot(message.snapshot) && message.snapshot.lastIncludedTerm <= message.term
    case 'snapshot-response':
      return isNatural(message.lastIncludedIndex)
    case 'vote':
    case 'timeout-now':
      return true
    default:
      return false
  }
}

function areWellFormedEntries(message: Extract<Message, { type: 'append-entries' }>): boolean {
  const { prevLogIndex, prevLogTerm, entries, term } = message
  if (!isNatural(prevLogIndex) || !isNatural(prevLogTerm) || prevLogTerm > term) return false
  if (!Array.isArray(entries) || entries.length > maxEntriesPerMessage) return false
  let index = prevLogIndex
  let lastTerm = prevLogTerm
  let bytes = 0
  for (const entry of entries) {
    index += 1
    if (!isWellFormedEntry(entry) || entry.index !== index || entry.term < lastTerm) return false
    lastTerm = entry.term
    bytes += entry.data.length
  }
  return lastTerm <= term && bytes <= maxBytesPerMessage
}

function isWellFormedEntry(entry: Entry): boolean {
  if (!isNatural(entry.index) || !isNatural(entry.term) || entry.term < 1) return false
  if (!(entry.data instanceof Uint8Array)) return false
  switch (entry.type) {
    case 'command':
      return entry.configuration === undefined
    case 'noop':
      return entry.configuration === undefined && entry.data.length === 0
    case 'configuration':
      return entry.data.length === 0 && isWellFormedConfiguration(entry.configuration)
    default:
      return false
  }
}

function isWellFormedSnapshot(snapshot: SnapshotMeta): boolean {
  return (
    isNatural(snapshot.lastIncludedIndex) &&
    isNatural(snapshot.lastIncludedTerm) &&
    snapshot.lastIncludedIndex >= 1 &&
    isWellFormedConfiguration(snapshot.configuration)
  )
}

function isWellFormedConfiguration(configuration: Configuration | undefined): boolean {
  if (configuration === undefined) return false
  const { voters, votersOutgoing, learners } = configuration
  if (![voters, votersOutgoing, learners].every(Array.isArray)) return false
  const outgoingProblem = votersOutgoing.length === 0 ? undefined : membersProblem(votersOutgoing, [])
  return membersProblem(voters, learners) === undefined && outgoingProblem === undefined
}

function isNatural(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0 && value <= maxNatural
}
