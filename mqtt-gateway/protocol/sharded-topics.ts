/**
 * Topics at a broker that others wrote (docs/FORMATS.md, "Topics at an existing broker"). Such a broker hides who published a message, so
 * that each topic that a device publishes to names the device, and an access rule of the broker binds it to the account; and it
 * names the device's shard, the first digit of its id, so that several gateways may divide them.
 *
 * `plain` is what is relayed in the clear; what is to be recorded, `plain` there, is `report` here.
 *
 * What the gateway publishes has the same topics as at the embedded broker (topics.ts).
 */
import { type DeviceId, isDigest } from '../../chain/brands.ts'
import { parsePublishedTopic, topics } from './topics.ts'

const prefix = 'mote/1'

/** One of sixteen: the first hexadecimal digit of a device's id. */
export type Shard = string

export const allShards: readonly Shard[] = [...'0123456789abcdef']

/** Shards as a configuration names them: digits and ranges of digits, with commas between. Undefined for any other text. */
export function parseShards(text: string): readonly Shard[] | undefined {
  const ranges = text.split(',').map(range => /^([0-9a-f])(?:-([0-9a-f]))?$/.exec(range))
  if (ranges.includes(null)) return undefined
  const named = ranges.flatMap(range => {
    const [, first = '', last = first] = range ?? []
    return allShards.filter(shard => first <= shard && shard <= last)
  })
  return named.length > 0 ? [...new Set(named)].toSorted() : undefined
}

export function shardOf(device: DeviceId): Shard {
  return device.slice(0, 1)
}

/** Ruled on by one gateway, which has the device's shard. */
const ruledKinds = ['send', 'boxes', 'ask', 'watch', 'vote', 'plain', 'report', 'record', 'read'] as const
/** Heard by every gateway: each may have mail for the device, or ask it for its copy of a key. */
const heardKinds = ['here', 'got', 'check'] as const

/** What a gateway that has the shard subscribes to. */
export function shardFilters(shard: Shard): readonly string[] {
  return ruledKinds.map(kind => `${prefix}/${kind}/${shard}/#`)
}

/** What every gateway subscribes to. */
export const heardFilters: readonly string[] = heardKinds.map(kind => `${prefix}/${kind}/+/#`)

/** What an account named `device` may publish to, and nothing else; `device` may be what the broker puts an account's name for. */
export function publishingRules(device: string): readonly string[] {
  return [...ruledKinds, ...heardKinds].map(kind => `${prefix}/${kind}/+/${device}/#`)
}

/** Where a device publishes what it would publish to `topicName` at the embedded broker. A topic that is no device's stays as it is. */
export function shardedTopic(topicName: string, device: DeviceId): string {
  const place = `${shardOf(device)}/${device}`
  const topic = parsePublishedTopic(topicName)
  if (!topic) return topicName
  switch (topic.type) {
    case 'plain':
      return `${prefix}/plain/${place}/${topicName}`
    case 'report':
      return `${prefix}/report/${place}/${topic.topic}`
    case 'boxes':
      return `${prefix}/boxes/${place}/${topic.group}`
    default:
      return `${prefix}/${topic.type}/${shardOf(topic.device)}/${topic.device}`
  }
}

/** Where a device says that a connection of it is there, retained, and where its will says that it is not. */
export function presenceTopic(device: DeviceId, place: string): string {
  return `${prefix}/here/${shardOf(device)}/${device}/${place}`
}

/**
 * What a connection says of itself: `connected`, `listening` once its subscription to what is delivered is in force, and nothing,
 * which a broker does not retain, when it is gone.
 */
export type Presence = 'connected' | 'listening' | 'gone'

export function encodePresence(presence: Presence): Uint8Array {
  return new TextEncoder().encode(presence === 'gone' ? '' : presence)
}

/** Undefined for what is none. */
export function parsePresence(payload: Uint8Array): Presence | undefined {
  if (payload.length === 0) return 'gone'
  const text = new TextDecoder().decode(payload.subarray(0, 16))
  return text === 'connected' || text === 'listening' ? text : undefined
}

/** A message of a device as the gateway rules on it, or what one of its connections says of itself. */
export type ShardedTopic =
  | { readonly type: 'published'; readonly device: DeviceId; readonly topicName: string }
  | { readonly type: 'presence'; readonly device: DeviceId; readonly place: string }

/** Undefined for what no device that keeps to the rules publishes. The device is who published: the broker's access rules see to it. */
export function parseShardedTopic(topicName: string): ShardedTopic | undefined {
  const [scheme, version, kind, shard, device = '', ...rest] = topicName.split('/')
  if (`${scheme}/${version}` !== prefix || !isDigest(device) || shard !== shardOf(device as DeviceId))
    return undefined
  const published = publishedTopicOf(kind, device, rest)
  if (published !== undefined) return { type: 'published', device: device as DeviceId, topicName: published }
  const [place = '', ...more] = rest
  return kind === 'here' && more.length === 0 && /^[A-Za-z0-9]{1,16}$/.test(place)
    ? { type: 'presence', device: device as DeviceId, place }
    : undefined
}

function publishedTopicOf(
  kind: string | undefined,
  device: string,
  rest: readonly string[],
): string | undefined {
  const topicName = rest.join('/')
  if (kind === 'here' || kind === undefined) return undefined
  if (kind === 'plain') {
    // `$` topics are the broker's own, and a gateway may do there what no device may.
    const isPlain = topicName !== '' && !topicName.startsWith('$')
    return isPlain && parsePublishedTopic(topicName)?.type === 'plain' ? topicName : undefined
  }
  if (kind === 'report') return topicName === '' ? undefined : topics.report(device as DeviceId, topicName)
  const name = kind === 'boxes' ? `${prefix}/boxes/${topicName}` : `${prefix}/${kind}/${device}`
  const isWhole = kind === 'boxes' ? rest.length === 1 : rest.length === 0
  return isWhole && parsePublishedTopic(name)?.type === kind ? name : undefined
}
