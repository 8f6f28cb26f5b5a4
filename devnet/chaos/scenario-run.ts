/**
 * `mote chaos run SCENARIO`: faults on the processes and links of a devnet by a schedule that the seed fixes, under a
 * load, and then the checks of what must hold. Any FAIL: exit 1.
 */

import { randomBytes } from 'node:crypto'
import type { Height } from '../../chain/brands.ts'
import { pause } from '../../client/deadline.ts'
import { createGroup } from '../../client/group-actions.ts'
import { type ChainAccess, operatorKeys } from '../access.ts'
import {
  type EdgeHit,
  FaultInjector,
  type FullNode,
  fullNodesOf,
  type Roles,
  requireQuorumToLose,
  rolesOf,
} from './faults.ts'
import * as invariants from './invariants.ts'
import { levelNodesOf, untilLevel } from './level.ts'
import { ChaosLoad } from './load.ts'
import { MessageTraffic } from './messages.ts'
import { decisionsSince, type Election, electionsSince } from './observation.ts'
import { type Episode, faultText, type ScheduleOptions, scheduleOf } from './scenarios.ts'
import { nowMs, type Spread, spreadOf } from './timing.ts'

export interface ChaosReport {
  readonly scenario: string
  readonly seed: string
  readonly durationMs: number
  readonly episodes: number
  readonly elections: number
  /** From the loss of a leader until another node led, where that happened. */
  readonly electionMs: Spread
  /** Longest time between two acknowledgements, of each episode that left a majority running. */
  readonly withoutCommitsMs: Spread
  /** The same of the episodes that left none: mostly as long as they lasted. */
  readonly outageMs: Spread
  readonly transactions: {
    readonly sent: number
    readonly acknowledged: number
    readonly pending: number
    readonly invalidated: number
    /** Attempts that were repeated, by the code that they met. */
    readonly retried: Readonly<Record<string, number>>
  }
  readonly gateway: {
    readonly relayed: number
    readonly refused: number
    /** Decisions of any kind, connections too, that were refusals because the trust data was too old. */
    readonly refusedStale: number
    readonly relayedStale: number
    readonly unanswered: number
  }
  readonly invariants: readonly invariants.Invariant[]
  readonly pass: boolean
}

export interface ChaosRunOptions extends ScheduleOptions {
  readonly access: ChainAccess
  /** Pause of the load's clients between two transactions. */
  readonly thinkMs: number
  readonly note: (text: string) => void
  readonly signal: AbortSignal
}

const load = { writers: 6, groups: 2, racers: 3 } as const
/** How long after an episode nothing may be acknowledged. */
const recoverMs = 20_000
/** Transactions under way at the end get this long. */
const finishMs = 30_000
const healedWithinMs = 30_000
/** Load without faults at the end. */
const calmAtLastMs = 1_500
const progressMs = 5_000

interface RanEpisode {
  readonly episode: Episode
  readonly roles: Roles
  readonly fromMs: number
  readonly untilMs: number
  /** When the next one began. */
  calmUntilMs: number
  /** From its end until the next acknowledgement. */
  readonly recoveredMs: number | undefined
  readonly returns: readonly invariants.EdgeReturn[]
}

/** Runs a scenario and checks. Throws if the devnet cannot be brought back to work. */
export async function runChaosScenario(given: ChaosRunOptions): Promise<ChaosReport> {
  const { note, signal } = given
  const { description } = given.access
  requireQuorumToLose(description)
  const injector = new FaultInjector(description, note)
  await injector.restoreAll()
  const access = { ...given.access, description: injector.living }
  const options = { ...given, access }
  const nodes = fullNodesOf(access.description)
  const sinceMs = nowMs()
  const first = ((await invariants.certifiedHeightOf(nodes)) + 1) as Height
  const chaos = await makeLoad(options, nodes)
  const traffic = new MessageTraffic(access)
  const ticker = setInterval(() => note(progressText(chaos)), progressMs)
  try {
    chaos.start()
    traffic.start()
    const ran = await runEpisodes(options, { nodes, injector, chaos })
    if (!signal.aborted) await pause(calmAtLastMs)
    const healed = await invariants
      .untilCertified(nodes, first, healedWithinMs)
      .finally(() => chaos.finish(finishMs))
    await traffic.stop()
    const settled = await invariants.untilCertified(nodes, first, healedWithinMs)
    const edge = await edgeLevels(options)
    clearInterval(ticker)
    return await judge({
      options,
      nodes,
      chaos,
      traffic,
      injector,
      ran,
      sinceMs,
      first,
      edge,
      caughtUp: settled.pass ? settled : healed,
    })
  } finally {
    clearInterval(ticker)
    await Promise.all([chaos.stop(), traffic.stop()])
    await injector.undo()
  }
}

