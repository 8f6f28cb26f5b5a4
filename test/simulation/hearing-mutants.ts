/** Known bugs in who is heard and who is told: terms far ahead, disks that are slow or lost, members that were removed. */
import type { Mutant } from './mutation.ts'

export const hearingMutants: readonly Mutant[] = [
  {
    name: 'only-the-log-says-who-votes',
    source: 'who missed a change of all voters hears none of the new ones',
    file: 'consensus/hearing.ts',
    find: 'knownVoters.has(from) || ',
    replace: '',
  },
  {
    name: 'own-state-alone-says-who-votes',
    source: 'who missed a change of all voters hears none of the new ones',
    file: 'node/replica/known-voters.ts',
    find: '    const ids = new Set([...votersOf(ledger.parameters), ...votersOf(proven?.parameters)])\n',
    replace: '    const ids = new Set(votersOf(ledger.parameters))\n',
  },
  {
    name: 'outgoing-leader-not-heard',
    source: 'the entry that leaves the leader out is its own to commit',
    file: 'consensus/hearing.ts',
    find: ' || isLeaderOf(state, message)',
    replace: '',
  },
  {
    name: 'configuration-beside-blocks',
    source: 'a follower judges a configuration by the state right before it',
    file: 'node/replica/membership-driver.ts',
    find: "    if (step && step.type !== 'wait' && !isSettled()) return 'hold'\n",
    replace: '',
  },
  {
    name: 'replaced-entries-count-as-lost',
    source: 'an acknowledgement binds in its own term alone',
    file: 'node/replica/member-server.ts',
    find: '  if (term < currentTerm || (term === currentTerm && index <= lastLogIndex)) return undefined\n',
    replace: '  if (term <= currentTerm && index <= lastLogIndex) return undefined\n',
  },
  {
    name: 'far-term-adopted',
    source: 'one message uses up the terms that there are',
    file: 'consensus/hearing.ts',
    find: '  if (message.term > highestTermHeard(state)) return false\n',
    replace: '',
  },
  {
    name: 'slow-disk-is-silence',
    source: 'a leader is deposed by slow disks',
    file: 'consensus/follower.ts',
    find: '  if (matchIndex > state.persistedIndex && state.pendingWrites.length > 0) sayHeard(state, message)\n',
    replace: '',
  },
  {
    name: 'silent-behind-the-disk',
    source: 'a leader is deposed by slow disks',
    file: 'node/replica/replica.ts',
    find: 'this.#writes.inFlight === 0 ? tickMs / 2 : 0',
    replace: 'tickMs / 2',
  },
  {
    name: 'heard-and-not-counted',
    source: 'a leader is deposed by slow disks',
    file: 'consensus/replication.ts',
    find: '  progress.heardAt = leadership.ticks\n',
    replace: '',
  },
  {
    name: 'removed-and-not-told',
    source: 'section 6, disruptive servers',
    file: 'consensus/replication.ts',
    find: '  seeOff(state, leadership)\n',
    replace: '',
  },
  {
    name: 'removal-told-without-commit',
    source: 'section 6, disruptive servers',
    file: 'consensus/departing.ts',
    find: 'if (knows && response.matchIndex',
    replace: 'if (response.matchIndex',
    also: [
      {
        file: 'consensus/departing.ts',
        find: '  if (departing?.notice === undefined) return\n  const { progress, notice } = departing\n  // A follower takes as committed what the append that says so covers: this very answer has to cover the entry.\n  const knows = response.success && response.readContext >= notice.readContext\n',
        replace: '  if (departing === undefined) return\n  const { progress } = departing\n',
      },
    ],
  },
  {
    name: 'removed-gets-what-follows',
    source: 'who is no member gets nothing more',
    file: 'consensus/replication.ts',
    find: '  return end?.index ?? log.lastIndex\n',
    replace: '  return Math.max(end?.index ?? 0, log.lastIndex)\n',
  },
]
