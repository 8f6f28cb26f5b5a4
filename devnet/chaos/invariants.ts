/**
 * What must hold after any faults, checked from outside on every full node. Each check says what it looked at, so that
 * a PASS over nothing can be told from a PASS.
 */

import type { Height } from '../../chain/brands.ts'
import { MoteError } from '../../chain/result.ts'
import { pause } from '../../client/deadline.ts'
import { type EpochOperation, epochModel } from './epoch-register.ts'
import { type EdgeHit, type FullNode, nodeStatusOf, type WipeOutcome } from './faults.ts'
import type { Level } from './level.ts'
import { checkLinearizable } from './linearizability.ts'
import type { AcknowledgedWrite, EpochHistory } from './load.ts'
import type { Election, LoggedDecision } from './observation.ts'

export interface Invariant {
  readonly name: string
  readonly pass: boolean
  /** What was looked at, or what is wrong. */
  readonly detail: string
}

interface BlockSummary {
  readonly headerHash: string
  readonly transactions: readonly { readonly id: string; readonly code: string }[]
}

/** Every block of the run, by node. */
export type Chains = ReadonlyMap<string, readonly (BlockSummary | undefined)[]>

const readers = 8
const fetchAttempts = 5

/** Reads the blocks from `first` to `last` from every node. A block that a node does not have is undefined. */
export async function readChains(
  nodes: readonly FullNode[],
  { first, last }: { readonly first: Height; readonly last: Height },
  onProgress: (text: string) => void,
): Promise<Chains> {
  const chains = new Map<string, (BlockSummary | undefined)[]>()
  for (const { name, source } of nodes) {
    const blocks: (BlockSummary | undefined)[] = new Array(last - first + 1)
    let next = 0
    const reader = async (): Promise<void> => {
      for (let i = next++; i < blocks.length; i = next++) blocks[i] = await fetchBlock(source.name, first + i)
    }
    await Promise.all(Array.from({ length: readers }, reader))
    chains.set(name, blocks)
    onProgress(`read ${blocks.length} blocks from ${name}`)
  }
  return chains
}

async function fetchBlock(api: string, height: number): Promise<BlockSummary | undefined> {
  for (let attempt = 0; attempt < fetchAttempts; attempt++) {
    try {
      const response = await fetch(`${api}/v1/blocks/${height}`, { signal: AbortSignal.timeout(10_000) })
      if (response.ok) return (await response.json()) as BlockSummary
    } catch {
      // A busy node is asked again.
    }
    await pause(100)
  }
  return undefined
}

export function acknowledgedNeverLost(
  chains: Chains,
  first: Height,
  acknowledged: readonly AcknowledgedWrite[],
): Invariant {
  const lost: string[] = []
  for (const [node, blocks] of chains) {
    const heightOf = new Map<string, number>()
    for (const [i, block] of blocks.entries())
      for (const { id, code } of block?.transactions ?? []) if (code === 'ok') heightOf.set(id, first + i)
    for (const { id, height } of acknowledged)
      if (heightOf.get(id) !== height)
        lost.push(`${id} of height ${height} is at ${heightOf.get(id) ?? 'no height'} on ${node}`)
  }
  return {
    name: 'acknowledged is never lost',
    pass: lost.length === 0 && acknowledged.length > 0,
    detail:
      lost.length === 0
        ? `${acknowledged.length} acknowledged transactions, each at its height on ${chains.size} nodes`
        : `${lost.length} lost: ${lost.slice(0, 3).join('; ')}`,
  }
}

export function oneHashPerHeight(chains: Chains, first: Height): Invariant {
  const names = [...chains.keys()]
  const wrong: string[] = []
  const [reference = []] = chains.values()
  for (const [i, block] of reference.entries())
    for (const name of names) {
      const other = chains.get(name)?.[i]
      if (!block || other?.headerHash !== block.headerHash)
        wrong.push(`height ${first + i} on ${name}: ${other ? 'another hash' : 'no block'}`)
    }
  return {
    name: 'one header hash per height',
    pass: wrong.length === 0 && reference.length > 0,
    detail:
      wrong.length === 0
        ? `${reference.length} blocks on ${names.length} nodes`
        : `${wrong.length} wrong: ${wrong.slice(0, 3).join('; ')}`,
  }
}

