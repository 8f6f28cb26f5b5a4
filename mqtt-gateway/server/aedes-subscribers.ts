/**
 * What clients have subscribed to at aedes 1.2, whose types do not show it, and by which QoS a message goes to them: aedes lowers that of the
 * message only to that of a filter which is the topic itself, and not where the filter has a wildcard.
 */
import type { AedesPublishPacket, Client } from 'aedes'
import type { Qos } from '../../chain/record-bodies.ts'
import { covers } from '../../chain/rights.ts'

type Subscriptions = Readonly<Record<string, { readonly qos: Qos }>>

export class AedesSubscribers {
  readonly #withQos2 = new WeakSet<Client>()

  /** Filters that are in force. */
  countOf(client: Client): number {
    return Object.keys(subscriptionsOf(client)).length
  }

  /** Whether something went to it by QoS 2. */
  hasQos2(client: Client): boolean {
    return this.#withQos2.has(client)
  }

  /** The message by no higher QoS than that of the client's subscriptions that match [MQTT-3.3.5-1, MQTT-3.8.4-6]. */
  asSubscribed(client: Client, packet: AedesPublishPacket): AedesPublishPacket {
    if (packet.qos < 2) return packet
    const matching = Object.entries(subscriptionsOf(client)).filter(([filter]) =>
      covers(filter, packet.topic),
    )
    const qos = Math.max(0, ...matching.map(([, granted]) => granted.qos)) as Qos
    if (qos === 2) this.#withQos2.add(client)
    return { ...packet, qos }
  }
}

function subscriptionsOf(client: Client): Subscriptions {
  return (client as unknown as { readonly subscriptions: Subscriptions }).subscriptions
}
