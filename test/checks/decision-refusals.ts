/** What is promised of published decisions: none is lost, none has two names, none is published late or by who has lost its shard. */
import { never, type RefusalCheck, takenOut } from './refusal-check.ts'

const test = 'test/unit/mqtt-gateway/records/decisions.test.ts'
const wireTest = 'test/e2e/gateway-decisions.test.ts'
const publisher = 'mqtt-gateway/records/decisions.ts'

export const contractDecisions: readonly RefusalCheck[] = [
  {
    refusal: 'decisions: a cursor that moves before the broker has the decisions',
    file: publisher,
    find: '        await this.#publishBlock(',
    replace: '        cursor.pass(mine, block.height)\n        await this.#publishBlock(',
    test,
    only: 'when the broker has all of it',
  },
  {
    refusal: 'decisions: a new name after a takeover',
    file: 'mqtt-gateway/records/decision-message.ts',
    find: 'Height: height,',
    replace: 'Height: height + Math.floor(performance.now()),',
    test,
    only: 'takes a shard over',
  },
  {
    refusal:
      'decisions: one name after another over all shards, which drops what a gateway that is behind publishes',
    file: 'mqtt-gateway/records/decision-message.ts',
    find: 'Shard: shardOf(decided.caller),',
    replace: "Shard: '0',",
    test,
    only: 'the name that the receipt gives it',
  },
  {
    refusal: 'decisions: a takeover that goes on at the head',
    file: publisher,
    find: 'cursor.at(shard) ?? 0))',
    replace: 'cursor.at(shard) ?? Number.MAX_SAFE_INTEGER))',
    test,
    only: 'takes a shard over',
  },
  {
    refusal: 'decisions: one shard that is caught up with repeats the others',
    file: publisher,
    find: ' || (cursor.at(shard) ?? -1) >= height',
    replace: '',
    test,
    only: 'does not repeat the others',
  },
  ...takenOut(publisher, test, {
    'decisions: a shard that another gateway has taken over': 'if (!shards().includes(shard))',
    'decisions: one that has expired meanwhile': 'if (time < now() - expiryMs)',
  }),
  {
    refusal: 'decisions: by another QoS than that of the request',
    file: publisher,
    find: 'payload: encodeDecision(decision), qos })',
    replace: 'payload: encodeDecision(decision), qos: 1 })',
    test,
    only: 'by the QoS of the request',
  },
  {
    refusal: 'decisions: by a higher QoS than was subscribed to',
    file: 'mqtt-gateway/server/aedes-subscribers.ts',
    find: 'return { ...packet, qos }',
    replace: 'return packet',
    test: 'test/e2e/aedes-broker.test.ts',
    only: 'none above that of the subscription',
  },
  {
    refusal: 'decisions: one that nobody asked to publish',
    file: 'mqtt-gateway/records/decision-message.ts',
    find: 'if (publishTopic === undefined)',
    replace: never,
    test,
    only: 'nobody asked',
  },
  {
    refusal: 'decisions: what has just been given to a broker that dies too is recorded',
    file: 'mqtt-gateway/records/decision-cursor.ts',
    find: 'if (now - since < this.#options.recordAfterMs)',
    replace: never,
    test,
    only: 'comes again after a kill',
  },
  {
    refusal: 'decisions: published before the clients of a gateway that was killed are back',
    file: 'mqtt-gateway/decision-publishing.ts',
    find: 'pause(this.#holdMs, signal)',
    replace: 'pause(0, signal)',
    test: wireTest,
    only: 'killed with SIGKILL',
  },
  {
    refusal: 'decisions: one that a device makes up, with the right to publish there',
    file: 'mqtt-gateway/server/rulings.ts',
    find: 'const isDecision = this.#records?.isDecision(topicName)',
    replace: 'const isDecision = false',
    test: wireTest,
    only: 'nobody but a gateway',
  },
  {
    refusal: 'decisions: on topics that rights do not name',
    file: 'mqtt-gateway/server/access.ts',
    find: 'subscribe.map(topics.decision)',
    replace: '[filters.anyDecision]',
    test: wireTest,
    only: 'nobody but a gateway',
  },
]
