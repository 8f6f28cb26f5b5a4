/** Topics of plain clients: which come in, which go out, and that none is both. */
import { expect, test } from 'vitest'
import type { DeviceId } from '../../../chain/brands.ts'
import {
  comesIn,
  decisionTopic,
  goesOut,
  openFilters,
  overlapOf,
  type PlainTopics,
} from '../../../mqtt-gateway/protocol/plain-topics.ts'
import { parsePublishedTopic, topics } from '../../../mqtt-gateway/protocol/topics.ts'

const mapped: PlainTopics = { in: ['forest/#', 'hall/+/air'], out: ['fire/#'], open: false }
const device = 'a1'.repeat(32) as DeviceId

test.each([
  ['forest/#', 'forest/north'],
  ['forest/#', 'forest'],
  ['forest', 'forest/#'],
  ['forest/+', 'forest/north'],
  ['forest/+/air', 'forest/north/+'],
  ['forest/+/#', 'forest/north'],
  ['forest/north/a', 'forest/#'],
])('plain topics: %s and %s have a topic in common', (incoming, outgoing) => {
  expect(overlapOf({ in: ['other/#', incoming], out: [outgoing] })).toEqual([incoming, outgoing])
  expect(overlapOf({ in: [outgoing], out: [incoming, 'more/#'] })).toEqual([outgoing, incoming])
})

test.each([
  ['forest/#', 'fire/#'],
  ['forest/+', 'forest/north/a'],
  ['forest/+/air', 'forest/north/water'],
  ['forest/north', 'forest'],
  ['forest/+/#', 'forest'],
])('plain topics: %s and %s have none', (incoming, outgoing) => {
  expect(overlapOf({ in: [incoming], out: [outgoing] })).toBeUndefined()
  expect(overlapOf({ in: [outgoing], out: [incoming] })).toBeUndefined()
})

test('plain topics: what comes in, and where a decision goes', () => {
  const names = ['forest', 'forest/north', 'hall/1/air', 'hall/1', 'fire/north']
  expect(names.filter(name => comesIn(mapped, name))).toEqual(['forest', 'forest/north', 'hall/1/air'])
  expect(names.filter(name => goesOut(mapped, name))).toEqual(['fire/north'])
  expect(decisionTopic(mapped, 'fire/north')).toBe('fire/north')
  expect(decisionTopic(mapped, 'valve/1')).toBe('mote/1/decision/valve/1')
})

test('plain topics: what every device may receive where they are open, and nothing where they are not', () => {
  expect(openFilters({ ...mapped, open: true })).toEqual(['fire/#', 'mote/1/decision/#'])
  expect(openFilters(mapped)).toEqual([])
})

test('plain topics: a report names its device and its topic, and nobody publishes a decision', () => {
  const report = topics.report(device, 'forest/north')
  expect(report).toBe(`mote/1/plain/${device}/forest/north`)
  expect(parsePublishedTopic(report)).toEqual({ type: 'report', device, topic: 'forest/north' })
  expect(parsePublishedTopic(topics.record(device))).toEqual({ type: 'record', device })
  for (const none of [`mote/1/plain/${device}`, `mote/1/plain/${device}/`, 'mote/1/plain/forest/north'])
    expect(parsePublishedTopic(none)).toBeUndefined()
  expect(parsePublishedTopic(topics.decision('fire/north'))).toBeUndefined()
})
