/**
 * What MQTT 5 lets the gateway say beside a payload (MQTT 5, section 3.3.2.3): what it is, how long it matters, whose question it answers, and
 * the code of a refusal, for clients that read no JSON. A broker of MQTT 3.1.1 drops it.
 */
import type { IPublishPacket } from 'mqtt'
import type { OutgoingMessage } from './broker.ts'

export function propertiesOf({ about }: OutgoingMessage): IPublishPacket['properties'] {
  if (!about) return undefined
  const { contentType, lifetimeMs, correlationData, code, reason } = about
  const isText = contentType === 'application/json'
  return {
    ...(contentType !== undefined && { contentType, payloadFormatIndicator: isText }),
    ...(lifetimeMs !== undefined && { messageExpiryInterval: Math.max(1, Math.ceil(lifetimeMs / 1_000)) }),
    ...(correlationData && { correlationData: Buffer.from(correlationData) }),
    ...(code !== undefined && { userProperties: { code, ...(reason !== undefined && { reason }) } }),
  }
}
