/** Errors over HTTP as RFC 9457 problem documents: what nodes and the gateway send. */
import { type ErrorCode, errorTable } from '../chain/errors.ts'

export interface Problem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly code: ErrorCode
}

/** Seconds after which a refused request may be worth another try. */
const retryAfterSeconds = '1'

/** The problem document for a code (RFC 9457, section 3.1); `status` defaults to the table's. */
export function problemOf(code: ErrorCode, detail: string, status: number = errorTable[code].http): Problem {
  return { type: `urn:mote:error:${code}`, title: errorTable[code].sentence, status, detail, code }
}

/** The headers that go with it. */
export function problemHeaders({ status }: Problem): Readonly<Record<string, string>> {
  const type = { 'content-type': 'application/problem+json; charset=utf-8' }
  return status === 429 || status === 503 ? { ...type, 'retry-after': retryAfterSeconds } : type
}
