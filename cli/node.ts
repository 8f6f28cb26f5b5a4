/**
 * `mote node init NAME` and `mote node start --config FILE`: one node in the foreground, as an operator starts it and as a devnet does; and what
 * an operator does to one: ask for its `status`, `transfer` its leadership, `drain` it, `verify` what it keeps, `rebuild` its damaged directory.
 */

import type { Command } from 'commander'
import { DeviceId } from '../chain/brands.ts'
import { type ErrorCode, errorTable, exitCodes } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'
import type { NodeStatus } from '../client/chain-source.ts'
import { pause } from '../client/deadline.ts'
import { httpSource } from '../client/http-source.ts'
import type { EffectiveConfiguration } from '../node/effective-configuration.ts'
import type { TransferReport } from '../node/service/administration.ts'
import type { AddCommand } from './command.ts'
import type { Context } from './context.ts'
import { initCommand } from './joined-node.ts'
import { isSupervised, runProgram } from './run-program.ts'

export function nodeCommands(family: Command, add: AddCommand): void {
  initCommand(family, add)
  add<{ config: string }>({
    parent: family,
    usage: 'start',
    description: 'run a node until SIGTERM or Ctrl-C, which drain it; prints one JSON line when it is ready',
    options: [{ flags: '--config <file>', description: 'its configuration', required: true }],
    lifetime: 'drains',
    action: async (context, _args, { config }) =>
      runProgram(context, async signal => {
        const { startNode } = await import('../node/main.ts')
        return startNode(config, signal, { supervised: isSupervised(context) })
      }),
  })
  add<{ config: string }>({
    parent: family,
    usage: 'status',
    description:
      'the state of the node of this configuration, which runs on this machine, and every setting that takes effect in it',
    options: [{ flags: '--config <file>', description: 'its configuration', required: true }],
    action: status,
  })
  add<{ config: string; to?: DeviceId }>({
    parent: family,
    usage: 'transfer',
    description: 'transfer leadership from the node of this configuration, which runs on this machine',
    options: [
      { flags: '--config <file>', description: 'its configuration', required: true },
      { flags: '--to <id>', description: 'to this full node (the one that is furthest)', read: DeviceId },
    ],
    action: transfer,
  })
  add<{ config: string }>({
    parent: family,
    usage: 'drain',
    description:
      'stop the node of this configuration, which runs on this machine: it transfers leadership, answers what is open, and ends',
    options: [{ flags: '--config <file>', description: 'its configuration', required: true }],
    exits: { 0: 'the process has ended' },
    action: drain,
  })
  add<{ config: string }>({
    parent: family,
    usage: 'verify',
    description: 'execute all blocks of a stopped full node again, and name what is not as it was certified',
    options: [{ flags: '--config <file>', description: 'its configuration', required: true }],
    exits: { [exitCodes.predicateFalse]: 'something is not as it was certified' },
    action: verify,
  })
  add<{ config: string }>({
    parent: family,
    usage: 'rebuild',
    description: 'set the damaged data of a stopped full node aside; it fetches everything from its peers',
    options: [{ flags: '--config <file>', description: 'its configuration', required: true }],
    action: rebuild,
  })
}

async function status(
  { output, signal }: Context,
  _args: readonly string[],
  { config }: { readonly config: string },
): Promise<number> {
  const { url, status, headers } = await runningNode(config, signal)
  const answer = await fetch(`${url}/v1/configuration`, { signal, headers })
  if (!answer.ok) throw new MoteError('unreachable', `${url}: HTTP status ${answer.status}`)
  const configuration = (await answer.json()) as EffectiveConfiguration
  const { settingsOf, settingText } = await import('../node/effective-configuration.ts')
  const { name, label, role, term, leader, height, certifiedHeight, pid, api, addresses } = status
  const { data, key } = configuration
  const state = {
    name,
    label,
    role,
    term,
    leader,
    height,
    certifiedHeight,
    pid,
    api,
    addresses: addresses.join(' '),
    data,
    key,
  }
  output.data({ status, configuration }, () =>
    [
      output.fields(state),
      '',
      output.table(settingsOf(configuration), {
        setting: each => each.name,
        value: each => settingText(each.name, each.value),
        default: ({ name, value, standard }) =>
          standard === undefined ? '-' : value === standard ? '' : settingText(name, standard),
      }),
    ].join('\n'),
  )
  return exitCodes.ok
}

