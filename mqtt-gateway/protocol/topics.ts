/**
 * The MQTT topics and who uses them (docs/FORMATS.md, "MQTT topics").
 *
 * A device publishes to `send`, `boxes`, `ask`, `watch`, `vote`, `check`, `got`, `plain`, `record` and `read` only, and only to its own; the gateway alone publishes to the
 * others. Whatever is for a device, a group's mail included, comes on its own topics: one filter says all that it may
 * receive. Outside `mote/` are plain topics, for who has a right to them. Every topic begins with the format version, so that another version can live beside this one.
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
  /** A device says which records it watches, and is sent each that changes. */
  watch: (device: DeviceId) => `${prefix}/watch/${device}`,
  change: (device: DeviceId) => `${prefix}/change/${device}`,
  /** A device publishes transactions here that it has signed itself: records, and calls of contracts. */
  record: (device: DeviceId) => `${prefix}/record/${device}`,
  /** A device has its copy of another's key compared with everybody's (vote.ts). */
  vote: (device: DeviceId) => `${prefix}/vote/${device}`,
  ballot: (device: DeviceId) => `${prefix}/ballot/${device}`,
  /** A device answers a ballot. */
  check: (device: DeviceId) => `${prefix}/check/${device}`,
  /** A device says which kept message it has accepted (kept-mail.ts). */
  got: (device: DeviceId) => `${prefix}/got/${device}`,
  /** A plain client has what it says recorded, or a contract decide (plain-message.ts). */
  report: (device: DeviceId, topic: string) => `${prefix}/plain/${device}/${topic}`,
  /** A plain client asks for a contract (contract-read.ts). */
  read: (device: DeviceId) => `${prefix}/read/${device}`,
  state: (device: DeviceId) => `${prefix}/state/${device}`,
  /** What a contract has decided, where it was asked to publish that. */
  decision: (publishTopic: string) => `${prefix}/decision/${publishTopic}`,
  result: (device: DeviceId) => `${prefix}/result/${device}`,
  verdict: (sender: DeviceId) => `${prefix}/verdict/${sender}`,
  error: (device: DeviceId) => `${prefix}/error/${device}`,
  /** Retained: the current epoch key of a group, sealed to one member. */
  box: (group: GroupId, member: DeviceId) => `${prefix}/box/${group}/${member}`,
} as const

/** Filters of a listener. `#` after the last level also matches the topic without it [MQTT-4.7.1-2]. */
export const filters = {
  toDevice: (device: DeviceId) => `${prefix}/to/${device}/#`,
  boxesOf: (member: DeviceId) => `${prefix}/box/+/${member}`,
  /** What is delivered to any device: for who has the right to observe. */
  anyDelivery: `${prefix}/to/#`,
  anyDecision: `${prefix}/decision/#`,
} as const

/** What a device may receive without any right. */
export function ownFilters(device: DeviceId): readonly string[] {
  return [
    filters.toDevice(device),
    topics.verdict(device),
    topics.error(device),
    topics.answer(device),
    topics.change(device),
    topics.state(device),
    topics.ballot(device),
    topics.result(device),
    filters.boxesOf(device),
  ]
}

/** Where the gateway delivers an envelope that it has checked to one of those whom it is for. */
export function deliveryTopic(recipient: DeviceId, { channel }: Pick<Envelope, 'channel'>): string {
  const place = `${prefix}/to/${recipient}`
  return channel === '' ? place : `${place}/${channel}`
}

/** The device on whose topic an envelope was delivered; undefined for other topics. */
export function recipientOf(topicName: string): DeviceId | undefined {
  const [scheme, version, type, id = ''] = topicName.split('/')
  return `${scheme}/${version}/${type}` === `${prefix}/to` && isDigest(id) ? (id as DeviceId) : undefined
}

/** What a device may be publishing; undefined for every topic that is no device's to publish to. A plain one takes a right. */
export type PublishedTopic =
  | { readonly type: 'send'; readonly device: DeviceId }
  | { readonly type: 'ask'; readonly device: DeviceId }
  | { readonly type: 'watch'; readonly device: DeviceId }
  | { readonly type: 'vote'; readonly device: DeviceId }
  | { readonly type: 'check'; readonly device: DeviceId }
  | { readonly type: 'got'; readonly device: DeviceId }
  | { readonly type: 'record'; readonly device: DeviceId }
  | { readonly type: 'read'; readonly device: DeviceId }
  | { readonly type: 'boxes'; readonly group: GroupId }
  /** To be recorded under this topic, or decided about. */
  | { readonly type: 'report'; readonly device: DeviceId; readonly topic: string }
  | { readonly type: 'plain' }

export function parsePublishedTopic(topicName: string): PublishedTopic | undefined {
  const [scheme, version, type, id, ...rest] = topicName.split('/')
  if (scheme !== 'mote') return { type: 'plain' }
  if (`${scheme}/${version}` !== prefix || id === undefined || !isDigest(id)) return undefined
  if (type === 'plain') {
    const topic = rest.join('/')
    return topic === '' ? undefined : { type: 'report', device: id as DeviceId, topic }
  }
  if (rest.length > 0) return undefined
  switch (type) {
    case 'send':
    case 'ask':
    case 'watch':
    case 'vote':
    case 'check':
    case 'got':
    case 'record':
    case 'read':
      return { type, device: id as DeviceId }
    case 'boxes':
      return { type, group: id as GroupId }
    default:
      return undefined
  }
}

/** A topic as logs and refusals show it: cut, and without control characters. */
export function printableTopic(text: string): string {
  return text.slice(0, 200).replace(/[^\x20-\x7e]/g, '?')
}

/** True for a filter of a device's own topics that matches boxes. */
export function isBoxFilter(topicFilter: string): boolean {
  return topicFilter.startsWith(`${prefix}/box/`)
}
