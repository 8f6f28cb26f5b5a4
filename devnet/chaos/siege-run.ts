/**
 * `mote chaos run siege`: all hostile peers at once against a devnet that serves (docs/OPERATIONS.md, section Siege), and
 * then the checks. Any FAIL: exit 1.
 */

import { Height } from '../../chain/brands.ts'
import { readFileIfThere } from '../../client/atomic-file.ts'
import { Deadline, pause } from '../../client/deadline.ts'
import { askAssignment, httpContact } from '../../client/join.ts'
import type { ChainAccess } from '../access.ts'
import { Child, type Program } from '../child.ts'
import { askControl } from '../control.ts'
import { apiUrl, layout } from '../layout.ts'
import type { ProcessStatus } from '../process-status.ts'
import { FaultInjector, type FullNode, fullNodesOf, requireQuorumToLose } from './faults.ts'
import { type SiegeDeeds, siegeFiles } from './hostile/besieger.ts'
import * as invariants from './invariants.ts'
import { levelNodesOf, untilLevel } from './level.ts'
import { type UsageRow, UsageWatch } from './process-usage.ts'
import { castSiege, dismiss, type SiegeCast } from './siege-cast.ts'
import { SiegeLoad } from './siege-load.ts'
import { type Answered, nowMs, type Spread, spreadOf } from './timing.ts'

const phases = ['before', 'during', 'after'] as const
const works = ['operator', 'device', 'reads', 'messages'] as const

export interface Service {
  readonly name: string
  /** Of a node that was played: it is started again at the end, and catches up with all that came meanwhile. */
  readonly wasPlayed: boolean
  /** After the end of the siege; null: not in time. */
  readonly servedMs: number | null
}

export interface SiegeReport {
  readonly scenario: 'siege'
  readonly durationMs: number
  /** How long each thing took, by what it was and when it came. */
  readonly times: Readonly<Record<(typeof works)[number], Readonly<Record<(typeof phases)[number], Spread>>>>
  readonly failed: Readonly<Record<string, number>>
  readonly refused: Readonly<Record<string, number>>
  /** Of the processes that nobody played. */
  readonly usage: readonly UsageRow[]
  readonly services: readonly Service[]
  readonly deeds: SiegeDeeds
  readonly invariants: readonly invariants.Invariant[]
  readonly pass: boolean
}

export interface SiegeOptions {
  readonly access: ChainAccess
  readonly durationMs: number
  readonly program: Program
  readonly note: (text: string) => void
  readonly signal: AbortSignal
}

/** How long honest work is measured alone, before and after: less than this where the siege is short. */
const quietMs = 15_000
const readyWithinMs = 60_000
const drainMs = 8_000
/** What the promise says of who is honest. */
const servesWithinMs = 10_000
/** Nodes that were played have a start and minutes of blocks before them; and a FAIL says how late it is. */
const looksForMs = 60_000
const healedWithinMs = 30_000
const progressMs = 10_000
const clockTurnMs = 10_000
const clockOffsetsMs = [3_600_000, -3_600_000, 70_000, -70_000] as const
/** Refusals that one consenter may bring about while it leads, and what follows for who asks again. */
const refusalsOfLeader: readonly string[] = ['not-authorised', 'epoch-conflict']

/** Besieges the devnet and checks. Throws if it cannot be brought back to work. */
export async function runSiege(options: SiegeOptions): Promise<SiegeReport> {
  const { access, note, signal } = options
  requireQuorumToLose(access.description)
  const injector = new FaultInjector(access.description, note)
  await injector.restoreAll()
  const cast = await castSiege(access, signal)
  const siege = new Siege(options, cast)
  try {
    return await siege.run()
  } finally {
    await siege.stop()
    await injector.restoreAll()
    await dismiss(access, cast)
  }
}

class Siege {
  readonly #options: SiegeOptions
  readonly #cast: SiegeCast
  readonly #nodes: readonly FullNode[]
  readonly #load: SiegeLoad
  readonly #besieger: Child
  #endedEarly = false
  #watch: UsageWatch | undefined

