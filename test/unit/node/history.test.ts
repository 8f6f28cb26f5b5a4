/** The history of a device out of the real store, page by page, over the HTTP API. */
import type { AddressInfo } from 'node:net'
import { expect, test } from 'vitest'
import { type DeviceTransaction, maxHistoryPage } from '../../../client/chain-source.ts'
import { httpSource } from '../../../client/http-source.ts'
import { createApi } from '../../../node/service/api.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'

const device = sampleIdentity('device')
const other = sampleIdentity('other')

test('history: a page at its limit is the whole history, and one row more is the next page', async () => {
  const world = await new LedgerWorld(1, [device, other]).startCertified()
  const { service, submission, chain } = world.node(0)
  let made = 0
  /** Executes so many transactions of the device, with one of another between them. */
  const make = async (count: number): Promise<void> => {
    const before = chain.ledger.header.height
    for (const identity of [...Array.from({ length: count }, () => device), other])
      void submission.submit(world.group(identity, `group-${made++}`), 'none')
    await world.until(
      'executed',
      () => chain.ledger.header.height > before && world.node(0).mempool.size === 0,
    )
    await world.settle()
  }
  const app = createApi({
    source: service,
    readiness: () => undefined,
    failure: () => undefined,
    httpPerSecond: 1_000,
    onUnexpected: error => expect.fail(String(error)),
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  try {
    const client = httpSource(`http://127.0.0.1:${(app.server.address() as AddressInfo).port}`)
    const page = (last?: DeviceTransaction) => client.deviceTransactions(device.id, last)
    await make(maxHistoryPage)
    const whole = await page()
    expect(whole).toHaveLength(maxHistoryPage)
    expect(await page(whole.at(-1))).toEqual([])

    await make(1)
    const first = await page()
    expect(first.slice(1)).toEqual(whole.slice(0, -1))
    expect(await page(first.at(-1))).toEqual(whole.slice(-1))
    expect(await page(first[0])).toEqual(whole)
    expect(new Set([...first, ...whole].map(({ id }) => id)).size).toBe(maxHistoryPage + 1)
  } finally {
    await app.close()
  }
})
