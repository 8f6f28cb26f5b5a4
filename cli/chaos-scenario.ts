/** `mote chaos run`: the command around a chaos run, and its report for people. */
import { randomBytes } from 'node:crypto'
import type { Command } from 'commander'
import { exitCodes } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'
import {
  parseScenario,
  type ScenarioName,
  scenarioList,
  scenarioNames,
  scheduleOf,
} from '../devnet/scenarios.ts'
import { openChain } from './chain-access.ts'
import type { Spread } from './chaos-clock.ts'
import { type ChaosReport, runScenario } from './chaos-run.ts'
import type { AddCommand } from './command.ts'
import { type Context, parseSeconds } from './context.ts'
import { durationText, type Output } from './output.ts'

interface ScenarioOptions {
  readonly seed?: string
  readonly duration: number
}

export function scenarioCommand(family: Command, add: AddCommand): void {
  add<ScenarioOptions>({
    parent: family,
    usage: 'run <scenario>',
    description: `faults by a schedule under a load of its own, then the checks: ${scenarioNames.join(', ')}`,
    options: [
      { flags: '--seed <text>', description: 'decides the schedule (default: random, and printed)' },
      {
        flags: '--duration <seconds>',
        description: 'how long faults go on',
        default: 60,
        read: parseSeconds,
      },
    ],
    exits: { 0: 'every invariant held', 1: 'an invariant was broken, or the run failed' },
    notes: `Scenarios:\n${scenarioList()}\n\nThe seed fixes what happens when, and to which role; which node has the role, elections decide.`,
    lifetime: 'drains',
    action: (context, [name = ''], options) => run(context, parseScenario(name), options),
  })
}

async function run(context: Context, scenario: ScenarioName, options: ScenarioOptions): Promise<number> {
  const { output, signal } = context
  const seed = options.seed ?? randomBytes(4).toString('hex')
  const durationMs = options.duration * 1_000
  if (scheduleOf({ scenario, seed, durationMs }).length === 0)
    throw new MoteError(
      'usage',
      `--duration: ${options.duration} s are too short for one episode of ${scenario}`,
    )
  const access = await openChain(context)
  const again = `mote chaos run ${scenario} --seed ${seed} --duration ${options.duration}`
  output.note(again)
  const note = (text: string): void => output.note(text)
  const report = await runScenario({ access, scenario, seed, durationMs, note, signal })
  output.data(report, () => reportText(output, report))
  if (!report.pass) output.note(`failed; the same schedule again: ${again}`)
  return signal.aborted ? exitCodes.interrupted : report.pass ? exitCodes.ok : exitCodes.failure
}

function spreadText({ count, median, p99, max }: Spread): string {
  if (median === null || p99 === null || max === null) return 'none'
  return `median ${durationText(median)}, p99 ${durationText(p99)}, longest ${durationText(max)} of ${count}`
}

function reportText(output: Output, report: ChaosReport): string {
  const { transactions, gateway } = report
  const retried = Object.entries(transactions.retried).map(([code, count]) => `${code} ${count}`)
  const fields = output.fields({
    scenario: `${report.scenario}, seed ${report.seed}, ${durationText(report.durationMs)}, ${report.episodes} episodes`,
    elections: report.elections,
    'election time': spreadText(report.electionMs),
    'without commits': spreadText(report.withoutCommitsMs),
    'all nodes down': spreadText(report.outageMs),
    transactions: `${transactions.sent} sent, ${transactions.acknowledged} acknowledged, ${transactions.pending} pending, ${transactions.invalidated} invalidated`,
    retried: retried.length === 0 ? 'nothing' : retried.join(', '),
    gateway: `${gateway.relayed} messages relayed, ${gateway.refused} refused, ${gateway.unanswered} unanswered`,
    'on stale data': `${gateway.refusedStale} decisions to refuse, ${gateway.relayedStale} to relay`,
  })
  const lines = report.invariants.map(
    ({ name, pass, detail }) =>
      `${output.paint(pass ? 'green' : 'red', pass ? 'PASS' : 'FAIL')}  ${name}: ${detail}`,
  )
  return [fields, '', ...lines].join('\n')
}
