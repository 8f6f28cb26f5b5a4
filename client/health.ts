/**
 * Health over HTTP: `/livez` and `/readyz` have one form, for nodes of every label and for the gateway
 * (docs/OPERATIONS.md, Health). 200 with a `status`, or a problem document whose `code` and `detail` are the reason: 500
 * where the process is broken and a restart may help, 503 where it is sound and cannot serve now, whatever HTTP status
 * the code has elsewhere. A monitor needs no other rule.
 */
import type { MoteError } from '../chain/result.ts'
import { problemHeaders, problemOf } from './problem.ts'

/** What an HTTP server sends as it is. */
export interface HealthAnswer {
  readonly status: 200 | 500 | 503
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** The answer of `/livez`. @param failure undefined while the process is sound */
export function liveness(failure: MoteError | undefined): HealthAnswer {
  return failure ? refusal(500, failure) : answer({ status: 'alive' })
}

/** The answer of `/readyz`. @param missing undefined while the program serves; @param notices stand beside `ready` */
export function readiness(missing: MoteError | undefined, notices: object = {}): HealthAnswer {
  return missing ? refusal(503, missing) : answer({ status: 'ready', ...notices })
}

/** The state of this moment is nobody's to keep. */
const uncached = { 'cache-control': 'no-store' } as const

function answer(body: object): HealthAnswer {
  return {
    status: 200,
    headers: { ...uncached, 'content-type': 'application/json; charset=utf-8' },
    body: JSON.stringify(body),
  }
}

function refusal(status: 500 | 503, { code, detail }: MoteError): HealthAnswer {
  const problem = problemOf(code, detail, status)
  return { status, headers: { ...uncached, ...problemHeaders(problem) }, body: JSON.stringify(problem) }
}
