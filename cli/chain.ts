/**
 * `mote chain consenters` and `mote chain consenters set NODE,…`: who certifies the chain, and how operators change it.
 *
 * What is shown is verified. What a change still lacks while `--wait` waits is partly the word of nodes: whether one that is
 * to be a consenter answers and how far behind it is.
 */

import type { Command } from 'commander'
import type { DeviceId } from '../chain/brands.ts'
import { type ConsenterSet, type QuorumPolicy, quorumOf, signersHash } from '../chain/consenters.ts'
import { exitCodes } from '../chain/errors.ts'
import { keyIdOf } from '../chain/keys.ts'
import { MoteError } from '../chain/result.ts'
import {
  type ConsenterState,
  type ConsentersDecision,
  consentersChanged,
  missingApprovals,
  readConsenters,
  setConsenters,
} from '../client/consenter-actions.ts'
import { Deadline, pause } from '../client/deadline.ts'
import { httpSource } from '../client/http-source.ts'
import { type ChainAccess, operatorKeys } from '../devnet/access.ts'
import { apiUrl } from '../devnet/layout.ts'
import { deviceNameOf, openChain, requireDevice } from './chain-access.ts'
import type { AddCommand } from './command.ts'
import type { Context } from './context.ts'
import { provenance, shortId } from './output.ts'

interface SetOptions {
  readonly policy?: QuorumPolicy
  readonly wait?: boolean
  readonly operator: string
}

export function chainCommands(family: Command, add: AddCommand): void {
  const consenters = family.command('consenters').description('the full nodes that certify blocks')
  add({
    parent: consenters,
    usage: 'show',
    isDefault: true,
    description: 'the consenters, a pending decision and the approvals of operators, verified',
    action: show,
  })
  add<SetOptions>({
    parent: consenters,
    usage: 'set <nodes...>',
    description: "approve of these full nodes as consenters (an operator's transaction)",
    options: [
      { flags: '--policy <policy>', description: 'majority or two-thirds (as now)', read: parsePolicy },
      { flags: '--wait', description: 'until a certified header names them as its signers' },
      {
        flags: '--operator <name>',
        description: 'whose key signs, where a chain has several operators',
        default: 'operator',
      },
    ],
    exits: {
      0: 'approved, or with --wait: they certify',
      1: 'failed; invalid-state: one of them is not active, or something else was decided on',
      124: 'not certified by them in time; what is missing is said',
    },
    notes:
      'Nodes are names or ids, separated by commas or spaces: all that are to be consenters, present ones included.\n' +
      'When enough operators approve of the same nodes, a handover follows by itself. The present nodes take it back.',
    action: set,
  })
}

function parsePolicy(text: string): QuorumPolicy {
  if (text === 'majority' || text === 'two-thirds') return text
  throw new MoteError('usage', `policy: expected majority or two-thirds, got '${text}'`)
}

interface NamedNode {
  readonly name: string | null
  readonly id: DeviceId
}

function named(access: ChainAccess, ids: readonly DeviceId[]): Promise<NamedNode[]> {
  return Promise.all(ids.map(async id => ({ name: await deviceNameOf(access, id), id })))
}

function listed(nodes: readonly NamedNode[]): string {
  return nodes.map(({ name, id }) => name ?? shortId(id)).join(', ')
}

async function shownSet(access: ChainAccess, consenters: ConsenterSet) {
  const nodes = await named(
    access,
    consenters.consenters.map(({ id }) => id),
  )
  return {
    signersHash: signersHash(consenters),
    policy: consenters.policy,
    quorum: quorumOf(consenters),
    consenters: nodes.map((node, i) => {
      const consenter = consenters.consenters[i]
      return { ...node, keyId: consenter && keyIdOf(consenter.key) }
    }),
  }
}

