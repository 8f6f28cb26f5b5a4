/**
 * What a transaction can ask for: one variant per kind, its number on the wire, and its codec (docs/FORMATS.md, "Transactions").
 * Each family of kinds has a file of its own; this is the table of all.
 *
 * Kind numbers are below 128, so that the number is always one byte at a fixed place, and are never reused. Kinds that a
 * later execution version will run have their numbers here already: such a transaction is recognised and refused as
 * `kind-not-supported`, which is not the same as `malformed`.
 */
import type { DeviceId } from './brands.ts'
import { type Codec, struct } from './codec.ts'
import { type ConsenterSet, consenterSetCodec } from './consenters.ts'
import { type GroupBody, groupBodies } from './group-bodies.ts'
import { type IdentityBody, identityBodies } from './identity-bodies.ts'
import { type DeviceRecord, type RecordBody, recordBodies } from './record-bodies.ts'

export * from './group-bodies.ts'
export * from './identity-bodies.ts'
export * from './record-bodies.ts'

/** An authority approves of these consenters. With enough approvals it is decided, and a handover follows. */
export interface ConsentersBody {
  readonly type: 'governance.consenters'
  /** The present set takes a pending decision back. */
  readonly target: ConsenterSet
}

export type TransactionBody = IdentityBody | GroupBody | ConsentersBody | RecordBody

/** The records of a transaction, in order. */
export function recordsOf(body: TransactionBody): readonly DeviceRecord[] {
  if (body.type === 'record.one') return [body.record]
  if (body.type === 'record.batch') return body.records
  return body.type === 'contract.action' && body.input.type === 'record' ? [body.input.record] : []
}

/** Whom a transaction speaks for besides its signer: the devices for which a gateway attests. */
export function attestedSources(body: TransactionBody): readonly DeviceId[] {
  const called = body.type === 'contract.action' && body.input.type === 'call' ? [body.input.source] : []
  const sources = [...recordsOf(body).map(({ source }) => source), ...called]
  return sources.filter(source => source !== undefined)
}

/** A kind that is executed now. */
export type TransactionType = TransactionBody['type']

type Fields<K extends TransactionType> = Omit<Extract<TransactionBody, { type: K }>, 'type'>

/** Kinds executed now: number and codec of the fields. */
export const bodies: {
  readonly [K in TransactionType]: readonly [kind: number, fields: Codec<Fields<K>>]
} = {
  ...identityBodies,
  ...groupBodies,
  'governance.consenters': [64, struct<Fields<'governance.consenters'>>({ target: consenterSetCodec })],
  ...recordBodies,
}

/** Kinds whose numbers are taken but which this execution version refuses. */
export const reservedKinds = {
  'identity.relabel': 3,
  'identity.reinstate': 5,
  'identity.approve': 7,
  'key.exchange': 19,
  'report.misbehaviour': 48,
  'evidence.equivocation': 49,
  'governance.authorities': 65,
  'governance.parameters': 66,
  'governance.execution-version': 67,
  'governance.approve': 68,
} as const

/** The executed kind with this number. */
export const typeOfKind: ReadonlyMap<number, TransactionType> = new Map(
  (Object.entries(bodies) as [TransactionType, readonly [number, unknown]][]).map(([type, [kind]]) => [
    kind,
    type,
  ]),
)
/** The reserved kind with this number. */
export const reservedKindNames: ReadonlyMap<number, string> = new Map(
  Object.entries(reservedKinds).map(([name, kind]) => [kind, name]),
)
