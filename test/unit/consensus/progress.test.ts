import { describe, expect, it } from 'vitest'
import { entryBytes } from '../../../consensus/log.ts'
import { Progress } from '../../../consensus/progress.ts'
import { command, simple } from './server.ts'

const limits = { maxAppendsInFlight: 2, maxBytesInFlight: 100 }

function replicating(matchIndex: number): Progress {
  const progress = new Progress('b', matchIndex + 1, 0)
  progress.acknowledge(matchIndex)
  return progress
}

function place(progress: Progress) {
  const { state, matchIndex, nextIndex } = progress
  return { state, matchIndex, nextIndex }
}

describe('progress of a follower (Figure 2; thesis §10.2.1)', () => {
  it('probe: a rejection moves nextIndex back and leaves matchIndex alone', () => {
    const progress = new Progress('b', 10, 0)
    progress.reject(9, 4)
    expect(place(progress)).toEqual({ state: 'probe', matchIndex: 0, nextIndex: 4 })
  })

  it('probe: a hint that leads nowhere still moves nextIndex back by one', () => {
    const progress = new Progress('b', 10, 0)
    progress.reject(9, 50)
    expect(progress.nextIndex).toBe(9)
    progress.reject(8, 0)
    expect(progress.nextIndex).toBe(1)
  })

  it('probe: a rejection of another append than the one out is stale', () => {
    const progress = new Progress('b', 10, 0)
    progress.reject(7, 2)
    expect(progress.nextIndex).toBe(10)
  })

  it('replicate: a stale rejection never rolls back what is acknowledged', () => {
    const progress = replicating(8)
    progress.sent({ index: 12, term: 1 }, 10)
    progress.reject(8, 3)
    expect(place(progress)).toEqual({ state: 'replicate', matchIndex: 8, nextIndex: 13 })
    progress.reject(10, 3)
    expect(place(progress)).toEqual({ state: 'probe', matchIndex: 8, nextIndex: 9 })
  })

  it('replicate: matchIndex is monotone, whatever the order of answers', () => {
    const progress = replicating(8)
    expect(progress.acknowledge(12)).toBe(true)
    expect(progress.acknowledge(9)).toBe(false)
    expect(place(progress)).toEqual({ state: 'replicate', matchIndex: 12, nextIndex: 13 })
  })

  it('replicate: appends and bytes in flight are bounded, and freed by what an answer covers', () => {
    const progress = replicating(0)
    progress.sent({ index: 3, term: 1 }, 10)
    expect(progress.mayAppend(limits)).toBe(true)
    progress.sent({ index: 5, term: 1 }, 10)
    expect(progress.mayAppend(limits)).toBe(false)
    progress.acknowledge(4)
    expect([progress.appendsInFlight, progress.bytesInFlight]).toEqual([1, 10])
    expect(progress.mayAppend(limits)).toBe(true)
    progress.acknowledge(5)
    progress.sent({ index: 6, term: 1 }, 100)
    expect(progress.mayAppend(limits)).toBe(false)
  })

  it('snapshot: ends when the follower holds what the snapshot covers', () => {
    const snapshot = { lastIncludedIndex: 20, lastIncludedTerm: 2, configuration: simple('a') }
    const progress = new Progress('b', 5, 0)
    progress.becomeSnapshot(snapshot)
    progress.acknowledge(19)
    expect(progress.state).toBe('snapshot')
    progress.acknowledge(20)
    expect(place(progress)).toEqual({ state: 'replicate', matchIndex: 20, nextIndex: 21 })
  })

  it('full: an answer without it counts once a heartbeat has asked again, and leads to probe', () => {
    const progress = replicating(8)
    progress.sent({ index: 12, term: 1 }, 10)
    progress.heardFull(true)
    expect(place(progress)).toEqual({ state: 'full', matchIndex: 8, nextIndex: 9 })
    expect(progress.mayAppend(limits)).toBe(false)
    progress.acknowledge(10)
    progress.heardFull(false)
    expect(place(progress)).toEqual({ state: 'full', matchIndex: 10, nextIndex: 11 })
    progress.beat()
    progress.heardFull(false)
    expect(place(progress)).toEqual({ state: 'probe', matchIndex: 10, nextIndex: 11 })
    expect(progress.mayAppend(limits)).toBe(true)
  })

  it('full: a rejected heartbeat moves the place where the logs may agree', () => {
    const progress = new Progress('b', 10, 0)
    progress.heardFull(true)
    progress.reject(9, 4)
    expect(place(progress)).toEqual({ state: 'full', matchIndex: 0, nextIndex: 4 })
  })

  it('what is sent again between two heartbeats is bounded', () => {
    const progress = replicating(0)
    const entry = command(1, 1)
    const most = { maxAppendsInFlight: 100, maxBytesInFlight: 2 * entryBytes(entry) }
    progress.count([entry])
    const mayAppend = [1, 2, 3].map(() => {
      const may = progress.mayAppend(most)
      progress.count([entry])
      return may
    })
    expect(mayAppend).toEqual([true, true, false])
    progress.beat()
    expect(progress.mayAppend(most)).toBe(true)
  })
})
