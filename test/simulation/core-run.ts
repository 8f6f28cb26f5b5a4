/**
 * One run of the consensus core alone, on the schedules of test/unit/consensus/cluster.ts: what the driver above it does not
 * do yet (changes of members), or does rarely, gets faults here. One seed decides everything.
 */
import { Cluster } from '../unit/consensus/cluster.ts'
import type { RunReport, SimulationOptions } from './world.ts'

const variants = [
  {},
  {
    maxEntriesPerAppend: 2,
    maxAppendsInFlight: 2,
    maxBytesPerAppend: 200,
    maxBytesInFlight: 400,
    maxLogBytesInMemory: 300,
    maxUncommittedBytes: 300,
  },
  { preVote: false, autoLeaveJoint: true, heartbeatTicks: 2 },
]
export const defaultCoreEvents = 1_500
const healRounds = 200

/** Fails as a run of the whole does; the trace of a failed one is the state at its end. */
export function runCore({ seed, events = defaultCoreEvents }: SimulationOptions): RunReport {
  const cluster = new Cluster(seed, variants[seed % variants.length])
  let violation: RunReport['violation']
  try {
    cluster.disturb(events)
    if (!cluster.heal(healRounds)) throw new Error('violated: all comes right when faults end')
  } catch (error) {
    const message = (error as Error).message
    violation = {
      property: /violated: ([^(]+)/.exec(message)?.[1]?.trim() ?? 'nothing throws',
      message: `core: ${message}`,
    }
  }
  return {
    seed,
    violation,
    events,
    simulatedMs: 0,
    elections: 0,
    blocks: 0,
    acknowledged: 0,
    faults: 0,
    fullAnswers: cluster.fullAnswers,
    disjointHandovers: 0,
    messages: 0,
    traceHash: '',
    trace: violation ? stateOf(cluster) : '',
  }
}

function stateOf({ nodes }: Cluster): string {
  const lines = [...nodes.values()].map(({ id, raft }) => {
    if (!raft) return `core ${id}: down`
    const { role, currentTerm, votedFor, leader, commitIndex, lastLogIndex, lastLogTerm } = raft.status
    const { voters, votersOutgoing, learners } = raft.status.configuration
    return (
      `core ${id}: ${role} t${currentTerm} voted ${votedFor} leader ${leader} c${commitIndex} ${lastLogIndex}@${lastLogTerm} ` +
      `voters ${voters.join('')}/${votersOutgoing.join('')} learners ${learners.join('')}`
    )
  })
  return lines.join('\n')
}
