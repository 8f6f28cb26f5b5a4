/**
 * The MQTT topics and who uses them (docs/FORMATS.md, "MQTT topics").
 *
 * A device publishes to `send`, `boxes` and `ask` only, and only to its own; the gateway alone publishes to the
 * others. Every topic begins with the format version, so that another version can live beside this one.
 */
import { type DeviceId, type GroupId, isDigest } from '../../chain/brands.ts'
import type { Envelope } from './envelope.ts'

const prefix = 'mote/1'

export const topics = {
  /** A device publishes its envelopes here. */
  send: (sender: DeviceId) => `${prefix}/send/${sender}`,
  /** A member publishes a new epoch's sealed keys here. */
  boxes: (group: GroupId) => `${prefix}/boxes/${group}`,
  /** A device asks for a record and its proof. */
  ask: (device: DeviceId) => `${prefix}/ask/${device}`,
  answer: (device: DeviceId) => `${prefix}/answer/${device}`,
  verdict: (sender: DeviceId) => `${prefix}/verdict/${sender}`,
  error: (device: DeviceId) => `${prefix}/error/${device}`,
  /** Retained: the current epoch key of a group, sealed to one member. */
  box: (group: GroupId, member: DeviceId) => `${prefix}/box/${group}/${member}`,
} as const

/** Filters of a listener. `#` after the last level also matches the topic without it [MQTT-4.7.1-2]. */
export const filters = {
  toDevice: (device: DeviceId) => `${prefix}/to/${device}/#`,
  group: (group: GroupId) => `${prefix}/group/${group}/#`,
  anyGroup: `${prefix}/group/#`,
  boxesOf: (member: DeviceId) => `${prefix}/box/+/${member}`,
} as const

/** Where the gateway delivers an envelope that it has checked. */
export function deliveryTopic({ header: { target }, channel }: Envelope): string {
  const place = target.type === 'device' ? `to/${target.id}` : `group/${target.id}`
  return channel === '' ? `${prefix}/${place}` : `${prefix}/${place}/${channel}`
}

/** What a device may be publishing; undefined for every topic that is not a device's to publish to. */
export type PublishedTopic =
  | { readonly type: 'send'; readonly device: DeviceId }
  | { readonly type: 'ask'; readonly device: DeviceId }
  | { readonly type: 'boxes'; readonly group: GroupId }

export function parsePublishedTopic(topicName: string): PublishedTopic | undefined {
  const [scheme, version, type, id, ...rest] = topicName.split('/')
  if (`${scheme}/${version}` !== prefix || id === undefined || !isDigest(id) || rest.length > 0)
    return undefined
  switch (type) {
    case 'send':
      return { type, device: id as DeviceId }
    case 'ask':
      return { type, device: id as DeviceId }
    case 'boxes':
      return { type, group: id as GroupId }
    default:
      return undefined
  }
}

/** True if only `device` itself is to receive it although others subscribe to wildcards. */
export function isPrivateToAnother(topicName: string, device: string): boolean {
  const [scheme, version, type, id, member] = topicName.split('/')
  if (`${scheme}/${version}` !== prefix) return false
  if (type === 'verdict' || type === 'error' || type === 'answer') return id !== device
  return type === 'box' && member !== device
}