/** Groups of the operator's own, new for this run. */
async function makeLoad(
  { access, thinkMs }: ChaosRunOptions,
  nodes: readonly FullNode[],
): Promise<ChaosLoad> {
  const operator = await operatorKeys(access)
  const groups = []
  for (let i = 0; i < load.groups; i++) {
    const name = `chaos-${randomBytes(6).toString('hex')}`
    const { value, height } = await createGroup(access.client, operator, name)
    groups.push({ id: value.record.id, since: height, state: { epoch: value.record.epoch, value: '' } })
  }
  const { writers, racers } = load
  const sources = nodes.map(({ source }) => source)
  const { chainId } = access.client
  return new ChaosLoad({ sources, chainId, operator, writers, racers, groups, thinkMs })
}

function progressText({ acknowledged, counts }: ChaosLoad): string {
  return `  ${acknowledged.length} acknowledged, ${counts.pending} under way`
}

interface Running {
  readonly nodes: readonly FullNode[]
  readonly injector: FaultInjector
  readonly chaos: ChaosLoad
}

async function runEpisodes(
  options: ChaosRunOptions,
  { nodes, injector, chaos }: Running,
): Promise<readonly RanEpisode[]> {
  const { note, signal } = options
  const schedule = scheduleOf(options)
  const startedMs = nowMs()
  const ran: RanEpisode[] = []
  for (const [i, episode] of schedule.entries()) {
    await pause(episode.calmMs, signal)
    if (signal.aborted || chaos.ending.aborted || nowMs() - startedMs > options.durationMs) break
    for (const last of ran.slice(-1)) last.calmUntilMs = nowMs()
    const roles = await rolesOf(nodes)
    const fromMs = nowMs()
    const text = episode.faults.map(faultText).join(' + ')
    note(
      `${i + 1}/${schedule.length}  ${text} for ${episode.lastsMs} ms (leader ${roles.leader ?? 'none'}, term ${roles.term})`,
    )
    for (const fault of episode.faults) await injector.apply(fault, roles)
    await pause(fromMs + episode.lastsMs - nowMs(), signal)
    await injector.undo()
    const untilMs = nowMs()
    const [recovered, returns] = await Promise.all([
      untilAcknowledgedAfter(chaos, untilMs),
      returnsOf(options, injector.takeHits()),
    ])
    const recoveredMs = recovered && recovered - untilMs
    ran.push({ episode, roles, fromMs, untilMs, recoveredMs, returns, calmUntilMs: Number.POSITIVE_INFINITY })
  }
  // What is left of the time is calm.
  await pause(startedMs + options.durationMs - nowMs(), signal)
  await injector.restoreAll()
  return ran
}

/** Waits until those that were hit have caught up. */
function returnsOf(
  { access }: ChaosRunOptions,
  hits: readonly EdgeHit[],
): Promise<readonly invariants.EdgeReturn[]> {
  const nodes = levelNodesOf(access.description)
  return Promise.all(
    nodes.flatMap(node =>
      hits
        .filter(hit => hit.node === node.name)
        .map(async hit => ({
          ...hit,
          level: await untilLevel(node, nodes, { deadlineMs: recoverMs }),
        })),
    ),
  )
}

/** Every node without blocks, when all is healed. */
function edgeLevels({ access }: ChaosRunOptions) {
  const nodes = levelNodesOf(access.description)
  return Promise.all(
    nodes
      .filter(({ label }) => label !== 'full')
      .map(async node => ({
        node: node.name,
        level: await untilLevel(node, nodes, { deadlineMs: healedWithinMs }),
      })),
  )
}

/** The first acknowledgement after a time; undefined if none comes. */
async function untilAcknowledgedAfter(
  { acknowledged, ending }: ChaosLoad,
  atMs: number,
): Promise<number | undefined> {
  for (;;) {
    const last = acknowledged.at(-1)
    if (last && last.atMs > atMs) return acknowledged.find(each => each.atMs > atMs)?.atMs
    if (ending.aborted || nowMs() > atMs + recoverMs) return undefined
    await pause(20)
  }
}

interface Finished {
  readonly options: ChaosRunOptions
  readonly nodes: readonly FullNode[]
  readonly chaos: ChaosLoad
  readonly traffic: MessageTraffic
  readonly injector: FaultInjector
  readonly ran: readonly RanEpisode[]
  readonly sinceMs: number
  readonly first: Height
  readonly caughtUp: invariants.Invariant
  readonly edge: Awaited<ReturnType<typeof edgeLevels>>
}

