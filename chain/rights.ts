/**
 * What an authority lets an identity do beyond its own messages (docs/FORMATS.md, "Records"), and the topic filters in which it is
 * said.
 *
 * Rights are a leaf of their own, so that the answer to "is this key valid?" does not grow by them, and with a version of
 * their own, so that no edit by the subject stands in an authority's way. There is no leaf until rights are given; that is none.
 *
 * A *plain filter* is a topic filter of MQTT 3.1.1 (section 4.7.1) whose first level is written out, is not `mote` and does not begin with
 * `$`: so it matches no topic of the project's own and none of a broker's.
 */
import type { DeviceId, Height } from './brands.ts'
import { ascending, boolean, type Codec, list, malformed, text } from './codec.ts'
import { maxRightsFilterBytes, maxRightsFilters } from './limits.ts'

/** What stands in a transaction and in the record. */
export interface IdentityRights {
  /** Plain filters: topics that it may publish to in the clear. Strictly ascending. */
  readonly publish: readonly string[]
  /** Plain filters: topics that it may receive. Strictly ascending. */
  readonly subscribe: readonly string[]
  /** May receive what is delivered to others; it is sealed to them. */
  readonly observe: boolean
  /** May speak as a gateway: attest for others, and write decisions. */
  readonly gateway: boolean
}

export interface RightsRecord extends IdentityRights {
  readonly id: DeviceId
  /** Counts the changes; 1 for the first. */
  readonly version: number
  readonly updatedAt: Height
}

/** Of an identity that has no such leaf. */
export const noRights: IdentityRights = { publish: [], subscribe: [], observe: false, gateway: false }

/** True for a filter that rights may name. */
export function isPlainFilter(filter: string): boolean {
  const levels = filter.split('/')
  const [first = ''] = levels
  return (
    filter.length <= maxRightsFilterBytes &&
    /^[\x20-\x7e]+$/.test(filter) &&
    first !== '' &&
    first !== 'mote' &&
    !/^[$+#]/.test(first) &&
    isTopicFilter(filter)
  )
}

/** True if wildcards stand where they may: `#` alone in the last level, `+` alone in its level [MQTT-4.7.1-2, MQTT-4.7.1-3]. */
export function isTopicFilter(filter: string): boolean {
  const levels = filter.split('/')
  return (
    filter !== '' &&
    levels.every((level, i) => {
      if (level === '#') return i === levels.length - 1
      return level === '+' || !/[+#]/.test(level)
    })
  )
}

/**
 * True if every topic that `asked` matches is matched by `granted`: a topic name is a filter that matches itself alone.
 * Both are valid filters, and the first level of `granted` is no wildcard, so the rule about `$` [MQTT-4.7.2-1] is kept.
 */
export function covers(granted: string, asked: string): boolean {
  const allowed = granted.split('/')
  const levels = asked.split('/')
  for (const [i, level] of allowed.entries()) {
    // `a/#` matches `a` as well.
    if (level === '#') return levels.length >= i
    const wanted = levels[i]
    if (wanted === undefined || wanted === '#') return false
    if (level !== '+' && level !== wanted) return false
  }
  return allowed.length === levels.length
}

const filterText = text(maxRightsFilterBytes)
const filterCodec: Codec<string> = {
  toWire: filterText.toWire,
  fromWire: (wire, path) => {
    const filter = filterText.fromWire(wire, path)
    return isPlainFilter(filter) ? filter : malformed(path, 'a topic filter outside mote/ and $', wire)
  },
}
const filtersCodec = ascending(
  list(filterCodec, maxRightsFilters),
  filter => filter,
  'filters in ascending order, each once',
)

/** The fields of rights, in their order on the wire. */
export const rightsFields: { readonly [K in keyof IdentityRights]-?: Codec<IdentityRights[K]> } = {
  publish: filtersCodec,
  subscribe: filtersCodec,
  observe: boolean,
  gateway: boolean,
}
