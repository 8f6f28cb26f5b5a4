/** Refusals of what plain clients and devices have recorded: at the gateway, before anything is on its way to the chain. */
import { never, type RefusalCheck, takenOut } from './refusal-check.ts'

const rulings = 'mqtt-gateway/server/record-rulings.ts'
const rulingsTest = 'test/unit/mqtt-gateway/record-rulings.test.ts'
const message = 'mqtt-gateway/protocol/plain-message.ts'
const messageTest = 'test/unit/mqtt-gateway/plain-message.test.ts'
const configTest = 'test/unit/mqtt-gateway/config.test.ts'
const wireTest = 'test/e2e/broker-wire.test.ts'

export const plain: readonly RefusalCheck[] = [
  ...takenOut(rulings, rulingsTest, {
    'records: without fresh trust data': 'if (!fresh.ok)',
    'records: of a device that is not active': 'if (!standing.ok)',
    'records: on topics beyond its rights': 'if (!allowed.ok)',
    'records: of plain clients, by a gateway without the right': 'if (!own?.gateway)',
  }),
  {
    refusal: 'records: on a topic that the message names and its rights do not',
    file: rulings,
    find: '[topic.topic, named]',
    replace: '[topic.topic]',
    test: rulingsTest,
  },
  ...takenOut(rulings, rulingsTest, {
    'records: that a guard rejects': 'if (!passed.ok)',
  }),
  {
    refusal: 'records: to take a message for another one since its repeat came by another QoS',
    file: 'mqtt-gateway/records/durable-recorder.ts',
    find: 'encodeBody({ ...body, qos: 1 })',
    replace: 'encodeBody(body)',
    test: 'test/unit/mqtt-gateway/records/durable-recorder.test.ts',
    only: 'a message id is once across sessions',
  },
  {
    refusal: 'records: to judge a repeat by what it changed itself',
    file: rulings,
    find: 'read.ok && this.#options.recorder.isRepeat(read.value.request)',
    replace: '!read',
    test: rulingsTest,
  },
  {
    refusal: 'records: to record beside its repeat what came on a connection that has ended',
    file: rulings,
    find: 'if (isOver?.())',
    replace: never,
    test: rulingsTest,
  },
  {
    refusal: 'contract read: with a name beside the address, or twice',
    file: 'mqtt-gateway/protocol/contract-read.ts',
    find: ' || more.length > 0',
    replace: '',
    test: 'test/unit/mqtt-gateway/contract-read.test.ts',
  },
  {
    refusal: 'records: to judge by guards what comes behind others on their way',
    file: rulings,
    find: '!record || isBehind)',
    replace: '!record)',
    test: rulingsTest,
  },
  {
    refusal: 'records: to acknowledge what may pass later',
    file: rulings,
    find: "refusal, { outcome: 'close' })",
    replace: 'refusal)',
    test: rulingsTest,
  },
  {
    refusal: 'plain topics: to publish a decision',
    file: 'mqtt-gateway/server/rulings.ts',
    find: 'isDecision ||',
    replace: '',
    test: 'test/e2e/gateway-records.test.ts',
    only: 'nobody publishes a decision',
  },
  {
    refusal: 'records: to acknowledge to another broker what is not on the disk',
    file: 'mqtt-gateway/server/attached-broker.ts',
    find: "if (answer === 'acknowledge') return",
    replace: "if (typeof answer === 'string') return",
    test: 'test/e2e/attached-broker.test.ts',
    only: 'comes to the next gateway',
  },
  {
    refusal: 'records: to go on with what came on a connection that has ended',
    file: 'mqtt-gateway/server/attached-broker.ts',
    find: 'if (connection.aborted)',
    replace: never,
    test: 'test/e2e/attached-broker.test.ts',
    only: 'on no later one',
  },
  {
    refusal: 'records: to take for a repeat what a packet identifier stands for that another gateway had',
    file: 'mqtt-gateway/server/shard-claims.ts',
    find: "state.before?.split('.')[0] === this.#storeId",
    replace: 'true',
    test: 'test/unit/mqtt-gateway/attached.test.ts',
    only: 'has had the shard since',
  },
  {
    refusal: 'records: to record again what was recorded when the gateway beside another broker was killed',
    file: 'mqtt-gateway/server/attached-broker.ts',
    find: 'let isKnown = await this.#claim(shard)',
    replace: 'await this.#claim(shard)\n    let isKnown = false',
    test: 'test/e2e/mosquitto-devnet.test.ts',
    only: 'no acknowledgement of them',
  },
  {
    refusal: 'records: to take for a repeat what has a packet identifier of the round before',
    file: 'mqtt-gateway/records/exchange-store.ts',
    find: 'session.ties.get(identifier) === tie ? this.#forgetExchange(session, identifier) : []',
    replace: '[]',
    test: 'test/unit/mqtt-gateway/records/exchange-store.test.ts',
    only: 'is no repeat any more',
  },
  {
    refusal: 'records: to hold up a shard whose session was forgotten for having nothing to record',
    file: 'mqtt-gateway/server/attached-broker.ts',
    find: 'if (performance.now() - askedAt > sessionRefreshMs)',
    replace: never,
    test: 'test/e2e/attached-broker.test.ts',
    only: 'quiet for a day',
  },
  {
    refusal: 'records: to take a session that another broker has lost for the one before',
    file: 'mqtt-gateway/server/attached-broker.ts',
    find: "isPresent && isKnown ? 'kept' : 'new'",
    replace: "isKnown ? 'kept' : 'new'",
    test: 'test/e2e/attached-broker.test.ts',
    only: 'has kept no session',
  },
  {
    refusal: 'records: to forget what a session that goes on was told, at its second connection',
    file: 'mqtt-gateway/server/attached-broker.ts',
    find: "isKnown ? 'kept' : 'new'",
    replace: "isKnown ? 'kept' : 'clean'",
    test: 'test/e2e/attached-broker.test.ts',
    only: 'first connection broke',
  },
  ...takenOut(message, messageTest, {
    'plain messages: over 8 KiB': 'if (payload.length > maxPlainMessageBytes)',
    'plain messages: that no transaction has room for': 'if (bytes > most)',
    'plain messages: with a name twice': 'if (names.has(name))',
    'plain messages: with a name that nobody knows': 'if (name === undefined)',
    'plain messages: with nothing to record and nobody to call': 'if (address === undefined)\n      throw',
  }),
  {
    refusal: 'plain messages: that are no UTF-8',
    file: message,
    find: 'fatal: true',
    replace: 'fatal: false',
    test: messageTest,
  },
  ...takenOut('mqtt-gateway/config.ts', configTest, {
    'configuration: topics that come in and go out': 'if (both)',
    'configuration: mapped topics that are no plain filters': 'if (wrong !== undefined)',
    'configuration: mapped topics beside a broker that others wrote':
      'if (broker && topics[kind].length > 0)',
  }),
  {
    refusal: 'wire: to acknowledge a message before an earlier one',
    file: 'mqtt-gateway/server/client-messages.ts',
    find: 'return this.#acknowledgements.run(async () => {',
    replace: 'return (async (step: () => Promise<PublishOutcome>) => step())(async () => {',
    test: wireTest,
    only: 'in the order in which they came, in whatever',
  },
  {
    refusal: 'wire: to complete a release that is not known',
    file: 'mqtt-gateway/server/aedes-releases.ts',
    find: 'client.conn.destroy()',
    replace: '',
    test: wireTest,
    only: 'a release that is not known',
  },
  {
    refusal: 'wire: to take a message after PUBREL for the one before',
    file: 'mqtt-gateway/server/aedes-broker.ts',
    find: 'this.#receipts.released(clientId, packetIdentifier)',
    replace: '',
    test: wireTest,
    only: 'PUBCOMP comes when',
  },
]
