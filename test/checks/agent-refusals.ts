/** Refusals of the agent: what it does not keep, does not believe and does not send. */
import { never, type RefusalCheck, takenOut } from './refusal-check.ts'

const clientTest = 'test/e2e/device-client.test.ts'
const queueTest = 'test/unit/client/durable-queue.test.ts'
const queue = 'client/durable-queue.ts'

const portsTest = 'test/e2e/local-ports.test.ts'
const client = 'mqtt-gateway/agent/local-client.ts'
const coap = 'mqtt-gateway/agent/local-coap.ts'
const format = 'mqtt-gateway/agent/record-format.ts'
const formatTest = 'test/unit/mqtt-gateway/record-format.test.ts'

const localPorts: readonly RefusalCheck[] = [
  {
    refusal: 'agent port: an address that others can reach',
    file: 'mqtt-gateway/agent/local-mqtt.ts',
    find: 'if (!isLoopback)',
    replace: never,
    test: portsTest,
    only: 'Unix socket',
  },
  {
    refusal: 'agent port: to acknowledge what is not kept',
    file: client,
    find: 'if (!accepted.ok) {',
    replace: 'if (false) {',
    test: portsTest,
    only: 'what is refused at QoS',
  },
  {
    refusal: 'agent port: to keep a QoS 2 message twice',
    file: client,
    find: 'if (qos === 2 && this.#taken.has(messageId))',
    replace: never,
    test: portsTest,
    only: 'at QoS 2',
  },
  {
    refusal: 'agent port: a malformed packet',
    file: client,
    find: 'if (violation !== undefined)',
    replace: never,
    test: portsTest,
    only: 'malformed packet',
  },
  {
    refusal: 'agent port: to wait for ever for an acknowledgement',
    file: client,
    find: 'if (isTaken === undefined)',
    replace: never,
    test: portsTest,
    only: 'never does is cut',
  },
  {
    refusal: 'agent port: more subscriptions than the limit',
    file: client,
    find: '(isNew && this.#subscriptions.size >= this.#limits.subscriptions)',
    replace: 'false',
    test: portsTest,
    only: 'more subscriptions',
  },
  {
    refusal: 'agent port: CoAP in blocks, which take memory before they are there',
    file: coap,
    find: 'if (packet.options.some(({ name }) => refusedOptions.includes(name)))',
    replace: never,
    test: portsTest,
    only: 'blocks, proxies',
  },
  {
    refusal: 'agent port: a CoAP request a second time while it is worked on',
    file: coap,
    find: '&& !this.#working.has(requestName(packet.messageId, from))',
    replace: '',
    test: portsTest,
    only: 'comes twice',
  },
  {
    refusal: 'agent: a topic without a route',
    file: 'mqtt-gateway/agent/local-routes.ts',
    find: "if (name === undefined ? level !== value : value === '')",
    replace: never,
    test: 'test/unit/mqtt-gateway/local-routes.test.ts',
  },
  {
    refusal: 'agent: a configured address that others can reach',
    file: 'mqtt-gateway/agent/agent-config.ts',
    find: "if (!('path' in mqtt))",
    replace: never,
    test: 'test/unit/mqtt-gateway/local-routes.test.ts',
  },
  ...takenOut(format, formatTest, {
    'agent format: a payload over the limit': 'if (payload.length > maxConvertedBytes)',
    'agent format: a record over the limit': 'if (record.length > maxConvertedBytes)',
    'agent format: an integer that is none': "if (kind === 'integer' && !Number.isSafeInteger(value))",
  }),
  {
    refusal: 'agent format: a number out of its range',
    file: format,
    find: 'return value >= minimum && value <= maximum ? ok(value)',
    replace: 'return true ? ok(value)',
    test: formatTest,
  },
  {
    refusal: 'agent format: CBOR with a name twice',
    file: format,
    find: 'rejectDuplicateMapKeys: true',
    replace: 'rejectDuplicateMapKeys: false',
    test: formatTest,
  },
]

export const agent: readonly RefusalCheck[] = [
  {
    refusal: 'agent: to keep what a rotated key has signed waiting for ever',
    file: 'mqtt-gateway/agent/device-client.ts',
    find: '...(await identity?.()), ',
    replace: '',
    test: clientTest,
    only: 'key has ended',
  },
  {
    refusal: 'agent: a topic of a device that is not in the process',
    file: 'mqtt-gateway/agent/agent-fleet.ts',
    find: "return Promise.resolve(refuse('topic-not-allowed', 'topic: expected the name of a device first'))",
    replace: 'return Promise.resolve({ ok: true, value: undefined })',
    test: 'test/e2e/agent-fleet.test.ts',
    only: 'is refused',
  },
  ...localPorts,
  ...takenOut(queue, queueTest, {
    'agent queue: more messages than its limit': 'if (this.#count >= messages)',
    'agent queue: more bytes than its limit': 'if (this.#bytes + body.length > bytesMax)',
    'agent queue: a body over the limit': 'if (body.length > Math.min(maxEntryBytes, bytesMax))',
  }),
  {
    refusal: 'agent queue: a number that was used in an earlier run',
    file: queue,
    find: 'this.#next = this.#reserved',
    replace: 'this.#next = 0',
    test: queueTest,
  },
  {
    refusal: 'agent: to replace a copy silently',
    file: 'mqtt-gateway/device/message-sealing.ts',
    find: 'await onDecision(replacedCopyLine(',
    replace: 'void (replacedCopyLine(',
    test: clientTest,
    only: 'to other kinds too',
  },
  {
    refusal: 'agent: to open by a rotated key whose time is over',
    file: 'mqtt-gateway/device/decryption-key.ts',
    find: '(known.until === undefined || now <= known.until)',
    replace: 'now',
    test: 'test/unit/mqtt-gateway/decryption-keys.test.ts',
  },
  {
    refusal: 'agent: to keep a rotated key on the disk',
    file: 'client/key-directory.ts',
    find: 'formerEncryption: keys.formerEncryption?.filter(former => !isOver(former)),',
    replace: '',
    test: 'test/unit/mqtt-gateway/decryption-keys.test.ts',
  },
  {
    refusal: 'agent: a message whose number was taken already',
    file: 'mqtt-gateway/agent/inbox.ts',
    find: '(number && this.#has(message.from, number))',
    replace: 'false',
    test: clientTest,
    only: 'given out again',
  },
  {
    refusal: 'agent: a message that waited too long',
    file: 'mqtt-gateway/agent/outbox.ts',
    find: 'if (now() - entry.acceptedAt > limits.ageMs)',
    replace: never,
    test: clientTest,
    only: 'too old',
  },
  {
    refusal: 'agent: a reserved channel of an application',
    file: 'mqtt-gateway/agent/outgoing-message.ts',
    find: 'if (isReservedChannel(channel))',
    replace: never,
    test: clientTest,
    only: 'reserved channel',
  },
  {
    refusal: 'agent: a confirmation by another device',
    file: 'mqtt-gateway/agent/confirmations.ts',
    find: 'this.#waiting.get(nameOf(from, number))?.()',
    replace: 'for (const wake of this.#waiting.values()) wake()',
    test: 'test/unit/mqtt-gateway/confirmations.test.ts',
  },
]
