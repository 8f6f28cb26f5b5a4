/**
 * Beside a broker that has acknowledged a message nobody sends it again: what is refused for good there is lost. And whoever gave a device its
 * right, its account or its standing may be a block ahead of this gateway. So a refusal for good counts only if it stands by what a full node
 * has at that moment.
 */
import { type Result, refusalOf, refuse } from '../../chain/result.ts'
import { checkFresh } from '../../client/freshness.ts'
import type { TrustView } from '../protocol/trust.ts'
import { mayPassLater } from './broker.ts'

/** What `judge` says, if need be after this gateway has caught up: while it cannot, or the chain is not fresh, with a code that may pass. */
export async function judgedAsOfNow<T>(
  judge: () => Promise<Result<T>>,
  {
    trust,
    trustTtlMs,
  }: { readonly trust: Pick<TrustView, 'refresh' | 'ageMs'>; readonly trustTtlMs: number },
): Promise<Result<T>> {
  const judged = await judge()
  if (judged.ok || mayPassLater(judged.error.code)) return judged
  try {
    await trust.refresh()
  } catch (error) {
    const { code, detail } = refusalOf(error)
    return refuse(mayPassLater(code) ? code : 'unreachable', detail)
  }
  const fresh = checkFresh(trust.ageMs(), trustTtlMs)
  return fresh.ok ? judge() : fresh
}
