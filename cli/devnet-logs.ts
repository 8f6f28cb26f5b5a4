/**
 * `mote devnet logs [NODE] [-f]`: what the processes of a devnet have printed, each line with its name in front.
 */

import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs'
import { exitCodes } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'
import { pause } from '../client/deadline.ts'
import { layout } from '../devnet/layout.ts'
import { requireDescription } from './chain-access.ts'
import type { Context } from './context.ts'

interface LogsOptions {
  readonly follow?: boolean
  readonly lines: number
}

const followEveryMs = 200

export async function devnetLogs(
  context: Context,
  [wanted]: readonly string[],
  { follow = false, lines }: LogsOptions,
): Promise<number> {
  const { directory, signal } = context
  const description = await requireDescription(context)
  const names = [...description.nodes.map(node => node.name), description.gateway.name]
  // A device that joined and runs in the foreground has its log in its own place here too.
  const isThere =
    wanted !== undefined &&
    /^[a-zA-Z0-9][\w.-]*$/.test(wanted) &&
    existsSync(layout.nodeLog(directory, wanted))
  if (wanted !== undefined && !names.includes(wanted) && !isThere)
    throw new MoteError('not-found', `node: expected one of ${names.join(', ')}, got '${wanted}'`)
  const chosen = wanted === undefined ? names : [wanted]
  const logs = chosen.map(name => ({ name, path: layout.nodeLog(directory, name), position: 0 }))
  for (const log of logs) {
    if (!existsSync(log.path)) continue
    const text = readFileSync(log.path, 'utf8')
    log.position = Buffer.byteLength(text)
    const all = text.split('\n')
    if (all.at(-1) === '') all.pop()
    for (const line of lines === 0 ? [] : all.slice(-lines)) print(context, log.name, line)
  }
  while (follow && !signal.aborted) {
    for (const log of logs) log.position = await printNews(context, log)
    await pause(followEveryMs, signal)
  }
  return exitCodes.ok
}

/** Prints what came after the position, and returns the new one. A log that shrank was rotated: from its start. */
async function printNews(
  context: Context,
  { name, path, position }: { readonly name: string; readonly path: string; readonly position: number },
): Promise<number> {
  const size = existsSync(path) ? statSync(path).size : 0
  const start = size < position ? 0 : position
  if (size === start) return start
  let text = ''
  for await (const chunk of createReadStream(path, { start, end: size - 1, encoding: 'utf8' })) text += chunk
  const end = text.lastIndexOf('\n') + 1
  for (const line of text.slice(0, end).split('\n').slice(0, -1)) print(context, name, line)
  return start + Buffer.byteLength(text.slice(0, end))
}

function print({ output }: Context, node: string, line: string): void {
  output.data({ node, line }, () => `${output.paint('dim', `${node} |`)} ${line}`)
}
