/** What `npm run sim` and its worker processes say to each other. */
import type { RunReport } from './world.ts'

export interface WorkOrder {
  readonly seeds: readonly number[]
  readonly events?: number | undefined
  /** Stop at the first failure. */
  readonly untilFailure?: boolean
}

/** One seed's outcome. */
export type SeedReport = Omit<RunReport, 'trace'>

/** `ready` once everything is loaded, `done` at the end of an order. */
export type WorkerMessage = SeedReport | 'ready' | 'done'

/** In the environment of a worker: the bug that it has. */
export const mutantVariable = 'MOTE_SIMULATION_MUTANT'
