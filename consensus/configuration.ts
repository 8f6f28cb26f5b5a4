/**
 * Configurations of the cluster as values: who is a member, which change leads where, and the history of those in
 * the log (section 6). A server uses the latest configuration in its log, committed or not, so a cut log takes
 * configurations back with it.
 *
 * Invariants: 1. `voters` and `learners` do not overlap. 2. A voter that is being demoted stands in
 * `votersOutgoing` and `learners` until joint consensus is left. 3. The history is ascending by index and never empty.
 */
import { assert } from './assert.ts'
import { isQuorum, majority } from './quorum.ts'
import type { Configuration, NodeId } from './types.ts'

/** More members than this are refused, from the driver and from peers. */
export const maxMembers = 256

export interface PlacedConfiguration {
  readonly index: number
  readonly configuration: Configuration
}

export function isJoint(configuration: Configuration): boolean {
  return configuration.votersOutgoing.length > 0
}

/** True if this node's vote counts, in either half of a joint configuration. */
export function isVoter(configuration: Configuration, id: NodeId): boolean {
  return configuration.voters.includes(id) || configuration.votersOutgoing.includes(id)
}

/** All servers that receive the log. */
export function membersOf(configuration: Configuration): Set<NodeId> {
  return new Set([...configuration.voters, ...configuration.votersOutgoing, ...configuration.learners])
}

/** Why these members cannot be a configuration, or undefined. */
export function membersProblem(voters: readonly NodeId[], learners: readonly NodeId[]): string | undefined {
  const all = [...voters, ...learners]
  if (voters.length === 0) return 'voters: expected at least 1, got 0'
  if (all.length > maxMembers) return `members: expected at most ${maxMembers}, got ${all.length}`
  if (all.includes('')) return 'members: expected node ids, got empty text'
  const repeated = all.find((id, position) => all.indexOf(id) !== position)
  return repeated === undefined ? undefined : `members: expected each once, got ${repeated} twice`
}

/** The configuration that starts the change: joint if the voters change, else the final one at once. */
export function towards(
  current: Configuration,
  target: { readonly voters: readonly NodeId[]; readonly learners: readonly NodeId[] },
): Configuration {
  assert(!isJoint(current), 'configuration: a change starts from a simple configuration')
  const sameVoters =
    current.voters.length === target.voters.length && target.voters.every(id => current.voters.includes(id))
  return {
    voters: [...target.voters],
    votersOutgoing: sameVoters ? [] : [...current.voters],
    learners: [...target.learners],
  }
}

/** The configuration after joint consensus. */
export function leaveJoint(joint: Configuration): Configuration {
  return { ...joint, votersOutgoing: [] }
}

/**
 * The configuration that takes a change back. As safe as going on: what is decided in joint consensus has a majority of
 * either half. Who was to become a voter goes on as a learner.
 */
export function abandonJoint({ voters, votersOutgoing, learners }: Configuration): Configuration {
  const others = new Set([...learners, ...voters])
  for (const id of votersOutgoing) others.delete(id)
  return { voters: votersOutgoing, votersOutgoing: [], learners: [...others] }
}

/** Says how the voters that are in step fall short of a quorum of `configuration`, or undefined if they do not. */
export function quorumShortfall(
  configuration: Configuration,
  inStep: (id: NodeId) => boolean,
): string | undefined {
  if (isQuorum(configuration, inStep)) return undefined
  const halves = [
    { name: 'voters', ids: configuration.voters },
    { name: 'outgoing voters', ids: configuration.votersOutgoing },
  ]
  const short = halves.filter(({ ids }) => ids.filter(inStep).length < majority(ids.length) && ids.length > 0)
  return short
    .map(({ name, ids }) => {
      const missing = ids.filter(id => !inStep(id))
      const present = ids.length - missing.length
      return `${name}: expected ${majority(ids.length)} of ${ids.length} in step, got ${present} (not in step: ${missing.join(', ')})`
    })
    .join('; ')
}

/** The configurations that the log holds, and the one below it. */
export class ConfigurationHistory {
  #placed: PlacedConfiguration[]
  /** What was right below the first one, if this process has seen it. */
  #below: PlacedConfiguration | undefined

  constructor(base: PlacedConfiguration) {
    this.#placed = [base]
  }

  /** The configuration in force: the latest in the log, committed or not. */
  get latest(): PlacedConfiguration {
    const last = this.#placed.at(-1)
    assert(last, 'configuration history: empty')
    return last
  }

  /** The one before it, if it is known: who was left out by the latest stands there. */
  get previous(): PlacedConfiguration | undefined {
    return this.#placed.at(-2) ?? this.#below
  }

  /**
   * True if this node votes in the committed configuration or in any later one. Who is not part of its own latest
   * configuration may still be needed to bring that about (thesis section 4.2.2).
   */
  mayCampaign(id: NodeId, commitIndex: number): boolean {
    const committed = this.#placed.findLastIndex(placed => placed.index <= commitIndex)
    return this.#placed.slice(Math.max(committed, 0)).some(({ configuration }) => isVoter(configuration, id))
  }

  append(placed: PlacedConfiguration): void {
    assert(placed.index > this.latest.index, 'configuration history: expected an ascending index')
    this.#placed.push(placed)
  }

  /** Takes back configurations after `index`. The base stays: it is committed. */
  truncateAfter(index: number): void {
    while (this.#placed.length > 1 && this.latest.index > index) this.#placed.pop()
  }

  /** Forgets what no truncation can bring back, once `index` is committed. */
  forgetBefore(index: number): void {
    const base = this.#placed.findLastIndex(placed => placed.index <= index)
    if (base <= 0) return
    this.#below = this.#placed[base - 1]
    this.#placed = this.#placed.slice(base)
  }

  reset(base: PlacedConfiguration): void {
    this.#placed = [base]
    this.#below = undefined
  }
}
