import { describe, expect, test } from 'vitest'
import { storeKey } from '../../../node/storage/store-records.ts'
import { type CrashKind, SimulatedDisk } from '../../simulation/disk.ts'
import { SeededRandom } from '../../simulation/random.ts'
import { type SimulatedActor, Timeline } from '../../simulation/timeline.ts'

class Somebody implements SimulatedActor {
  readonly name = 'somebody'
  readonly backlog: SimulatedActor['backlog'] = []
  readonly boundary = () => {}
  alive = true
  paused = false
}

const value = (text: string) => new TextEncoder().encode(text)

function runAll(timeline: Timeline): void {
  for (let event = timeline.next(); event; event = timeline.next()) event.happen()
}

describe('simulated time', () => {
  test('timeline: events happen by time, then in the order in which they were scheduled', () => {
    const timeline = new Timeline()
    const seen: string[] = []
    for (const [delay, name] of [
      [5, 'late'],
      [1, 'first'],
      [1, 'second'],
      [3, 'middle'],
    ] as const)
      timeline.schedule(delay, undefined, name, () => seen.push(`${timeline.now} ${name}`))
    runAll(timeline)
    expect(seen).toEqual(['1 first', '1 second', '3 middle', '5 late'])
  })

  test('timeline: who is paused gets what it missed in order, and who is dead gets nothing', () => {
    const timeline = new Timeline()
    const seen: string[] = []
    const somebody = new Somebody()
    somebody.paused = true
    for (const name of ['a', 'b']) timeline.schedule(1, somebody, name, () => seen.push(name))
    runAll(timeline)
    expect(seen).toEqual([])
    somebody.paused = false
    timeline.release(somebody)
    timeline.schedule(5, somebody, 'c', () => seen.push('c'))
    timeline.schedule(2, undefined, 'end', () => {
      somebody.alive = false
    })
    runAll(timeline)
    expect(seen).toEqual(['a', 'b'])
  })

  test('random: one seed and label give one sequence, another label another', () => {
    const numbers = (label: string) =>
      Array.from({ length: 5 }, (_, i) => new SeededRandom(7, label).below(1e9) + i)
    expect(numbers('a')).toEqual(numbers('a'))
    expect(numbers('a')).not.toEqual(numbers('b'))
  })
})

/** What is left of three writes, of which the second was synced and the fourth was on its way, over many chances. */
function leftAfter(kind: CrashKind): Set<string> {
  const left = new Set<string>()
  for (let seed = 0; seed < 200; seed++) {
    const timeline = new Timeline()
    const user = new Somebody()
    const disk = new SimulatedDisk(timeline, new SeededRandom(seed, 'disk'))
    const write = (name: string, durable: boolean) =>
      void disk.write(user, { operations: [{ key: storeKey('leaf', name), value: value(name) }], durable })
    for (const [name, durable] of [
      ['aa', false],
      ['bb', true],
      ['cc', false],
    ] as const) {
      write(name, durable)
      runAll(timeline)
    }
    write('dd', true)
    disk.crash(kind)
    const names = ['aa', 'bb', 'cc', 'dd'].filter(name => disk.read(storeKey('leaf', name)))
    left.add(names.join(' '))
  }
  return left
}

describe('simulated disk', () => {
  test('disk: a power loss keeps what was synced, with all before it, and perhaps more', () => {
    expect([...leftAfter('power')].sort()).toEqual(['aa bb', 'aa bb cc', 'aa bb cc dd'])
  })

  test('disk: a killed process loses the write on its way at most', () => {
    expect([...leftAfter('process')].sort()).toEqual(['aa bb cc', 'aa bb cc dd'])
  })

  test('disk: a torn append leaves entries behind, and never the record that makes them count', () => {
    const seen = new Set<string>()
    for (let seed = 0; seed < 200; seed++) {
      const timeline = new Timeline()
      const user = new Somebody()
      const disk = new SimulatedDisk(timeline, new SeededRandom(seed, 'disk'))
      const keys = [storeKey('entry', 1), storeKey('entry', 2), storeKey('logTail')]
      void disk.write(user, { operations: keys.map(key => ({ key, value: value('entry') })), durable: true })
      disk.crash('power')
      const whole = keys.map(key => disk.read(key)?.length ?? -1)
      seen.add(whole.map(length => (length < 0 ? 'no' : length === 5 ? 'all' : 'cut')).join(' '))
    }
    expect([...seen].sort()).toEqual([
      'all all all',
      'all all no',
      'all cut no',
      'all no no',
      'cut no no',
      'no no no',
    ])
  })

  test('disk: rot shows when it is read, and a write mends it', () => {
    const timeline = new Timeline()
    const user = new Somebody()
    const disk = new SimulatedDisk(timeline, new SeededRandom(3, 'disk'))
    const key = storeKey('leaf', 'aa')
    const put = () => void disk.write(user, { operations: [{ key, value: value('sound') }], durable: true })
    put()
    runAll(timeline)
    expect(disk.rot([key[0]!])).toEqual(Buffer.from(key))
    expect(disk.read(key)).not.toEqual(value('sound'))
    expect(disk.durable(key)).toEqual(value('sound'))
    put()
    runAll(timeline)
    expect(disk.read(key)).toEqual(value('sound'))
  })
})
