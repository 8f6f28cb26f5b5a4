/**
 * Messages between two devices through the gateway while faults go on: they make the gateway decide, and its decision
 * log tells on which trust data it did.
 */

import { join } from 'node:path'
import { pause } from '../../client/deadline.ts'
import { DeviceAgent } from '../../mqtt-gateway/device/agent.ts'
import { agentChain } from '../../mqtt-gateway/device/agent-chain.ts'
import type { ChainAccess } from '../access.ts'
import { type Answered, nowMs } from './timing.ts'

const betweenMs = 200
const timeoutMs = 3_000

export class MessageTraffic {
  readonly #access: ChainAccess
  readonly #stopping = new AbortController()
  #running: Promise<void> = Promise.resolve()
  /** Verdicts that arrived, and messages for which none came. */
  readonly counts = { check: 0, error: 0, unanswered: 0 }
  /** When each `Check` came, and how long it took. */
  readonly answered: Answered[] = []

  constructor(access: ChainAccess) {
    this.#access = access
  }

  /** Needs two devices; without, there is no traffic. */
  start(): void {
    const [from, to] = this.#access.description.devices
    if (from && to) this.#running = this.#run(from.name, to)
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#running
  }

  async #run(from: string, to: ChainAccess['description']['devices'][number]): Promise<void> {
    const { signal } = this.#stopping
    let agent: DeviceAgent | undefined
    while (!signal.aborted) {
      try {
        agent ??= await this.#connect(from)
        const startedAt = nowMs()
        const verdict = await agent.send(to.id, { content: new TextEncoder().encode('chaos') })
        const isRelayed = verdict.verdict === 'Check'
        this.counts[isRelayed ? 'check' : 'error'] += 1
        if (isRelayed) this.answered.push({ atMs: nowMs(), tookMs: nowMs() - startedAt })
      } catch {
        this.counts.unanswered += 1
        await agent?.close().catch(() => {})
        agent = undefined
      }
      await pause(betweenMs, signal)
    }
    await agent?.close().catch(() => {})
  }

  async #connect(name: string): Promise<DeviceAgent> {
    const { client, keys, description, directory } = this.#access
    const device = await keys.load(name)
    return DeviceAgent.connect({
      keys: device,
      chain: agentChain(client, device),
      gateway: description.gateway.mqtt,
      stateDirectory: join(directory, 'devices', name),
      timeoutMs,
      trustTtlMs: description.trustTtlMs,
    })
  }
}