/** A transaction that was sent again may be in two blocks; the second time its receipt says `duplicate` and it does nothing. */
export function executedOnce(chains: Chains): Invariant {
  const twice = new Set<string>()
  let executed = 0
  let duplicates = 0
  for (const blocks of chains.values()) {
    const seen = new Set<string>()
    let again = 0
    for (const block of blocks)
      for (const { id, code } of block?.transactions ?? []) {
        if (code === 'duplicate') again += 1
        else if (seen.has(id)) twice.add(id)
        else seen.add(id)
      }
    executed = Math.max(executed, seen.size)
    duplicates = Math.max(duplicates, again)
  }
  return {
    name: 'every transaction is executed once',
    pass: twice.size === 0,
    detail:
      twice.size === 0
        ? `${executed} transactions; ${duplicates} ordered again and not executed again`
        : `executed twice: ${[...twice].slice(0, 3).join(', ')}`,
  }
}

/** How long after the end of each episode the first acknowledgement came; undefined: not in time. */
export function servesAgain(recoveredMs: readonly (number | undefined)[], limitMs: number): Invariant {
  const failed = recoveredMs.filter(ms => ms === undefined).length
  const slowest = Math.max(0, ...recoveredMs.map(ms => ms ?? 0))
  return {
    name: 'acknowledges again after every episode',
    pass: failed === 0,
    detail:
      failed === 0
        ? `${recoveredMs.length} episodes, after ${Math.round(slowest)} ms at the latest`
        : `not within ${limitMs} ms after ${failed} of ${recoveredMs.length} episodes`,
  }
}

export function oneLeaderPerTerm(elections: readonly Election[]): Invariant {
  const leaders = new Map<number, Set<string>>()
  for (const { term, node } of elections) leaders.set(term, (leaders.get(term) ?? new Set()).add(node))
  const twice = [...leaders].filter(([, nodes]) => nodes.size > 1)
  return {
    name: 'no two leaders in one term',
    pass: twice.length === 0,
    detail:
      twice.length === 0
        ? `${leaders.size} terms with a leader`
        : twice.map(([term, nodes]) => `term ${term}: ${[...nodes].join(' and ')}`).join('; '),
  }
}

/** All nodes certified up to the same height, none behind its own commits. */
export async function untilCertified(
  nodes: readonly FullNode[],
  atLeast: number,
  deadlineMs: number,
): Promise<Invariant> {
  const began = performance.now()
  for (;;) {
    const answers = await Promise.all(
      nodes.map(async node => ({ name: node.name, status: await nodeStatusOf(node) })),
    )
    const tookMs = Math.round(performance.now() - began)
    const name = 'certification catches up after healing'
    const first = answers[0]?.status
    const same = answers.every(
      ({ status }) =>
        status &&
        status.certifiedHeight === status.height &&
        status.height === first?.height &&
        status.height >= atLeast,
    )
    if (same)
      return {
        name,
        pass: true,
        detail: `height ${first?.height} certified on ${nodes.length} nodes after ${tookMs} ms`,
      }
    if (tookMs > deadlineMs) {
      const texts = answers.map(
        ({ name: node, status }) =>
          `${node} ${status ? `${status.certifiedHeight}/${status.height}` : 'silent'}`,
      )
      return {
        name,
        pass: false,
        detail: `not after ${deadlineMs} ms; certified/committed: ${texts.join(', ')}`,
      }
    }
    await pause(50)
  }
}

/** Sets, and reads that asked for linearizability, of every group. */
export function linearizable(histories: readonly EpochHistory[]): Invariant {
  const name = 'histories are linearizable'
  let operations = 0
  for (const { group, initial, operations: history } of histories) {
    const verdict = checkLinearizable(history, epochModel(initial))
    operations += history.length
    if (verdict.type === 'violation')
      return {
        name,
        pass: false,
        detail: `group ${group}: stuck at ${verdict.stuckAt.slice(0, 3).map(operationText).join('; ')}`,
      }
    if (verdict.type === 'undecided')
      return { name, pass: false, detail: `group ${group}: not decided after ${verdict.steps} steps` }
  }
  return {
    name,
    pass: operations > 0,
    detail: `${operations} operations of racing clients on ${histories.length} groups`,
  }
}

