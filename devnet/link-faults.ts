/**
 * What can be wrong with the links between the programs of a devnet, and how a person writes it down.
 *
 * A link is directed: `{from, to}` is what `from` sends to `to`. Faults are additions to a network that works: nothing
 * here can make a message arrive twice, out of order or altered, because TCP would not let it.
 */
import { MoteError } from '../chain/result.ts'

/** What `from` sends to `to`. */
export interface Link {
  readonly from: string
  readonly to: string
}

/** How every link that touches a node behaves. A link with two such ends takes the larger of each number. */
export interface LinkQuality {
  readonly delayMs: number
  /** The delay of a chunk is spread evenly over delayMs ± jitterMs. */
  readonly jitterMs: number
  /** Share of chunks that stall as a lost TCP segment does, from 0 to 1. */
  readonly loss: number
}

export const perfect: LinkQuality = { delayMs: 0, jitterMs: 0, loss: 0 }

export type LinkChange =
  /** These links carry nothing from now on, instead of those that did not before. */
  | { readonly type: 'partition'; readonly blocked: readonly Link[] }
  /** `nodes: []` means every node. */
  | {
      readonly type: 'delay'
      readonly nodes: readonly string[]
      readonly delayMs: number
      readonly jitterMs: number
    }
  | { readonly type: 'loss'; readonly nodes: readonly string[]; readonly loss: number }
  | { readonly type: 'heal' }

const delayMsMax = 60_000

/**
 * The links that a partition cuts. `A,B/C`: no link between a node before the slash and one behind it, in neither
 * direction; more slashes make more sides. `A>B`: what A sends does not reach B; the other direction works. Nodes that
 * are not named reach everybody. Throws `usage`.
 */
export function parsePartition(texts: readonly string[], names: readonly string[]): readonly Link[] {
  const blocked = new Map<string, Link>()
  const cut = (link: Link): void => {
    if (link.from === link.to)
      throw new MoteError('usage', `partition: ${link.from} is on both sides of '${texts.join(' ')}'`)
    blocked.set(`${link.from}>${link.to}`, link)
  }
  for (const text of texts) {
    const oneWay = text.includes('>')
    const sides = text.split(oneWay ? '>' : '/').map(side => parseNodes(side, names))
    if (sides.length < 2 || (oneWay && sides.length > 2))
      throw new MoteError('usage', `partition: expected A,B/C or A>B, got '${text}'`)
    for (const [i, side] of sides.entries())
      for (const other of sides.slice(i + 1))
        for (const from of side)
          for (const to of other) {
            cut({ from, to })
            if (!oneWay) cut({ from: to, to: from })
          }
  }
  return [...blocked.values()]
}

function parseNodes(text: string, names: readonly string[]): readonly string[] {
  return text.split(',').map(name => {
    if (names.includes(name)) return name
    throw new MoteError(
      'usage',
      `partition: expected nodes of ${names.join(', ')} between commas, got '${name}'`,
    )
  })
}

/** `20`, `20±10` or `20+-10`, in milliseconds. Throws `usage`. */
export function parseDelay(text: string): { readonly delayMs: number; readonly jitterMs: number } {
  const match = /^(\d{1,6}(?:\.\d+)?)(?:(?:±|\+-|\+\/-)(\d{1,6}(?:\.\d+)?))?(?:ms)?$/.exec(
    text.replaceAll(' ', ''),
  )
  const delayMs = Number(match?.[1])
  const jitterMs = Number(match?.[2] ?? 0)
  if (!match || delayMs > delayMsMax || jitterMs > delayMs)
    throw new MoteError(
      'usage',
      `delay: expected milliseconds up to ${delayMsMax}, as 20 or 20±10 or 20+-10 with no more jitter than delay, got '${text}'`,
    )
  return { delayMs, jitterMs }
}

/** `5` or `5%` as 0.05. Throws `usage`. */
export function parseLoss(text: string): number {
  const match = /^(\d{1,3}(?:\.\d+)?)%?$/.exec(text)
  const percent = Number(match?.[1])
  if (!match || percent > 90)
    throw new MoteError('usage', `loss: expected a percentage from 0 to 90, got '${text}'`)
  return percent / 100
}

/** What applies to the link between two nodes of these qualities. */
export function worse(a: LinkQuality, b: LinkQuality): LinkQuality {
  const { delayMs, jitterMs } = b.delayMs > a.delayMs ? b : a
  return { delayMs, jitterMs, loss: Math.max(a.loss, b.loss) }
}

/** A change as it came over the control socket. Throws `malformed`. */
export function linkChange(value: unknown): LinkChange {
  const { type, blocked, nodes, delayMs, jitterMs, loss } = (value ?? {}) as Record<string, unknown>
  if (type === 'heal') return { type }
  if (type === 'partition' && Array.isArray(blocked) && blocked.every(isLink)) return { type, blocked }
  if (Array.isArray(nodes) && nodes.every(node => typeof node === 'string')) {
    if (type === 'delay' && isWithin(delayMs, delayMsMax) && isWithin(jitterMs, delayMs))
      return { type, nodes, delayMs, jitterMs }
    if (type === 'loss' && isWithin(loss, 0.9)) return { type, nodes, loss }
  }
  throw new MoteError('malformed', 'change: expected partition, delay, loss or heal')
}

function isLink(value: unknown): value is Link {
  const { from, to } = (value ?? {}) as Record<string, unknown>
  return typeof from === 'string' && typeof to === 'string'
}

function isWithin(value: unknown, max: number): value is number {
  return typeof value === 'number' && value >= 0 && value <= max
}
