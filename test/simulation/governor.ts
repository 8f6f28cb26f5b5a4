/**
 * The operator of a simulated chain, who keeps changing its mind about the consenters: any set of full nodes, dead ones
 * among them, a new decision before the last one is carried out.
 */
import { type ConsenterSet, consenterSet } from '../../chain/consenters.ts'
import type { SampleIdentity } from '../support/sample-genesis.ts'
import type { Clients } from './clients.ts'
import { bears, isUnsound } from './faults.ts'
import type { Host, Site } from './host.ts'
import type { SeededRandom } from './random.ts'

export interface GovernorParts {
  readonly site: Site
  readonly random: SeededRandom
  readonly hosts: readonly Host[]
  readonly identities: readonly SampleIdentity[]
  /** Who signs at first. */
  readonly first: ConsenterSet
  readonly operator: SampleIdentity
  readonly clients: Clients
  /** Sets that bear the loss of one: where disks rot, others could not. */
  readonly careful: boolean
}

const triesMax = 6
/** One of so many decisions is for a set that has nobody of the last one, if there are enough others. */
const disjointEvery = 2

export class Governor {
  readonly #parts: GovernorParts
  readonly #meanMs: number
  #stopped = false
  #busy = 0
  #decisions = 0
  /** Every set that was ever decided on: a late transaction may still bring it about. */
  readonly targets: ConsenterSet[] = []

  constructor(parts: GovernorParts) {
    this.#parts = parts
    this.#meanMs = parts.random.pick([400, 1_500, 4_000])
  }

  get idle(): boolean {
    return this.#stopped && this.#busy === 0
  }

  stop(): void {
    this.#stopped = true
  }

  start(): void {
    const { site, random } = this.#parts
    site.timeline.schedule(random.exponential(this.#meanMs), undefined, 'govern', () => {
      if (this.#stopped) return
      this.#decide()
      this.start()
    })
  }

  #decide(): void {
    const { identities, random, site, clients, hosts, careful } = this.#parts
    const size = random.pick(careful ? [3, 3, 4, 5] : [1, 2, 3, 3, 3, 4, 5])
    const chosen = this.#candidates(random.shuffled(identities)).slice(0, size)
    const set = chosen.map(({ id, signer }) => ({ id, key: signer.publicKey }))
    const target = consenterSet(set, size > 3 && random.chance(0.5) ? 'two-thirds' : 'majority')
    const unsound = new Set(hosts.filter(isUnsound).map(({ id }) => id))
    if (!bears(target, unsound)) return
    this.targets.push(target)
    site.note(
      `decides on ${chosen
        .map(({ name }) => name)
        .sort()
        .join('')}`,
    )
    this.#busy++
    clients.submitUntil(this.#sign(target), triesMax, () => this.#busy--)
  }

  /** Of all, or of those who are in no way part of the set that was decided on last. */
  #candidates(all: readonly SampleIdentity[]): readonly SampleIdentity[] {
    const { consenters } = this.targets.at(-1) ?? this.#parts.first
    const others = all.filter(({ id }) => !consenters.some(consenter => consenter.id === id))
    return this.#decisions++ % disjointEvery === 0 && others.length >= consenters.length ? others : all
  }

  #sign(target: ReturnType<typeof consenterSet>): Uint8Array {
    const { operator, random, clients } = this.#parts
    return clients.signed(operator, { type: 'governance.consenters', target }, { random })
  }
}
