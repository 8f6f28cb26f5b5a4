/**
 * One process that runs seeds for `npm run sim`: asked for a range, it answers seed by seed. Started with the name of a
 * mutant it puts that bug in before it loads anything else.
 */

import { mutants } from './mutants.ts'
import { installMutant } from './mutation.ts'
import type { RunReport } from './world.ts'

export interface WorkOrder {
  readonly seeds: readonly number[]
  readonly events?: number | undefined
  /** Stop at the first failure. */
  readonly untilFailure?: boolean
}

/** One seed's outcome. */
export type SeedReport = Omit<RunReport, 'trace'>

const name = process.env['MOTE_MUTANT']
if (name !== undefined) {
  const mutant = mutants.find(candidate => candidate.name === name)
  if (!mutant) throw new Error(`no mutant ${name}`)
  installMutant(mutant)
}
const { runSeed } = await import('./world.ts')
const { runCore } = await import('./core-run.ts')

/** The whole, and the core alone, on one seed. */
export async function runBoth(seed: number, events: number | undefined, trace = false): Promise<RunReport> {
  const core = runCore({ seed })
  const whole = await runSeed({ seed, ...(events !== undefined && { events }), trace })
  return core.violation && !whole.violation ? { ...whole, violation: core.violation } : whole
}

async function work({ seeds, events, untilFailure }: WorkOrder): Promise<void> {
  for (const seed of seeds) {
    const { trace: _trace, ...report } = await runBoth(seed, events)
    process.send?.(report satisfies SeedReport)
    if (report.violation && untilFailure) break
  }
  process.send?.('done')
}

if (process.send) {
  process.on('message', (order: WorkOrder) => void work(order))
  process.on('disconnect', () => process.exit(0))
}
