/** Refusals of the agent: what it does not keep, does not believe and does not send. */
import { never, type RefusalCheck, takenOut } from './refusal-check.ts'

const clientTest = 'test/e2e/device-client.test.ts'
const queueTest = 'test/unit/mqtt-gateway/durable-queue.test.ts'
const queue = 'mqtt-gateway/agent/durable-queue.ts'

export const agent: readonly RefusalCheck[] = [
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
    refusal: 'agent: a message whose number was taken already',
    file: 'mqtt-gateway/agent/inbox.ts',
    find: 'if (number && this.#has(message.from, number))',
    replace: never,
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
    file: 'mqtt-gateway/agent/outbox.ts',
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
