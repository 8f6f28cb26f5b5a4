/**
 * The arithmetic of majorities, simple and joint (section 6): pure functions over a configuration.
 *
 * In joint consensus a decision needs a majority of `voters` and a majority of `votersOutgoing`, each on its own.
 * Learners never count. A configuration without voters decides nothing.
 */
import type { Configuration, NodeId } from './types.ts'

export type VoteResult = 'won' | 'lost' | 'pending'

/** The smallest number of `count` voters of which any two such sets meet. */
export function majority(count: number): number {
  return Math.floor(count / 2) + 1
}

/** True if those for whom `has` holds are a quorum. */
export function isQuorum(configuration: Configuration, has: (id: NodeId) => boolean): boolean {
  if (configuration.voters.length === 0) return false
  return (
    isMajority(configuration.voters, has) &&
    (configuration.votersOutgoing.length === 0 || isMajority(configuration.votersOutgoing, has))
  )
}

/** The highest value that a quorum has reached: each of its members holds it or a higher one. */
export function quorumValue(configuration: Configuration, valueFor: (id: NodeId) => number): number {
  if (configuration.voters.length === 0) return 0
  const incoming = majorityValue(configuration.voters, valueFor)
  if (configuration.votersOutgoing.length === 0) return incoming
  return Math.min(incoming, majorityValue(configuration.votersOutgoing, valueFor))
}

/** What the votes so far decide. Votes of anybody who is not a voter are left out. */
export function voteResult(configuration: Configuration, votes: ReadonlyMap<NodeId, boolean>): VoteResult {
  if (isQuorum(configuration, id => votes.get(id) === true)) return 'won'
  return isQuorum(configuration, id => votes.get(id) !== false) ? 'pending' : 'lost'
}

function isMajority(voters: readonly NodeId[], has: (id: NodeId) => boolean): boolean {
  let count = 0
  for (const id of voters) if (has(id)) count += 1
  return count >= majority(voters.length)
}

function majorityValue(voters: readonly NodeId[], valueFor: (id: NodeId) => number): number {
  const values = voters.map(valueFor).sort((left, right) => right - left)
  return values[majority(voters.length) - 1] ?? 0
}
