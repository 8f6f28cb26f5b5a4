import { describe, expect, it } from 'vitest'
import { entryBytes, LogWindow } from '../../../consensus/log.ts'
import { FuzzRandom } from './random.ts'
import { command, logOf } from './server.ts'

const everything = { entries: 1_000, bytes: 1_000_000 }

describe('log window (§5.3)', () => {
  it('terms: known inside the window and right before it, nowhere else', () => {
    const log = new LogWindow({ index: 4, term: 2 }, [command(5, 2), command(6, 3)])
    expect([3, 4, 5, 6, 7].map(index => log.termAt(index))).toEqual([undefined, 2, 2, 3, undefined])
    expect([log.lastIndex, log.lastTerm]).toEqual([6, 3])
  })

  it('empty: the last position is the one before it', () => {
    const log = new LogWindow({ index: 4, term: 2 })
    expect([log.lastIndex, log.lastTerm, log.bytes]).toEqual([4, 2, 0])
    expect(log.slice(5, everything)).toEqual([])
  })

  it('appending: refuses a gap and a term that decreases', () => {
    const log = new LogWindow({ index: 0, term: 0 }, logOf(1, 2))
    expect(() => log.append([command(4, 2)])).toThrow('expected index 3, got 4')
    expect(() => log.append([command(3, 1)])).toThrow('expected term 2 or later, got 1')
  })

  it('slicing: stops at either limit, yet gives one entry over the limit', () => {
    const log = new LogWindow({ index: 0, term: 0 }, logOf(1, 1, 1, 1))
    const size = entryBytes(command(1, 1))
    const indexes = (entries: number, bytes: number) =>
      log.slice(2, { entries, bytes }).map(entry => entry.index)
    expect(indexes(2, 1_000)).toEqual([2, 3])
    expect(indexes(9, 2 * size)).toEqual([2, 3])
    expect(indexes(9, 1)).toEqual([2])
  })

  it('terms: the last place not above a term, after cutting and shrinking too', () => {
    const log = new LogWindow({ index: 0, term: 0 }, logOf(1, 1, 2, 2, 2, 4))
    const places = (index: number) =>
      [0, 1, 2, 3, 4, 9].map(term => {
        const place = log.lastPlaceNotAbove({ index, term })
        return `${place.index}@${place.term}`
      })
    expect(places(9)).toEqual(['0@0', '2@1', '5@2', '5@2', '6@4', '6@4'])
    expect(places(4)).toEqual(['0@0', '2@1', '4@2', '4@2', '4@2', '4@2'])
    log.truncateAfter(4)
    expect(places(9)).toEqual(['0@0', '2@1', '4@2', '4@2', '4@2', '4@2'])
    log.shrink(3, 0)
    expect(places(9)).toEqual(['3@2', '3@2', '4@2', '4@2', '4@2', '4@2'])
    expect(log.before).toEqual({ index: 3, term: 2 })
  })

  it('shrinking: keeps what fits, and everything after the applied index', () => {
    const log = new LogWindow({ index: 0, term: 0 }, logOf(1, 1, 1, 1))
    const size = entryBytes(command(1, 1))
    log.shrink(4, 3 * size)
    expect(log.before.index).toBe(1)
    log.shrink(2, 0)
    expect(log.before.index).toBe(2)
    expect(log.bytes).toBe(2 * size)
  })

  it('agrees with a plain array under random appends, cuts and shrinks', () => {
    const random = new FuzzRandom(1)
    const log = new LogWindow({ index: 0, term: 0 })
    let model = logOf()
    let shrunk = 0
    for (let round = 0; round < 2_000; round += 1) {
      const term = (model.at(-1)?.term ?? 1) + (random.chance(0.1) ? 1 : 0)
      const count = random.below(8)
      const added = Array.from({ length: count }, (_, offset) => command(model.length + offset + 1, term))
      log.append(added)
      model.push(...added)
      if (random.chance(0.2)) {
        const cut = shrunk + random.below(model.length - shrunk + 1)
        log.truncateAfter(cut)
        model = model.slice(0, cut)
      }
      if (random.chance(0.2)) {
        shrunk += random.below(model.length - shrunk + 1)
        log.shrink(shrunk, 0)
      }
      expect(log.lastIndex).toBe(model.length)
      expect(log.lastTerm).toBe(model.at(-1)?.term ?? 0)
      expect(log.range(shrunk + 1, log.lastIndex)).toEqual(model.slice(shrunk))
      expect(log.bytes).toBe(model.slice(shrunk).reduce((sum, entry) => sum + entryBytes(entry), 0))
      const index = random.below(model.length + 2)
      const above = random.below(log.lastTerm + 2)
      const expected = model.findLast(
        entry => entry.index > shrunk && entry.index <= index && entry.term <= above,
      )
      const { index: at, term: of } = expected ?? log.before
      expect(log.lastPlaceNotAbove({ index, term: above })).toEqual({ index: at, term: of })
    }
  })
})
