/**
 * One process that runs seeds for `npm run sim`: given a list, it answers seed by seed (worker-pool.ts). Started with the name
 * of a mutant it puts that bug in before it loads anything else.
 */
import { mutants } from './mutants.ts'
import { installMutant } from './mutation.ts'
import { mutantVariable, type WorkerMessage, type WorkOrder } from './worker-messages.ts'

const tell = (message: WorkerMessage) => process.send?.(message)

const name = process.env[mutantVariable]
if (name !== undefined) {
  const mutant = mutants.find(candidate => candidate.name === name)
  if (!mutant) throw new Error(`no mutant ${name}`)
  installMutant(mutant)
}
const { runBoth } = await import('./both.ts')

async function work({ seeds, events, untilFailure }: WorkOrder): Promise<void> {
  for (const seed of seeds) {
    const { trace: _trace, ...report } = await runBoth({ seed, events })
    tell(report)
    if (report.violation && untilFailure) break
  }
  tell('done')
}

process.on('message', (order: WorkOrder) => void work(order))
process.on('disconnect', () => process.exit(0))
// Ctrl-C reaches the whole process group: the one who gives orders decides.
process.on('SIGINT', () => {})
tell('ready')
