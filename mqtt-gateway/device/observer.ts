/**
 * What a bystander sees: every envelope that the gateway delivers to anybody, for a device with the right to observe
 * (docs/FORMATS.md, "MQTT topics"). It reads what stands in the clear and opens nothing.
 */
import type { DeviceId } from '../../chain/brands.ts'
import { MoteError, type Refusal } from '../../chain/result.ts'
import { type EnvelopeHeader, parseEnvelope } from '../protocol/envelope.ts'
import { filters, recipientOf } from '../protocol/topics.ts'
import type { TrustView } from '../protocol/trust.ts'
import { type DeviceConnectionOptions, openDeviceConnection } from './device-connection.ts'
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

/** Resolves once everything that is delivered comes. Throws `not-authorised` for a device without the right, `unreachable`, `timeout`. */
export async function observeDeliveries(
  options: DeviceConnectionOptions & { readonly chain: Pick<TrustView, 'rights'> },
  { seen, refused }: ObserverHandlers,
): Promise<MqttConnection> {
  const { gateway, chain, keys } = options
  const noRight = () => new MoteError('not-authorised', `device ${keys.id}: has no right to observe`)
  // A broker that others wrote grants any subscription, and delivers nothing by it.
  if (gateway.brokerOf && !(await chain.rights(keys.id)).value?.observe) throw noRight()
  const connection = await openDeviceConnection(options)
  connection.onMessage(({ topicName, payload }) => {
    const deliveredTo = recipientOf(topicName)
    if (!deliveredTo) return
    const parsed = parseEnvelope(options.chain.chainId, payload)
    if (!parsed.ok) return refused({ ...parsed.error, detail: `${topicName}: ${parsed.error.detail}` })
    const { messageId, header, channel, sealed } = parsed.value
    const { sender: from, target, suite } = header
    const first = sealed.ciphertext.subarray(0, shownBytes)
    seen({ messageId, from, deliveredTo, target, channel, suite, size: payload.length, first })
  })
  try {
    await connection.subscribe(filters.anyDelivery)
    return connection
  } catch (error) {
    await connection.close()
    if (!(error instanceof MoteError) || error.code !== 'not-authorised') throw error
    throw noRight()
  }
}
