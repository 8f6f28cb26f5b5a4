/** Refusals of the gateway's MQTT port: what one client may cost the others. */
import { type RefusalCheck, takenOut } from './refusal-check.ts'

const brokerTest = 'test/e2e/aedes-broker.test.ts'

export const gatewayPort: readonly RefusalCheck[] = [
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
