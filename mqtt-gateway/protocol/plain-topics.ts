/**
 * Where plain clients and the chain meet (docs/FORMATS.md, "Messages of plain clients"): beside `mote/1/plain/…` and `mote/1/decision/…` a
 * gateway's configuration maps topics of an application's own. What a device publishes to one that comes *in* is recorded, and passed on to nobody;
 * one that goes *out* has decisions, which gateways alone publish. No topic is both, so that no decision is recorded and decided about again.
 */
import { covers } from '../../chain/rights.ts'
import { filters, topics } from './topics.ts'

export interface PlainTopics {
  /** Plain filters, chain/rights.ts. */
  readonly in: readonly string[]
  readonly out: readonly string[]
  /** Every active device may use all of them, and all topics of records and decisions, whatever its rights are. */
  readonly open: boolean
}

/** Filters of one kind that a configuration maps. */
export const maxMappedFilters = 16

/** Nothing is mapped, and rights count. */
export const noPlainTopics: PlainTopics = { in: [], out: [], open: false }

/** A filter that comes in and one that goes out which have a topic in common; undefined if there is none. */
export function overlapOf(plain: Pick<PlainTopics, 'in' | 'out'>): readonly [string, string] | undefined {
  for (const incoming of plain.in)
    for (const outgoing of plain.out) if (overlap(incoming, outgoing)) return [incoming, outgoing]
  return undefined
}

/** Whether some topic matches both filters (MQTT 3.1.1, section 4.7.1). */
function overlap(one: string, other: string): boolean {
  const [a, b] = [one.split('/'), other.split('/')]
  for (let i = 0; ; i++) {
    const [left, right] = [a[i], b[i]]
    // `x/#` matches `x` as well.
    if (left === '#' || right === '#') return true
    if (left === undefined || right === undefined) return left === right
    if (left !== right && left !== '+' && right !== '+') return false
  }
}

export function comesIn(plain: PlainTopics, topicName: string): boolean {
  return plain.in.some(filter => covers(filter, topicName))
}

/** Whether gateways alone publish there. */
export function goesOut(plain: PlainTopics, topicName: string): boolean {
  return plain.out.some(filter => covers(filter, topicName))
}

/** Where a decision goes whose contract is asked to publish it on `publishTopic`. */
export function decisionTopic(plain: PlainTopics, publishTopic: string): string {
  return goesOut(plain, publishTopic) ? publishTopic : topics.decision(publishTopic)
}

/** What any active device may receive. */
export function openFilters(plain: PlainTopics): readonly string[] {
  return plain.open ? [...plain.out, filters.anyDecision] : []
}