function operationText({ client, input, calledAt, returned }: EpochOperation): string {
  const what = input.type === 'read' ? 'read' : `set after epoch ${input.epoch}`
  return `${client}: ${what} at ${Math.round(calledAt)} → ${returned ? JSON.stringify(returned.output) : 'unknown'}`
}

/** A certified read at a height shows the last epoch set at or below it: never another, however old it is. */
export function certifiedReadsAgree(histories: readonly EpochHistory[]): Invariant {
  const wrong: string[] = []
  let reads = 0
  for (const { group, since, certifiedReads, setAt, initial } of histories)
    for (const { height, state } of certifiedReads) {
      reads += 1
      if (!state) {
        if (height >= since) wrong.push(`group ${group}: not there at height ${height}`)
        continue
      }
      const made = setAt.get(state.epoch)
      const replaced = setAt.get(state.epoch + 1)
      const early = state.epoch !== initial.epoch && made !== undefined && made > height
      const late = replaced !== undefined && replaced <= height
      if (early || late) wrong.push(`group ${group}: epoch ${state.epoch} at height ${height}`)
    }
  return {
    name: 'certified reads agree with the blocks',
    pass: wrong.length === 0,
    detail: wrong.length === 0 ? `${reads} reads` : `${wrong.length} wrong: ${wrong.slice(0, 3).join('; ')}`,
  }
}

export function gatewayNeverStale(decisions: readonly LoggedDecision[], trustTtlMs: number): Invariant {
  const relayed = decisions.filter(({ event, verdict }) => event === 'message' && verdict === 'Check')
  const stale = relayed.filter(({ ageMs }) => ageMs > trustTtlMs)
  return {
    name: 'the gateway relays nothing on stale data',
    pass: stale.length === 0,
    detail:
      stale.length === 0
        ? `${relayed.length} messages relayed, the oldest trust data ${Math.max(0, ...relayed.map(({ ageMs }) => ageMs))} ms of ${trustTtlMs} ms`
        : `${stale.length} of ${relayed.length} relayed on data older than ${trustTtlMs} ms`,
  }
}

export function wipedStaysOut(wipes: readonly WipeOutcome[]): Invariant {
  const back = wipes.filter(({ refused }) => !refused)
  return {
    name: 'a wiped consenter does not come back as the member it was',
    pass: back.length === 0,
    detail:
      back.length === 0 ? `${wipes.length} refused` : `${back.map(({ node }) => node).join(', ')} came back`,
  }
}

/** How a node without blocks came back from a fault. */
export interface EdgeReturn extends EdgeHit {
  readonly level: Level
}

/**
 * Lightweight and coordination nodes are level after every fault that hit them, and at the end.
 * @param last every one of them when all was healed
 */
export function edgeCatchesUp(
  returns: readonly EdgeReturn[],
  last: readonly { readonly node: string; readonly level: Level }[],
): Invariant {
  const behind = [
    ...returns.flatMap(({ fault, level }) => (level.type === 'behind' ? [`${fault}: ${level.detail}`] : [])),
    ...last.flatMap(({ level }) => (level.type === 'behind' ? [`at the end: ${level.detail}`] : [])),
  ]
  const after = returns.map(({ node, fault, level }) =>
    level.type === 'level' ? `${node} ${level.tookMs} ms after ${fault}` : '',
  )
  const heights = last.map(({ node, level }) => (level.type === 'level' ? `${node} at ${level.height}` : ''))
  return {
    name: 'lightweight and coordination nodes catch up',
    pass: behind.length === 0,
    detail:
      behind.length === 0
        ? [...heights, ...(after.length > 0 ? after : ['none was hit'])].join(', ')
        : behind.join('; '),
  }
}

/** The highest height that a node certified. Throws `unreachable`. */
export async function certifiedHeightOf(nodes: readonly FullNode[]): Promise<Height> {
  const answers = await Promise.all(nodes.map(nodeStatusOf))
  const heights = answers.flatMap(status => (status ? [status.certifiedHeight] : []))
  if (heights.length === 0) throw new MoteError('unreachable', 'no full node answers')
  return Math.max(...heights) as Height
}
