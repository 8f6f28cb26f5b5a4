/**
 * Changing the members (section 6; thesis section 4.3): joint consensus for voters, one step for learners.
 *
 * A configuration is in force from the moment it is in the log. One change at a time: the next one is refused until
 * the last is committed and joint consensus is left. Leaving is an input of its own, so that the driver can first
 * do what has to be done under both majorities; `autoLeaveJoint` leaves as soon as the joint entry is committed.
 */
import {
  abandonJoint,
  isJoint,
  isVoter,
  leaveJoint,
  membersProblem,
  quorumShortfall,
  towards,
} from './configuration.ts'
import { appendInternal, trackMembers } from './replication.ts'
import { refuseNotLeader, refuseProposal } from './roles.ts'
import type { LeaderState, State } from './state.ts'
import type { Configuration, Input, NodeId } from './types.ts'

type ChangeMembership = Extract<Input, { type: 'change-membership' }>
type LeaveJoint = Extract<Input, { type: 'leave-joint' }>

/** Starts a change towards these members, if the voters that are in step suffice for every quorum on the way. */
export function changeMembership(state: State, { voters, learners, context }: ChangeMembership): void {
  const leadership = leadershipForChange(state, context)
  if (leadership === undefined) return
  const problem = membersProblem(voters, learners)
  if (problem !== undefined) {
    refuseProposal(state, context, 'invalid-members', problem)
    return
  }
  const { configuration: current } = state.configurations.latest
  if (isJoint(current)) {
    refuseProposal(state, context, 'change-in-progress', 'joint consensus has not been left')
    return
  }
  const configuration = towards(current, { voters, learners })
  // It may have to be left for the old voters, with the new ones as learners: that has to be possible too.
  const wayBack = isJoint(configuration) ? abandonJoint(configuration) : configuration
  const problemOfAbandoning = membersProblem(wayBack.voters, wayBack.learners)
  if (problemOfAbandoning !== undefined) {
    refuseProposal(state, context, 'invalid-members', `abandoned, ${problemOfAbandoning}`)
    return
  }
  const shortfall = isJoint(configuration)
    ? quorumShortfall(configuration, id => isInStep(state, leadership, id))
    : undefined
  if (shortfall !== undefined) {
    refuseProposal(state, context, 'would-lose-quorum', shortfall)
    return
  }
  appendConfiguration(state, leadership, { configuration, context })
}

/** Leaves joint consensus for the new members, or for the old ones. */
export function leaveJointConsensus(state: State, { abandon = false, context }: LeaveJoint): void {
  const leadership = leadershipForChange(state, context)
  if (leadership === undefined) return
  const { configuration } = state.configurations.latest
  if (!isJoint(configuration)) {
    refuseProposal(state, context, 'not-joint', 'no joint consensus to leave')
    return
  }
  const simple = abandon ? abandonJoint(configuration) : leaveJoint(configuration)
  const problem = membersProblem(simple.voters, simple.learners)
  if (problem !== undefined) {
    refuseProposal(state, context, 'invalid-members', problem)
    return
  }
  appendConfiguration(state, leadership, { configuration: simple, context })
}

/** Leaves joint consensus unasked if so configured, whichever leader finds it committed. */
export function advanceMembership(state: State, leadership: LeaderState): void {
  const { index, configuration } = state.configurations.latest
  const isSettled = index <= state.commitIndex && leadership.noopIndex <= state.commitIndex
  if (!state.config.autoLeaveJoint || !isSettled || !isJoint(configuration)) return
  appendConfiguration(state, leadership, { configuration: leaveJoint(configuration), context: undefined })
}

/** Section 6: a leader that is not part of the new configuration steps down once it is committed. */
export function isRemoved(state: State): boolean {
  const { index, configuration } = state.configurations.latest
  return index <= state.commitIndex && !isVoter(configuration, state.config.id)
}

/** The leadership, if a change may start now; else the refusal is sent. */
function leadershipForChange(state: State, context: number): LeaderState | undefined {
  const { leadership } = state
  if (leadership === undefined) {
    refuseNotLeader(state, context)
  } else if (leadership.transfer !== undefined) {
    refuseProposal(state, context, 'transferring', `leadership is going to ${leadership.transfer.to}`)
  } else if (state.commitIndex < leadership.noopIndex) {
    // An older leader's change may still be undecided until an entry of this term is committed.
    refuseProposal(state, context, 'change-in-progress', 'no entry of this term is committed yet')
  } else if (state.configurations.latest.index > state.commitIndex) {
    refuseProposal(state, context, 'change-in-progress', 'the last change is not committed')
  } else {
    return leadership
  }
  return undefined
}

function appendConfiguration(
  state: State,
  leadership: LeaderState,
  change: { readonly configuration: Configuration; readonly context: number | undefined },
): void {
  const { configuration, context } = change
  const index = appendInternal(state, leadership, { type: 'configuration', configuration })
  trackMembers(state, leadership)
  if (context === undefined) return
  const { currentTerm: term } = state
  state.effects.push({ type: 'proposed', context, firstIndex: index, lastIndex: index, term })
}

/**
 * True for a voter that answers and takes appends: it can be counted on for the next quorum. To have been heard is not
 * enough: the next quorum needs its disk.
 */
function isInStep(state: State, leadership: LeaderState, id: NodeId): boolean {
  if (id === state.config.id) return true
  const progress = leadership.progress.get(id)
  return (
    progress?.state === 'replicate' &&
    leadership.ticks - progress.answeredAt <= state.config.electionTimeoutTicks
  )
}
