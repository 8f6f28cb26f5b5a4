/** What a query of `/mote/query/1` takes of who asks and of who answers. */
import type { Query } from './wire.ts'

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
