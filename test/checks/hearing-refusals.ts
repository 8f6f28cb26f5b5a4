/** Refusals of the consensus core and of who feeds it: who is heard, and which members are believed. */
import { never, type RefusalCheck, takenOut } from './refusal-check.ts'

export const hearing: readonly RefusalCheck[] = [
  {
    refusal: 'a request that only a voter may make, of somebody else',
    file: 'consensus/hearing.ts',
    find: 'return mayAsk(state, from) || isLeaderOf(state, message)',
    replace: 'return true',
    test: 'test/unit/node/hostile-members.test.ts',
  },
  {
    refusal: 'an answer to what was not asked',
    file: 'consensus/hearing.ts',
    find: 'return state.leadership !== undefined && progressOf(state.leadership, from) !== undefined',
    replace: 'return true',
    test: 'test/unit/consensus/hearing.test.ts',
  },
  {
    refusal: 'a vote for who does not stand',
    file: 'consensus/hearing.ts',
    find: 'return campaigns(state) && isVoter',
    replace: 'return isVoter',
    test: 'test/unit/consensus/hearing.test.ts',
  },
  ...takenOut('consensus/hearing.ts', 'test/unit/consensus/hearing.test.ts', {
    'a second newer term of a learner within 120 election timeouts':
      'if (since < learnerTermTimeouts * state.config.electionTimeoutTicks)',
  }),
  {
    refusal: 'a configuration whose voters are not the present consenters',
    file: 'node/ledger/members.ts',
    find: 'return isSetOf(configuration.voters, consenters)\n',
    replace: 'return true\n',
    test: 'test/unit/node/hostile-members.test.ts',
  },
  {
    refusal: 'joint consensus from others than the present consenters',
    file: 'node/ledger/members.ts',
    find: 'isSetOf(configuration.votersOutgoing, consenters) &&',
    replace: '',
    test: 'test/unit/node/configuration-judge.test.ts',
  },
  {
    refusal: 'joint consensus to others than those decided on',
    file: 'node/ledger/members.ts',
    find: 'isSetOf(configuration.voters, nextConsenters) &&',
    replace: '',
    test: 'test/unit/node/configuration-judge.test.ts',
  },
  {
    refusal: 'joint consensus for a decision that is not certified here',
    file: 'node/ledger/members.ts',
    find: '(isCommitted || isSetOf(configuration.voters, certified.parameters.nextConsenters))',
    replace: 'true',
    test: 'test/unit/node/configuration-judge.test.ts',
  },
  {
    refusal: 'a configuration before the entry below it is on disk',
    file: 'node/ledger/members.ts',
    find: 'return applied === index && durable === index',
    replace: 'return true',
    test: 'test/unit/node/configuration-judge.test.ts',
  },
  ...takenOut('node/ledger/snapshot-stream.ts', 'test/unit/node/snapshot-stream.test.ts', {
    'a snapshot with members of another state':
      'if (!isAtPlaceOf(this.#judge.place.configuration, ledger.value.parameters.consenters))',
  }),
  ...takenOut('node/replica/known-voters.ts', 'test/unit/node/known-voters.test.ts', {
    'a proof of who votes from somebody who is no full node':
      "if (id !== from || label !== 'full' || status !== 'active')",
  }),
  {
    refusal: 'transactions of a revoked voter, and its requests beside those of members',
    file: 'node/network/peer-links.ts',
    find: "confirmed?.record.status === 'active' || voterProtocols.has(protocol) ? confirmed : undefined",
    replace: 'confirmed',
    test: 'test/e2e/libp2p-network.test.ts',
    only: 'a revoked voter',
  },
  {
    refusal: 'a revoked voter that was let go',
    file: 'node/ledger/peer-identities.ts',
    find: 'if (!voters.has(id))',
    replace: never,
    test: 'test/unit/node/consenters.test.ts',
    only: 'a voter that is revoked',
  },
  {
    refusal: 'cutting a revoked voter off that has not been let go',
    file: 'node/network/hello.ts',
    find: ' && !identities.isVoter?.(id))',
    replace: ')',
    test: 'test/unit/node/consenters.test.ts',
    only: 'a voter that is revoked',
  },
  {
    refusal: 'to be stopped by an acknowledgement that this node never gave',
    file: 'node/replica/member-server.ts',
    find: '!acknowledged || !own.acknowledgements.isOwn(acknowledged)',
    replace: '!acknowledged',
    test: 'test/unit/node/members.test.ts',
    only: 'makes up',
  },
  {
    refusal: 'to be stopped by a signature that this node never made',
    file: 'node/replica/member-server.ts',
    find: 'if (signed && isOwnSignature(signed, own))',
    replace: 'if (signed)',
    test: 'test/unit/node/members.test.ts',
    only: 'makes up',
  },
  {
    refusal: 'an acknowledgement for another place, chain or key',
    file: 'node/replica/acknowledgements.ts',
    find: 'mac.length === expected.length && timingSafeEqual(mac, expected)',
    replace: 'true',
    test: 'test/unit/node/acknowledgements.test.ts',
  },
  {
    refusal: 'another transaction for one that was checked here',
    file: 'node/ledger/remembered-checks.ts',
    find: 'Buffer.compare(known.bytes, wire) === 0',
    replace: 'true',
    test: 'test/unit/node/expected-transactions.test.ts',
  },
  {
    refusal: 'to go on with a directory that knows less than was acknowledged',
    file: 'node/replica/member-server.ts',
    find: 'if (term < currentTerm || (term === currentTerm && index <= lastLogIndex))',
    replace: 'if (true)',
    test: 'test/unit/node/members.test.ts',
    only: 'lost state',
  },
  {
    refusal: 'joint consensus before its decision is certified, of a leader',
    file: 'node/replica/membership-driver.ts',
    find: ' || !view.isCertified) return undefined',
    replace: ') return undefined',
    test: 'test/unit/node/membership-driver.test.ts',
  },
  {
    refusal: 'a change of members over a log that is not applied',
    file: 'node/replica/membership-driver.ts',
    find: "if (step && step.type !== 'wait' && !isSettled())",
    replace: never,
    test: 'test/unit/node/membership-driver.test.ts',
  },
]
