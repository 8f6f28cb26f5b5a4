/**
 * Which consenters sign which heights: the set of the genesis, and each handover since.
 *
 * A handover is known from the execution of its block on, and proven once a quorum of the old and of the new set has
 * signed its header. There are as many as there were changes of the consenters: few enough to keep them all.
 *
 * Invariants: ascending by height; the set of a height never changes once that height is executed.
 */
import type { Height } from '../../chain/brands.ts'
import { type Codec, encode, optional, struct } from '../../chain/codec.ts'
import { type ConsenterSet, consenterSetCodec } from '../../chain/consenters.ts'
import { type CertifiedHeader, certifiedHeaderCodec } from '../../chain/light-client.ts'
import type { HandoverRow } from '../ports.ts'

export interface HandoverRecord {
  /** The set that signs what follows. */
  readonly consenters: ConsenterSet
  /** The header of the handover block with both certificates; undefined until it has them. */
  readonly proven: CertifiedHeader | undefined
}

export const handoverCodec: Codec<HandoverRecord> = struct<HandoverRecord>({
  consenters: consenterSetCodec,
  proven: optional(certifiedHeaderCodec),
})

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
  executed(height: Height, consenters: ConsenterSet): void {
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

/** A record as it is stored. */
export function encodeHandover({ consenters, proven }: HandoverRecord): Uint8Array {
  return encode(handoverCodec, { consenters, proven })
}
