/**
 * Virtual time: a queue of events, ordered by time and then by the order in which they were scheduled. Nothing in a
 * simulation happens outside an event, and no event takes time.
 *
 * An event may belong to an actor, which can be dead (its events never happen) or paused (they wait for it).
 */

/** Who an event happens to. */
export interface SimulatedActor {
  readonly name: string
  readonly alive: boolean
  readonly paused: boolean
  /** Events that came up while it was paused, in order. */
  readonly backlog: SimulatedEvent[]
}

export interface SimulatedEvent {
  readonly at: number
  readonly order: number
  readonly label: string
  readonly actor: SimulatedActor | undefined
  readonly happen: () => void
}

/** Who is at this place when the time comes; nobody, and the event never happens. */
export type Place = () => SimulatedActor | undefined

interface Scheduled extends Omit<SimulatedEvent, 'actor'> {
  readonly actor: SimulatedActor | Place | undefined
}

function isBefore(a: Scheduled, b: Scheduled): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order)
}

export class Timeline {
  #now = 0
  #order = 0
  /** A binary heap. */
  readonly #heap: Scheduled[] = []

  /** Milliseconds since the run began. */
  get now(): number {
    return this.#now
  }

  get waiting(): number {
    return this.#heap.length
  }

  /** `actor` undefined: it happens to the world. */
  schedule(
    delayMs: number,
    actor: SimulatedActor | Place | undefined,
    label: string,
    happen: () => void,
  ): void {
    this.#push({ at: this.#now + Math.max(0, delayMs), order: this.#order++, label, actor, happen })
  }

  /** A paused actor goes on: what it missed happens now, in order. */
  release(actor: SimulatedActor): void {
    for (const { label, happen } of actor.backlog.splice(0)) this.schedule(0, actor, label, happen)
  }

  /** Moves time to the next event that happens to somebody, and gives it. */
  next(): SimulatedEvent | undefined {
    for (;;) {
      const event = this.#pop()
      if (!event) return undefined
      this.#now = event.at
      const actor = typeof event.actor === 'function' ? event.actor() : event.actor
      if (event.actor !== undefined && !actor?.alive) continue
      if (!actor?.paused) return { ...event, actor }
      actor.backlog.push({ ...event, actor })
    }
  }

  #push(event: Scheduled): void {
    const heap = this.#heap
    let place = heap.push(event) - 1
    while (place > 0) {
      const parent = (place - 1) >> 1
      if (!isBefore(event, heap[parent]!)) break
      heap[place] = heap[parent]!
      place = parent
    }
    heap[place] = event
  }

  #pop(): Scheduled | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (!first || !last || heap.length === 0) return first
    let place = 0
    for (;;) {
      let child = 2 * place + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
      if (!isBefore(heap[child]!, last)) break
      heap[place] = heap[child]!
      place = child
    }
    heap[place] = last
    return first
  }
}