async function judge(finished: Finished): Promise<ChaosReport> {
  const { options, nodes, chaos, traffic, injector, ran, sinceMs, first, caughtUp, edge } = finished
  const { directory, description } = options.access
  const last = await invariants.certifiedHeightOf(nodes)
  const names = nodes.map(({ name }) => name)
  const elections = await electionsSince(directory, names, sinceMs)
  const decisions = await decisionsSince(directory, description.gateway.name, sinceMs)
  const chains = await invariants.readChains(nodes, { first, last }, options.note)
  const { acknowledged, histories } = chaos
  const checked = [
    invariants.acknowledgedNeverLost(chains, first, acknowledged),
    invariants.oneHashPerHeight(chains, first),
    invariants.executedOnce(chains),
    invariants.oneLeaderPerTerm(elections),
    caughtUp,
    ...(edge.length > 0
      ? [
          invariants.edgeCatchesUp(
            ran.flatMap(({ returns }) => returns),
            edge,
          ),
        ]
      : []),
    invariants.servesAgain(
      ran.map(({ recoveredMs }) => recoveredMs),
      recoverMs,
    ),
    invariants.linearizable(histories),
    invariants.certifiedReadsAgree(histories),
    invariants.gatewayNeverStale(decisions, description.trustTtlMs),
    ...(injector.wipes.length > 0 ? [invariants.wipedStaysOut(injector.wipes)] : []),
  ]
  const survived = ran.filter(each => !isOutage(each))
  const times = acknowledged.map(({ atMs }) => atMs)
  const messages = decisions.filter(({ event }) => event === 'message')
  const refused = messages.filter(({ verdict }) => verdict === 'Error')
  const { sent, pending, invalid } = chaos.counts
  const setCount = histories.reduce((sum, { setAt }) => sum + setAt.size, 0)
  return {
    scenario: options.scenario,
    seed: options.seed,
    durationMs: Math.round(nowMs() - sinceMs),
    episodes: ran.length,
    elections: new Set(elections.map(({ term }) => term)).size,
    electionMs: spreadOf(survived.flatMap(each => electionTime(each, elections) ?? [])),
    withoutCommitsMs: spreadOf(survived.flatMap(each => longestGap(times, each) ?? [])),
    outageMs: spreadOf(ran.filter(isOutage).flatMap(each => longestGap(times, each) ?? [])),
    transactions: {
      sent,
      acknowledged: acknowledged.length + setCount,
      pending,
      invalidated: invalid,
      retried: chaos.met,
    },
    gateway: {
      relayed: messages.length - refused.length,
      refused: refused.length,
      refusedStale: decisions.filter(({ verdict, code }) => verdict === 'Error' && code === 'stale').length,
      relayedStale: messages.filter(
        ({ verdict, ageMs }) => verdict === 'Check' && ageMs > description.trustTtlMs,
      ).length,
      unanswered: traffic.counts.unanswered,
    },
    invariants: checked,
    pass: checked.every(({ pass }) => pass),
  }
}

/** No majority was left. */
function isOutage({ episode }: RanEpisode): boolean {
  return episode.faults.some(({ type }) => type === 'everyone')
}

/** From the beginning of an episode until another node led a later term; undefined where nobody else did. */
export function electionTime(
  { roles, fromMs, untilMs, calmUntilMs }: Pick<RanEpisode, 'roles' | 'fromMs' | 'untilMs' | 'calmUntilMs'>,
  elections: readonly Election[],
): number | undefined {
  const lastMs = Math.min(untilMs + calmAtLastMs, calmUntilMs)
  const won = elections.find(({ term, atMs }) => term > roles.term && atMs >= fromMs && atMs <= lastMs)
  return won && roles.leader !== undefined ? won.atMs - fromMs : undefined
}

/** The longest time between two acknowledgements that reaches into an episode. */
export function longestGap(
  times: readonly number[],
  { fromMs, untilMs }: Pick<RanEpisode, 'fromMs' | 'untilMs'>,
): number | undefined {
  let longest: number | undefined
  const sorted = [...times].sort((a, b) => a - b)
  for (const [i, atMs] of sorted.entries()) {
    const before = sorted[i - 1]
    if (before === undefined || atMs < fromMs || before > untilMs) continue
    longest = Math.max(longest ?? 0, atMs - before)
  }
  return longest
}
