/** The whole, and the core alone, on one seed: what `npm run sim` and the tests mean by a seed. */
import { runCore } from './core-run.ts'
import { type RunReport, runSeed } from './world.ts'

export interface BothOptions {
  readonly seed: number
  /** Of the whole, before its faults end. */
  readonly events?: number | undefined
  readonly trace?: boolean
}

export async function runBoth({ seed, events, trace = false }: BothOptions): Promise<RunReport> {
  const core = runCore({ seed })
  const whole = await runSeed({ seed, ...(events !== undefined && { events }), trace })
  const fullAnswers = core.fullAnswers + whole.fullAnswers
  if (!core.violation || whole.violation) return { ...whole, fullAnswers }
  return { ...whole, fullAnswers, violation: core.violation, trace: `${whole.trace}\n${core.trace}` }
}
