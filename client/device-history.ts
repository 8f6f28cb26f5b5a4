/** The history of a device, page by page. Advice of a full node: it says which transactions to look up. */
import type { DeviceId } from '../chain/brands.ts'
import { MoteError } from '../chain/result.ts'
import { type DeviceTransaction, maxHistoryPage, type SourcePool } from './chain-source.ts'

/** Rows that are read at most; the oldest are left out. */
const maxHistoryRows = 100_000

/** Newest first. Throws `bad-proof` for pages that do not go on where the last one ended. */
export async function historyOf(pool: SourcePool, id: DeviceId): Promise<readonly DeviceTransaction[]> {
  const rows: DeviceTransaction[] = []
  for (;;) {
    const last = rows.at(-1)
    const page = await pool.attempt(async source => {
      const next = await source.deviceTransactions(id, last && { height: last.height, index: last.index })
      if (next.length > maxHistoryPage || !descends(last, next))
        throw new MoteError('bad-proof', `${source.name}: history: expected a page below the last one`)
      return next
    })
    rows.push(...page)
    if (page.length < maxHistoryPage || rows.length >= maxHistoryRows) return rows
  }
}

function descends(last: DeviceTransaction | undefined, page: readonly DeviceTransaction[]): boolean {
  let above = last
  for (const row of page) {
    if (above && (row.height > above.height || (row.height === above.height && row.index >= above.index)))
      return false
    above = row
  }
  return true
}
