/**
 * How long the confirmation of a message is waited for before the message is sent again, for each recipient. As TCP does it (RFC 6298): whoever
 * repeats sooner than answers can come, on a machine or a link that is slow for a while, makes it slower still.
 *
 * - A wait that is over doubles the next one (5.5), up to the longest.
 * - It stays doubled for the messages after it, until one is confirmed that was sent once (5.7): of another nobody knows which attempt it was.
 * - It is no shorter than three times what the gateway's last verdict took: a confirmation goes through the gateway too, behind the messages of
 *   a burst, which grows while it is waited for.
 * - Then it is twice what confirmations have taken lately (2.3), and never shorter than the shortest (2.4).
 */
import { RecentMap } from '../../chain/recent-map.ts'

interface RecipientWait {
  readonly waitMs: number
  /** Undefined before the first message that was sent once. */
  readonly tookMs: number | undefined
}

/** Recipients that are remembered at least; twice as many at most. */
const maxWaits = 1_024
const waitMsMax = 60_000
/** Verdicts that a confirmation takes, at most, unless it is lost: its own, and as much for what recipient and message wait for. */
const verdictFactor = 3
/** Weight of the newest in what confirmations take (RFC 6298, alpha). */
const newestWeight = 1 / 8

export class ConfirmationWaits {
  readonly #shortestMs: number
  #verdictMs = 0
  readonly #waits = new RecentMap<string, RecipientWait>(maxWaits)

  constructor(shortestMs: number) {
    this.#shortestMs = shortestMs
  }

  /** Milliseconds, as of now. */
  of(recipient: string): number {
    const { waitMs = this.#shortestMs } = this.#waits.get(recipient) ?? {}
    return Math.round(Math.min(Math.max(waitMs, verdictFactor * this.#verdictMs), waitMsMax))
  }

  /** The gateway has decided on a message, whoever it is for. */
  decided(tookMs: number): void {
    this.#verdictMs = tookMs
  }

  /** There was no confirmation in time. */
  over(recipient: string): void {
    const { tookMs } = this.#waits.get(recipient) ?? {}
    this.#waits.set(recipient, { waitMs: Math.min(2 * this.of(recipient), waitMsMax), tookMs })
  }

  /** @param tookMs from the only attempt to its confirmation */
  confirmed(recipient: string, tookMs: number): void {
    const before = this.#waits.get(recipient)?.tookMs ?? tookMs
    const smoothedMs = before + newestWeight * (tookMs - before)
    const waitMs = Math.min(Math.max(2 * smoothedMs, this.#shortestMs), waitMsMax)
    this.#waits.set(recipient, { waitMs, tookMs: smoothedMs })
  }
}
