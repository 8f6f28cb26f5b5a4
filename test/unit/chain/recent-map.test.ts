import { expect, test } from 'vitest'
import { RecentMap } from '../../../chain/recent-map.ts'

test('recent map: keeps the newest entries and forgets old ones', () => {
  const map = new RecentMap<number, string>(10)
  for (let key = 0; key < 100; key++) map.set(key, `value ${key}`)
  for (let key = 90; key < 100; key++) expect(map.get(key)).toBe(`value ${key}`)
  const kept = Array.from({ length: 100 }, (_, key) => map.get(key)).filter(value => value !== undefined)
  expect(kept.length).toBeLessThanOrEqual(20)
})

test('recent map: an entry that is read stays', () => {
  const map = new RecentMap<number, string>(10)
  map.set(0, 'kept')
  for (let key = 1; key < 100; key++) {
    map.set(key, 'other')
    expect(map.get(0)).toBe('kept')
  }
})

test('recent map: the newest value of a key counts', () => {
  const map = new RecentMap<string, number>(2)
  for (let value = 0; value < 9; value++) {
    map.set('key', value)
    map.set(`other ${value}`, value)
    expect(map.get('key')).toBe(value)
  }
})
