/**
 * What goes wrong in a run: which kinds of faults, how often, and to whom. A seed turns kinds on and off, so that some runs
 * see one kind many times and others all of them (swarm testing, Groce et al. 2012).
 */
import { type ConsenterSet, quorumOf } from '../../chain/consenters.ts'
import type { PeerMessage } from '../../node/ports.ts'
import { recordKinds } from '../../node/storage/store-records.ts'
import type { CrashKind } from './disk.ts'
import type { Host, Site } from './host.ts'
import { calmNetwork } from './network.ts'
import type { SeededRandom } from './random.ts'

export const faultKinds = [
  'crash',
  'crash-at-boundary',
  'stop',
  'partition',
  'one-way',
  'lost-signatures',
  'pause',
  'slow-disk',
  'disk-failure',
  'bit-rot',
  'transfer',
  'clock-jump',
  'own-clock',
  'far-term',
  'stalled-disks',
] as const
export type FaultKind = (typeof faultKinds)[number]

const hourMs = 3_600_000
const calmDisk = { writeMsMin: 0.2, writeMsMax: 3, stalledUntil: 0, failNext: false }

/** State that a node can fetch from its peers again. */
const fetchable: readonly number[] = [
  recordKinds.entry,
  recordKinds.header,
  recordKinds.block,
  recordKinds.receipts,
  recordKinds.changes,
  recordKinds.leaf,
  recordKinds.replay,
  recordKinds.applied,
  recordKinds.snapshot,
  recordKinds.configuration,
  recordKinds.history,
  recordKinds.certificate,
]
/** What others count on; without it the node cannot come back under its name. */
const promises: readonly number[] = [recordKinds.hardState, recordKinds.logTail, recordKinds.signed]

export class Faults {
  readonly #site: Site
  readonly #random: SeededRandom
  readonly #hosts: readonly Host[]
  readonly #kinds: readonly FaultKind[]
  readonly #meanMs: number
  readonly #sets: () => readonly ConsenterSet[]
  readonly #hasEvenSets: boolean
  #over = false
  /** Faults that were made, by kind. */
  readonly made = new Map<FaultKind, number>()

  /**
   * @param sets every set of consenters that is, was or may be in office
   * @param hasEvenSets some of them may have two or four members
   */
  constructor(
    site: Site,
    hosts: readonly Host[],
    random: SeededRandom,
    { sets, hasEvenSets }: { sets: () => readonly ConsenterSet[]; hasEvenSets: boolean },
  ) {
    this.#hasEvenSets = hasEvenSets
    this.#site = site
    this.#random = random
    this.#hosts = hosts
    this.#sets = sets
    const kinds = faultKinds.filter(() => random.chance(0.5))
    this.#kinds = kinds.length > 0 ? kinds : [random.pick(faultKinds)]
    this.#meanMs = random.pick([150, 400, 1_000])
  }

  get kinds(): readonly FaultKind[] {
    return this.#kinds
  }

  begin(): void {
    const { network } = this.#site
    const random = this.#random
    const isRough = random.chance(0.6)
    network.faults = {
      lossChance: isRough ? random.pick([0, 0.01, 0.05, 0.2]) : 0,
      duplicateChance: isRough ? random.pick([0, 0.02, 0.1]) : 0,
      reorderChance: isRough ? random.pick([0, 0.05, 0.2]) : 0,
      reorderMsMax: random.pick([50, 500, 3_000]),
      delayMsMin: random.pick([0.5, 1, 10]),
      delayMsMax: random.pick([11, 20, 40]),
    }
    for (const host of this.#hosts) {
      host.wall.set(Math.floor(random.between(-300, 300)), random.chance(0.3) ? random.between(0.9, 1.1) : 1)
    }
    this.#next()
  }

