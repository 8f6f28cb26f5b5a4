/**
 * `npm run sim`: runs seeds, on several processes, or one seed with its trace; or puts known bugs back in and expects each of
 * them to be caught. Exit codes: 0 all as it should be, 1 a failure, 2 usage, 130 interrupted.
 */
import { commitName, failureText, type SimArguments, simArguments, UsageError, usage } from './arguments.ts'
import { mutants } from './mutants.ts'
import { changesOf, installMutant, type Mutant } from './mutation.ts'
import { mutantVariable, type SeedReport } from './worker-messages.ts'
import { Worker } from './worker-pool.ts'

const seedsPerOrder = 5
const interruptedExitCode = 130
const mutantSilenceMsMax = 30_000
/** Of the code that runs: it is loaded by now. */
const commit = commitName()
const workers = new Set<Worker>()
let interrupted = false

function startWorker(mutant?: Mutant): Worker {
  // A bug may well be one that never comes to an end.
  const worker = new Worker(mutant ? { mutant: mutant.name, silenceMsMax: mutantSilenceMsMax } : {})
  workers.add(worker)
  return worker
}

process.once('SIGINT', () => {
  interrupted = true
  for (const worker of workers) worker.stop()
})

async function runSeeds({ seeds, from, events, jobs }: SimArguments): Promise<number> {
  const startedAt = performance.now()
  const isTerminal = process.stderr.isTTY
  let failed = 0
  let next = from
  let done = 0
  let totalEvents = 0
  let metFull = 0
  let disjoint = 0
  let acknowledged = 0
  process.stderr.write(`seeds ${from} to ${from + seeds - 1} at ${commit}, ${jobs} processes\n`)
  const progress = (end: string) => {
    const rate = done / ((performance.now() - startedAt) / 1000)
    process.stderr.write(
      `${isTerminal ? '\r' : ''}${done}/${seeds} seeds, ${rate.toFixed(1)} seeds/s, ${failed} failed${end}`,
    )
  }
  const report = ({
    seed,
    violation,
    events: count,
    fullAnswers,
    disjointHandovers,
    messages,
  }: SeedReport) => {
    done++
    totalEvents += count
    if (fullAnswers > 0) metFull++
    disjoint += disjointHandovers
    acknowledged += messages
    if (violation) {
      failed++
      const mutant = process.env[mutantVariable]
      process.stdout.write(`\n${failureText(commit, violation.message, { seed, events, mutant })}\n`)
    }
    if (isTerminal || done % 100 === 0) progress(isTerminal ? '' : '\n')
  }
  const job = async () => {
    const worker = startWorker()
    while (next < from + seeds && !interrupted) {
      const first = next
      next = Math.min(next + seedsPerOrder, from + seeds)
      await worker.run({ seeds: Array.from({ length: next - first }, (_, i) => first + i), events }, report)
    }
    worker.end()
  }
  await Promise.all(Array.from({ length: Math.min(jobs, seeds) }, job))
  const seconds = (performance.now() - startedAt) / 1000
  if (isTerminal) progress('\n')
  const what = interrupted
    ? `interrupted after ${done} of ${seeds} seeds`
    : `seeds ${from} to ${from + seeds - 1}`
  process.stdout.write(
    `${what} at ${commit}: ${totalEvents} events in ${seconds.toFixed(1)} s, ${(done / seconds).toFixed(1)} seeds/s\n` +
      `a follower was full in ${metFull} of them; ${disjoint} handovers to a set that had nobody of the one before; gateways acknowledged ${acknowledged} messages\n${done - failed} passed, ${failed} failed\n`,
  )
  return failed === 0 ? 0 : 1
}

