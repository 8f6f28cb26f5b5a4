/**
 * Which consenters sign which heights: the set of the genesis, and each handover since (`Handovers`); and how a full node
 * comes by the proof of each (`HandoverProofs`).
 *
 * A handover is known from the execution of its block on, and proven once a quorum of the old and of the new set has
 * signed its header. There are as many as there were changes of the consenters: few enough to keep them all.
 *
 * Invariants: ascending by height; the set of a height never changes once that height is executed.
 */
import type { DeviceId, Height } from '../../chain/brands.ts'
import type { Certificate } from '../../chain/certificate.ts'
import { type ConsenterSet, quorumOf } from '../../chain/consenters.ts'
import type { CertifiedHeader, Handover } from '../../chain/light-client.ts'
import { stateKeyOf } from '../../chain/records.ts'
import { MoteError } from '../../chain/result.ts'
import { queries } from '../network/request-table.ts'
import { ask } from '../network/requests.ts'
import type { HandoverRow, Network, Storage } from '../ports.ts'
import type { Certifier } from './certifier.ts'
import { type Execution, encodeHandover, type HandoverRecord, type LiveChain } from './live-chain.ts'
import type { Members } from './members.ts'
import type { NodeListener } from './node-events.ts'

export interface PlacedHandover extends HandoverRecord {
  readonly height: Height
}

export class Handovers {
  readonly #first: ConsenterSet
  #placed: PlacedHandover[]

  /** @param first the consenters of the genesis */
  constructor(first: ConsenterSet, placed: readonly PlacedHandover[] = []) {
    this.#first = first
    this.#placed = [...placed]
  }

  /** The set whose quorum certifies the header at `height`. */
  signersAt(height: number): ConsenterSet {
    return this.#placed.findLast(placed => placed.height < height)?.consenters ?? this.#first
  }

  /** The set that takes over after `height`, if that is a handover. */
  at(height: Height): ConsenterSet | undefined {
    return this.#placed.find(placed => placed.height === height)?.consenters
  }

  /** The lowest handover that has not got both certificates here. */
  get unproven(): Height | undefined {
    return this.#placed.find(({ proven }) => !proven)?.height
  }

  /** A handover block was executed. */
  add(height: Height, consenters: ConsenterSet): void {
    this.#placed.push({ height, consenters, proven: undefined })
  }

  /** The record to be stored for the executed handover whose header is now proven. */
  prove(proven: CertifiedHeader): HandoverRow | undefined {
    const { height } = proven.header
    const place = this.#placed.findIndex(placed => placed.height === height)
    const placed = this.#placed[place]
    if (!placed) return undefined
    this.#placed[place] = { ...placed, proven }
    return { height, record: encodeHandover({ ...placed, proven }) }
  }

  provenAt(height: Height): CertifiedHeader | undefined {
    return this.#placed.find(placed => placed.height === height)?.proven
  }

  /** The proven ones, the newest `count` of them, ascending: what leads a verifier from an older set to the newest. */
  newest(count: number): readonly CertifiedHeader[] {
    return this.#placed.flatMap(({ proven }) => (proven ? [proven] : [])).slice(-count)
  }

  /** These follow what is known; they came with a snapshot. */
  adopt(proven: readonly CertifiedHeader[]): readonly HandoverRow[] {
    const stored: HandoverRow[] = []
    for (const header of proven) {
      const { height } = header.header
      if (!header.handover || this.provenAt(height)) continue
      const { consenters } = header.handover
      this.#placed = this.#placed.filter(placed => placed.height !== height)
      this.#placed.push({ height, consenters, proven: header })
      stored.push({ height, record: encodeHandover({ consenters, proven: header }) })
    }
    this.#placed.sort((a, b) => a.height - b.height)
    return stored
  }
}

export interface HandoverProofsParts {
  readonly id: DeviceId
  readonly handovers: Handovers
  readonly chain: LiveChain
  readonly storage: Pick<Storage, 'putHandover'>
  readonly network: Pick<Network, 'request' | 'peers'>
  readonly certifier: Pick<Certifier, 'adopt'>
  readonly members: Pick<Members, 'others'>
  readonly log: (detail: object, message: string) => void
}

const askTimeoutMs = 2_000

/**
 * Changes of the consenters as a full node keeps them: learns of them from execution, proves them with what the certifier
 * has collected, stores the proof, and asks other members for the one that it missed (certifier.ts, `wanted`).
 */
