/**
 * A plain client reads a contract (docs/FORMATS.md, "MQTT topics", `read` and `state`): JSON in, JSON out. What the gateway has verified it says in its
 * own word; who wants the proof asks on `ask` (question.ts).
 */

import { type ContractAddress, isDigest } from '../../chain/brands.ts'
import { contractStanding } from '../../chain/contracts/document.ts'
import {
  type ContractStateRecord,
  contractRecordCodec,
  contractStateCodec,
  stateKeyOf,
} from '../../chain/records.ts'
import { ok, type Result, refuse } from '../../chain/result.ts'
import { jsonMembers } from '../../client/json-members.ts'
import type { Trusted, TrustView } from './trust.ts'

/** Largest question: an address, and some white space. */
const maxContractReadBytes = 256

/** `{"Address": …}`. Refuses `too-large`, `malformed`. */
export function parseContractRead(payload: Uint8Array): Result<ContractAddress> {
  if (payload.length > maxContractReadBytes)
    return refuse(
      'too-large',
      `payload: expected at most ${maxContractReadBytes} bytes, got ${payload.length}`,
    )
  const malformed = refuse(
    'malformed',
    'payload: expected {"Address": 64 hexadecimal digits} and nothing else',
  )
  let text: string
  let value: unknown
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(payload)
    value = JSON.parse(text)
  } catch {
    return malformed
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return malformed
  const [member, ...more] = jsonMembers(text)
  const { Address: address } = value as { readonly Address?: unknown }
  if (member?.name !== 'Address' || more.length > 0 || typeof address !== 'string' || !isDigest(address))
    return malformed
  return ok(address as string as ContractAddress)
}

/** A contract as it stands at the newest certified header, in JSON. Refuses `unknown-contract`; throws `MoteError` when the chain is out of reach. */
export async function contractAsJson(
  trust: Pick<TrustView, 'leaf'>,
  address: ContractAddress,
): Promise<Result<Uint8Array>> {
  const { value: record } = await trust.leaf(stateKeyOf.contract(address), contractRecordCodec)
  if (!record) return refuse('unknown-contract', `contract ${address}: not on the chain`)
  const state: Trusted<ContractStateRecord> = await trust.leaf(
    stateKeyOf.contractState(address),
    contractStateCodec,
  )
  const { name, version } = record.contract
  const standing = contractStanding(record, state.value)
  const answer = {
    Address: address,
    Name: name,
    Version: version,
    Status: standing.status,
    Decisions: standing.decisions,
    State: standing.state,
    Height: state.height,
    Time: state.time,
  }
  return ok(new TextEncoder().encode(JSON.stringify(answer)))
}
