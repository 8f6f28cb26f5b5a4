/** A seed decides a schedule, and the schedule keeps to what its scenario promises. */
import { describe, expect, test } from 'vitest'
import {
  faultText,
  parseChaosScenario,
  scenarioList,
  scenarioNames,
  scheduleOf,
} from '../../../devnet/chaos/scenarios.ts'

const durationMs = 120_000

describe('scenarios', () => {
  test.each(scenarioNames)('%s: the same seed gives the same schedule, another seed another', scenario => {
    const schedule = scheduleOf({ scenario, seed: 'a', durationMs })
    expect(schedule.length).toBeGreaterThan(3)
    expect(scheduleOf({ scenario, seed: 'a', durationMs })).toEqual(schedule)
    expect(scheduleOf({ scenario, seed: 'b', durationMs })).not.toEqual(schedule)
  })

  test.each(scenarioNames)('%s: episodes and the calm between them fit into the duration', scenario => {
    for (let seed = 0; seed < 20; seed++) {
      const schedule = scheduleOf({ scenario, seed: `${seed}`, durationMs })
      const total = schedule.reduce((sum, { calmMs, lastsMs }) => sum + calmMs + lastsMs, 0)
      expect(total).toBeLessThanOrEqual(durationMs)
      for (const { calmMs, lastsMs, faults } of schedule) {
        expect(Math.min(calmMs, lastsMs)).toBeGreaterThan(0)
        expect(faults.length).toBeGreaterThan(0)
      }
    }
  })

  test('storm: every kind of fault comes up', () => {
    const kinds = new Set<string>()
    for (let seed = 0; seed < 20; seed++)
      for (const { faults } of scheduleOf({ scenario: 'storm', seed: `${seed}`, durationMs }))
        for (const fault of faults) kinds.add(fault.type)
    expect([...kinds].sort()).toEqual([
      'cut',
      'delay',
      'everyone',
      'gateway',
      'isolate',
      'kill',
      'loss',
      'pause',
      'restart',
      'wipe',
    ])
  })

  test.each(['storm', 'light-nodes'] as const)(
    '%s: lightweight and coordination nodes are killed, paused and restarted',
    scenario => {
      const hits = new Set<string>()
      for (let seed = 0; seed < 20; seed++)
        for (const { faults } of scheduleOf({ scenario, seed: `${seed}`, durationMs }))
          for (const fault of faults)
            if ('target' in fault && 'number' in fault.target) hits.add(`${fault.type} ${fault.target.type}`)
      for (const label of ['lightweight', 'coordination'])
        for (const type of ['kill', 'pause', 'restart']) expect(hits).toContain(`${type} ${label}`)
    },
  )

  test('a longer run begins like a shorter one', () => {
    const shorter = scheduleOf({ scenario: 'storm', seed: 'a', durationMs: 30_000 })
    const longer = scheduleOf({ scenario: 'storm', seed: 'a', durationMs: 90_000 })
    expect(longer.slice(0, shorter.length)).toEqual(shorter)
  })

  test('names are read, listed and refused', () => {
    for (const name of scenarioNames) {
      expect(parseChaosScenario(name)).toBe(name)
      expect(scenarioList()).toContain(name)
    }
    expect(() => parseChaosScenario('sunshine')).toThrow('scenario:')
    expect(faultText({ type: 'isolate', target: { type: 'follower', number: 1 }, direction: 'in' })).toBe(
      'isolate follower-2 (in)',
    )
    expect(faultText({ type: 'pause', target: { type: 'lightweight', number: 0 } })).toBe(
      'pause lightweight-1',
    )
  })
})
