/** The embedded broker without a gateway behind it: it takes everybody and refuses nothing, but for what a test says. */
import { ok } from '../../chain/result.ts'
import { type AedesLimits, aedesBroker } from '../../mqtt-gateway/server/aedes-broker.ts'
import type { Broker, BrokerHandlers } from '../../mqtt-gateway/server/broker.ts'
import { testLimits } from './gateway-fixture.ts'

export const permissive: BrokerHandlers = {
  authenticate: async ({ clientId }) => ok({ clientId, device: clientId }),
  published: async () => 'acknowledge',
  released: async () => {},
  passed: async () => {},
  incarnationOf: async () => '',
  will: async () => {},
  maySubscribe: async () => 'grant',
  subscribed: () => {},
  mayReceive: () => true,
  turnedAway: () => {},
  cut: () => {},
  closed: () => {},
}

/** On a free port of loopback, once it listens. */
export function openBroker(limits: Partial<AedesLimits>, handlers: Partial<BrokerHandlers>): Broker {
  const address = { host: '127.0.0.1', port: 0 }
  return aedesBroker(address, { ...testLimits, ...limits })({ ...permissive, ...handlers })
}

/** One that passes on what clients publish, wills too, as any broker does. */
export function relayingBroker(
  limits: Partial<AedesLimits> = {},
  handlers: Partial<BrokerHandlers> = {},
): Broker {
  const relay: BrokerHandlers['will'] = (_, { topicName, payload }) =>
    broker.publish({ topicName, payload, retain: false })
  const published: BrokerHandlers['published'] = async (...message) => {
    await relay(...message)
    return 'acknowledge'
  }
  const broker = openBroker(limits, { published, will: relay, ...handlers })
  return broker
}