export class HandoverProofs implements NodeListener {
  readonly #parts: HandoverProofsParts
  #asking = false
  /** Members are asked in turn. */
  #turn = 0
  /** Who is known to hold the proof of the handover at this height, and who is being asked. */
  #holders = { height: 0, known: new Set<DeviceId>(), asked: new Set<DeviceId>() }

  constructor(parts: HandoverProofsParts) {
    this.#parts = parts
  }

  /** The latest changes of the consenters that are proven here, ascending. */
  newest(count: number): readonly CertifiedHeader[] {
    return this.#parts.handovers.newest(count)
  }

  executed({ block }: Execution): void {
    if (!block.handover) return
    this.#parts.handovers.add(block.height, block.handover)
    this.#parts.log({ height: block.height, consenters: idsOf(block.handover) }, 'handover executed')
  }

  /** Stores the proof ahead of the certificate. */
  certified(certificate: Certificate, handover: Handover | undefined): void {
    const { chain, handovers, storage, log } = this.#parts
    const ledger = chain.at(certificate.height)
    if (!handover || !ledger) return
    // A handover block writes the parameters and nothing else.
    const changes = [stateKeyOf.parameters()]
    const row = handovers.prove({ header: ledger.header, certificate, handover, changes })
    if (row)
      storage.putHandover(row).catch(() => {
        // The replica meets the same disk with its next write, and stops there.
      })
    log({ height: certificate.height, consenters: idsOf(handover.consenters) }, 'handover certified')
  }

  /**
   * What the newest handover lacks before the old consenters may go: both certificates here, and at a quorum of the new
   * ones, who could not make them without the old.
   */
  lacks(): string | undefined {
    const { handovers, id } = this.#parts
    const { unproven } = handovers
    if (unproven !== undefined) return `handover ${unproven}: signatures of a quorum of both sets are missing`
    const [newest] = handovers.newest(1)
    if (!newest?.handover) return undefined
    const { height } = newest.header
    const { consenters } = newest.handover
    if (this.#holders.height !== height) this.#holders = { height, known: new Set([id]), asked: new Set() }
    const { known } = this.#holders
    const lacking = consenters.consenters.filter(consenter => !known.has(consenter.id))
    if (consenters.consenters.length - lacking.length >= quorumOf(consenters)) return undefined
    for (const consenter of lacking) this.#askHolder(consenter.id, height)
    const ids = lacking.map(consenter => consenter.id).join(', ')
    return `handover ${height}: a quorum of the new consenters does not hold its proof yet (asked: ${ids})`
  }

  #askHolder(peer: DeviceId, height: Height): void {
    const { known, asked } = this.#holders
    if (asked.has(peer)) return
    asked.add(peer)
    this.#request(peer, height)
      .then(({ handover }) => {
        if (handover) known.add(peer)
      })
      .catch(() => {}) // It does not hold it yet, or cannot be reached: the next tick asks again.
      .finally(() => asked.delete(peer))
  }

  /** Asks one connected member for the handover header, or for its newest one; the certifier asks again while it lacks it. */
  certificateMissing(height: Height | undefined): void {
    const { network, members } = this.#parts
    const connected = network
      .peers()
      .filter(({ id, state }) => state === 'connected' && members.others.has(id))
    const peer = connected[this.#turn++ % Math.max(connected.length, 1)]
    if (!peer || this.#asking) return
    this.#asking = true
    this.#fetch(peer.id, height)
      .catch(error =>
        this.#parts.log({ peer: peer.id, height, error: String(error) }, 'certificate not fetched'),
      )
      .finally(() => {
        this.#asking = false
      })
  }

  async #fetch(peer: DeviceId, height: Height | undefined): Promise<void> {
    const { certificate, handover } = await this.#request(peer, height)
    const adopted = certificate && this.#parts.certifier.adopt(certificate, handover)
    if (adopted && !adopted.ok) throw new MoteError(adopted.error.code, adopted.error.detail)
  }

  #request(peer: DeviceId, height: Height | undefined): Promise<CertifiedHeader> {
    const { network } = this.#parts
    return height === undefined
      ? ask(network, peer, queries.head, {}, askTimeoutMs)
      : ask(network, peer, queries.header, { height }, askTimeoutMs)
  }
}

function idsOf({ consenters }: Handover['consenters']): DeviceId[] {
  return consenters.map(({ id }) => id)
}