async function shownState(access: ChainAccess, state: ConsenterState) {
  const { value, height, term, ageMs } = state
  const { consenters, nextConsenters, authorities, threshold, version } = value
  const approvals = state.approvals.map(async ({ authority, status, target, counts }) => {
    const [operator] = await named(access, [authority])
    return { operator, status, target: await shownSet(access, target), counts }
  })
  return {
    ...(await shownSet(access, consenters)),
    next: nextConsenters ? await shownSet(access, nextConsenters) : null,
    operators: await named(
      access,
      authorities.map(({ id }) => id),
    ),
    threshold,
    approvals: await Promise.all(approvals),
    parametersVersion: version,
    height,
    term,
    ageMs,
    verified: true,
  }
}

function setText({ consenters, policy, quorum }: Awaited<ReturnType<typeof shownSet>>): string {
  return `${listed(consenters)} (${policy}: ${quorum} of ${consenters.length})`
}

async function show(context: Context): Promise<number> {
  const access = await openChain(context)
  const { output } = context
  const state = await readConsenters(access.client)
  const answer = await shownState(access, state)
  output.data(answer, () =>
    [
      output.fields({
        consenters: setText(answer),
        'decided on': answer.next ? `${setText(answer.next)}; the handover is to come` : undefined,
        operators: `${listed(answer.operators)}; ${answer.threshold} must approve`,
      }),
      ...(answer.approvals.length === 0
        ? []
        : [
            '',
            output.table(answer.approvals, {
              'approved by': row => row.operator && listed([row.operator]),
              counts: row =>
                row.counts ? 'yes' : row.status === 'active' ? 'no: before the last change' : row.status,
              consenters: row => setText(row.target),
            }),
          ]),
      `verified ${provenance(answer)}`,
    ].join('\n'),
  )
  return exitCodes.ok
}

async function set(context: Context, args: readonly string[], options: SetOptions): Promise<number> {
  const startedAt = performance.now()
  const access = await openChain(context)
  const names = args.flatMap(arg => arg.split(',')).filter(name => name !== '')
  const nodes = await Promise.all(names.map(name => requireDevice(access, name)))
  const change = { nodes, ...(options.policy && { policy: options.policy }) }
  const operator = await operatorKeys(access, options.operator)
  const decision = await setConsenters(access.client, operator, change, { timeoutMs: context.timeoutMs })
  const elapsedMs = performance.now() - startedAt
  const state = options.wait ? await waitForThem(context, access, decision, elapsedMs) : decision.state
  return print(context, access, { ...decision, state })
}

async function print(context: Context, access: ChainAccess, decision: ConsentersDecision): Promise<number> {
  const { target, state, transaction } = decision
  const missing = missingApprovals(state, signersHash(target))
  const certifies = signersHash(state.value.consenters) === signersHash(target)
  const decided = decision.decided || certifies
  const answer = {
    target: await shownSet(access, target),
    decided,
    certifies,
    missingApprovals: decided ? 0 : missing,
    transaction: transaction?.id ?? null,
    height: state.height,
    term: state.term,
    ageMs: state.ageMs,
    verified: true,
  }
  const nodes = setText(answer.target)
  const outcome = certifies
    ? `${nodes} certify`
    : decided
      ? `${nodes} are decided on; the handover follows`
      : `${nodes} are approved of; ${missing} of ${state.value.threshold} approvals are missing`
  context.output.data(answer, () =>
    [
      `${outcome}${transaction ? '' : ': nothing to do'}`,
      ...(transaction ? [`transaction ${transaction.id}`] : []),
      `verified ${provenance(answer)}`,
    ].join('\n'),
  )
  return exitCodes.ok
}

/** Of the command's time, kept to say what is missing when it is over. */
const lastWordMs = 1_500
const statusTimeoutMs = 1_000

