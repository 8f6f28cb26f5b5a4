/** Refusals beside a broker that others wrote: whose topics, whose shard, whose account. */
import { never, type RefusalCheck, takenOut } from './refusal-check.ts'

const topicTest = 'test/unit/mqtt-gateway/attached.test.ts'
const wireTest = 'test/e2e/attached-gateway.test.ts'
const rulings = 'mqtt-gateway/server/record-rulings.ts'
const rulingsTest = 'test/unit/mqtt-gateway/record-rulings.test.ts'
const certificateTest = 'test/e2e/mosquitto-certificates.test.ts'
const shardedTopics = 'mqtt-gateway/protocol/sharded-topics.ts'

export const attachedRefusals: readonly RefusalCheck[] = [
  {
    refusal: 'attached: a message in a shard that is not its device’s',
    file: shardedTopics,
    find: '|| shard !== shardOf(device as DeviceId)',
    replace: '',
    test: topicTest,
    only: 'wrong shard',
  },
  {
    refusal: 'attached: a plain topic of the broker’s own',
    file: shardedTopics,
    find: "&& !topicName.startsWith('$')",
    replace: '',
    test: topicTest,
    only: 'the broker’s own',
  },
  {
    refusal: 'attached: an answer to a topic of another device',
    file: 'mqtt-gateway/server/answers.ts',
    find: '&& own.includes(wished)',
    replace: '',
    test: topicTest,
    only: 'answers',
  },
  {
    refusal: 'attached: a password from keys of two kinds',
    file: 'mqtt-gateway/protocol/account-password.ts',
    find: "if (suite === 'rsa-oaep' || other.suite !== suite)",
    replace: never,
    test: topicTest,
    only: 'have none',
  },
  {
    refusal: 'attached: to drop a record by a view of the chain that is a block old',
    file: 'mqtt-gateway/server/sessions.ts',
    find: 'return asOfNow ? judgedAsOfNow(admit, this.#options) : admit()',
    replace: 'return admit()',
    test: topicTest,
    only: 'what the chain has now',
  },
  {
    refusal: 'attached: to drop a record by a view of the chain that is not fresh',
    file: 'mqtt-gateway/server/as-of-now.ts',
    find: 'return fresh.ok ? judge() : fresh',
    replace: 'return judge()',
    test: topicTest,
    only: 'what the chain has now',
  },
  {
    refusal: 'attached: to drop a record while nobody says what the chain has',
    file: 'mqtt-gateway/server/attached-devices.ts',
    find: 'asOfNow && mayPassLater(opened.error.code) ?',
    replace: 'false ?',
    test: topicTest,
    only: 'what the chain has now',
  },
  {
    refusal: 'attached: to refuse a record for good by a view of the chain that is a block old',
    file: rulings,
    find: 'message.asOfNow ? await judgedAsOfNow(judge, this.#surroundings) : await judge()',
    replace: 'await judge()',
    test: rulingsTest,
    only: 'a block old',
  },
  {
    refusal: 'attached: to refuse a record for good by a head that is a block old',
    file: rulings,
    find: 'const accepted = await judgedAsOfNow(accept, this.#surroundings)',
    replace: 'const accepted = await accept()',
    test: rulingsTest,
    only: 'refuses twice',
  },
  {
    refusal: 'attached: to refuse a record for good by what a full node says of itself',
    file: 'mqtt-gateway/server/as-of-now.ts',
    find: "mayPassLater(code) ? code : 'unreachable'",
    replace: 'code',
    test: rulingsTest,
    only: 'a block old',
  },
  {
    refusal: 'attached: to hold up a shard for a device that has too many records on their way',
    file: rulings,
    find: 'if (!isCrowded || performance.now() - since > crowdedMs)',
    replace: 'if (!isCrowded)',
    test: rulingsTest,
    only: 'too many on their way',
  },
  ...takenOut('mqtt-gateway/server/attached-devices.ts', wireTest, {
    'attached: more connections than a device may name':
      'if (isNew && device.places.size >= maxSessionsPerDevice)',
  }),
  {
    refusal: 'attached: the account of a device that was revoked',
    file: 'mqtt-gateway/server/account-keeper.ts',
    find: 'if (gone.length > 0)',
    replace: never,
    test: wireTest,
    only: 'revoked',
  },
  {
    refusal: 'attached: the live connection of a certificate whose device was revoked',
    file: 'mqtt-gateway/server/account-keeper.ts',
    find: 'if (gone.length > 0)',
    replace: never,
    test: certificateTest,
    only: 'has only listened',
  },
  {
    refusal: 'attached: to publish for another device than that of the certificate',
    file: 'mqtt-gateway/server/mosquitto-files.ts',
    find: 'publishingRules(anyAccount)',
    replace: "publishingRules('+')",
    test: certificateTest,
    only: 'whatever it logs in as',
  },
  {
    refusal: 'attached: to publish for another device',
    file: 'mqtt-gateway/server/mosquitto-files.ts',
    find: 'publishingRules(anyAccount)',
    replace: "publishingRules('+')",
    test: wireTest,
    only: 'nobody publishes for another',
  },
  {
    refusal: 'attached: to receive what is another’s',
    file: 'mqtt-gateway/server/mosquitto-files.ts',
    find: 'publishClientReceive: false,',
    replace: 'publishClientReceive: true,',
    test: wireTest,
    only: 'nobody publishes for another',
  },
  {
    refusal: 'attached: to go on with a shard that another gateway has taken',
    file: 'mqtt-gateway/server/attached-broker.ts',
    find: 'if (lost !== undefined)',
    replace: never,
    test: wireTest,
    only: 'taken over',
  },
]
