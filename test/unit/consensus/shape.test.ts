/**
 * The shape of the hot path: what a proposal costs must not depend on the length of the log, nor grow with what is
 * batched. Counted, not timed.
 */
import { describe, expect, it } from 'vitest'
import { defaultConfig } from '../../../consensus/config.ts'
import { Raft } from '../../../consensus/raft.ts'
import type { Config, Effect, Input, NodeId } from '../../../consensus/types.ts'
import { simple } from './server.ts'

const ids = ['a', 'b', 'c']
const limits = { maxLogBytesInMemory: 100_000 }
/** Far more than one input makes of a cluster that works. */
const mostInputs = 10_000

/** Three cores whose messages and writes take no time. Counts effects by type. */
class Wired {
  readonly counts = new Map<Effect['type'], number>()
  readonly #rafts = new Map<NodeId, Raft>()
  /** Is not told what it has applied. */
  slow: NodeId | undefined

  constructor(config: Partial<Config> = limits) {
    const configuration = simple(...ids)
    const snapshot = { lastIncludedIndex: 0, lastIncludedTerm: 0, configuration }
    const hardState = { currentTerm: 0, votedFor: null }
    const before = { index: 0, term: 0 }
    const recovered = { hardState, snapshot, entries: [], before, configuration, applied: 0 }
    for (const [position, id] of ids.entries()) {
      this.#rafts.set(
        id,
        new Raft({ ...defaultConfig(id), ...config }, recovered, () => position / ids.length),
      )
    }
  }

  status(id: NodeId) {
    return this.#rafts.get(id)!.status
  }

  run(id: NodeId, input: Input): void {
    const queue: { readonly id: NodeId; readonly input: Input }[] = [{ id, input }]
    for (const item of queue) {
      if (queue.length > mostInputs) throw new Error('without ticks, messages do not run out')
      for (const effect of this.#rafts.get(item.id)!.step(item.input)) {
        this.counts.set(effect.type, (this.counts.get(effect.type) ?? 0) + 1)
        const answer = answerTo(effect)
        if (effect.type === 'send')
          queue.push({ id: effect.to, input: { type: 'message', message: effect.message } })
        else if (answer !== undefined && !(effect.type === 'commit' && item.id === this.slow))
          queue.push({ id: item.id, input: answer })
      }
    }
  }
}

function answerTo(effect: Effect): Input | undefined {
  if (effect.type === 'persist') return { type: 'persisted', token: effect.token }
  if (effect.type !== 'commit') return undefined
  return { type: 'applied', index: effect.entries.at(-1)?.index ?? 0 }
}

function elected(config?: Partial<Config>): Wired {
  const wired = new Wired(config)
  for (let round = 0; round < 10; round += 1) wired.run('a', { type: 'tick' })
  expect(wired.status('a').role).toBe('leader')
  wired.counts.clear()
  return wired
}

describe('hot path', () => {
  it('a batch of proposals costs what one costs: three writes, four messages out, four back', () => {
    for (const size of [1, 500]) {
      const wired = elected()
      const data = Array.from({ length: size }, () => new Uint8Array(10))
      wired.run('a', { type: 'propose', data, context: 1 })
      expect(Object.fromEntries(wired.counts)).toEqual({ persist: 3, proposed: 1, send: 8, commit: 3 })
      for (const id of ids) expect(wired.status(id).commitIndex).toBe(1 + size)
    }
  })

  it('a follower that applies slowly costs nothing until the next heartbeat, and is level once it has applied', () => {
    const wired = elected({ maxUncommittedBytes: 10_000, maxEntriesPerAppend: 4 })
    wired.slow = 'b'
    for (let context = 0; context < 300; context += 1)
      wired.run('a', { type: 'propose', data: [new Uint8Array(100)], context })
    expect(wired.status('a').followers.get('b')?.state).toBe('full')
    wired.counts.clear()
    wired.run('a', { type: 'propose', data: [new Uint8Array(100)], context: 300 })
    // One append to c, its answer, and the commit told to c and answered.
    expect(wired.counts.get('send')).toBe(4)
    wired.slow = undefined
    wired.run('b', { type: 'applied', index: wired.status('b').commitIndex })
    wired.run('a', { type: 'tick' })
    expect(wired.status('b').commitIndex).toBe(wired.status('a').commitIndex)
  })

  it('memory stays bounded over a long log, on leader and followers', () => {
    const wired = elected()
    for (let context = 0; context < 8_000; context += 1) {
      wired.run('a', { type: 'propose', data: [new Uint8Array(100)], context })
    }
    for (const id of ids) {
      expect(wired.status(id).commitIndex).toBe(8_001)
      expect(wired.status(id).logBytesInMemory).toBeLessThanOrEqual(limits.maxLogBytesInMemory)
    }
  })
})
