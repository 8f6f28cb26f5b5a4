/**
 * `mote node start --config FILE`: one node in the foreground, as an operator starts it and as a devnet does; and what
 * an operator does to one: `transfer` its leadership, `rebuild` its damaged directory.
 */
import type { Command } from 'commander'
import { DeviceId } from '../chain/brands.ts'
import { type ErrorCode, errorTable, exitCodes } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'
import type { TransferReport } from '../node/leader-transfer.ts'
import type { AddCommand } from './command.ts'
import type { Context } from './context.ts'
import { runProgram } from './run-program.ts'

export function nodeCommands(family: Command, add: AddCommand): void {
  add<{ config: string }>({
    parent: family,
    usage: 'start',
    description: 'run a node until SIGTERM or Ctrl-C, which drain it; prints one JSON line when it is ready',
    options: [{ flags: '--config <file>', description: 'its configuration', required: true }],
    lifetime: 'drains',
    action: async (context, _args, { config }) =>
      runProgram(context, async signal => {
        const { startNode } = await import('../node/main.ts')
        return startNode(config, signal)
      }),
  })
  add<{ config: string; to?: DeviceId }>({
    parent: family,
    usage: 'transfer',
    description: 'hand leadership over from the node of this configuration, which runs on this machine',
    options: [
      { flags: '--config <file>', description: 'its configuration', required: true },
      { flags: '--to <id>', description: 'to this full node (the one that is furthest)', read: DeviceId },
    ],
    action: transfer,
  })
  add<{ config: string }>({
    parent: family,
    usage: 'rebuild',
    description: 'set the damaged data of a stopped full node aside; it fetches everything from its peers',
    options: [{ flags: '--config <file>', description: 'its configuration', required: true }],
    action: rebuild,
  })
}

async function transfer(
  { output, signal }: Context,
  _args: readonly string[],
  { config, to }: { readonly config: string; readonly to?: DeviceId },
): Promise<number> {
  const { api } = await (await import('../node/config.ts')).readNodeConfig(config)
  const url = `http://${api.host}:${api.port}/v1/transfer`
  const answer = await fetch(url, {
    method: 'POST',
    signal,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(to === undefined ? {} : { to }),
  }).catch((cause: unknown) => {
    throw new MoteError('unreachable', `${url}: ${String(cause)}`, { cause })
  })
  const body = (await answer.json()) as TransferReport & { code?: string; detail?: string }
  if (!answer.ok) {
    const { code = 'internal', detail = `${url}: HTTP status ${answer.status}` } = body
    throw new MoteError(Object.hasOwn(errorTable, code) ? (code as ErrorCode) : 'internal', detail)
  }
  output.data(body, () => `${body.to} leads after ${body.durationMs} ms`)
  return exitCodes.ok
}

async function rebuild(
  { output }: Context,
  _args: readonly string[],
  { config }: { readonly config: string },
): Promise<number> {
  const { rebuildNode } = await import('../node/rebuild.ts')
  const report = await rebuildNode(config, Date.now())
  output.data(report, () =>
    [
      `kept: term ${report.term}, ${report.signedHeaders} signed headers`,
      `the damaged data is in ${report.setAside}; remove it when the node has caught up`,
      `start the node again: it fetches the chain from its peers, and votes once it has applied index ${report.upTo}`,
    ].join('\n'),
  )
  return exitCodes.ok
}
