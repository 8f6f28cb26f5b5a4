/**
 * What a bystander sees: every envelope that the gateway delivers to anybody, for a device with the right to observe
 * (docs/FORMATS.md, "MQTT topics"). It reads what stands in the clear and opens nothing.
 */
import type { DeviceId } from '../../chain/brands.ts'
import { MoteError, type Refusal } from '../../chain/result.ts'
import { type EnvelopeHeader, parseEnvelope } from '../protocol/envelope.ts'
import { filters, recipientOf } from '../protocol/topics.ts'
import type { TrustView } from '../protocol/trust.ts'
import type { GatewayAddress } from './gateway-address.ts'
import type { MqttConnection } from './mqtt-connection.ts'

/** Bytes of a sealed body that are shown. */
const shownBytes = 32

/** An envelope as who cannot open it sees it. */
export interface ObservedEnvelope {
  readonly messageId: string
  readonly from: DeviceId
  /** Whose topic it was delivered on. */
  readonly deliveredTo: DeviceId
  readonly target: EnvelopeHeader['target']
  readonly channel: string
  readonly suite: EnvelopeHeader['suite']
  /** Of the whole envelope, in bytes. */
  readonly size: number
  /** The first 32 bytes of the sealed body, or all of a shorter one. */
  readonly first: Uint8Array
}

export interface ObserverHandlers {
  readonly seen: (envelope: ObservedEnvelope) => void
  /** Told of what is no envelope. */
  readonly refused: (refusal: Refusal) => void
}

export interface ObserverOptions {
  readonly device: DeviceId
  readonly chain: Pick<TrustView, 'chainId' | 'rights'>
  readonly gateway: GatewayAddress
  readonly connection: Pick<MqttConnection, 'onMessage' | 'subscribe'>
}

/** Resolves once everything that is delivered comes. Throws `not-authorised` for a device without the right, `unreachable`, `timeout`. */
export async function observeDeliveries(
  { device, chain, gateway, connection }: ObserverOptions,
  { seen, refused }: ObserverHandlers,
): Promise<void> {
  const noRight = () => new MoteError('not-authorised', `device ${device}: has no right to observe`)
  // A broker that others wrote grants any subscription, and delivers nothing by it.
  if (gateway.brokerOf && !(await chain.rights(device)).value?.observe) throw noRight()
  const stop = connection.onMessage(({ topicName, payload }) => {
    const deliveredTo = recipientOf(topicName)
    if (!deliveredTo) return
    const parsed = parseEnvelope(chain.chainId, payload)
    if (!parsed.ok) return refused({ ...parsed.error, detail: `${topicName}: ${parsed.error.detail}` })
    const { messageId, header, channel, sealed } = parsed.value
    const { sender: from, target, suite } = header
    const first = sealed.ciphertext.subarray(0, shownBytes)
    seen({ messageId, from, deliveredTo, target, channel, suite, size: payload.length, first })
  })
  try {
    await connection.subscribe(filters.anyDelivery)
  } catch (error) {
    stop()
    throw error instanceof MoteError && error.code === 'not-authorised' ? noRight() : error
  }
}
