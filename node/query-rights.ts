/** What a query of `/mote/query/1` takes of who asks and of who answers, and what it costs. */
import { decode } from '../chain/codec.ts'
import type { IdentityRecord } from '../chain/records.ts'
import type { RequestProtocol } from './ports.ts'
import { type Query, queryCodec } from './wire.ts'

/**
 * In units of reading one record: what a proven peer may ask is counted in these (network-limits.ts). A node that catches
 * up with 5,000 headers needs some tens of pages; one that follows, one unit for each block.
 */
const queryCosts: Readonly<Record<Query['type'], number>> = {
  head: 1,
  header: 1,
  wait: 1,
  status: 1,
  coordination: 1,
  transaction: 1,
  'own-status': 2,
  state: 2,
  /** A signature to verify, and room in every log. */
  submit: 5,
  /** Up to some hundred thousand bytes. */
  group: 10,
  history: 20,
  headers: 20,
}

/** What a request of a proven peer costs. What full nodes ask as members carries consensus and is not counted. */
export function requestCost(
  protocol: RequestProtocol,
  body: Uint8Array,
  label: IdentityRecord['label'] | undefined,
): number {
  if (protocol === 'member') return label === 'full' ? 0 : 1
  if (protocol !== 'query') return 1
  const query = decode(queryCodec, body)
  return query.ok ? queryCosts[query.value.type] : 1
}

/** What a caller may ask before its hello has passed. */
export function openToUnproven(query: Query): boolean {
  return query.type === 'head' || query.type === 'own-status' || query.type === 'coordination'
}

/** What may be asked of a peer that is not confirmed: what is certified or signed, and verified as it comes. */
export function needsNoTrust(query: Query): boolean {
  switch (query.type) {
    case 'head':
    case 'header':
    case 'headers':
    case 'wait':
    case 'state':
    case 'group':
    case 'own-status':
    case 'coordination':
      return true
    default:
      return false
  }
}
