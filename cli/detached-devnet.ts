/**
 * `mote devnet up --detach`: starts the supervisor as a process of its own, passes on its progress, and returns when
 * it is ready. Until then the two are tied: if this one is stopped, so is that one.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { type ErrorCode, errorTable, exitCodes } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'
import { askControl } from '../devnet/control.ts'
import { layout, readDescription } from '../devnet/layout.ts'
import type { ProcessStatus } from '../devnet/process-status.ts'
import { isLive } from '../devnet/run.ts'
import type { Context } from './context.ts'
import { seedWarning, type UpOptions } from './devnet-options.ts'
import { printStatus } from './devnet-status.ts'
import { thisProgram } from './this-program.ts'

type Report =
  | { readonly type: 'progress'; readonly text: string }
  | { readonly type: 'ready' }
  | { readonly type: 'failed'; readonly code: ErrorCode; readonly detail: string }

export async function startDetached(context: Context, options: UpOptions): Promise<number> {
  const { directory, directoryNamed } = context
  const before = await readDescription(directory)
  // Asked here too, so that the running devnet's log is not touched.
  if (before && (await isLive(before)))
    throw new MoteError('in-use', `${directory}: a devnet runs here; \`mote devnet down\` stops it`)
  if (options.seed !== undefined) context.output.note(seedWarning)
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const log = openSync(layout.supervisorLog(directory), 'a', 0o600)
  const { executable, entry } = thisProgram()
  const child = spawn(executable, [entry, ...superviseArguments(directory, directoryNamed, options)], {
    detached: true,
    stdio: ['ignore', log, log, 'ipc'],
    env: context.variables,
  })
  closeSync(log)
  await untilReady(context, child)
  child.unref()
  const description = await readDescription(directory)
  if (!description) throw new MoteError('start-failed', `${directory}: the devnet went away`)
  const status = (await askControl(
    description.controlSocket,
    { command: 'status' },
    context.signal,
  )) as ProcessStatus
  await printStatus(context, description, status, { banner: true })
  return exitCodes.ok
}

function superviseArguments(directory: string, directoryNamed: boolean, options: UpOptions): string[] {
  const { full, coordination, lightweight, devices, ports, seed, suites, agents, tls, broker } = options
  const { plainIn = [], plainOut = [] } = options
  return [
    ...['devnet', 'supervise', '--dir', directory],
    ...Object.entries({ full, coordination, lightweight, devices, ports, broker }).flatMap(
      ([name, value]) => [`--${name}`, `${value}`],
    ),
    ...(seed === undefined ? [] : ['--seed', seed]),
    ...(suites === undefined ? [] : ['--suites', suites.join(',')]),
    ...(agents ? ['--agents'] : []),
    ...(tls ? ['--tls'] : []),
    ...plainIn.flatMap(filter => ['--plain-in', filter]),
    ...plainOut.flatMap(filter => ['--plain-out', filter]),
    ...(directoryNamed ? [] : ['--temporary']),
  ]
}

async function untilReady(context: Context, child: ChildProcess): Promise<void> {
  const { output, signal, directory } = context
  const outcome = Promise.withResolvers<void>()
  child.on('message', (report: Report) => {
    if (report.type === 'progress') output.note(report.text)
    else if (report.type === 'ready') outcome.resolve()
    else {
      const code = report.code in errorTable ? report.code : 'internal'
      outcome.reject(new MoteError(code, report.detail))
    }
  })
  child.once('error', cause => outcome.reject(new MoteError('start-failed', cause.message, { cause })))
  child.once('exit', code =>
    outcome.reject(
      new MoteError(
        'start-failed',
        `the supervisor ended (exit ${code}); see ${layout.supervisorLog(directory)}`,
      ),
    ),
  )
  const stop = (): void => {
    child.kill('SIGTERM')
  }
  signal.addEventListener('abort', stop, { once: true })
  try {
    await outcome.promise
  } finally {
    signal.removeEventListener('abort', stop)
    if (child.connected) child.disconnect()
  }
}
