/**
 * `npm run sim`: runs seeds, on several processes, or one seed with its trace; or puts known bugs back in and expects each of
 * them to be caught. Exit codes: 0 all as it should be, 1 a failure, 2 usage.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { commitName, replayCommand, type SimArguments, simArguments, UsageError, usage } from './arguments.ts'
import { mutants } from './mutants.ts'
import { changesOf, type Mutant } from './mutation.ts'
import { runBoth, type SeedReport, type WorkOrder } from './worker.ts'

const workerFile = fileURLToPath(new URL('worker.ts', import.meta.url))
const seedsPerOrder = 5

function startWorker(mutant?: Mutant): ChildProcess {
  return fork(workerFile, [], {
    env: { ...process.env, ...(mutant && { MOTE_MUTANT: mutant.name }) },
    execArgv: ['--disable-warning=ExperimentalWarning'],
  })
}

/** Lets a worker run seeds; resolves when it has done them, rejects when it ends without. */
function orderOf(
  worker: ChildProcess,
  order: WorkOrder,
  onReport: (report: SeedReport) => void,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const heard = (message: SeedReport | 'done') => (message === 'done' ? resolve() : onReport(message))
  const ended = (code: number | null) =>
    reject(new Error(`a worker ended with ${code} on seeds ${order.seeds.join()}`))
  worker.on('message', heard)
  worker.once('exit', ended)
  worker.send(order)
  return promise.finally(() => {
    worker.off('message', heard)
    worker.off('exit', ended)
  })
}

async function runSeeds({ seeds, from, events, jobs }: SimArguments): Promise<number> {
  const startedAt = performance.now()
  const isTerminal = process.stderr.isTTY
  const failed: SeedReport[] = []
  let next = from
  let done = 0
  let totalEvents = 0
  const progress = (end: string) => {
    const rate = done / ((performance.now() - startedAt) / 1000)
    process.stderr.write(
      `${isTerminal ? '\r' : ''}${done}/${seeds} seeds, ${rate.toFixed(1)} seeds/s, ${failed.length} failed${end}`,
    )
  }
  const report = (result: SeedReport) => {
    done++
    totalEvents += result.events
    if (result.violation) {
      failed.push(result)
      process.stdout.write(
        `\nseed ${result.seed} at ${commitName()}: ${result.violation.message}\n  again: ${replayCommand(result.seed, events)}\n`,
      )
    }
    if (isTerminal || done % 100 === 0) progress(isTerminal ? '' : '\n')
  }
  await Promise.all(
    Array.from({ length: Math.min(jobs, seeds) }, async () => {
      const worker = startWorker()
      while (next < from + seeds) {
        const first = next
        next = Math.min(next + seedsPerOrder, from + seeds)
        const order = { seeds: Array.from({ length: next - first }, (_, i) => first + i), events }
        await orderOf(worker, order, report)
      }
      worker.disconnect()
    }),
  )
  const seconds = (performance.now() - startedAt) / 1000
  if (isTerminal) progress('\n')
  process.stdout.write(
    `seeds ${from} to ${from + seeds - 1} at ${commitName()}: ${totalEvents} events in ${seconds.toFixed(1)} s, ${(done / seconds).toFixed(1)} seeds/s\n` +
      `${done - failed.length} passed, ${failed.length} failed\n`,
  )
  return failed.length === 0 ? 0 : 1
}

async function runOne(seed: number, { events, trace }: SimArguments): Promise<number> {
  const report = await runBoth(seed, events, true)
  if (trace) process.stdout.write(`${report.trace}\n`)
  const { violation, traceHash, elections, blocks, acknowledged, faults, simulatedMs } = report
  process.stdout.write(
    `seed ${seed} at ${commitName()}: ${report.events} events, ${(simulatedMs / 1000).toFixed(1)} s simulated, ${faults} faults, ` +
      `${elections} elections, ${blocks} blocks, ${acknowledged} acknowledged, trace ${traceHash}\n` +
      `${violation ? `violated: ${violation.message}\n0 passed, 1 failed` : '1 passed, 0 failed'}\n`,
  )
  return violation ? 1 : 0
}

/** The first seed that catches a mutant, with how many it took. */
async function catchMutant(
  mutant: Mutant,
  { seeds, from, events }: SimArguments,
): Promise<(SeedReport & { tried: number }) | undefined> {
  changesOf(mutant)
  const worker = startWorker(mutant)
  let caught: SeedReport | undefined
  let tried = 0
  const order = { seeds: Array.from({ length: seeds }, (_, i) => from + i), events, untilFailure: true }
  await orderOf(worker, order, report => {
    tried++
    if (report.violation) caught = report
  })
  worker.disconnect()
  return caught && { ...caught, tried }
}

async function runMutants(args: SimArguments): Promise<number> {
  const chosen = mutants.filter(({ name }) => args.mutant === undefined || name === args.mutant)
  if (chosen.length === 0)
    throw new UsageError(`--mutant: expected one of ${mutants.map(({ name }) => name).join(', ')}`)
  const waiting = [...chosen]
  let uncaught = 0
  await Promise.all(
    Array.from({ length: Math.min(args.jobs, chosen.length) }, async () => {
      for (let mutant = waiting.shift(); mutant; mutant = waiting.shift()) {
        const startedAt = performance.now()
        const caught = await catchMutant(mutant, args)
        if (!caught) uncaught++
        const seconds = ((performance.now() - startedAt) / 1000).toFixed(1)
        process.stdout.write(
          caught
            ? `caught   ${mutant.name} (${mutant.source}): ${caught.tried} seeds, ${seconds} s; ${caught.violation?.property}\n`
            : `UNCAUGHT ${mutant.name} (${mutant.source}): ${args.seeds} seeds, ${seconds} s\n`,
        )
      }
    }),
  )
  process.stdout.write(`${chosen.length - uncaught} mutants caught, ${uncaught} uncaught\n`)
  return uncaught === 0 ? 0 : 1
}

try {
  const args = simArguments(process.argv.slice(2))
  if (args.mutants) process.exitCode = await runMutants(args)
  else if (args.seed !== undefined) process.exitCode = await runOne(args.seed, args)
  else process.exitCode = await runSeeds(args)
} catch (error) {
  if (!(error instanceof UsageError)) throw error
  process.stderr.write(`${error.message}\n\n${usage}`)
  process.exitCode = 2
}
