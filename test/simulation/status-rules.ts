/** Rules on the state of one core alone: what never goes back, and what stays within its limits. */
import { defaultConfig } from '../../consensus/config.ts'
import { entryBytes } from '../../consensus/log.ts'
import { maxTermLead } from '../../consensus/message-check.ts'
import type { RaftStatus } from '../../consensus/status.ts'
import type { Config } from '../../consensus/types.ts'
import type { SimulatedProcess } from './host.ts'
import type { LogMirror } from './log-mirror.ts'
import { must } from './violation.ts'

export function judgeProgress(name: string, before: RaftStatus | undefined, after: RaftStatus): void {
  if (before) judgeMonotone(name, before, after)
  // No run has so many elections.
  must(after.currentTerm <= maxTermLead, 'a term far ahead is not heard', `${name} ${after.currentTerm}`)
  must(after.commitIndex <= after.lastLogIndex, 'commitIndex is in the log', name)
  must(after.lastApplied <= after.commitIndex, 'only what is committed is applied', name)
  for (const [id, follower] of after.followers) {
    const where = `${name} of ${id.slice(0, 4)}`
    must(follower.nextIndex > follower.matchIndex, 'nextIndex is past matchIndex', where)
    must(follower.matchIndex <= after.lastLogIndex, 'matchIndex is in the log', where)
  }
}

function judgeMonotone(name: string, before: RaftStatus, after: RaftStatus): void {
  must(after.currentTerm >= before.currentTerm, 'currentTerm is monotone', name)
  must(after.commitIndex >= before.commitIndex, 'commitIndex is monotone', name)
  must(after.lastApplied >= before.lastApplied, 'lastApplied is monotone', name)
  if (after.currentTerm !== before.currentTerm) return
  must(before.votedFor === null || after.votedFor === before.votedFor, 'a vote is kept for its term', name)
  if (before.role !== 'leader' || after.role !== 'leader') return
  for (const [id, follower] of after.followers) {
    const earlier = before.followers.get(id)
    must(!earlier || follower.matchIndex >= earlier.matchIndex, 'matchIndex is monotone', `${name} of ${id}`)
  }
}

/** What the node keeps of its core: a cut of the log, or a snapshot in its place, takes members back. */
export function judgeMembers({ node, name }: SimulatedProcess, { configuration }: RaftStatus): void {
  must(node?.replica.configuration === configuration, 'the members are the latest in the log', name)
}

/** Of one process: its log and status, and the highest block of the whole chain. */
export interface BoundsView {
  readonly log: LogMirror
  readonly status: RaftStatus
  readonly highestBlock: number
}

export function judgeBounds(
  { node, host, name }: SimulatedProcess,
  { log, status, highestBlock }: BoundsView,
): void {
  const limits = { ...defaultConfig(host.id), ...host.site.limits }
  for (const follower of status.followers.values()) {
    must(follower.appendsInFlight <= limits.maxAppendsInFlight, 'appends in flight are bounded', name)
    const most = limits.maxBytesInFlight + limits.maxBytesPerAppend + largestEntry
    must(follower.bytesInFlight <= most, 'bytes in flight are bounded', name)
  }
  must(
    status.uncommittedBytes <= limits.maxUncommittedBytes + 4 * largestEntry,
    'uncommitted bytes are bounded',
    name,
  )
  if (status.logBytesInMemory > limits.maxLogBytesInMemory) {
    let needed = 0
    for (let index = status.lastApplied + 1; index <= status.lastLogIndex; index++) {
      const entry = log.entryAt(index)
      if (entry) needed += entryBytes(entry)
    }
    must(status.logBytesInMemory <= limits.maxLogBytesInMemory + needed, 'the log in memory is bounded', name)
  }
  if (!node) return
  must(node.mempool.size <= mempoolMax, 'the mempool is bounded', name)
  must(status.role === 'leader' || node.mempool.size === 0, 'only a leader holds transactions', name)
  must(node.submission.open <= mempoolMax, 'open submissions are bounded', name)
  const { openHeights, certifiedHeight } = node.certifier
  // Nobody signs what nobody has executed.
  const lag = Math.max(0, highestBlock - certifiedHeight)
  must(openHeights <= lag, 'heights are kept for want of a certificate', `${name} ${openHeights} > ${lag}`)
  const { writes, sends } = node.replica.waiting
  must(writes > 0 || sends === 0, 'messages wait for a write', `${name} ${sends}`)
}

/** Bytes that may be sent to a follower again after one heartbeat. */
export function mostSentAgain({ maxBytesInFlight, maxBytesPerAppend }: Config): number {
  return maxBytesInFlight + maxBytesPerAppend + largestEntry
}

/** More than any block of a simulation holds. */
const largestEntry = 64 * 1024
/** More than all clients of a simulation have open. */
const mempoolMax = 200
