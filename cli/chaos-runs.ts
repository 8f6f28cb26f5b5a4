/** `mote chaos run` and `mote chaos kill-leader`: the commands around the laboratory's runs, and the reports for people. */
import { randomBytes } from 'node:crypto'
import type { Command } from 'commander'
import { exitCodes } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'
import type { KillLeaderReport } from '../devnet/chaos/kill-leader.ts'
import type { ChaosReport } from '../devnet/chaos/scenario-run.ts'
import {
  defaultThinkMs,
  parseChaosScenario,
  type ScenarioName,
  scenarioList,
  scenarioNames,
  scheduleOf,
} from '../devnet/chaos/scenarios.ts'
import type { Spread } from '../devnet/chaos/timing.ts'
import { openChain } from './chain-access.ts'
import { besiege, runSiegeScenario, siegeSecondsDefault } from './chaos-siege.ts'
import type { AddCommand } from './command.ts'
import { type Context, parseSeconds } from './context.ts'
import { durationText, type Output } from './output.ts'

interface ScenarioOptions {
  readonly seed?: string
  readonly duration?: number
  readonly think?: number
}

const faultSecondsDefault = 60

/** What the times mean, for `--help`. */
const measures = [
  'electionMs     from the kill until a surviving node says that it leads a later term, or acknowledges in it',
  'unavailableMs  from the kill until the first acknowledgement of a transaction that a later term ordered',
  'acked          transactions acknowledged as certified before, during and after the kill',
  'ackedLost      those of them that a running node does not have, certified, at the acknowledged height',
].join('\n')

export function runCommands(family: Command, add: AddCommand): void {
  add<{ watch?: boolean }>({
    parent: family,
    usage: 'kill-leader',
    description:
      "SIGKILL to the leader's process under a load of its own; reads every acknowledged transaction back",
    exits: {
      0: 'nothing acknowledged was lost',
      1: 'an acknowledged transaction was lost, or the run failed',
      6: 'no majority would be left, and nothing was done; or none elected a leader in time',
    },
    notes: measures,
    options: [{ flags: '--watch', description: 'show what happens while it happens' }],
    lifetime: 'listens',
    action: runKillLeader,
  })
  add<ScenarioOptions>({
    parent: family,
    usage: 'run <scenario>',
    description: `faults by a schedule under a load of its own, then the checks: ${[...scenarioNames, 'siege'].join(', ')}`,
    options: [
      { flags: '--seed <text>', description: 'decides the schedule (default: random, and printed)' },
      {
        flags: '--duration <seconds>',
        description: `how long faults go on (${faultSecondsDefault}; siege ${siegeSecondsDefault})`,
        read: parseSeconds,
      },
      {
        flags: '--think <ms>',
        description: `pause of the load's clients after each transaction (${defaultThinkMs}; siege: not taken)`,
        read: parseThink,
      },
    ],
    exits: { 0: 'every invariant held', 1: 'an invariant was broken, or the run failed' },
    notes: `Scenarios:\n${scenarioList()}\n\nThe seed fixes what happens when, and to which role; which node has the role, elections decide.`,
    lifetime: 'drains',
    action: (context, [name = ''], options) =>
      name === 'siege'
        ? runSiegeScenario(context, options.duration ?? siegeSecondsDefault)
        : runFaults(context, parseChaosScenario(name), options),
  })
  add({
    parent: family,
    usage: 'besiege <plan>',
    description: 'the hostile peers that `run siege` starts',
    lifetime: 'drains',
    hidden: true,
    action: besiege,
  })
}

async function runKillLeader(
  context: Context,
  _args: readonly string[],
  { watch = false }: { readonly watch?: boolean },
): Promise<number> {
  const { output, signal, timeoutMs } = context
  const { killLeader } = await import('../devnet/chaos/kill-leader.ts')
  const access = await openChain(context)
  const note = (text: string): void => output.note(text)
  const report = await killLeader({ access, signal, timeoutMs, ...(watch && { note }) })
  return printKillLeader(context, report)
}

/** Prints the report and returns the exit code: 1 if anything acknowledged was lost. */
export function printKillLeader({ output }: Pick<Context, 'output'>, result: KillLeaderReport): number {
  const lost = result.ackedLost > 0
  output.data(result, () =>
    output.fields({
      'old leader': `${result.oldLeader}, term ${result.oldTerm}`,
      'new leader': `${result.newLeader}, term ${result.newTerm}`,
      election: durationText(result.electionMs),
      unavailable: durationText(result.unavailableMs),
      acknowledged: result.acked,
      'of these lost': output.paint(lost ? 'red' : 'green', String(result.ackedLost)),
    }),
  )
  if (!lost) output.note(`\`mote chaos restart ${result.oldLeader}\` brings the killed node back`)
  return lost ? exitCodes.failure : exitCodes.ok
}

async function runFaults(
  context: Context,
  scenario: ScenarioName,
  options: ScenarioOptions,
): Promise<number> {
  const { output, signal } = context
  const seed = options.seed ?? randomBytes(4).toString('hex')
  const { duration = faultSecondsDefault, think: thinkMs = defaultThinkMs } = options
  const durationMs = duration * 1_000
  if (scheduleOf({ scenario, seed, durationMs }).length === 0)
    throw new MoteError('usage', `--duration: ${duration} s are too short for one episode of ${scenario}`)
  const access = await openChain(context)
  const pause = thinkMs === defaultThinkMs ? '' : ` --think ${thinkMs}`
  const again = `mote chaos run ${scenario} --seed ${seed} --duration ${duration}${pause}`
  output.note(again)
  const note = (text: string): void => output.note(text)
  const { runChaosScenario: runScenario } = await import('../devnet/chaos/scenario-run.ts')
  const report = await runScenario({ access, scenario, seed, durationMs, thinkMs, note, signal })
  output.data(report, () => scenarioReport(output, report))
  if (!report.pass) output.note(`failed; the same schedule again: ${again}`)
  return signal.aborted ? exitCodes.interrupted : report.pass ? exitCodes.ok : exitCodes.failure
}

function parseThink(text: string): number {
  if (!/^\d{1,5}$/.test(text)) throw new MoteError('usage', `expected whole milliseconds, got '${text}'`)
  return Number(text)
}

function spreadText({ count, median, p99, max }: Spread): string {
  if (median === null || p99 === null || max === null) return 'none'
  return `median ${durationText(median)}, p99 ${durationText(p99)}, longest ${durationText(max)} of ${count}`
}

function scenarioReport(output: Output, report: ChaosReport): string {
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
