/**
 * A device's copies of other devices' keys, against the chain (Hsu-Lu B1, B2): what an unusable copy is answered with,
 * and the one way in which a copy is replaced, which is that somebody asks for it.
 */
import type { DeviceId, KeyId, Milliseconds } from '../../chain/brands.ts'
import { keyIdOf } from '../../chain/keys.ts'
import { currentEncryptionKey } from '../../chain/records.ts'
import { MoteError } from '../../chain/result.ts'
import type { CopyMismatch, DecisionLine } from '../protocol/decision-log.ts'
import { canSealTo } from '../protocol/envelope.ts'
import type { AgentChain } from './agent-chain.ts'
import type { Contact, DeviceState } from './device-state.ts'
import type { GatewayVerdict } from './verdict-inbox.ts'

type Records = Pick<AgentChain, 'device' | 'allowedSuites'>

export interface RefreshedContact extends Contact {
  readonly keyId: KeyId
  /** The key id of the copy that was there, or what was wrong with it; undefined if there was none. */
  readonly before: string | undefined
}

/** Replaces the copy of a device's key by the chain's. Throws `recipient-not-active` when the chain has none. */
export async function refreshContact(
  state: DeviceState,
  chain: Records,
  id: DeviceId,
  now: Milliseconds,
): Promise<RefreshedContact> {
  const { value, height, time } = await chain.device(id)
  const at = Math.max(time, now) as Milliseconds
  const isUsable = canSealTo(await chain.allowedSuites())
  const entry = value?.status === 'active' ? currentEncryptionKey(value, at, isUsable) : undefined
  if (!entry)
    throw new MoteError(
      'recipient-not-active',
      `device ${id}: not active, or without an encryption key that can be sealed to on this chain`,
    )
  const copy = await state.contact(id)
  const contact = { key: entry.key, height }
  await state.setContact(id, contact)
  const before = copy.ok ? copy.value && keyIdOf(copy.value.key) : copy.error.detail
  return { ...contact, keyId: keyIdOf(entry.key), before }
}

/** The line of a copy that was replaced without anybody asking for it: both sides. */
export function replacedCopyLine(
  {
    sender,
    recipient,
    ...mismatch
  }: CopyMismatch & { readonly sender: DeviceId; readonly recipient: string },
  asOf: Pick<DecisionLine, 'height' | 'ageMs'>,
): DecisionLine {
  return {
    id: null,
    event: 'copy',
    sender,
    recipient,
    topic: null,
    verdict: 'Error',
    code: 'recipient-key-mismatch',
    reason: `${recipient}: the copy of its key is not the chain's, and was replaced by that`,
    mismatch,
    ...asOf,
  }
}

/** The verdict on a message that could not even be sealed, and its line for the decision log: both sides. */
export async function judgeUnusableCopy(
  chain: Records,
  { sender, recipient, problem }: { sender: DeviceId; recipient: DeviceId; problem: string },
  now: Milliseconds,
): Promise<{ readonly verdict: GatewayVerdict; readonly line: DecisionLine }> {
  const { value, height, time } = await chain.device(recipient)
  const isUsable = canSealTo(await chain.allowedSuites())
  const current = value && currentEncryptionKey(value, Math.max(time, now) as Milliseconds, isUsable)
  const onChain = current && keyIdOf(current.key)
  const judged = {
    verdict: 'Error',
    code: 'recipient-key-mismatch',
    reason: `recipient ${recipient}: ${problem}; on the chain: ${onChain ?? 'no valid encryption key'}`,
    height,
    ageMs: Math.max(0, now - time),
  } as const
  const mismatch = { inCopy: problem, onChain }
  return {
    verdict: { messageId: null, ...judged },
    line: { id: null, event: 'message', sender, recipient, topic: null, ...judged, mismatch },
  }
}
