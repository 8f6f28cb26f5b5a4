/** Refusals of a vote on a key: who is counted, how often, and that one objection or silence is enough. */
import { never, type RefusalCheck, takenOut } from './refusal-check.ts'

const unitTest = 'test/unit/mqtt-gateway/votes.test.ts'
const wireTest = 'test/e2e/gateway-vote.test.ts'
const server = 'mqtt-gateway/server/votes.ts'

export const votes: readonly RefusalCheck[] = [
  ...takenOut(server, unitTest, {
    'votes: a second one of a device within a second':
      'if (last !== undefined && now - last < voteIntervalMs)',
    'votes: more than may be open': 'if (this.#open.size + this.#opening >= maxOpenVotes)',
    'votes: of more devices than a result holds': 'if (voters.length > maxVoters)',
  }),
  {
    refusal: 'votes: a second one within a second, over the wire',
    file: server,
    find: 'if (last !== undefined && now - last < voteIntervalMs)',
    replace: never,
    test: wireTest,
    only: 'a second vote within one is refused',
  },
  {
    refusal: "votes: an answer that nobody asked for, or a device's second",
    file: server,
    find: 'if (!vote?.answers.has(device) || vote.answers.get(device)) return',
    replace: 'if (!vote) return',
    test: unitTest,
    only: 'counts once',
  },
  {
    refusal: 'votes: on stale trust data',
    file: server,
    find: 'unwrap(checkFresh(trust.ageMs(), trustTtlMs))',
    replace: 'void trustTtlMs',
    test: unitTest,
    only: 'stale',
  },
  {
    refusal: 'votes: to send after an Error',
    file: 'mqtt-gateway/device/vote.ts',
    find: "rows.every(({ check }) => check === 'Check')",
    replace: "rows.every(({ check }) => check !== 'Silent')",
    test: wireTest,
    only: 'altered',
  },
  {
    refusal: 'votes: to send after a silence',
    file: 'mqtt-gateway/device/vote.ts',
    find: "rows.every(({ check }) => check === 'Check')",
    replace: "rows.every(({ check }) => check !== 'Error')",
    test: wireTest,
    only: 'silent',
  },
  {
    refusal: 'votes: an absent copy as the same',
    file: 'mqtt-gateway/device/ballots.ts',
    find: 'return a !== undefined && b !== undefined && a.suite',
    replace: 'return a === undefined || b === undefined || a.suite',
    test: wireTest,
    only: 'absent',
  },
  {
    refusal: 'prefetch: to replace a copy that is there',
    file: 'mqtt-gateway/device/device-state.ts',
    find: '.filter(([id]) => !Object.hasOwn(contacts, id))',
    replace: '',
    test: 'test/e2e/gateway-chain.test.ts',
    only: 'before the first contact',
  },
  {
    refusal: 'watches: more records than a watch may have',
    file: 'mqtt-gateway/protocol/question.ts',
    find: 'subjects: list(watchedCodec, maxWatched)',
    replace: 'subjects: list(watchedCodec, 1_000)',
    test: 'test/e2e/gateway-chain.test.ts',
    only: 'who watches',
  },
  {
    refusal: 'questions: to end the connection for one that cannot be answered now',
    file: 'mqtt-gateway/server/gateway.ts',
    find: "const isKept = event !== 'ask'",
    replace: 'const isKept = true',
    test: 'test/e2e/gateway-chain.test.ts',
    only: 'it asks for a group',
  },
]
