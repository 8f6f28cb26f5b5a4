/** A history longer than a page, over the HTTP API and back. */
import type { AddressInfo } from 'node:net'
import { expect, test } from 'vitest'
import { Height, TransactionId } from '../../../chain/brands.ts'
import {
  type ChainSource,
  type DeviceTransaction,
  type HistoryCursor,
  maxHistoryPage,
} from '../../../client/chain-source.ts'
import { historyOf } from '../../../client/device-history.ts'
import { FailoverSource } from '../../../client/failover-source.ts'
import { httpSource } from '../../../client/http-source.ts'
import { createApi } from '../../../node/service/api.ts'
import { keysOf, TestChain } from '../../support/test-chain.ts'

const sensor = keysOf('sensor')

/** Three transactions in each block, the newest first. */
function rowsOf(count: number): readonly DeviceTransaction[] {
  return Array.from({ length: count }, (_, i) => ({
    id: TransactionId(i.toString(16).padStart(64, '0')),
    height: Height(Math.floor(i / 3) + 1),
    index: i % 3,
    kind: 'record',
  })).toReversed()
}

function pageOf(rows: readonly DeviceTransaction[], before?: HistoryCursor): readonly DeviceTransaction[] {
  const isBelow = ({ height, index }: DeviceTransaction) =>
    !before || height < before.height || (height === before.height && index < before.index)
  return rows.filter(isBelow).slice(0, maxHistoryPage)
}

test.each([0, maxHistoryPage - 1, maxHistoryPage, 2 * maxHistoryPage + 500])(
  'device history: all %i rows, in pages, once each',
  async count => {
    const rows = rowsOf(count)
    const asked: (HistoryCursor | undefined)[] = []
    const source: ChainSource = Object.assign(new TestChain().source(), {
      deviceTransactions: async (_: unknown, before?: HistoryCursor) => {
        asked.push(before)
        return pageOf(rows, before)
      },
    })
    const app = createApi({
      source,
      readiness: () => undefined,
      failure: () => undefined,
      httpPerSecond: 1_000,
      onUnexpected: error => expect.fail(String(error)),
    })
    await app.listen({ host: '127.0.0.1', port: 0 })
    try {
      const client = httpSource(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`)
      const seen = await historyOf(new FailoverSource([client]), sensor.id)
      expect(seen).toEqual(rows)
      expect(asked).toHaveLength(Math.floor(count / maxHistoryPage) + 1)
    } finally {
      await app.close()
    }
  },
)

test('device history: a source that gives the same page again is refused, and not read for ever', async () => {
  const rows = rowsOf(maxHistoryPage)
  const source = Object.assign(new TestChain().source(), { deviceTransactions: async () => rows })
  await expect(historyOf(new FailoverSource([source]), sensor.id)).rejects.toMatchObject({
    code: 'bad-proof',
  })
})
