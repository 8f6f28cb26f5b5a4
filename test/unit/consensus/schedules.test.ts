/**
 * Random schedules over a small cluster: safety at every step, then progress once the faults end. A failing seed is
 * in the message; the same seed gives the same run.
 */
import { describe, expect, it } from 'vitest'
import type { Config } from '../../../consensus/types.ts'
import { Cluster } from './cluster.ts'

const schedules = 60
const events = 4_000

const variants: [name: string, config: Partial<Config>][] = [
  ['defaults', {}],
  [
    'tight limits',
    {
      maxEntriesPerAppend: 2,
      maxAppendsInFlight: 2,
      maxBytesPerAppend: 200,
      maxBytesInFlight: 400,
      maxLogBytesInMemory: 300,
      maxUncommittedBytes: 300,
    },
  ],
  ['no pre-vote, automatic leave', { preVote: false, autoLeaveJoint: true, heartbeatTicks: 2 }],
]

function run(seed: number, config: Partial<Config>): Cluster {
  const cluster = new Cluster(seed, config)
  cluster.disturb(events)
  return cluster
}

describe('random schedules (Figure 3)', () => {
  it.each(variants)('safety at every step, progress after the faults: %s', (_, config) => {
    for (let seed = 1; seed <= schedules; seed += 1) {
      try {
        expect(run(seed, config).heal(200), 'elects, serves and agrees once the faults are over').toBe(true)
      } catch (error) {
        throw new Error(`seed ${seed}: ${String(error)}`, { cause: error })
      }
    }
  })

  it('tight limits: followers become full', () => {
    const [, tight] = variants[1]!
    const counts = [1, 2, 3, 4, 5, 6, 7, 8].map(seed => run(seed, tight).fullAnswers)
    expect(counts.filter(count => count > 0).length).toBeGreaterThanOrEqual(4)
  })

  it('the same seed gives the same run', () => {
    const trace = () =>
      [...run(7, {}).nodes.values()].map(({ disk, applied }) => JSON.stringify({ disk, applied }))
    expect(trace()).toEqual(trace())
  })
})
