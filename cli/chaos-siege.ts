/** `mote chaos run siege` and the process of the hostile peers that it starts; the report for people. */
import { exitCodes } from '../chain/errors.ts'
import type { SiegeReport } from '../devnet/chaos/siege-run.ts'
import type { Spread } from '../devnet/chaos/timing.ts'
import { openChain } from './chain-access.ts'
import type { Context } from './context.ts'
import { durationText, type Output } from './output.ts'
import { runProgram } from './run-program.ts'
import { thisProgram } from './this-program.ts'

export const siegeSecondsDefault = 300

export async function runSiegeScenario(context: Context, seconds: number): Promise<number> {
  const { output, signal } = context
  const { runSiege } = await import('../devnet/chaos/siege-run.ts')
  const access = await openChain(context)
  const note = (text: string): void => output.note(text)
  const options = { access, durationMs: seconds * 1_000, program: thisProgram(), note, signal }
  const report = await runSiege(options)
  output.data(report, () => siegeText(output, report))
  return signal.aborted ? exitCodes.interrupted : report.pass ? exitCodes.ok : exitCodes.failure
}

/** All hostile peers, until it is stopped. */
export async function besiege(context: Context, [plan = '']: readonly string[]): Promise<number> {
  const { Besieger } = await import('../devnet/chaos/hostile/besieger.ts')
  return runProgram(context, async () => {
    const besieger = await Besieger.start(context.directory, plan)
    return { ready: {}, stop: () => besieger.stop(), ended: besieger.ended }
  })
}

function siegeText(output: Output, report: SiegeReport): string {
  const { times, usage, deeds, failed, refused } = report
  const spread = ({ count, median, p99 }: Spread) =>
    median === null || p99 === null ? 'none' : `${durationText(median)} (p99 ${durationText(p99)}, ${count})`
  const mebibytes = (bytes: number) => Math.round(bytes / 1024 ** 2)
  const counts = (all: Readonly<Record<string, number>>) =>
    Object.entries(all)
      .map(([what, count]) => `${count} ${what}`)
      .join(', ') || 'nothing'
  const lines = report.invariants.map(
    ({ name, pass, detail }) =>
      `${output.paint(pass ? 'green' : 'red', pass ? 'PASS' : 'FAIL')}  ${name}: ${detail}`,
  )
  return [
    `siege for ${durationText(report.durationMs)}; median before, during, after`,
    output.fields(
      Object.fromEntries(
        Object.entries(times).map(([work, { before, during, after }]) => [
          work,
          [before, during, after].map(spread).join(', '),
        ]),
      ),
    ),
    '',
    'tried again, and refused for good',
    output.fields({ again: counts(failed), refused: counts(refused) }),
    '',
    'memory in MiB and sockets before, at most, after',
    output.fields(
      Object.fromEntries(
        usage.map(({ name, before, peak, after }) => {
          const all = [before, peak, after]
          const memory = all.map(({ memoryBytes }) => mebibytes(memoryBytes)).join(', ')
          return [name, `${memory} MiB; ${all.map(({ sockets }) => sockets).join(', ')}`]
        }),
      ),
    ),
    '',
    'what they did',
    output.fields(Object.fromEntries(Object.entries(deeds).map(([name, did]) => [name, counts(did)]))),
    '',
    ...lines,
  ].join('\n')
}
