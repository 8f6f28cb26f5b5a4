/** In place of test/simulation/worker.ts: ends at seed 3, hangs at seed 4, passes all others. */
import type { SeedReport, WorkerMessage, WorkOrder } from '../simulation/worker-messages.ts'

const tell = (message: WorkerMessage) => process.send?.(message)

function passed(seed: number): SeedReport {
  const nothing = {
    events: 1,
    simulatedMs: 1,
    elections: 1,
    blocks: 1,
    acknowledged: 1,
    faults: 0,
    fullAnswers: 0,
    disjointHandovers: 0,
    messages: 0,
  }
  return { seed, violation: undefined, traceHash: '', ...nothing }
}

process.on('message', ({ seeds }: WorkOrder) => {
  for (const seed of seeds) {
    if (seed === 3) process.exit(7)
    if (seed === 4) return
    tell(passed(seed))
  }
  tell('done')
})
process.on('disconnect', () => process.exit(0))
tell('ready')