  constructor(options: SiegeOptions, cast: SiegeCast) {
    const { access, program } = options
    this.#options = options
    this.#cast = cast
    this.#nodes = fullNodesOf(access.description)
    this.#load = new SiegeLoad(access)
    this.#besieger = new Child({
      name: 'besieger',
      program,
      arguments: ['chaos', 'besiege', cast.directory, '--dir', access.directory],
      logPath: layout.nodeLog(access.directory, 'besieger'),
      onUnexpectedEnd: () => {
        this.#endedEarly = true
      },
    })
  }

  async run(): Promise<SiegeReport> {
    const { durationMs, note, signal } = this.#options
    const first = Height((await invariants.certifiedHeightOf(this.#nodes)) + 1)
    const quiet = Math.min(quietMs, durationMs)
    const honest = await this.#honestPids()
    this.#watch = new UsageWatch(honest)
    await this.#watch.look()
    await this.#load.start()
    const sinceMs = nowMs()
    note(`honest work alone for ${quiet} ms`)
    await pause(quiet, signal)
    const quietUntilMs = nowMs()
    await this.#begin()
    const beganMs = nowMs()
    await this.#last()
    // They go on until their process is gone.
    await this.#besieger.stop(drainMs)
    const endMs = nowMs()
    note('the siege is over')
    const services = await this.#servedAgain(endMs)
    const servedMs = nowMs()
    await pause(quiet, signal)
    const untilMs = nowMs()
    const usage = await this.#watch.stop()
    await this.#load.stop()
    const phaseOf = {
      before: [sinceMs, quietUntilMs],
      during: [beganMs, endMs],
      after: [servedMs, untilMs],
    } as const
    const times = this.#times(phaseOf)
    const deeds = await this.#deeds()
    const checked = [
      ...(await this.#ledgerChecks(first)),
      servedInTime(
        `every honest service serves again within ${servesWithinMs / 1_000} s of the end`,
        services.filter(({ wasPlayed }) => !wasPlayed),
        servesWithinMs,
      ),
      servedInTime(
        `the nodes that were played start and catch up within ${looksForMs / 1_000} s of it`,
        services.filter(({ wasPlayed }) => wasPlayed),
        looksForMs,
      ),
      await this.#sameProcesses(honest),
      everybodyAtWork(deeds, this.#endedEarly),
      onlyRefusalsOfLeader(this.#load.refused),
    ]
    return {
      scenario: 'siege',
      durationMs: Math.round(endMs - beganMs),
      times,
      failed: Object.fromEntries(this.#load.failed),
      refused: Object.fromEntries(this.#load.refused),
      usage,
      services,
      deeds,
      invariants: checked,
      pass: checked.every(({ pass }) => pass),
    }
  }

  /** Ends what is left of it. */
  async stop(): Promise<void> {
    await this.#watch?.stop()
    await Promise.all([this.#load.stop(), this.#besieger.stop(drainMs)])
  }

  /** The played nodes go, the hostile ones come. */
  async #begin(): Promise<void> {
    const { consenter, coordination } = this.#cast
    for (const { name } of [consenter, coordination]) await this.#ask('signal', name)
    this.#options.note(`${consenter.name} and ${coordination.name} are played by hostile peers`)
    this.#besieger.start()
    await this.#besieger.waitUntilReady(new Deadline(readyWithinMs, this.#options).signal)
  }

  async #last(): Promise<void> {
    const { durationMs, note, signal } = this.#options
    const ending = new Deadline(durationMs, { signal })
    const ticker = setInterval(() => note(this.#progress()), progressMs)
    try {
      for (let turn = 0; !ending.isOver; turn++) {
        await this.#shiftClocks(clockOffsetsMs[turn % clockOffsetsMs.length] ?? 0)
        await ending.pause(clockTurnMs)
      }
    } finally {
      clearInterval(ticker)
      await this.#shiftClocks(0)
    }
  }

  #progress(): string {
    const { acknowledged, messages, reads } = this.#load
    return `  ${acknowledged.length} acknowledged, ${messages.length} messages relayed, ${reads.length} reads`
  }

  /**
   * Of a lightweight node; and of a full node where the hostile consenter's clock and that one are no majority together.
   */
  async #shiftClocks(offsetMs: number): Promise<void> {
    const { nodes } = this.#options.access.description
    const { controlSocket } = this.#options.access.description
    const light = nodes.find(({ label }) => label === 'lightweight')
    const full = this.#nodes.length >= 5 ? this.#nodes[0] : undefined
    for (const node of [light?.name, full?.name])
      if (node !== undefined) await askControl(controlSocket, { command: 'clock', node, offsetMs })
  }

  async #ask(command: 'signal' | 'restart', node: string): Promise<void> {
    const { controlSocket } = this.#options.access.description
    await askControl(
      controlSocket,
      command === 'signal' ? { command, node, signal: 'SIGKILL' } : { command, node },
    )
  }

  async #pids(): Promise<ReadonlyMap<string, number>> {
    const { controlSocket } = this.#options.access.description
    const { nodes, gateway } = (await askControl(controlSocket, { command: 'status' })) as ProcessStatus
    return new Map(
      [...nodes, gateway].flatMap(({ name, pid }) => (pid === null ? [] : [[name, pid] as const])),
    )
  }

  /** Of those that nobody plays. */
  async #honestPids(): Promise<ReadonlyMap<string, number>> {
    const { consenter, coordination } = this.#cast
    const pids = await this.#pids()
    return new Map([...pids].filter(([name]) => name !== consenter.name && name !== coordination.name))
  }

  /** The played nodes come back as what they were; and everybody is asked for what it serves. */
  async #servedAgain(endMs: number): Promise<readonly Service[]> {
    const { consenter, coordination } = this.#cast
    const { access, note } = this.#options
    const back = new Map(
      [consenter, coordination].map(({ name }) => [name, this.#ask('restart', name)] as const),
    )
    const levels = levelNodesOf(access.description)
    const known = access.description.devices[0]?.id ?? consenter.id
    const asked: readonly (readonly [string, () => Promise<boolean>])[] = [
      ...levels.map(node => {
        const isLevel = async () => (await untilLevel(node, levels, { deadlineMs: 0 })).type === 'level'
        return [
          `${node.name} is level and ready`,
          async () => (await isLevel()) && isReady(node.source.name),
        ] as const
      }),
      ...this.#nodes.map(node => [`${node.name} certifies`, () => this.#certifies(node)] as const),
      [
        `${coordination.name} assigns`,
        async () => Boolean(await askAssignment(httpContact(apiUrl(coordination.api)), known)),
      ],
      ['gateway relays', async () => this.#load.messages.some(({ atMs }) => atMs > endMs)],
    ]
    return Promise.all(
      asked.map(async ([name, serves]) => {
        const wasPlayed = [...back.keys()].some(node => name.startsWith(`${node} `))
        for (const [node, restarted] of back) if (name.startsWith(`${node} `)) await restarted
        const looking = new Deadline(looksForMs - (nowMs() - endMs))
        const isServed = await looking.until(() => serves().catch(() => false), 50)
        const servedMs = isServed ? Math.round(nowMs() - endMs) : null
        note(`  ${name} after ${servedMs ?? '?'} ms`)
        return { name, wasPlayed, servedMs }
      }),
    )
  }

  /** Whether a transaction that comes to this node is certified. */
  async #certifies({ source }: FullNode): Promise<boolean> {
    const { status } = await source.submit(await this.#load.sample(), 'certified')
    return status === 'certified'
  }

  #times(
    phaseOf: Readonly<Record<(typeof phases)[number], readonly [number, number]>>,
  ): SiegeReport['times'] {
    const spreads = (answered: readonly Answered[]) =>
      record(phases, phase => {
        const [from, to] = phaseOf[phase]
        return spreadOf(answered.filter(({ atMs }) => atMs > from && atMs <= to).map(({ tookMs }) => tookMs))
      })
    return record(works, work => spreads(this.#load[work]))
  }

  async #ledgerChecks(first: Height): Promise<readonly invariants.Invariant[]> {
    const caughtUp = await invariants.untilCertified(this.#nodes, first, healedWithinMs)
    const last = await invariants.certifiedHeightOf(this.#nodes)
    const chains = await invariants.readChains(this.#nodes, { first, last }, this.#options.note)
    return [
      invariants.acknowledgedNeverLost(chains, first, this.#load.acknowledged),
      invariants.oneHashPerHeight(chains, first),
      invariants.executedOnce(chains),
      caughtUp,
    ]
  }

  async #sameProcesses(before: ReadonlyMap<string, number>): Promise<invariants.Invariant> {
    const now = await this.#pids()
    const others = [...before].filter(([name, pid]) => now.get(name) !== pid).map(([name]) => name)
    return {
      name: 'no honest process ended',
      pass: others.length === 0 && before.size > 0,
      detail: others.length === 0 ? `${before.size} processes` : others.join(', '),
    }
  }

  async #deeds(): Promise<SiegeDeeds> {
    const content = await readFileIfThere(siegeFiles.deeds(this.#cast.directory))
    return content ? (JSON.parse(Buffer.from(content).toString('utf8')) as SiegeDeeds) : {}
  }
}

async function isReady(api: string): Promise<boolean> {
  const answer = await fetch(`${api}/readyz`, { signal: AbortSignal.timeout(1_000) })
  await answer.body?.cancel()
  return answer.ok
}

function record<K extends string, T>(names: readonly K[], make: (name: K) => T): Record<K, T> {
  return Object.fromEntries(names.map(name => [name, make(name)])) as Record<K, T>
}

function servedInTime(name: string, services: readonly Service[], withinMs: number): invariants.Invariant {
  const late = services.filter(({ servedMs }) => servedMs === null || servedMs > withinMs)
  const slowest = Math.max(...services.map(({ servedMs }) => servedMs ?? withinMs))
  return {
    name,
    pass: late.length === 0,
    detail:
      late.length === 0
        ? `${services.length} services, the last after ${slowest} ms`
        : late.map(({ name: service, servedMs }) => `${service}: ${servedMs ?? 'not at all'}`).join('; '),
  }
}

/** What did nothing shows nothing. */
function everybodyAtWork(deeds: SiegeDeeds, endedEarly: boolean): invariants.Invariant {
  const idle = Object.entries(deeds).filter(([, counts]) => Object.keys(counts).length === 0)
  const count = Object.keys(deeds).length
  return {
    name: 'every hostile peer was at work to the end',
    pass: count > 0 && idle.length === 0 && !endedEarly,
    detail: endedEarly
      ? 'their process ended before'
      : idle.length > 0
        ? `idle: ${idle.map(([name]) => name).join(', ')}`
        : `${count} of them`,
  }
}

function onlyRefusalsOfLeader(refused: ReadonlyMap<string, number>): invariants.Invariant {
  const wrong = [...refused.keys()].filter(code => !refusalsOfLeader.includes(code))
  const count = [...refused.values()].reduce((sum, each) => sum + each, 0)
  return {
    name: 'nothing honest is refused for good but by a hostile leader',
    pass: wrong.length === 0,
    detail: wrong.length === 0 ? `${count} refused by it` : wrong.join(', '),
  }
}
