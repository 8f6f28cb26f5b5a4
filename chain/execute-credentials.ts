/**
 * Execution of credentials for plain MQTT clients. Only the list's own version counts, so that the subject's other edits are in
 * nobody's way.
 */
import type { ChainEvent } from './block.ts'
import type { ExecutionContext } from './execution-context.ts'
import { maxCredentialLifetimeMs, maxEditedVersion } from './limits.ts'
import { type ExecutionResult, permit, reject } from './outcome.ts'
import type { CredentialsBody } from './transaction.ts'

/** Replaces the credentials of an identity. Each must be good for some time yet, and not for ever. */
export function executeCredentials(
  { view, height, time }: ExecutionContext,
  { subject, expectedVersion, credentials }: CredentialsBody,
): ExecutionResult<readonly ChainEvent[]> {
  const record = view.identity(subject)
  if (!record) return reject('unknown-subject', `subject: no identity ${subject}`)
  if (record.status === 'revoked') return reject('invalid-state', `${subject} is revoked`)
  const current = view.credentials(subject)?.version ?? 0
  if (current !== expectedVersion)
    return reject(
      'version-conflict',
      `version of the credentials: expected ${current}, got ${expectedVersion}`,
    )
  if (current >= maxEditedVersion)
    return reject('limit-exceeded', `version of the credentials: expected less than ${maxEditedVersion}`)
  for (const { expiresAt } of credentials) {
    if (expiresAt <= time) return reject('invalid-state', `expiresAt: passed ${time - expiresAt} ms ago`)
    if (expiresAt - time > maxCredentialLifetimeMs)
      return reject('limit-exceeded', `expiresAt: expected at most ${maxCredentialLifetimeMs} ms ahead`)
  }
  const version = current + 1
  view.putCredentials({ id: subject, version, credentials, updatedAt: height })
  return permit([{ type: 'identity.credentials', subject, version }])
}
