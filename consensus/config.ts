/**
 * Limits and timing of a core: defaults, and the relations between them that the algorithm relies on.
 */
import { maxBytesPerMessage, maxEntriesPerMessage } from './message-check.ts'
import type { Config, NodeId } from './types.ts'

const kibibyte = 1024
const mebibyte = 1024 * kibibyte

/** Sound defaults for a driver that ticks every few tens of milliseconds. */
export function defaultConfig(id: NodeId): Config {
  return {
    id,
    electionTimeoutTicks: 10,
    heartbeatTicks: 1,
    preVote: true,
    checkQuorum: true,
    maxEntriesPerAppend: 1024,
    maxBytesPerAppend: mebibyte,
    maxAppendsInFlight: 64,
    maxBytesInFlight: 8 * mebibyte,
    maxUncommittedBytes: 16 * mebibyte,
    maxLogBytesInMemory: 32 * mebibyte,
    autoLeaveJoint: false,
  }
}

const positiveFields = [
  'electionTimeoutTicks',
  'heartbeatTicks',
  'maxEntriesPerAppend',
  'maxBytesPerAppend',
  'maxAppendsInFlight',
  'maxBytesInFlight',
  'maxUncommittedBytes',
  'maxLogBytesInMemory',
] as const

/** What is wrong with a configuration, one sentence per problem; empty when it is usable. */
export function configProblems(config: Config): string[] {
  const problems: string[] = []
  if (config.id === '') problems.push('id: expected a node id, got empty text')
  for (const field of positiveFields) {
    const value = config[field]
    if (!Number.isSafeInteger(value) || value < 1) {
      problems.push(`${field}: expected a positive integer, got ${value}`)
    }
  }
  // What followers drop as ill-formed a leader must not send: the numbers are those of message-check.ts.
  const mostOf = { maxEntriesPerAppend: maxEntriesPerMessage, maxBytesPerAppend: maxBytesPerMessage }
  for (const [field, most] of Object.entries(mostOf)) {
    const value = config[field as keyof typeof mostOf]
    if (value > most) problems.push(`${field}: expected at most ${most}, got ${value}`)
  }
  // A heartbeat must arrive well within the shortest timeout, or every lost one costs an election.
  if (config.electionTimeoutTicks < 2 * config.heartbeatTicks) {
    problems.push(
      `electionTimeoutTicks: expected at least twice heartbeatTicks (${config.heartbeatTicks}), got ${config.electionTimeoutTicks}`,
    )
  }
  return problems
}
