/** Refusals beside a broker that others wrote: whose topics, whose shard, whose account. */
import { never, type RefusalCheck, takenOut } from './refusal-check.ts'

const topicTest = 'test/unit/mqtt-gateway/attached.test.ts'
const wireTest = 'test/e2e/attached-gateway.test.ts'
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
    find: 'return asOfNow ? this.#admitAsOfNow(session) : admitted',
    replace: 'return admitted',
    test: topicTest,
    only: 'what the chain has now',
  },
  {
    refusal: 'attached: to drop a record by a view of the chain that is not fresh',
    file: 'mqtt-gateway/server/sessions.ts',
    find: 'return fresh.ok ? this.#admit(session) : fresh',
    replace: 'return this.#admit(session)',
    test: topicTest,
    only: 'what the chain has now',
  },
  {
    refusal: 'attached: to drop a record while nobody says what the chain has',
    file: 'mqtt-gateway/server/attached-devices.ts',
    find: 'isToRecord && mayPassLater(opened.error.code) ?',
    replace: 'false ?',
    test: topicTest,
    only: 'what the chain has now',
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
