/**
 * `mote chaos …`: faults on the real processes of a devnet, through its supervisor.
 */
import type { Command } from 'commander'
import { exitCodes } from '../chain/errors.ts'
import { levelNodesOf, requireLevel, untilAnswered, untilLevel } from '../devnet/chaos/level.ts'
import { askControl, type FaultSignal } from '../devnet/control.ts'
import type { DevnetDescription } from '../devnet/layout.ts'
import { clockOffsetText, parseClockOffset } from '../devnet/shifted-clock.ts'
import { requireDescription } from './chain-access.ts'
import { linkCommands } from './chaos-links.ts'
import { runCommands } from './chaos-runs.ts'
import type { AddCommand } from './command.ts'
import type { Context } from './context.ts'

const clockNotes =
  'It jumps under the running process, as when somebody sets it, and stays off over `restart` until 0, `heal` or the end of\n' +
  'the devnet. Timers and time-outs go by steady time, which is not touched; the times in its log are off too. The clock of a\n' +
  'full node that is more than 5 s off is named by every full node within some seconds: in `mote devnet status`, in `/readyz`\n' +
  'and in the log. Of a minority nothing else is to be seen; a gateway or light node whose own clock is off says `stale`.'

const levelExits = {
  0: 'it answers, and has what the full nodes had certified when it was asked',
  124: 'it did not catch up in time; the message says from where to where',
} as const
/** Left of a command's time to say what is wrong. */
const sayWhyMs = 2_000

export function chaosCommands(family: Command, add: AddCommand): void {
  const signals: readonly (readonly [string, FaultSignal, string])[] = [
    ['kill', 'SIGKILL', 'SIGKILL to a node or the gateway; it stays down until `restart`'],
    ['pause', 'SIGSTOP', 'stop a process in its tracks; the others see silence'],
  ]
  for (const [name, signal, description] of signals)
    add({
      parent: family,
      usage: `${name} <node>`,
      description,
      action: (context, [node = '']) => sendSignal(context, { node, signal, done: name }),
    })
  add({
    parent: family,
    usage: 'resume <node>',
    description: 'let a paused process go on, and wait until it has caught up',
    exits: levelExits,
    action: resume,
  })
  add({
    parent: family,
    usage: 'restart <node>',
    description: 'stop a node if it runs, start it, and wait until it answers and has caught up',
    exits: { ...levelExits, 5: 'the node was revoked; it does not come back' },
    action: restart,
  })
  add({
    parent: family,
    usage: 'clock <node> <offset>',
    description:
      "shift the wall clock of a node or the gateway by +1h, -70s, +400d (ms, s, m, h, d) against the machine's; 0 sets it right",
    notes: clockNotes,
    signedArguments: true,
    action: shiftClock,
  })
  linkCommands(family, add)
  runCommands(family, add)
}

async function sendSignal(
  context: Context,
  { node, signal, done }: { readonly node: string; readonly signal: FaultSignal; readonly done: string },
): Promise<number> {
  const { controlSocket } = await requireDescription(context)
  const request = { command: 'signal', node, signal } as const
  const { pid } = (await askControl(controlSocket, request, context.signal)) as { pid: number }
  context.output.data({ node, pid, signal }, () => `${done} ${node}: ${signal} to process ${pid}`)
  return exitCodes.ok
}

async function shiftClock(context: Context, [node = '', text = '']: readonly string[]): Promise<number> {
  const offsetMs = parseClockOffset(text)
  const { controlSocket } = await requireDescription(context)
  const request = { command: 'clock', node, offsetMs } as const
  const { pid } = (await askControl(controlSocket, request, context.signal)) as { pid: number | null }
  context.output.data({ node, pid, offsetMs }, () => {
    const done = offsetMs === 0 ? 'is right' : `is off by ${clockOffsetText(offsetMs)}`
    return `the clock of ${node} ${done}${pid === null ? ' from its next start on' : ''}`
  })
  return exitCodes.ok
}

async function resume(context: Context, [node = '']: readonly string[]): Promise<number> {
  const description = await requireDescription(context)
  const started = performance.now()
  const request = { command: 'signal', node, signal: 'SIGCONT' } as const
  const { pid } = (await askControl(description.controlSocket, request, context.signal)) as { pid: number }
  const level = await caughtUp(context, { description, node, started })
  context.output.data({ node, pid, signal: request.signal, ...level }, () =>
    [`resume ${node}: SIGCONT to process ${pid}`, ...levelText(level)].join(', '),
  )
  return exitCodes.ok
}

async function restart(context: Context, [node = '']: readonly string[]): Promise<number> {
  const description = await requireDescription(context)
  const started = performance.now()
  const request = { command: 'restart', node } as const
  const { pid } = (await askControl(description.controlSocket, request, context.signal)) as { pid: number }
  const tookMs = Math.round(performance.now() - started)
  const level = await caughtUp(context, { description, node, started })
  context.output.data({ node, pid, tookMs, ...level }, () =>
    [`${node} answers again after ${tookMs} ms`, ...levelText(level), `process ${pid}`].join(', '),
  )
  return exitCodes.ok
}

interface CaughtUp {
  readonly height?: number
  readonly levelMs?: number
}

/** Waits until a node has caught up, or the gateway answers. Throws `timeout` with the reason shortly before the command's time is over. */
async function caughtUp(
  context: Context,
  { description, node, started }: { description: DevnetDescription; node: string; started: number },
): Promise<CaughtUp> {
  const { directory, signal, timeoutMs } = context
  const deadlineMs = Math.max(0, Math.round(timeoutMs - sayWhyMs - (performance.now() - started)))
  const nodes = levelNodesOf(description)
  const found = nodes.find(({ name }) => name === node)
  if (!found) {
    const { probeGateway } = await import('./gateway-probe.ts')
    const answered = (until: AbortSignal) => probeGateway(directory, description, until)
    await untilAnswered(node, answered, { deadlineMs, signal })
    return {}
  }
  const { height, tookMs: levelMs } = requireLevel(await untilLevel(found, nodes, { deadlineMs, signal }))
  return { height, levelMs }
}

function levelText({ height, levelMs }: CaughtUp): readonly string[] {
  return height === undefined ? [] : [`level at height ${height} after ${levelMs} ms more`]
}