interface RunningNode {
  readonly url: string
  readonly status: NodeStatus
  /** What its administration asks for. */
  readonly headers: { readonly authorization: string }
  /** True while its process runs. */
  readonly runs: () => boolean
}

/**
 * The node of this configuration, as its directory and the node itself say. Throws `not-running`, and `config-invalid` if
 * something else answers at its address: what answers there is told no token, and no process that it names is stopped.
 */
async function runningNode(config: string, signal: AbortSignal): Promise<RunningNode> {
  const { api, name, chainId, data } = await (await import('../node/config.ts')).readNodeConfig(config)
  const { operatorAccess, isThatProcess } = await import('../client/operator-access.ts')
  const access = await operatorAccess(data)
  const url = `http://${api.host}:${api.port}`
  const status = await httpSource(url).status({ signal })
  if (status.name !== name || status.chainId !== chainId)
    throw new MoteError('config-invalid', `${config}: another node answers at ${url}: ${status.name}`)
  if (status.pid !== access.pid)
    throw new MoteError(
      'config-invalid',
      `${config}: expected process ${access.pid} at ${url}, got an answer of ${status.pid}`,
    )
  const headers = { authorization: `Bearer ${access.token}` }
  return { url, status, headers, runs: () => isThatProcess(access) }
}

async function transfer(
  { output, signal }: Context,
  _args: readonly string[],
  { config, to }: { readonly config: string; readonly to?: DeviceId },
): Promise<number> {
  const node = await runningNode(config, signal)
  const url = `${node.url}/v1/transfer`
  const answer = await fetch(url, {
    method: 'POST',
    signal,
    headers: { ...node.headers, 'content-type': 'application/json' },
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

/** How often it is looked whether the process is gone. */
const lookAgainMs = 20

async function drain(
  { output, signal }: Context,
  _args: readonly string[],
  { config }: { readonly config: string },
): Promise<number> {
  const { status, runs } = await runningNode(config, signal)
  const { name } = status
  const startedAt = performance.now()
  terminate(status.pid)
  while (runs()) {
    if (signal.aborted) throw new MoteError('timeout', `${name}: process ${status.pid} has not ended`)
    await pause(lookAgainMs, signal)
  }
  const report = {
    name,
    pid: status.pid,
    role: status.role,
    tookMs: Math.round(performance.now() - startedAt),
  }
  output.data(report, () => `${name} has ended after ${report.tookMs} ms; it was ${report.role}`)
  return exitCodes.ok
}

/** Sends SIGTERM, if there is still such a process. Throws `not-authorised`. */
function terminate(pid: number): void {
  try {
    process.kill(pid, 'SIGTERM')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ESRCH') return
    throw new MoteError('not-authorised', `process ${pid}: ${String(cause)}`, { cause })
  }
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

async function verify(
  { output }: Context,
  _args: readonly string[],
  { config }: { readonly config: string },
): Promise<number> {
  const { verifyNode } = await import('../node/verify.ts')
  const report = await verifyNode(config)
  const { height, blocks, missing, forgotten, executed, certificates, uncertified, findings } = report
  output.data(report, () =>
    [
      ...findings.map(
        each => `block ${each.height}: ${each.problem}${each.transaction ? `: ${each.transaction}` : ''}`,
      ),
      ...(uncertified === 0
        ? []
        : [`the newest ${uncertified} have no certificate here; a node that runs collects them`]),
      `height ${height}: ${blocks} blocks here${missing === 0 ? '' : `, ${missing} missing (before a snapshot, or removed)`}${forgotten === 0 ? '' : `, ${forgotten} by their leaf hashes`}, ${executed} executed again, ${certificates} certificates verified, ${findings.length === 0 ? 'nothing amiss' : `${findings.length} findings`}`,
    ].join('\n'),
  )
  return findings.length === 0 ? exitCodes.ok : exitCodes.predicateFalse
}
