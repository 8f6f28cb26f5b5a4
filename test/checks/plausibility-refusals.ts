/** Refusals of an agent that judges readings, and of the queue of what its device signs. */
import { never, type RefusalCheck, takenOut } from './refusal-check.ts'

const rules = 'mqtt-gateway/agent/stream-rules.ts'
const rulesTest = 'test/unit/mqtt-gateway/stream-rules.test.ts'
const format = 'mqtt-gateway/agent/record-format.ts'
const config = 'mqtt-gateway/agent/agent-config.ts'
const configTest = 'test/unit/mqtt-gateway/local-routes.test.ts'
const records = 'mqtt-gateway/agent/record-outbox.ts'
const recordsTest = 'test/unit/mqtt-gateway/record-outbox.test.ts'

export const plausibilityRefusals: readonly RefusalCheck[] = [
  ...takenOut(rules, rulesTest, {
    'agent: a reading that violates a rule': "if (violation !== undefined && route.onViolation !== 'flag')",
    'agent: a reading above what is looked at': 'if (content.length > maxConvertedBytes)',
  }),
  {
    refusal: 'agent: a reading on a contract that is retired',
    file: 'mqtt-gateway/agent/named-contracts.ts',
    find: 'if (value && value.retiredAt === undefined)',
    replace: 'if (value)',
    test: rulesTest,
    only: 'that is retired',
  },
  {
    refusal: 'agent: to measure a message that comes again from itself',
    file: rules,
    find: 'if (last && messageId !== undefined && last.messageId === messageId)',
    replace: never,
    test: rulesTest,
    only: 'comes again',
  },
  {
    refusal: 'agent: to drop a message whose rules are out of reach',
    file: 'mqtt-gateway/agent/agent-process.ts',
    find: 'if (errorTable[reason.code].retry) throw error',
    replace: '',
    test: 'test/unit/mqtt-gateway/agent-traffic.test.ts',
    only: 'out of reach',
  },
  {
    refusal: 'agent: to judge two readings of a device by the same one before them',
    file: rules,
    find: 'return await queue.run(step)',
    replace: 'return await step()',
    test: rulesTest,
    only: 'side by side',
  },
  {
    refusal: 'agent: readings of more devices than it keeps',
    file: 'mqtt-gateway/agent/last-readings.ts',
    find: 'if (this.#readings.size >= maxKeptReadings && !this.#readings.has(placeOf(device, topic)))',
    replace: never,
    test: rulesTest,
    only: 'more places',
  },
  ...takenOut(format, rulesTest, {
    'agent: a mark where a plain number has no room for it':
      "if (flag !== undefined && format.type === 'number')",
    'agent: a reading whose own member stands in the way of a mark': 'if (Object.hasOwn(object, flagName))',
  }),
  ...takenOut(config, configTest, {
    'agent configuration: a record with a delivery':
      'if (record && (keepMs ?? delivery ?? channel) !== undefined)',
    'agent configuration: a contract without a record': 'if (contract !== undefined && !record)',
    'agent configuration: a decision of no contract': 'if (publish !== undefined && contract === undefined)',
    'agent configuration: a topic that no record has':
      'if (record && !isRecordTopic(route.recordTopic ?? route.topic))',
    'agent configuration: a message for nobody':
      'if (route.topic === undefined && route.recordTopic === undefined)',
    'agent configuration: a mark in a plain number':
      "if (route.onViolation === 'flag' && route.format?.type === 'number')",
  }),
  {
    refusal: 'device records: to sign anew before the expiry is proven to have passed',
    file: records,
    find: 'if (overCodes.includes(code) && (await agent.provenTime()) >= signed.expiry)',
    replace: 'if (overCodes.includes(code))',
    test: recordsTest,
    only: 'before the chain is there',
  },
  {
    refusal: 'device records: to send bytes that are not on the disk',
    file: records,
    find: 'await this.#options.store.write([{ key: this.#signedKey(entry), value }])',
    replace: 'void value',
    test: recordsTest,
    only: 'after a crash',
  },
  {
    refusal: 'device records: what no transaction has room for',
    file: records,
    find: 'if (stored.length > maxTransactionBytes - maxSignedFrameBytes)',
    replace: never,
    test: recordsTest,
    only: 'does not fit',
  },
  {
    refusal: 'device records: to sign for another device',
    file: 'mqtt-gateway/device/signed-record.ts',
    find: 'if (attestedSources(body).length > 0)',
    replace: never,
    test: recordsTest,
    only: 'for nobody else',
  },
]
