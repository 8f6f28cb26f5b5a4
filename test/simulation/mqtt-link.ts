/** A connection between a client and a gateway: what is sent arrives in its order, or the connection has ended. */
import type { Site } from './host.ts'
import type { SeededRandom } from './random.ts'
import type { SimulatedActor } from './timeline.ts'

export interface LinkParts {
  readonly site: Site
  readonly random: SeededRandom
  /** The process of the gateway. */
  readonly server: SimulatedActor
  /** The client learns that it has ended. */
  readonly onClosed: () => void
}

const delayMsMin = 0.5
const delayMsMax = 4

export class MqttLink {
  isOpen = true
  readonly #parts: LinkParts
  #nextAtServer = 0
  #nextAtClient = 0

  constructor(parts: LinkParts) {
    this.#parts = parts
  }

  toServer(label: string, happen: () => void): void {
    const { site, server } = this.#parts
    this.#nextAtServer = this.#arrival(this.#nextAtServer)
    site.timeline.schedule(this.#nextAtServer - site.timeline.now, server, label, () => {
      if (this.isOpen) happen()
    })
  }

  toClient(label: string, happen: () => void): void {
    const { site } = this.#parts
    this.#nextAtClient = this.#arrival(this.#nextAtClient)
    site.timeline.schedule(this.#nextAtClient - site.timeline.now, undefined, label, () => {
      if (this.isOpen) happen()
    })
  }

  /** What is on its way is lost, and the client notices. */
  end(): void {
    if (!this.isOpen) return
    this.isOpen = false
    const { site, random, onClosed } = this.#parts
    site.timeline.schedule(random.between(1, 50), undefined, 'connection lost', onClosed)
  }

  #arrival(after: number): number {
    const { site, random } = this.#parts
    return Math.max(after, site.timeline.now + random.between(delayMsMin, delayMsMax))
  }
}
