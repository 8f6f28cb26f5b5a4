/** Time as chaos runs measure it, and what they say about many measurements. */

/** Milliseconds since 1970 that never go back, so that they can be held against the times in logs. */
export function nowMs(): number {
  return performance.timeOrigin + performance.now()
}

/** Something that was asked for and came. */
export interface Answered {
  readonly atMs: number
  readonly tookMs: number
}

export interface Spread {
  readonly count: number
  /** Null without a value. */
  readonly median: number | null
  readonly p99: number | null
  readonly max: number | null
}

/** Nearest-rank percentiles, rounded. */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (share: number): number | null => {
    const value = sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]
    return value === undefined ? null : Math.round(value)
  }
  return { count: sorted.length, median: at(0.5), p99: at(0.99), max: at(1) }
}
