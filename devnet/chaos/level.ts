/**
 * Whether a node has caught up: it has certified, or verified, what the other full nodes had certified when they were
 * first asked. Blocks that come later are not waited for, so that a chain under load is no obstacle.
 *
 * A full node that no other one answers has nothing to catch up with. A node without blocks that no full node answers
 * has not caught up: it may be behind whatever they have.
 */

import { MoteError } from '../../chain/result.ts'
import type { ChainSource, NodeStatus } from '../../client/chain-source.ts'
import { Deadline, pause } from '../../client/deadline.ts'
import { httpSource } from '../../client/http-source.ts'
import { apiUrl, type DevnetDescription } from '../layout.ts'

export interface LevelNode {
  readonly name: string
  readonly label: string
  readonly source: Pick<ChainSource, 'name' | 'status'>
}

/** How long to wait. */
interface Patience {
  readonly deadlineMs: number
  readonly signal?: AbortSignal
}

/** What came of waiting for a node. */
export type Level =
  | { readonly type: 'level'; readonly height: number; readonly tookMs: number }
  /** `detail` says from where to where, and what the node itself says. */
  | { readonly type: 'behind'; readonly detail: string }

const askTimeoutMs = 1_000
const pollMs = 50

/** Every node of a devnet. */
export function levelNodesOf({ nodes }: DevnetDescription): readonly LevelNode[] {
  return nodes.map(({ name, label, api }) => ({
    name,
    label,
    source: httpSource(apiUrl(api), { requestTimeoutMs: askTimeoutMs }),
  }))
}

/** Waits until a node has caught up with the full nodes among `nodes`, for `deadlineMs` at most or until the signal. */
export async function untilLevel(
  node: LevelNode,
  nodes: readonly LevelNode[],
  { deadlineMs, signal }: Patience,
): Promise<Level> {
  const others = nodes.filter(({ name, label }) => label === 'full' && name !== node.name)
  const began = performance.now()
  let target: number | undefined
  for (;;) {
    const [own, ...answers] = await Promise.all([node, ...(target === undefined ? others : [])].map(statusOf))
    const heights = answers.flatMap(answer => (answer ? [answer.certifiedHeight] : []))
    if (heights.length > 0) target = Math.max(...heights)
    const isAlone = target === undefined && node.label === 'full'
    const height = own?.certifiedHeight
    const tookMs = Math.round(performance.now() - began)
    if (height !== undefined && (isAlone || (target !== undefined && height >= target)))
      return { type: 'level', height, tookMs }
    if (tookMs >= deadlineMs || signal?.aborted)
      return { type: 'behind', detail: await reason(node, { height, target, tookMs }) }
    await pause(pollMs, signal)
  }
}

async function statusOf({ source }: LevelNode): Promise<NodeStatus | undefined> {
  return source.status().catch(() => undefined)
}

interface Seen {
  readonly height: number | undefined
  readonly target: number | undefined
  readonly tookMs: number
}

async function reason({ name, source }: LevelNode, { height, target, tookMs }: Seen): Promise<string> {
  const late = `not level after ${tookMs} ms`
  if (height === undefined) return `${name}: does not answer, ${late}`
  if (target === undefined) return `${name}: at height ${height}, and no full node answers, ${late}`
  const own = await readinessOf(source.name)
  return `${name}: at height ${height}, full nodes at ${target}, ${late}${own ? `; it says ${own}` : ''}`
}

/** Why a node says that it is not ready; undefined if it says that it is, or nothing. */
async function readinessOf(api: string): Promise<string | undefined> {
  try {
    const response = await fetch(`${api}/readyz`, { signal: AbortSignal.timeout(askTimeoutMs) })
    if (response.ok) return undefined
    const { code, detail } = (await response.json()) as { code?: unknown; detail?: unknown }
    return `${code}: ${detail}`
  } catch {
    return undefined
  }
}

/** Asks again and again until it succeeds. Throws `timeout` with the last reason. */
export async function untilAnswered(
  name: string,
  ask: (signal: AbortSignal) => Promise<void>,
  { deadlineMs, signal }: Patience,
): Promise<void> {
  const deadline = new Deadline(deadlineMs, { signal })
  let last = 'no answer'
  while (!deadline.isOver) {
    try {
      // The attempt under way may take longer than the time that is left.
      return await deadline.within(ask(deadline.signal), () => new Error(last))
    } catch (error) {
      if (!deadline.isOver) last = (error as Error).message
      await deadline.pause(pollMs)
    }
  }
  throw new MoteError('timeout', `${name}: does not answer after ${deadlineMs} ms: ${last}`)
}

/** Throws `timeout` with the reason for a node that has not caught up. */
export function requireLevel(level: Level): Extract<Level, { type: 'level' }> {
  if (level.type === 'level') return level
  throw new MoteError('timeout', level.detail)
}