async function runOne(seed: number, { events, trace, chosen }: SimArguments): Promise<number> {
  const [mutant, another] = chosen.length > 0 ? chosenMutants(chosen) : []
  if (another) throw new UsageError(`--seed: one bug at a time, got ${chosen.join(' and ')}`)
  if (mutant) installMutant(mutant)
  // Only now, so that the bug is in what is loaded.
  const { runBoth } = await import('./both.ts')
  const report = await runBoth({ seed, events, trace })
  if (trace) process.stdout.write(`${report.trace}\n`)
  const { violation, traceHash, elections, blocks, acknowledged, faults, simulatedMs } = report
  process.stdout.write(
    `seed ${seed} at ${commit}: ${report.events} events, ${(simulatedMs / 1000).toFixed(1)} s simulated, ${faults} faults, ` +
      `${elections} elections, ${blocks} blocks, ${acknowledged} acknowledged, trace ${traceHash}\n` +
      `${violation ? `${failureText(commit, violation.message, { seed, events, mutant: chosen[0] })}\n0 passed, 1 failed` : '1 passed, 0 failed'}\n`,
  )
  return violation ? 1 : 0
}

/** How many seeds it took, and what was seen; or why nothing was. */
type Verdict =
  | { readonly type: 'caught'; readonly tried: number; readonly seed: number; readonly property: string }
  | { readonly type: 'uncaught' }
  | { readonly type: 'broken'; readonly message: string }

async function tryMutant(mutant: Mutant, { seeds, from, events }: SimArguments): Promise<Verdict> {
  try {
    changesOf(mutant)
  } catch (error) {
    return { type: 'broken', message: (error as Error).message }
  }
  const worker = startWorker(mutant)
  let verdict: Verdict = { type: 'uncaught' }
  let tried = 0
  const order = { seeds: Array.from({ length: seeds }, (_, i) => from + i), events, untilFailure: true }
  await worker.run(order, ({ seed, violation }) => {
    tried++
    if (violation) verdict = { type: 'caught', tried, seed, property: violation.property }
  })
  worker.end()
  return verdict
}

function sentenceOf({ name, source }: Mutant, verdict: Verdict, seeds: number): string {
  switch (verdict.type) {
    case 'caught':
      return `caught   ${name} (${source}): ${verdict.tried} seeds (${verdict.seed}); ${verdict.property}`
    case 'uncaught':
      return `UNCAUGHT ${name} (${source}): ${seeds} seeds`
    case 'broken':
      return `BROKEN   ${name}: ${verdict.message}`
  }
}

function chosenMutants(names: readonly string[]): readonly Mutant[] {
  const known = mutants.map(({ name }) => name)
  for (const name of names)
    if (!known.includes(name))
      throw new UsageError(`--mutant: expected one of ${known.join(', ')}; got ${name}`)
  return names.length === 0 ? mutants : mutants.filter(({ name }) => names.includes(name))
}

async function runMutants(args: SimArguments): Promise<number> {
  const chosen = chosenMutants(args.chosen)
  const waiting = [...chosen]
  const counts = { caught: 0, uncaught: 0, broken: 0 }
  const startedAt = performance.now()
  const job = async () => {
    for (let mutant = waiting.shift(); mutant && !interrupted; mutant = waiting.shift()) {
      const verdict = await tryMutant(mutant, args)
      if (interrupted) return
      counts[verdict.type]++
      process.stdout.write(`${sentenceOf(mutant, verdict, args.seeds)}\n`)
    }
  }
  await Promise.all(Array.from({ length: Math.min(args.jobs, chosen.length) }, job))
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(0)
  process.stdout.write(
    `mutants of ${commit}: ${counts.caught} caught, ${counts.uncaught} uncaught, ${counts.broken} broken, in ${seconds} s\n`,
  )
  return counts.caught === chosen.length ? 0 : 1
}

function run(args: SimArguments): Promise<number> {
  if (args.help) {
    process.stdout.write(usage)
    return Promise.resolve(0)
  }
  if (args.seed !== undefined) return runOne(args.seed, args)
  return args.mutants ? runMutants(args) : runSeeds(args)
}

try {
  const code = await run(simArguments(process.argv.slice(2)))
  process.exitCode = interrupted ? interruptedExitCode : code
} catch (error) {
  if (!(error instanceof UsageError)) throw error
  process.stderr.write(`${error.message}\n\n${usage}`)
  process.exitCode = 2
}
