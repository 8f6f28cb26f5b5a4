/** Bugs that others have had, to be put back in one at a time: each must be caught by some seed. */
import type { Mutant } from './mutation.ts'

export const mutants: readonly Mutant[] = [
  {
    name: 'older-term-by-count',
    source: 'section 5.4.2, Figure 8',
    file: 'consensus/replication.ts',
    find: 'if (held <= state.commitIndex || state.log.termAt(held) !== state.currentTerm) return false',
    replace: 'if (held <= state.commitIndex) return false',
  },
  {
    name: 'acknowledge-before-durable',
    source: 'Figure 2, "updated on stable storage before responding"',
    file: 'consensus/durability.ts',
    find: 'if (hardStateIsDurable(state) && upTo <= state.persistedIndex) {',
    replace: 'if (hardStateIsDurable(state)) {',
  },
  {
    name: 'vote-before-durable',
    source: 'Figure 2, persistent state',
    file: 'consensus/durability.ts',
    find: 'if (hardStateIsDurable(state) && upTo <= state.persistedIndex) {',
    replace: 'if (upTo <= state.persistedIndex) {',
  },
  {
    name: 'pre-vote-clears-vote',
    source: 'CCF #5891, #8094',
    file: 'consensus/election.ts',
    find: "  state.role = 'precandidate'\n",
    replace: "  state.role = 'precandidate'\n  setHardState(state, state.currentTerm, null)\n",
  },
  {
    name: 'match-index-from-probe',
    source: 'CCF #5325',
    file: 'consensus/progress.ts',
    find: 'this.becomeProbe(Math.max(this.matchIndex + 1, Math.min(hint, prevLogIndex)))',
    replace:
      'this.matchIndex = Math.max(this.matchIndex, Math.min(hint, prevLogIndex) - 1)\n    this.becomeProbe(this.matchIndex + 1)',
  },
  {
    name: 'stale-reject-rolls-back',
    source: 'CCF #6016',
    file: 'consensus/progress.ts',
    find: 'if (prevLogIndex <= this.matchIndex || prevLogIndex >= this.nextIndex) return',
    replace:
      'if (prevLogIndex >= this.nextIndex) return\n    if (prevLogIndex <= this.matchIndex) this.matchIndex = Math.max(0, prevLogIndex - 1)',
  },
  {
    name: 'acknowledge-beyond-message',
    source: 'CCF #6016',
    file: 'consensus/follower.ts',
    find: '  acknowledge(state, message, covered)\n',
    replace: '  acknowledge(state, message, log.lastIndex)\n',
  },
  {
    name: 'vote-for-shorter-log',
    source: 'section 5.4.1',
    file: 'consensus/election.ts',
    find: '(request.lastLogTerm === log.lastTerm && request.lastLogIndex >= log.lastIndex)',
    replace: 'request.lastLogTerm === log.lastTerm',
  },
  {
    name: 'vote-for-older-log-term',
    source: 'section 5.4.1',
    file: 'consensus/election.ts',
    find: 'request.lastLogTerm > log.lastTerm ||',
    replace: 'request.lastLogIndex > log.lastIndex ||',
  },
  {
    name: 'vote-twice-in-a-term',
    source: 'section 5.2',
    file: 'consensus/election.ts',
    find: '    (state.votedFor === null && state.leader === null) ||\n',
    replace: '    state.leader === null ||\n',
    also: [
      {
        file: 'consensus/election.ts',
        find: 'if (state.votedFor === null) setHardState(state, currentTerm, to)',
        replace: 'if (state.votedFor !== to) setHardState(state, currentTerm, to)',
      },
    ],
  },
  {
    name: 'old-snapshot-over-log',
    source: 'section 7; CCF #5674',
    file: 'consensus/snapshot.ts',
    find: '  if (lastIncludedIndex <= state.commitIndex) return true\n',
    replace: '  if (lastIncludedIndex <= state.lastApplied - 4) return true\n',
    also: [
      {
        file: 'consensus/durability.ts',
        find: '  assert(index > state.commitIndex, `snapshot: ${index} is not past the committed ${state.commitIndex}`)\n',
        replace: '',
      },
    ],
  },
  {
    name: 'snapshot-at-any-state',
    source: 'a snapshot says what it covers',
    file: 'node/snapshots.ts',
    find: '    const ledger = chain.at(height)\n',
    replace: '    const { ledger } = chain\n',
  },
  {
    name: 'applied-twice-after-restart',
    source: 'applied index and state in one write',
    file: 'node/chain-storage.ts',
    find: "put(storeKey('applied'), encode(records.appliedCodec, { index: write.applied, height })),",
    replace:
      "put(storeKey('applied'), encode(records.appliedCodec, { index: Math.max(this.#snapshot?.lastIncludedIndex ?? 0, write.applied - 1), height })),",
  },
  {
    name: 'leave-joint-early',
    source: 'section 6',
    file: 'consensus/membership.ts',
    find: '  } else if (state.configurations.latest.index > state.commitIndex) {',
    replace: '  } else if (state.configurations.latest.index > state.commitIndex + 100) {',
  },
  {
    name: 'joint-by-one-majority',
    source: 'section 6',
    file: 'consensus/quorum.ts',
    find: '  return Math.min(incoming, majorityValue(configuration.votersOutgoing, valueFor))',
    replace: '  return incoming',
  },
  {
    name: 'learner-counts',
    source: 'learners never count',
    file: 'consensus/quorum.ts',
    find: '  const incoming = majorityValue(configuration.voters, valueFor)\n',
    replace:
      '  const incoming = majorityValue([...configuration.voters, ...configuration.learners], valueFor)\n',
  },
  {
    name: 'read-without-quorum',
    source: 'section 8; etcd #20418',
    file: 'consensus/read-index.ts',
    find: '  if (confirmed < reads.readContext) return\n',
    replace: '',
  },
  {
    name: 'read-before-own-term',
    source: 'section 8, "blank no-op entry"',
    file: 'consensus/read-index.ts',
    find: '  if (reads.round !== undefined || reads.waiting.length === 0 || state.commitIndex < leadership.noopIndex)\n    return\n',
    replace: '  if (reads.round !== undefined || reads.waiting.length === 0) return\n',
  },
  {
    name: 'sign-before-durable',
    source: 'order, execute, sign',
    file: 'node/replica.ts',
    find: '    const write = storage.apply({ applied: index, blocks, ...(configuration && { configuration }) })\n',
    replace:
      '    const write = storage.apply({ applied: index, blocks, ...(configuration && { configuration }) })\n    certifier.durable(executions.map(execution => execution.block))\n',
  },
  {
    name: 'sign-without-record',
    source: 'one header hash per height is promised for ever',
    file: 'node/replica.ts',
    find: '      certifier.signs ? { ...write, signed: { ...block, incarnation } } : write,',
    replace: '      certifier.signs ? write : write,',
  },
  {
    name: 'sign-twice-at-a-height',
    source: 'accountability',
    file: 'node/live-chain.ts',
    find: 'verify: this.#verifier })',
    replace: 'verify: this.#verifier, })',
  },
  {
    name: 'forget-hard-state-term',
    source: 'Figure 2, persistent state',
    file: 'node/chain-storage.ts',
    find: '    if (write.hardState)\n      operations.push(',
    replace: '    if (write.hardState && write.hardState.votedFor !== null)\n      operations.push(',
  },
  {
    name: 'no-step-down-on-higher-term',
    source: 'section 5.1',
    file: 'consensus/raft.ts',
    find: '    becomeFollower(state, message.term, null)\n  }\n  switch',
    replace:
      '    if (state.leadership === undefined) becomeFollower(state, message.term, null)\n    else return\n  }\n  switch',
  },
  {
    name: 'conflicting-tail-kept',
    source: 'section 5.3, AppendEntries step 3',
    file: 'consensus/follower.ts',
    find: '  const start = entries.findIndex(entry => log.termAt(entry.index) !== entry.term)\n',
    replace: '  const start = entries.findIndex(entry => log.termAt(entry.index) === undefined)\n',
  },
  {
    name: 'conflicting-tail-not-deleted-on-disk',
    source: 'section 5.3; torn ends',
    file: 'node/chain-storage.ts',
    find: "      for (let index = write.truncateAfter + 1; index <= this.#lastIndex; index++)\n        operations.push({ key: storeKey('entry', index), value: null })\n      this.#lastIndex = Math.min(this.#lastIndex, write.truncateAfter)\n",
    replace: '      this.#lastIndex = Math.min(this.#lastIndex, write.truncateAfter)\n',
    also: [
      {
        file: 'node/chain-storage.ts',
        find: "    operations.push(put(storeKey('logTail'), encode(records.logTailCodec, { lastIndex: this.#lastIndex })))\n",
        replace:
          "    if (write.entries.length > 0) operations.push(put(storeKey('logTail'), encode(records.logTailCodec, { lastIndex: this.#lastIndex })))\n",
      },
    ],
  },
  {
    name: 'commit-past-message',
    source: 'Figure 2, AppendEntries step 5',
    file: 'consensus/follower.ts',
    find: 'state.commitIndex = Math.max(state.commitIndex, Math.min(message.leaderCommit, covered))',
    replace: 'state.commitIndex = Math.max(state.commitIndex, Math.min(message.leaderCommit, log.lastIndex))',
  },
  {
    name: 'certificate-with-duplicate-signers',
    source: 'a quorum is of different consenters',
    file: 'node/certifier.ts',
    find: '    if (state.verified.size >= quorum) this.#settle(',
    replace: '    if (state.verified.size + state.received.size + 1 >= quorum) this.#settle(',
  },
  {
    name: 'certificate-of-other-hash',
    source: 'no certificate over an uncommitted block',
    file: 'node/certifier.ts',
    find: '    if (this.#stopped || certificate.height <= this.#certified) return ok(undefined)\n',
    replace: '    if (this.#stopped) return ok(undefined)\n',
  },
  {
    name: 'certification-not-repeated',
    source: 'certification catches up after loss',
    file: 'node/certifier.ts',
    find: "    if (pending.length > 0) this.#output.announce('all', pending)\n",
    replace: '',
    also: [
      {
        file: 'node/certifier.ts',
        find: '    if (this.#own.size > 0 && !this.#stopped) this.#output.announce(peer, [...this.#own.values()])\n',
        replace: '',
      },
    ],
  },
  {
    name: 'transaction-executed-twice',
    source: 'exactly once',
    file: 'chain/execution.ts',
    find: '        replay.add(parsed.value.id, parsed.value.unsigned.expiry)\n',
    replace: '        if (receipts.length > 0) replay.add(parsed.value.id, parsed.value.unsigned.expiry)\n',
  },
  {
    name: 'acknowledge-on-proposal',
    source: 'committed is committed',
    file: 'node/submission.ts',
    find: '    if (result.ok || !this.#watched.has(watched.id) || watched.outcome) return\n',
    replace:
      "    if (result.ok) { this.#end(watched, { id: watched.id, status: 'committed' }); return }\n    if (!this.#watched.has(watched.id) || watched.outcome) return\n",
  },
  {
    name: 'mempool-kept-over-leaderships',
    source: 'memory bounds',
    file: 'node/producer.ts',
    find: "    if (outcome === 'committed') this.#mempool.remove(ids)\n    else this.#mempool.putBack(ids)\n",
    replace: '    this.#mempool.putBack(ids)\n',
  },
  {
    name: 'rebuilt-node-votes',
    source: 'a rebuilt directory has forgotten entries',
    file: 'node/replica.ts',
    find: '    return this.#appliedWritten < (this.#parts.rebuildUpTo ?? 0)\n',
    replace: '    return false\n',
  },
]
