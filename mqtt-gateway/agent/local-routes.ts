/**
 * Which local topic is which device, group or open topic of the network: what an application publishes on a declared topic is sealed to the one that the
 * route names, and what arrives is published on declared topics. Nothing else passes, in either direction.
 *
 * One level of a topic may be a name in braces: `to/{device}` is every device that has a name here, `from/{sender}` is where its
 * messages come out. The first route that fits is the one.
 */
import type { DeviceId, GroupId } from '../../chain/brands.ts'
import { ok, type Result, refuse } from '../../chain/result.ts'
import type { Recipient } from '../device/message-sealing.ts'
import { printableTopic } from '../protocol/topics.ts'
import type { ReceivedText } from './inbox.ts'
import type { LocalMessage } from './local-client.ts'
import type { ContractName } from './named-contracts.ts'
import type { Delivery, OutboxMessage } from './outgoing-message.ts'
import { fromRecord, type RecordFormat, toRecord } from './record-format.ts'
import type { ReadingRoute } from './stream-rules.ts'

/** From the application to the network: to the one that it names, or to the chain. */
export interface PublishRoute extends ReadingRoute {
  /** May have `{device}`, `{group}` or `{openTopic}` as one of its levels, in place of the field of that name. */
  readonly topic: string
  /** It is recorded, under the device's own signature. */
  readonly record?: true
  /** The contract that the record is given, and where its decision is to be published. */
  readonly contract?: ContractName
  readonly publish?: string
  readonly device?: string
  readonly group?: string
  readonly openTopic?: string
  readonly channel?: string
  readonly delivery?: Delivery
  /** How long the gateway keeps it for who is away; by default it does not. */
  readonly keepMs?: number
  readonly format?: RecordFormat
}

/** From the network to the application. */
export interface DeliverRoute extends ReadingRoute {
  /** Only from this device; from any that may send to this one by default. */
  readonly sender?: string
  /** Only what was sent to this group, or with `*` to any; by default only what was sent to the device itself. */
  readonly group?: string
  /** The same of an open topic. */
  readonly openTopic?: string
  readonly channel?: string
  /** May have `{sender}`, and `{group}` or `{openTopic}`, as levels. Undefined: the reading is for contracts here, and no application gets it. */
  readonly topic?: string
  readonly format?: RecordFormat
}

export interface LocalRoutes {
  readonly publish: readonly PublishRoute[]
  readonly deliver: readonly DeliverRoute[]
}

/** What works without any configuration: every device, group and open topic by its name here. */
export const standardRoutes: LocalRoutes = {
  publish: [{ topic: 'to/{device}' }, { topic: 'group/{group}' }, { topic: 'topic/{openTopic}' }],
  deliver: [
    { topic: 'from/{sender}' },
    { topic: 'group/{group}/{sender}', group: '*' },
    { topic: 'topic/{openTopic}/{sender}', openTopic: '*' },
  ],
}

/** Names on this machine; ids where there is none. */
export interface LocalNames {
  device(nameOrId: string): Promise<DeviceId | undefined>
  /** A group or open topic. */
  group(nameOrId: string): Promise<GroupId | undefined>
  nameOfDevice(id: DeviceId): Promise<string>
  nameOfGroup(id: GroupId): Promise<string>
}

/** What an application has published, and what its route makes of it. */
export interface OutgoingReading extends Omit<OutboxMessage, 'to'> {
  readonly route: PublishRoute
  /** Undefined: the chain. */
  readonly to: Recipient | undefined
  readonly recordTopic: string
}

/** What to send for a message on a local topic. Refuses `topic-not-allowed`, `not-found`, and what its format refuses. */
export async function outgoing(
  { publish }: LocalRoutes,
  names: LocalNames,
  { topicName, payload }: LocalMessage,
): Promise<Result<OutgoingReading>> {
  for (const route of publish) {
    const captured = capture(route.topic, topicName)
    if (!captured) continue
    const to = route.record ? ok(undefined) : await recipient(names, { ...route, ...captured })
    if (!to.ok) return to
    const content = route.format ? toRecord(route.format, payload) : ok(payload)
    if (!content.ok) return content
    const { channel = '', delivery = 'relayed', keepMs, recordTopic = topicName } = route
    return ok({ route, to: to.value, recordTopic, content: content.value, channel, delivery, keepMs })
  }
  return refuse('topic-not-allowed', `topic '${printableTopic(topicName)}': no route is declared for it`)
}

/** Where a message that arrived goes. */
export interface IncomingReading {
  readonly route: DeliverRoute
  /** Undefined: to no application. */
  readonly topicName: string | undefined
  readonly recordTopic: string
}

/** The route of a message that arrived. Refuses `topic-not-allowed`. */
export async function incoming(
  { deliver }: LocalRoutes,
  names: LocalNames,
  message: ReceivedText,
): Promise<Result<IncomingReading>> {
  const sender = await names.nameOfDevice(message.from)
  const { to } = message
  const shared = to.type === 'device' ? '' : await names.nameOfGroup(to.id)
  for (const route of deliver) {
    if (route.sender !== undefined && route.sender !== sender && route.sender !== message.from) continue
    if (route.channel !== undefined && route.channel !== message.channel) continue
    if (!fitsRecipient(route, to, shared)) continue
    const topicName = route.topic?.replace('{sender}', sender).replace(/\{(group|openTopic)\}/, () => shared)
    return ok({ route, topicName, recordTopic: route.recordTopic ?? topicName ?? '' })
  }
  return refuse('topic-not-allowed', `message from ${sender}: no route is declared for it`)
}

/** What the application gets of a message on its route. Refuses what its format refuses. */
export function localPayload({ format }: DeliverRoute, content: Uint8Array): Result<Uint8Array> {
  return format ? fromRecord(format, content) : ok(content)
}

function fitsRecipient({ group, openTopic }: DeliverRoute, to: Recipient, name: string): boolean {
  if (to.type === 'device') return group === undefined && openTopic === undefined
  const wanted = to.type === 'group' ? group : openTopic
  return wanted !== undefined && (wanted === '*' || wanted === name || wanted === to.id)
}

/** What the levels in braces stand for; undefined if the topic is another one. */
function capture(pattern: string, topicName: string): Readonly<Record<string, string>> | undefined {
  const [wanted, levels] = [pattern.split('/'), topicName.split('/')]
  if (wanted.length !== levels.length) return undefined
  const captured: Record<string, string> = {}
  for (const [i, level] of wanted.entries()) {
    const name = /^\{(device|group|openTopic)\}$/.exec(level)?.[1]
    const value = levels[i] ?? ''
    if (name === undefined ? level !== value : value === '') return undefined
    if (name !== undefined) captured[name] = value
  }
  return captured
}

async function recipient(
  names: LocalNames,
  { device, group, openTopic }: Pick<PublishRoute, 'device' | 'group' | 'openTopic'>,
): Promise<Result<Recipient>> {
  const shared = group ?? openTopic
  if (shared !== undefined) {
    const type = group === undefined ? 'topic' : 'group'
    const id = await names.group(shared)
    return id ? ok({ type, id }) : refuse('not-found', `${type}: '${printableTopic(shared)}' is no name here`)
  }
  const id = await names.device(device ?? '')
  return id
    ? ok({ type: 'device', id })
    : refuse('not-found', `device: '${printableTopic(device ?? '')}' is no name here and no id`)
}
