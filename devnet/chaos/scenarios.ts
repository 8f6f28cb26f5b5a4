/**
 * Fault scenarios: from a name, a seed and a duration to a schedule, always the same one. What a fault hits is named
 * by role ("the leader", "the second follower") and found out when its time comes, so the schedule is fixed although
 * elections are not.
 *
 * An episode begins, lasts and is undone; between two there is calm, in which the network must elect, serve and catch
 * up. At most a minority of full nodes is away at once, except in `everyone`, where the point is what is on disk.
 */
import { sha256 } from '@noble/hashes/sha2.js'
import { utf8ToBytes } from '@noble/hashes/utils.js'
import { MoteError } from '../../chain/result.ts'

/**
 * Who is hit: whoever leads then, or the nth of the other full nodes, or of the nodes without blocks of a label, in order
 * of names, counted round.
 */
export type Target =
  | { readonly type: 'leader' }
  | { readonly type: 'follower' | 'lightweight' | 'coordination'; readonly number: number }

export type Fault =
  /** SIGKILL; restarted at the end. */
  | { readonly type: 'kill'; readonly target: Target }
  /** SIGSTOP; SIGCONT at the end. */
  | { readonly type: 'pause'; readonly target: Target }
  /** SIGTERM, which drains, and started again at once; a leader transfers its leadership first. */
  | { readonly type: 'restart'; readonly target: Target }
  /** Cut off from the other full nodes: both ways, or only what it sends, or only what it hears. */
  | { readonly type: 'isolate'; readonly target: Target; readonly direction: 'both' | 'out' | 'in' }
  /** The link between two full nodes; a third still reaches both. */
  | { readonly type: 'cut'; readonly between: readonly [Target, Target] }
  /** Every link. */
  | { readonly type: 'delay'; readonly delayMs: number; readonly jitterMs: number }
  | { readonly type: 'loss'; readonly loss: number }
  /** SIGKILL to every full node. */
  | { readonly type: 'everyone' }
  /** The gateway reaches no full node. */
  | { readonly type: 'gateway' }
  /** Data moved away: the node must end by itself. At the end the operator finds the directory and puts it back. */
  | { readonly type: 'wipe'; readonly target: Target }

export interface Episode {
  /** Before it begins; after the one before has ended and the network serves. */
  readonly calmMs: number
  readonly lastsMs: number
  readonly faults: readonly Fault[]
}

/** A source of chance that a seed decides. */
export interface Chance {
  /** From min to max, both inclusive. */
  between(min: number, max: number): number
  pick<T>(choices: readonly T[]): T
}

/** Counts up SHA-256 of the seed: slow, short and the same everywhere. */
export function chanceOf(seed: string): Chance {
  let count = 0
  const next = (): number => {
    const digest = sha256(utf8ToBytes(`mote chaos\0${seed}\0${count++}`))
    return new DataView(digest.buffer, digest.byteOffset).getUint32(0) / 2 ** 32
  }
  return {
    between: (min, max) => min + Math.floor(next() * (max - min + 1)),
    pick: choices => choices[Math.floor(next() * choices.length)] as (typeof choices)[number],
  }
}

const leader: Target = { type: 'leader' }
const follower = (number: number): Target => ({ type: 'follower', number })

interface Scenario {
  readonly about: string
  /** How long an episode lasts, and the calm after it. */
  readonly lastsMs: readonly [number, number]
  readonly calmMs: readonly [number, number]
  readonly faults: (chance: Chance) => readonly Fault[]
}

const anyone = (chance: Chance): Target => chance.pick([leader, leader, follower(0), follower(1)])

function partitionFault(chance: Chance): Fault {
  const target = anyone(chance)
  return chance.pick<Fault>([
    { type: 'isolate', target, direction: 'both' },
    { type: 'isolate', target, direction: 'both' },
    { type: 'isolate', target, direction: 'out' },
    { type: 'isolate', target, direction: 'in' },
    { type: 'cut', between: [leader, follower(chance.between(0, 1))] },
    { type: 'cut', between: [follower(0), follower(1)] },
  ])
}

function linkFault(chance: Chance): Fault {
  const delayMs = chance.between(2, 40)
  return chance.pick<Fault>([
    { type: 'delay', delayMs, jitterMs: Math.floor(delayMs / 2) },
    { type: 'loss', loss: chance.between(1, 5) / 100 },
  ])
}

/** Those without blocks: the chain must not notice, and they must be level again. */
function edgeFault(chance: Chance): Fault {
  const type = chance.pick(['lightweight', 'coordination'] as const)
  const target: Target = { type, number: chance.between(0, 3) }
  return { type: chance.pick(['kill', 'pause', 'restart'] as const), target }
}

function stormFaults(chance: Chance): readonly Fault[] {
  const main = chance.pick<(chance: Chance) => Fault>([
    () => ({ type: 'kill', target: leader }),
    () => ({ type: 'kill', target: anyone(chance) }),
    () => ({ type: 'pause', target: leader }),
    () => ({ type: 'pause', target: anyone(chance) }),
    partitionFault,
    partitionFault,
    partitionFault,
    () => ({ type: 'everyone' }),
    () => ({ type: 'gateway' }),
    () => ({ type: 'restart', target: anyone(chance) }),
    () => ({ type: 'wipe', target: anyone(chance) }),
  ])(chance)
  return [
    ...(chance.between(1, 3) === 1 ? [linkFault(chance)] : []),
    ...(chance.between(1, 3) === 1 ? [edgeFault(chance)] : []),
    main,
  ]
}

