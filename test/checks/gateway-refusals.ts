/** Refusals of the gateway's MQTT port: what one client may cost the others. */
import { never, type RefusalCheck, takenOut } from './refusal-check.ts'

const framingTest = 'test/unit/mqtt-gateway/packet-framing.test.ts'
const rulesTest = 'test/unit/mqtt-gateway/packet-rules.test.ts'
const brokerTest = 'test/e2e/aedes-broker.test.ts'

const rules = 'mqtt-gateway/protocol/packet-rules.ts'

const packets: readonly RefusalCheck[] = [
  {
    refusal: 'MQTT: a packet over the limit',
    file: rules,
    find: 'length > limit',
    replace: 'false',
    test: framingTest,
  },
  {
    refusal: 'MQTT: a length of more than four bytes',
    file: 'mqtt-gateway/protocol/packet-framing.ts',
    find: 'this.#lengthBytes === 4 ?',
    replace: 'false ?',
    test: framingTest,
  },
  ...takenOut(rules, framingTest, {
    'MQTT: a SUBSCRIBE of too many filters': 'if (count > filters)',
    'MQTT: a topic name or filter that is too long': 'if (length > maxTopicBytes)',
  }),
  ...takenOut(rules, rulesTest, {
    'MQTT: flags that a packet type does not have': 'if (flags !== flagsOf(type))',
    'MQTT: a type that no client sends': 'if (!clientTypes.has(type))',
    'MQTT: QoS 3': 'if (qos === 3)',
    'MQTT: packet identifier 0': 'if (this.uint16() === 0)',
    'MQTT: a PUBLISH to no topic': "if (topicName === '')",
    'MQTT: a PUBLISH to a wildcard': 'if (/[+#]/.test(topicName))',
    'MQTT: a SUBSCRIBE without a filter': 'if (body.isAtEnd)',
    'MQTT: a QoS that cannot be asked for': 'if (isSubscribe && body.uint8() > 2)',
    'MQTT: a packet that ends too early': 'if (taken.length < count)',
    'MQTT: a packet that goes on after its end': 'if (!body.isAtEnd)',
    'MQTT: U+0000 in a string': "if (text.includes('\\0'))",
    'MQTT: a control character in a string': 'if (forbidden.test(text))',
  }),
  {
    refusal: 'MQTT: a protocol level that nobody knows, with an answer',
    file: 'mqtt-gateway/server/aedes-broker.ts',
    find: 'if (violation === unknownLevel && !client.connected)',
    replace: never,
    test: brokerTest,
    only: 'protocol level',
  },
  {
    refusal: 'MQTT: a string that is not UTF-8',
    file: rules,
    find: 'fatal: true',
    replace: 'fatal: false',
    test: rulesTest,
  },
  {
    refusal: 'MQTT: what breaks a rule, before aedes takes it',
    file: 'mqtt-gateway/server/client-input.ts',
    find: 'if (violation !== undefined) {',
    replace: 'if (false) {',
    test: 'test/e2e/gateway-broker.test.ts',
    only: 'a surrogate in a topic name',
  },
]

const strangersTest = 'test/e2e/gateway-strangers.test.ts'
const unproven = 'client/address-shares.ts'

const strangers: readonly RefusalCheck[] = [
  {
    refusal: 'strangers: more silent connections of one address than its share',
    file: unproven,
    find: 'if (own && own.connections.size >= this.#limits.perAddress)',
    replace: never,
    test: strangersTest,
    only: 'of one address',
  },
  {
    refusal: 'strangers: more silent connections than there is room for',
    file: unproven,
    find: 'else if (this.#byConnection.size >= this.#limits.all)',
    replace: 'else if (false)',
    test: strangersTest,
    only: 'of many addresses',
  },
  {
    refusal: 'strangers: to close the connection of a known address for one',
    file: unproven,
    find: 'this.#closeOldest(this.#strangers.largest() ?? this.#known.largest())',
    replace: 'this.#closeOldest(this.#known.largest() ?? this.#strangers.largest())',
    test: strangersTest,
    only: 'from the address of a device',
  },
  {
    refusal: 'strangers: more devices than there is room for',
    file: 'mqtt-gateway/server/aedes-broker.ts',
    find: 'if (this.#clients.size >= connectionsMax && !this.#clients.has(client.id))',
    replace: never,
    test: strangersTest,
    only: 'so many devices',
  },
  {
    refusal: 'strangers: to look up ever more unknown ids for one address',
    file: 'mqtt-gateway/server/sessions.ts',
    find: 'if (!this.#unknown.mayAsk(address))',
    replace: never,
    test: strangersTest,
    only: 'look up too many ids',
  },
  {
    refusal: 'strangers: to keep a device out for the look-ups of others from its address',
    file: 'mqtt-gateway/server/sessions.ts',
    find: 'this.#known.get(session.device)\n',
    replace: 'false\n',
    test: strangersTest,
    only: 'look up too many ids',
  },
  {
    refusal: 'strangers: ever more look-ups at a time',
    file: 'mqtt-gateway/server/unknown-devices.ts',
    find: '(lane.length < best.length ? lane : best)).run(lookUp)',
    replace: '(lane.length < best.length ? lane : best)) && lookUp()',
    test: 'test/unit/mqtt-gateway/unknown-devices.test.ts',
  },
  {
    refusal: 'strangers: a line in the decision log for each refused connection',
    file: 'mqtt-gateway/server/gateway.ts',
    find: 'this.#refusedConnects.count(address, decision.code)',
    replace: 'true',
    test: strangersTest,
    only: 'one line in the decision log',
  },
  {
    refusal: 'to take the lie of a full node for a word about the device',
    file: 'mqtt-gateway/server/broker.ts',
    find: 'return http >= 502',
    replace: 'return http === 503 || http === 504',
    test: brokerTest,
    only: 'is to come again',
  },
  {
    refusal: 'strangers: a line in the decision log for each address',
    file: 'mqtt-gateway/server/refused-connects.ts',
    find: 'if (this.#kinds.size >= maxRefusedKinds && address !== otherAddresses)',
    replace: never,
    test: 'test/unit/mqtt-gateway/refused-connects.test.ts',
  },
]

export const gatewayPort: readonly RefusalCheck[] = [
  ...packets,
  ...strangers,
  ...takenOut('mqtt-gateway/server/outgoing-queues.ts', brokerTest, {
    'a subscriber for which too many messages wait': 'if (queue.messages > messages)',
    'a subscriber for which too many bytes wait': 'if (queue.bytes > bytes)',
    'subscribers for which too many bytes wait together': 'if (this.#bytes > bytesInAll)',
    'a subscriber that takes nothing': 'if (queue.bytes > 0 && now - queue.takenAt > stalledMs)',
  }).map(check => ({ ...check, only: 'subscri' })),
  {
    refusal: 'to wait for a subscriber that does not read',
    file: 'mqtt-gateway/server/outgoing-queues.ts',
    find: '      return true\n',
    replace: '      return !socket.writableNeedDrain\n',
    test: brokerTest,
    only: 'holds up nobody',
  },
]
