/**
 * Who may do what: the one table. docs/ARCHITECTURE.md shows the same table and a test keeps them equal.
 *
 * Every signer but a newcomer must be an active identity that signs with a key valid at block time (admission.ts); the
 * table says what it may ask for on top of that. What the records themselves allow is judged by execution.
 */
import { indexOfConsenter } from './consenters.ts'
import { type ExecutionResult, permit, reject } from './outcome.ts'
import type { ChainParameters, GroupRecord, IdentityRecord } from './records.ts'
import { assertNever } from './result.ts'
import type { StateView } from './state-view.ts'
import {
  attestedSources,
  type reservedKinds,
  type TransactionBody,
  type TransactionType,
} from './transaction.ts'

/** The rules there are. */
export type Permission =
  | 'authority'
  | 'newcomer'
  | 'subject'
  | 'subject, or an authority'
  | 'active identity'
  | 'active identity, for another one a gateway'
  | 'group owner'
  | 'group owner, or a member for itself'
  | 'group member'
  | 'nobody yet'

/** Kind of transaction to who may send it. */
export const permissions: Readonly<Record<TransactionType | keyof typeof reservedKinds, Permission>> = {
  'identity.grant': 'authority',
  'identity.register': 'newcomer',
  'identity.relabel': 'nobody yet',
  'identity.suspend': 'authority',
  'identity.reinstate': 'nobody yet',
  'identity.revoke': 'authority',
  'identity.approve': 'nobody yet',
  'identity.rights': 'authority',
  'identity.credentials': 'subject, or an authority',
  'key.add': 'subject',
  'key.rotate': 'subject',
  'key.revoke': 'subject',
  'key.exchange': 'nobody yet',
  'group.create': 'active identity',
  'group.add': 'group owner',
  'group.remove': 'group owner, or a member for itself',
  'group.rekey': 'group member',
  'group.owner': 'authority',
  'report.misbehaviour': 'nobody yet',
  'evidence.equivocation': 'nobody yet',
  'governance.consenters': 'authority',
  'governance.authorities': 'nobody yet',
  'governance.parameters': 'nobody yet',
  'governance.execution-version': 'nobody yet',
  'governance.approve': 'nobody yet',
  'record.one': 'active identity, for another one a gateway',
  'record.batch': 'active identity, for another one a gateway',
  'contract.deploy': 'authority',
  'contract.retire': 'authority',
  'contract.action': 'active identity, for another one a gateway',
  'contract.guard': 'authority',
}

/** True if the identity is an operator of the chain. */
export function isAuthority(parameters: ChainParameters, id: IdentityRecord['id']): boolean {
  return parameters.authorities.some(authority => authority.id === id)
}

/** True if the identity signs headers now, or is to sign them after a handover that is decided on. */
export function isConsenter(parameters: ChainParameters, id: IdentityRecord['id']): boolean {
  const { consenters, nextConsenters } = parameters
  return [consenters, nextConsenters].some(set => set && indexOfConsenter(set, id) !== undefined)
}

/**
 * Whether an active identity may ask for `body`. A newcomer is not asked: `identity.register` is its only kind.
 * Refuses `not-authorised`, and `unknown-subject` for a group that is not there.
 */
export function checkPermission(
  view: StateView,
  signer: IdentityRecord,
  body: TransactionBody,
): ExecutionResult<void> {
  const permission = permissions[body.type]
  const allowed = checkRule(view, signer, body, permission)
  if (!allowed.ok || allowed.value) return allowed.ok ? permit(undefined) : allowed
  return reject('not-authorised', `${body.type}: expected ${permission}, got ${signer.id}`)
}

function checkRule(
  view: StateView,
  signer: IdentityRecord,
  body: TransactionBody,
  permission: Permission,
): ExecutionResult<boolean> {
  switch (permission) {
    case 'authority':
      return permit(isAuthority(view.parameters(), signer.id))
    case 'newcomer':
    case 'nobody yet':
      return permit(false)
    case 'subject':
      return permit(namesItself(body, signer))
    case 'subject, or an authority':
      return permit(namesItself(body, signer) || isAuthority(view.parameters(), signer.id))
    case 'active identity':
      return permit(true)
    case 'active identity, for another one a gateway':
      return permit(attestedSources(body).length === 0 || view.rights(signer.id)?.gateway === true)
    case 'group owner':
      return ofGroup(view, body, group => group.owner === signer.id)
    case 'group owner, or a member for itself':
      return ofGroup(view, body, group => group.owner === signer.id || namesOnly(body, signer))
    case 'group member':
      return ofGroup(view, body, group => view.memberships(signer.id).includes(group.id))
    default:
      return assertNever(permission)
  }
}

function ofGroup(
  view: StateView,
  body: TransactionBody,
  rule: (group: GroupRecord) => boolean,
): ExecutionResult<boolean> {
  const group = 'group' in body ? view.group(body.group) : undefined
  return group ? permit(rule(group)) : reject('unknown-subject', 'group: there is none with this id')
}

function namesItself(body: TransactionBody, signer: IdentityRecord): boolean {
  return 'subject' in body && body.subject === signer.id
}

function namesOnly(body: TransactionBody, signer: IdentityRecord): boolean {
  return 'members' in body && body.members.length === 1 && body.members[0] === signer.id
}
