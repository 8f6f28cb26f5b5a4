/** What a device says to the chain under its own signature: records and calls, as a transaction that a gateway hands on (docs/FORMATS.md, "MQTT topics"). */
import type { Milliseconds, TransactionId } from '../../chain/brands.ts'
import type { ReportBody } from '../../chain/record-bodies.ts'
import { MoteError, unwrap } from '../../chain/result.ts'
import { attestedSources, parseTransaction } from '../../chain/transaction.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { signedBody } from '../../client/submission.ts'
import type { AgentChain } from './agent-chain.ts'

/** A transaction of the device. */
export interface SignedRecord {
  /** At most 16 KiB. */
  readonly bytes: Uint8Array
  readonly id: TransactionId
  /** Block time from which it is void. */
  readonly expiry: Milliseconds
}

/**
 * Signs with the device's keys. The expiry goes by the chain's time as this device has proven it: one that has no fresh header asks for one first.
 * Throws `malformed` for a body that speaks for another device, and what `AgentChain.refresh` throws.
 */
export async function signRecord(
  {
    chain,
    keys,
    trustTtlMs,
  }: {
    readonly chain: Pick<AgentChain, 'chainId' | 'ageMs' | 'refresh' | 'now'>
    readonly keys: IdentityKeys
    readonly trustTtlMs: number
  },
  body: ReportBody,
): Promise<SignedRecord> {
  if (attestedSources(body).length > 0)
    throw new MoteError('malformed', 'record: expected no source: a device speaks for itself')
  if (chain.ageMs() > trustTtlMs) await chain.refresh()
  const bytes = signedBody({ chainId: chain.chainId, body, keys, time: chain.now() })
  const { id, unsigned } = unwrap(parseTransaction(bytes))
  return { bytes, id, expiry: unsigned.expiry }
}
