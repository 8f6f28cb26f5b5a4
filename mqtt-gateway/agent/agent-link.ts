/**
 * Keeps a device connected: opens a `DeviceAgent`, and when its connection breaks or the gateway is gone opens the next one,
 * with a fresh assertion and all subscriptions, after pauses that double up to a bound and are drawn at random in their upper
 * half, so that a thousand devices do not come back in one moment.
 *
 * A gateway that says no (a suspended device, say) is asked again too, at the longest pause: what the chain says may change.
 */
import type { Refusal } from '../../chain/result.ts'
import { MoteError, refusalOf } from '../../chain/result.ts'
import { pause } from '../../client/deadline.ts'
import type { DeviceAgent } from '../device/agent.ts'

/** Shortest and longest pause before the next attempt. */
const reconnectDelayMsMin = 200
const reconnectDelayMsMax = 15_000

export type LinkEvent =
  | { readonly type: 'connected' }
  | { readonly type: 'disconnected'; readonly reason: Refusal; readonly retryMs: number }

export interface AgentLinkOptions {
  readonly open: () => Promise<DeviceAgent>
  /** What a new connection needs before it counts as one: subscriptions. */
  readonly prepare: (agent: DeviceAgent) => Promise<void>
  readonly onEvent: (event: LinkEvent) => void
  /** Longest pause, in place of `reconnectDelayMsMax`. */
  readonly delayMsMax?: number | undefined
}

export class AgentLink {
  readonly #options: AgentLinkOptions
  readonly #closing = new AbortController()
  readonly #waiting = new Set<(agent: DeviceAgent | undefined) => void>()
  #current: DeviceAgent | undefined
  #running: Promise<void> | undefined
  #lastFailure: Refusal | undefined

  constructor(options: AgentLinkOptions) {
    this.#options = options
  }

  /** Begins, and goes on until `close`. */
  start(): void {
    this.#running ??= this.#run()
  }

  /** Why the last attempt failed, while there is no connection. */
  get lastFailure(): Refusal | undefined {
    return this.#current ? undefined : this.#lastFailure
  }

  /** The connected agent, as soon as there is one; undefined after `close`. */
  async agent(): Promise<DeviceAgent | undefined> {
    if (this.#current || this.#closing.signal.aborted) return this.#current
    const { promise, resolve } = Promise.withResolvers<DeviceAgent | undefined>()
    this.#waiting.add(resolve)
    return promise
  }

  /** Opens a new connection in place of the one that stands: with other keys, say. */
  async renew(): Promise<void> {
    await this.#current?.close()
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await this.#current?.close()
    await this.#running
    this.#wake(undefined)
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing
    const { delayMsMax = reconnectDelayMsMax } = this.#options
    let delayMs = reconnectDelayMsMin
    while (!signal.aborted) {
      const { reason, stood } = await this.#once()
      delayMs = Math.min(stood ? reconnectDelayMsMin : 2 * delayMs, delayMsMax)
      if (reason.code === 'not-authorised') delayMs = delayMsMax
      if (signal.aborted) return
      const retryMs = Math.ceil(delayMs * (0.5 + Math.random() / 2))
      this.#lastFailure = reason
      this.#options.onEvent({ type: 'disconnected', reason, retryMs })
      await pause(retryMs, signal)
    }
  }

  /** One connection, from its opening to its end: why it ended, and whether it stood. */
  async #once(): Promise<{ readonly reason: Refusal; readonly stood: boolean }> {
    let agent: DeviceAgent | undefined
    try {
      agent = await this.#options.open()
      await this.#options.prepare(agent)
      if (this.#closing.signal.aborted)
        throw new MoteError('interrupted', 'connection: closed by this program')
      this.#current = agent
      this.#wake(agent)
      this.#options.onEvent({ type: 'connected' })
      return { reason: await agent.ended, stood: true }
    } catch (error) {
      return { reason: refusalOf(error), stood: false }
    } finally {
      this.#current = undefined
      await agent?.close()
    }
  }

  #wake(agent: DeviceAgent | undefined): void {
    for (const wake of this.#waiting) wake(agent)
    this.#waiting.clear()
  }
}