  /** Everything works from now on, and everybody who can come back does. */
  end(): void {
    this.#over = true
    const { network, timeline } = this.#site
    this.#site.note('faults end')
    network.faults = { ...calmNetwork }
    network.losesSignatures = false
    network.heal(1)
    // Beside a voter that is lost, one wrong clock of three is half of those that are left.
    const isLost = this.#hasEvenSets || this.#kinds.includes('bit-rot')
    const wrong = isLost ? undefined : this.#hosts[0]
    for (const host of this.#hosts) {
      host.goesByOwnClock = false
      host.wall.set(host === wrong ? this.#random.pick([-hourMs, hourMs]) : this.#random.below(300))
      Object.assign(host.disk.faults, calmDisk)
      if (host.process) {
        host.process.endsIn = undefined
        this.#resume(host)
      }
      timeline.schedule(this.#random.between(0, 50), undefined, `restart ${host.name}`, () => host.start())
    }
  }

  /** A process has stopped by itself. */
  failed(host: Host, isCorrupt: boolean): void {
    host.crash('process')
    const restart = () => this.#after(this.#random.between(20, 1_500), () => host.start())
    if (!isCorrupt) restart()
    else host.rebuild(rebuilt => (rebuilt ? restart() : undefined))
  }

  /** How many clocks may be far off: the first hosts', where sets of any size come and go only one. */
  get #minority(): number {
    return this.#hasEvenSets ? 1 : Math.ceil(this.#hosts.length / 2) - 1
  }

  #next(): void {
    this.#after(this.#random.exponential(this.#meanMs), () => {
      if (this.#over) return
      const kind = this.#random.pick(this.#kinds)
      this.made.set(kind, (this.made.get(kind) ?? 0) + 1)
      this.#make(kind, this.#victim())
      this.#next()
    })
  }

  #after(delayMs: number, happen: () => void): void {
    this.#site.timeline.schedule(delayMs, undefined, 'fault', happen)
  }

  get #leader(): Host | undefined {
    return this.#hosts.find(({ node }) => node?.replica.leadership.role === 'leader')
  }

  #victim(): Host {
    const leader = this.#leader
    return leader && this.#random.chance(0.5) ? leader : this.#random.pick(this.#hosts)
  }

  #make(kind: FaultKind, host: Host): void {
    const random = this.#random
    const crashKind: CrashKind = random.chance(0.5) ? 'process' : 'power'
    const restart = () => this.#after(random.between(10, 2_500), () => host.start())
    switch (kind) {
      case 'crash':
        host.crash(crashKind)
        restart()
        return
      case 'crash-at-boundary':
        if (host.process) host.process.endsIn = { count: 1 + random.below(60), kind: crashKind }
        this.#after(random.between(200, 3_000), () => host.start())
        return
      case 'stop':
        host.stop(restart)
        return
      case 'partition':
        this.#partition()
        return
      case 'one-way':
        this.#oneWay(host)
        return
      case 'lost-signatures':
        this.#loseSignatures()
        return
      case 'pause':
        this.#pause(host)
        return
      case 'slow-disk':
        Object.assign(host.disk.faults, { writeMsMin: 20, writeMsMax: random.pick([60, 400, 1_500]) })
        this.#after(random.between(200, 3_000), () =>
          Object.assign(host.disk.faults, { writeMsMin: 0.2, writeMsMax: 3 }),
        )
        return
      case 'disk-failure':
        host.disk.faults.failNext = true
        return
      case 'bit-rot':
        this.#rot(host)
        return
      case 'transfer':
        this.#transfer(host)
        return
      case 'clock-jump':
        this.#setClock(host)
        return
      case 'own-clock':
        this.#goByOwnClock()
        return
      case 'far-term':
        this.#speakOfFarTerm(host)
        return
      case 'stalled-disks':
        this.#stallDisks()
        return
    }
  }

  /** A minority's by up to an hour either way, the others' by a little: what a majority can do is no fault to survive. */
  #setClock(host: Host): void {
    const random = this.#random
    const isMinority = this.#hosts.indexOf(host) < this.#minority
    const most = isMinority ? random.pick([2_000, 60_000, hourMs]) : 2_000
    const skewMs = Math.floor(random.between(-most, most))
    host.wall.set(skewMs)
    this.#site.note(`${host.name} clock set to ${skewMs}`)
  }

  /**
   * One host of a run: what it has put into its log stays there. Until another leader has overwritten that, a majority beside
   * it is needed, so not where disks rot for ever, and not where it may be one of two.
   */
  #goByOwnClock(): void {
    const host = this.#hosts[0]!
    if (host.goesByOwnClock || this.#hasEvenSets || this.#kinds.includes('bit-rot')) return
    host.goesByOwnClock = true
    if (this.#random.chance(0.7)) this.#setClock(host)
    this.#site.note(`${host.name} goes by its own clock`)
    this.#after(this.#random.between(200, 4_000), () => {
      host.goesByOwnClock = false
    })
  }

  /** A majority of the followers write nothing for an election timeout or longer: no quorum is without one of them. */
  #stallDisks(): void {
    const random = this.#random
    const leader = this.#leader
    const followers = random.shuffled(this.#hosts.filter(host => host !== leader))
    const stalled = followers.slice(0, Math.floor(followers.length / 2) + 1)
    const stallMs = random.pick([500, 800, 1_500])
    for (const { disk } of stalled) disk.faults.stalledUntil = this.#site.timeline.now + stallMs
    this.#site.note(`disks stall for ${stallMs} ms: ${stalled.map(({ name }) => name).join('')}`)
  }

  /** A member says something of a term that nobody has reached: one bit was wrong, or it lies. */
  #speakOfFarTerm(to: Host): void {
    const from = this.#random.pick(this.#hosts.filter(host => host !== to))
    const term = this.#random.pick([2 ** 21, 2 ** 40, 2 ** 52])
    this.#site.note(`${from.name} tells ${to.name} of term ${term}`)
    const message: PeerMessage = { type: 'raft', message: { type: 'timeout-now', from: from.id, term } }
    this.#site.network.post(from.id, to.id, message)
  }

  #partition(): void {
    const random = this.#random
    const { network } = this.#site
    const ids = random.shuffled(this.#hosts.map(({ id }) => id))
    const size = 1 + random.below(ids.length - 1)
    for (const a of ids.slice(0, size))
      for (const b of ids.slice(size)) {
        network.cut(a, b)
        network.cut(b, a)
      }
    this.#site.note(`partition ${size}/${ids.length - size}`)
    this.#after(random.between(100, 4_000), () => network.heal(random.fraction()))
  }

  #oneWay(host: Host): void {
    const random = this.#random
    const { network } = this.#site
    const outward = random.chance(0.5)
    for (const other of this.#hosts) {
      if (other === host || random.chance(0.3)) continue
      if (outward) network.cut(host.id, other.id)
      else network.cut(other.id, host.id)
    }
    this.#site.note(`${host.name} cut ${outward ? 'outward' : 'inward'}`)
    this.#after(random.between(100, 4_000), () => network.heal(random.fraction()))
  }

  #loseSignatures(): void {
    const random = this.#random
    const { network } = this.#site
    network.losesSignatures = true
    this.#site.note('signatures get lost')
    this.#after(random.between(200, random.pick([1_000, 8_000])), () => {
      network.losesSignatures = false
    })
  }

  #pause(host: Host): void {
    const { process } = host
    if (!process?.alive || process.paused) return
    process.paused = true
    this.#site.note(`${host.name} pauses`)
    this.#after(this.#random.between(50, 3_000), () => {
      if (host.process === process) this.#resume(host)
    })
  }

  #resume(host: Host): void {
    const { process } = host
    if (!process?.paused) return
    process.paused = false
    this.#site.note(`${host.name} goes on`)
    this.#site.timeline.release(process)
  }

  /** As long as a majority has sound disks: nobody can do better. */
  #rot(host: Host): void {
    const unsound = new Set([host.id, ...this.#hosts.filter(isUnsound).map(({ id }) => id)])
    if (!this.#sets().every(set => bears(set, unsound))) return
    if (host.retired || host.busy) return
    const key = host.disk.rot(this.#random.chance(0.9) ? fetchable : promises)
    if (!key) return
    host.rotten = true
    this.#site.note(`${host.name} rots at ${Buffer.from(key).toString('hex').slice(0, 24)}`)
  }

  #transfer(host: Host): void {
    const { process, node } = host
    if (!process || !node) return
    const to = this.#random.pick(this.#hosts)
    this.#site.timeline.schedule(0, process, `transfer to ${to.name}`, () => node.replica.transferTo(to.id))
  }
}

/** Its disk is damaged, or was: promises may be lost, or keep it from voting for a while. */
export function isUnsound({ rotten, retired, promisedUpTo }: Host): boolean {
  return rotten || retired || promisedUpTo > 0
}

/** True if the rest of the set is a quorum. */
export function bears(set: ConsenterSet, unsound: ReadonlySet<string>): boolean {
  return set.consenters.filter(({ id }) => !unsound.has(id)).length >= quorumOf(set)
}
