/**
 * How old what is trusted is, and what time it is by the chain: one rule for gateway, agent, light nodes and commands
 * (docs/CONSENSUS.md, "Block time").
 *
 * A header's time is what a majority of the voters' clocks had reached. Its age is the larger of what this machine's wall
 * clock says and the steady time since it arrived, so neither a wall clock that is behind nor a chain whose time ran ahead
 * makes old data young. A header from the future beyond the bound is not fresh at all: one of the two clocks is wrong. A
 * device without a clock goes by steady time alone.
 */
import type { Milliseconds } from '../chain/brands.ts'
import { ok, type Result, refuse } from '../chain/result.ts'

/** How far a header may lie after this machine's wall clock and still be fresh. */
export const futureBoundMs = 5_000

export interface Arrival {
  /** Of the header. */
  readonly time: number
  /** When it was first seen here, by the steady clock; undefined if that was in an earlier process. */
  readonly arrivedAt: number | undefined
}

export interface Clocks {
  /** Since 1970; undefined on a device without a clock. */
  readonly wall: number | undefined
  readonly steady: number
}

/** Milliseconds, at least 0; infinite for what is not fresh whatever is allowed. */
export function ageOf({ time, arrivedAt }: Arrival, { wall, steady }: Clocks): number {
  if (wall === undefined)
    return arrivedAt === undefined ? Number.POSITIVE_INFINITY : Math.floor(steady - arrivedAt)
  if (time > wall + futureBoundMs) return Number.POSITIVE_INFINITY
  return Math.max(0, wall - time, arrivedAt === undefined ? 0 : Math.floor(steady - arrivedAt))
}

/** Refuses `stale` for trust data that is older than allowed. */
export function checkFresh(ageMs: number, maxAgeMs: number): Result<void> {
  if (ageMs <= maxAgeMs) return ok(undefined)
  const got = Number.isFinite(ageMs) ? `${Math.round(ageMs)} ms` : 'a header that this clock cannot place'
  return refuse('stale', `trust data: expected at most ${maxAgeMs} ms old, got ${got}`)
}

/**
 * The chain's time now: that of the newest header, carried on by the steady clock. Senders set an expiry by it and gateways
 * judge by it, so that no wall clock takes part. Never goes back once a header has arrived; until then this machine's wall
 * clock is the better guess, and a wrong guess is forgotten with the first header.
 */
export class ChainTime {
  #latest = 0

  now({ time, arrivedAt }: Arrival, { wall, steady }: Clocks): Milliseconds {
    if (arrivedAt === undefined) return Math.max(this.#latest, time, wall ?? 0) as Milliseconds
    this.#latest = Math.max(this.#latest, Math.floor(time + steady - arrivedAt))
    return this.#latest as Milliseconds
  }
}