const scenarios = {
  storm: {
    about: 'everything below, mixed',
    lastsMs: [800, 4_000],
    calmMs: [1_000, 3_000],
    faults: stormFaults,
  },
  'leader-loss': {
    about: 'the leader is killed, again and again',
    lastsMs: [1_500, 3_000],
    calmMs: [1_500, 2_500],
    faults: () => [{ type: 'kill', target: leader }],
  },
  partitions: {
    about: 'nodes and links cut off, one way and both',
    lastsMs: [1_000, 4_000],
    calmMs: [1_000, 2_500],
    faults: chance => [partitionFault(chance)],
  },
  pauses: {
    about: 'processes stopped in their tracks, shorter and longer than an election takes',
    lastsMs: [200, 4_000],
    calmMs: [800, 2_000],
    faults: chance => [{ type: 'pause', target: anyone(chance) }],
  },
  'slow-links': {
    about: 'delay and loss on every link',
    lastsMs: [2_000, 5_000],
    calmMs: [500, 1_500],
    faults: chance => [linkFault(chance)],
  },
  restarts: {
    about: 'nodes are restarted in order, as for an upgrade; a leader transfers its leadership first',
    lastsMs: [300, 1_000],
    calmMs: [500, 1_500],
    faults: chance => [{ type: 'restart', target: anyone(chance) }],
  },
  'light-nodes': {
    about: 'lightweight and coordination nodes are killed, paused and restarted',
    lastsMs: [1_000, 6_000],
    calmMs: [500, 1_500],
    faults: chance => [edgeFault(chance)],
  },
  outages: {
    about: 'every full node is killed at once',
    lastsMs: [200, 1_000],
    calmMs: [2_000, 3_000],
    faults: () => [{ type: 'everyone' }],
  },
  'gateway-cut': {
    about: 'the gateway reaches no full node for longer than its trust data lasts',
    lastsMs: [17_000, 20_000],
    calmMs: [3_000, 5_000],
    faults: () => [{ type: 'gateway' }],
  },
  wipes: {
    about: 'a node loses its disk; it must not come back as the member it was',
    lastsMs: [500, 1_500],
    calmMs: [1_500, 2_500],
    faults: chance => [{ type: 'wipe', target: anyone(chance) }],
  },
} as const satisfies Readonly<Record<string, Scenario>>

export type ScenarioName = keyof typeof scenarios

export const scenarioNames = Object.keys(scenarios) as readonly ScenarioName[]

/** Has no schedule: siege-run.ts. */
const siegeAbout = 'every hostile peer at once; who is honest is served, and nothing is lost'

/** `name  what it does`, one line each. */
export function scenarioList(): string {
  const width = Math.max(...scenarioNames.map(name => name.length))
  const all = scenarioNames.map(name => [name, scenarios[name].about] as const)
  return [...all, ['siege', siegeAbout] as const]
    .map(([name, about]) => `  ${name.padEnd(width)}  ${about}`)
    .join('\n')
}

/** Reads a scenario's name. Throws `usage`. */
export function parseChaosScenario(text: string): ScenarioName {
  const found = scenarioNames.find(name => name === text)
  if (found) return found
  throw new MoteError(
    'usage',
    `scenario: expected one of ${[...scenarioNames, 'siege'].join(', ')}, got '${text}'`,
  )
}

/** Pause of the load's clients after each transaction, in ms, unless another one is asked for. */
export const defaultThinkMs = 5

export interface ScheduleOptions {
  readonly scenario: ScenarioName
  readonly seed: string
  readonly durationMs: number
}

/** Load without faults before the first episode. */
const calmAtFirstMs = 1_000

/** The episodes of a run, in order; the last one would end within the duration if healing took no time. */
export function scheduleOf({ scenario, seed, durationMs }: ScheduleOptions): readonly Episode[] {
  const { lastsMs: lasts, calmMs: calm, faults }: Scenario = scenarios[scenario]
  const chance = chanceOf(`${scenario}\0${seed}`)
  const episodes: Episode[] = []
  let calmMs = calmAtFirstMs
  for (let atMs = 0; ; ) {
    const episode = { calmMs, lastsMs: chance.between(...lasts), faults: faults(chance) }
    atMs += calmMs + episode.lastsMs
    if (atMs > durationMs) return episodes
    episodes.push(episode)
    calmMs = chance.between(...calm)
  }
}

/** For people: `kill leader`, `isolate follower-1 (out)`. */
export function faultText(fault: Fault): string {
  switch (fault.type) {
    case 'kill':
    case 'pause':
    case 'restart':
    case 'wipe':
      return `${fault.type} ${targetText(fault.target)}`
    case 'isolate':
      return `isolate ${targetText(fault.target)}${fault.direction === 'both' ? '' : ` (${fault.direction})`}`
    case 'cut':
      return `cut ${fault.between.map(targetText).join(' / ')}`
    case 'delay':
      return `delay ${fault.delayMs}±${fault.jitterMs} ms`
    case 'loss':
      return `loss ${Math.round(fault.loss * 100)} %`
    case 'everyone':
      return 'kill every full node'
    case 'gateway':
      return 'cut the gateway off'
  }
}

function targetText(target: Target): string {
  return target.type === 'leader' ? 'leader' : `${target.type}-${target.number + 1}`
}
