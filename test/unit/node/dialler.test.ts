import { describe, expect, test } from 'vitest'
import { Milliseconds } from '../../../chain/brands.ts'
import { Dialler } from '../../../node/network/dialler.ts'
import type { Clock } from '../../../node/ports.ts'

/** Runs timers by hand and remembers their delays. */
class ManualClock implements Clock {
  readonly delays: number[] = []
  #timers: (() => void)[] = []

  wall(): Milliseconds {
    return Milliseconds(0)
  }

  steady(): number {
    return 0
  }

  after(delayMs: number, callback: () => void): () => void {
    this.delays.push(delayMs)
    this.#timers.push(callback)
    return () => {
      this.#timers = this.#timers.filter(timer => timer !== callback)
    }
  }

  get pending(): number {
    return this.#timers.length
  }

  async run(): Promise<void> {
    for (const timer of this.#timers.splice(0)) timer()
    await new Promise(resolve => setImmediate(resolve))
  }
}

function dialler(reachable: () => boolean) {
  const clock = new ManualClock()
  const attempts: AbortSignal[] = []
  let connected = false
  const made = new Dialler({
    clock,
    random: () => 1,
    firstDelayMs: 7,
    retryDelayMs: 100,
    retryDelayMsMax: 500,
    isConnected: () => connected,
    connect: async signal => {
      attempts.push(signal)
      if (!reachable()) throw new Error('refused')
      connected = true
    },
    onFailure: () => {},
  })
  return { made, clock, attempts, disconnect: () => (connected = false) }
}

describe('dialler', () => {
  test('tries again after a growing pause, for ever, and starts over after a success', async () => {
    let reachable = false
    const { made, clock, attempts, disconnect } = dialler(() => reachable)
    made.disconnected()
    for (let i = 0; i < 6; i++) await clock.run()
    expect(clock.delays).toEqual([7, 100, 200, 400, 500, 500, 500])
    reachable = true
    await clock.run()
    expect(attempts).toHaveLength(7)
    expect(clock.pending).toBe(0)
    disconnect()
    reachable = false
    made.disconnected()
    await clock.run()
    expect(clock.delays.slice(7)).toEqual([7, 100])
  })

  test('rests when the peer has dialled first', async () => {
    const { made, clock, attempts } = dialler(() => false)
    made.disconnected()
    made.connected()
    await clock.run()
    expect(attempts).toEqual([])
  })

  test('stop ends the pause and the attempt under way', async () => {
    const { made, clock, attempts } = dialler(() => false)
    made.disconnected()
    await clock.run()
    made.stop()
    await clock.run()
    made.disconnected()
    await clock.run()
    expect(attempts).toHaveLength(1)
    expect(attempts[0]?.aborted).toBe(true)
  })
})
