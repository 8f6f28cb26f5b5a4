/**
 * Execution of what governance decides: today, who the consenters are (docs/ARCHITECTURE.md, "Changing the consenters").
 *
 * Invariants
 * 1. `nextConsenters` is set only when as many active authorities as `threshold` say so approve of one and the same set,
 *    under the parameters as they are: each change of the parameters makes every earlier approval void.
 * 2. A set that is decided on is sound at that time: each member is an active full node and holds the named key.
 * 3. `consenters` changes in a handover block only, to the set decided on.
 *
 * Nothing is locked: a later decision takes the place of a pending one, and a decision for the present set takes it back.
 * Whether a change would cost the Raft quorum is not judged here: what is committed must not depend on who is alive.
 */
import type { ChainEvent } from './block.ts'
import type { Hash } from './brands.ts'
import { type Consenter, type ConsenterSet, checkConsenterSet, signersHash } from './consenters.ts'
import type { ExecutionContext } from './execution-context.ts'
import { keyIdOf } from './keys.ts'
import { type ExecutionResult, permit, reject } from './outcome.ts'
import {
  type ApprovalRecord,
  type ChainParameters,
  findKey,
  type IdentityRecord,
  isKeyValidAt,
} from './records.ts'
import type { StateView } from './state-view.ts'
import type { ConsentersBody } from './transaction.ts'

/** The slot of the signing authority holds the target from now on; with enough such slots it is decided. */
export function executeConsenters(
  context: ExecutionContext,
  { target }: ConsentersBody,
  authority: IdentityRecord,
): ExecutionResult<readonly ChainEvent[]> {
  const { view } = context
  const checked = checkTarget(context, target)
  if (!checked.ok) return checked
  const parameters = view.parameters()
  view.putApproval(authority.id, { target, parametersVersion: parameters.version })
  const hash = signersHash(target)
  const approvals = countApprovals(view, parameters, hash)
  const approved: ChainEvent = {
    type: 'consenters.approved',
    authority: authority.id,
    target: hash,
    approvals,
  }
  if (approvals < parameters.threshold) return permit([approved])
  const parametersVersion = parameters.version + 1
  const isPresent = hash === signersHash(parameters.consenters)
  const nextConsenters = isPresent ? undefined : target
  view.putParameters({ ...parameters, version: parametersVersion, nextConsenters })
  return permit([approved, { type: 'consenters.decided', target: hash, parametersVersion }])
}

/**
 * True if this slot of an active authority counts for the target. The version is what makes it void once anything was
 * decided or handed over after it.
 */
export function countsAsApproval(
  approval: ApprovalRecord | undefined,
  parameters: Pick<ChainParameters, 'version'>,
  target: Hash,
): boolean {
  return approval?.parametersVersion === parameters.version && signersHash(approval.target) === target
}

function countApprovals(view: StateView, parameters: ChainParameters, target: Hash): number {
  return parameters.authorities.filter(
    ({ id }) =>
      view.identity(id)?.status === 'active' && countsAsApproval(view.approval(id), parameters, target),
  ).length
}

function checkTarget(context: ExecutionContext, target: ConsenterSet): ExecutionResult<void> {
  const sound = checkConsenterSet(target)
  if (!sound.ok) return reject('malformed', `target: ${sound.error.detail}`)
  for (const consenter of target.consenters) {
    const checked = checkConsenter(context, consenter)
    if (!checked.ok) return checked
  }
  return permit(undefined)
}

function checkConsenter({ view, time }: ExecutionContext, { id, key }: Consenter): ExecutionResult<void> {
  const record = view.identity(id)
  if (!record) return reject('unknown-subject', `target: no identity ${id}`)
  if (record.status !== 'active') return reject('invalid-state', `target: ${id} is ${record.status}`)
  if (record.label !== 'full')
    return reject('label-not-allowed', `target: expected full nodes, ${id} is ${record.label}`)
  const keyId = keyIdOf(key)
  const entry = findKey(record, keyId)
  if (entry?.purpose !== 'sign' || !isKeyValidAt(entry, time))
    return reject('key-not-valid', `target: ${keyId} is no signing key of ${id} that is valid at ${time}`)
  return permit(undefined)
}

/** The set decided on takes over if it has this hash. Undefined if not: the decision was changed, or this is done already. */
export function executeHandover(view: StateView, target: Hash): ConsenterSet | undefined {
  const parameters = view.parameters()
  const { nextConsenters, version } = parameters
  if (!nextConsenters || signersHash(nextConsenters) !== target) return undefined
  view.putParameters({
    ...parameters,
    version: version + 1,
    consenters: nextConsenters,
    nextConsenters: undefined,
  })
  view.keep()
  return nextConsenters
}
