/**
 * Which counters of which sender keys have been used: a sliding window per key (the scheme of RFC 4303, section
 * 3.4.3, with counters of 53 bits).
 *
 * Invariants: a counter is accepted at most once, and one that is held for a message under way by no other message; a counter
 * below the window is refused, since nobody knows any more; memory is bounded, and a full table refuses a new key rather than forget
 * an old one (beyond the bound are only keys of messages under way). A key is dropped only when every envelope seen under it has
 * expired, for then its replays are refused as expired.
 */
import type { KeyId, Milliseconds } from '../../chain/brands.ts'
import { ok, type Result, refuse } from '../../chain/result.ts'

/** How far a counter may lie behind the highest one seen. */
export const replayWindowSize = 1024
const windowMask = (1n << BigInt(replayWindowSize)) - 1n

interface KeyWindow {
  readonly highest: number
  /** Bit i: counter `highest - i` was used. */
  readonly used: bigint
  readonly latestExpiry: Milliseconds
}

/** The used bits of a window that is moved on to a higher counter. */
function usedAt({ highest, used }: KeyWindow, higher: number): bigint {
  const ahead = higher - highest
  return ahead >= replayWindowSize ? 0n : (used << BigInt(ahead)) & windowMask
}

/** A window as JSON keeps it: highest counter, used bits in hexadecimal, latest expiry. */
export type StoredKeyWindow = readonly [highest: number, used: string, latestExpiry: number]

export interface Sighting {
  readonly keyId: KeyId
  readonly counter: number
  readonly expiry: Milliseconds
}

/** A counter that is held while what it belongs to is under way. Exactly one of the two ends it. */
export interface HeldCounter {
  /** It was used: nothing else is, ever. */
  use(): void
  /** Nothing came of it: it may come again. */
  free(): void
}

export class ReplayWindow {
  readonly #maxKeys: number
  readonly #windows = new Map<KeyId, KeyWindow>()
  /** Counters that are held, by key and counter. */
  readonly #held = new Set<string>()

  /** @param maxKeys sender keys that are remembered at the same time */
  constructor(maxKeys: number, stored: Readonly<Record<string, StoredKeyWindow>> = {}) {
    this.#maxKeys = maxKeys
    for (const [keyId, [highest, used, latestExpiry]] of Object.entries(stored))
      this.#windows.set(keyId as KeyId, {
        highest,
        used: BigInt(`0x${used}`),
        latestExpiry: latestExpiry as Milliseconds,
      })
  }

  /** What any of several windows has accepted, without the keys under which all had expired by `now`. */
  static union(
    maxKeys: number,
    windows: readonly Readonly<Record<string, StoredKeyWindow>>[],
    now: Milliseconds,
  ): ReplayWindow {
    const union = new ReplayWindow(maxKeys)
    for (const stored of windows)
      for (const [keyId, window] of new ReplayWindow(maxKeys, stored).#windows)
        if (window.latestExpiry >= now) union.#add(keyId, window)
    return union
  }

  #add(keyId: KeyId, window: KeyWindow): void {
    const other = this.#windows.get(keyId) ?? window
    const highest = Math.max(window.highest, other.highest)
    const latestExpiry = Math.max(window.latestExpiry, other.latestExpiry) as Milliseconds
    this.#windows.set(keyId, {
      highest,
      used: usedAt(window, highest) | usedAt(other, highest),
      latestExpiry,
    })
  }

  /** Whether `accept` would take it: `replayed` if used or held, `counter-too-old` if below the window, `overloaded` if there is no room for its key. */
  check({ keyId, counter }: Sighting, now: Milliseconds): Result<void> {
    if (this.#held.has(`${keyId}/${counter}`))
      return refuse('replayed', `counter: ${counter} is being used by another message`)
    const window = this.#windows.get(keyId)
    if (!window) return this.#roomForKey(now)
    const behind = window.highest - counter
    if (behind < 0) return ok(undefined)
    if (behind >= replayWindowSize)
      return refuse(
        'counter-too-old',
        `counter: expected above ${window.highest - replayWindowSize}, got ${counter}`,
      )
    return (window.used >> BigInt(behind)) & 1n
      ? refuse('replayed', `counter: ${counter} was used already`)
      : ok(undefined)
  }

  /** Marks the counter as used, or refuses as `check` does. */
  accept(sighting: Sighting, now: Milliseconds): Result<void> {
    const checked = this.check(sighting, now)
    if (checked.ok) this.#mark(sighting)
    return checked
  }

  /** Holds the counter while what it belongs to is under way, or refuses as `check` does. */
  hold(sighting: Sighting, now: Milliseconds): Result<HeldCounter> {
    const checked = this.check(sighting, now)
    if (!checked.ok) return checked
    const name = `${sighting.keyId}/${sighting.counter}`
    this.#held.add(name)
    return ok({
      use: () => {
        this.#held.delete(name)
        this.#mark(sighting)
      },
      free: () => this.#held.delete(name),
    })
  }

  /** The window may have gone on past a counter that was held: below it all are refused. */
  #mark({ keyId, counter, expiry }: Sighting): void {
    this.#add(keyId, { highest: counter, used: 1n, latestExpiry: expiry })
  }

  /** What a durable window writes to its file. */
  toStored(): Record<string, StoredKeyWindow> {
    return Object.fromEntries(
      [...this.#windows].map(([keyId, { highest, used, latestExpiry }]) => [
        keyId,
        [highest, used.toString(16), latestExpiry] as const,
      ]),
    )
  }

  #roomForKey(now: Milliseconds): Result<void> {
    if (this.#windows.size < this.#maxKeys) return ok(undefined)
    for (const [keyId, { latestExpiry }] of this.#windows) if (latestExpiry < now) this.#windows.delete(keyId)
    return this.#windows.size < this.#maxKeys
      ? ok(undefined)
      : refuse('overloaded', `replay window: ${this.#maxKeys} sender keys have unexpired messages`)
  }
}