/** The state in which they certify. Throws `timeout`, with what is missing, shortly before the command's deadline. */
async function waitForThem(
  context: Context,
  access: ChainAccess,
  { target }: ConsentersDecision,
  elapsedMs: number,
): Promise<ConsenterState> {
  const waitMs = context.timeoutMs - elapsedMs - Math.min(lastWordMs, context.timeoutMs / 4)
  const { signal } = new Deadline(Math.max(1, Math.floor(waitMs)), { signal: context.signal })
  const hash = signersHash(target)
  let last: ConsenterState | undefined
  const onChange = (state: ConsenterState) => {
    last = state
    const missing = missingApprovals(state, hash)
    const isDecided = state.value.nextConsenters && signersHash(state.value.nextConsenters) === hash
    context.output.note(
      isDecided
        ? `decided at height ${state.height}; waiting for the handover`
        : `waiting for ${missing} more of ${state.value.threshold} approvals`,
    )
  }
  try {
    const changed = await consentersChanged(access.client, target, { signal, onChange })
    await untilOldMayGo(context, access, target, signal)
    return changed
  } catch (error) {
    if (!signal.aborted || context.signal.aborted) throw error
    const detail = await whatIsMissing(access, target, last)
    throw new MoteError('timeout', `consenters: ${detail}`, { cause: error })
  }
}

const lookAgainMs = 100

/**
 * The old consenters are needed until joint consensus is left; the nodes say when. Rejects with the reason of `signal`. Nodes
 * that are not of this devnet are not asked.
 */
async function untilOldMayGo(
  { output }: Context,
  { description }: ChainAccess,
  target: ConsenterSet,
  signal: AbortSignal,
): Promise<void> {
  const nodes = description.nodes.filter(node => target.consenters.some(({ id }) => id === node.id))
  let shown = ''
  while (nodes.length > 0) {
    const asked = nodes.map(({ api }) =>
      httpSource(apiUrl(api), { requestTimeoutMs: statusTimeoutMs }).status({ signal }),
    )
    const answers = (await Promise.allSettled(asked)).flatMap(each =>
      each.status === 'fulfilled' ? [each.value] : [],
    )
    const change = answers.find(status => status.change !== undefined)?.change
    if (answers.length > 0 && change === undefined) return
    if (change !== undefined && change !== shown)
      output.note(`handed over; the old ones are still needed: ${change}`)
    shown = change ?? shown
    await pause(lookAgainMs, signal)
    signal.throwIfAborted()
  }
}

async function whatIsMissing(
  access: ChainAccess,
  target: ConsenterSet,
  state: ConsenterState | undefined,
): Promise<string> {
  if (!state) return 'no verified state since the approval'
  const hash = signersHash(target)
  const { value, approvals } = state
  if (!value.nextConsenters || signersHash(value.nextConsenters) !== hash) {
    const given = new Set(
      approvals
        .filter(({ counts, target: of }) => counts && signersHash(of) === hash)
        .map(({ authority }) => authority),
    )
    const others = value.authorities.map(({ id }) => id).filter(id => !given.has(id))
    const missing = missingApprovals(state, hash)
    return `${missing} of ${value.threshold} approvals are missing; not yet of ${listed(await named(access, others))}`
  }
  const { height } = access.client.follower.head.header
  const troubles = await Promise.all(target.consenters.map(({ id }) => troubleOf(access, id, height)))
  const found = troubles.filter(trouble => trouble !== undefined)
  return `decided, but no handover is certified at height ${height}${found.length > 0 ? `: ${found.join('; ')}` : ''}`
}

/** Why a node may keep a handover waiting, as far as it is known here. */
async function troubleOf(
  { description }: ChainAccess,
  id: DeviceId,
  height: number,
): Promise<string | undefined> {
  const node = description.nodes.find(candidate => candidate.id === id)
  if (!node) return `${shortId(id)} is not in this devnet`
  try {
    const source = httpSource(apiUrl(node.api), { requestTimeoutMs: statusTimeoutMs })
    const status = await source.status()
    const behind = height - status.height
    return behind > 0 ? `${node.name} is ${behind} blocks behind` : undefined
  } catch {
    return `${node.name} does not answer`
  }
}
