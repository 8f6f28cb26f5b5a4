import { describe, expect, test } from 'vitest'
import type { StateKey } from '../../../chain/brands.ts'
import { decode, encode } from '../../../chain/codec.ts'
import type { StateAnswer } from '../../../chain/light-client.ts'
import { type IdentityRecord, identityCodec, stateKeyOf } from '../../../chain/records.ts'
import { unwrap } from '../../../chain/result.ts'
import { entries } from '../../../chain/state-tree.ts'
import { ChainClient } from '../../../client/chain-client.ts'
import {
  maxRecordPageBytes,
  maxRecordsPerPage,
  type RecordPage,
  recordPageCodec,
} from '../../../client/chain-source.ts'
import { createGroup } from '../../../client/group-actions.ts'
import { devicePage, groupPage, takeDevicePage } from '../../../client/record-list.ts'
import { recordPage } from '../../../node/service/record-pages.ts'
import { keysOf, TestChain } from '../../support/test-chain.ts'

const names = Array.from({ length: 150 }, (_, i) => `device-${i}`)
const chain = new TestChain({ devices: names })
chain.append()

async function opened(source = chain.source('full node')) {
  const client = await ChainClient.open({ sources: [source], checkpoint: chain.checkpoint })
  await client.follower.sync()
  return { source, client }
}

async function allDevices(client: ChainClient): Promise<string[]> {
  const ids: string[] = []
  let after: StateKey | undefined
  do {
    const page = await devicePage(client, after)
    ids.push(...page.ids)
    after = page.next
  } while (after !== undefined)
  return ids
}

describe('record list', () => {
  test('record list: every identity once, in pages, each proven and not asked for again', async () => {
    const { source, client } = await opened()
    const ids = await allDevices(client)
    const listed = new Set(ids)
    expect(listed.size).toBe(ids.length)
    for (const name of names) expect(listed.has(keysOf(name).id), name).toBe(true)
    expect(source.asked.get('records')).toBeGreaterThan(2)
    for (const name of names)
      expect((await client.records.device(keysOf(name).id)).value?.status).toBe('active')
    expect(source.asked.get('state') ?? 0, 'none of them is asked for').toBe(0)
  })

  test('record list: pages are bounded in records and bytes, and begin above any key', () => {
    const certified = chain.at(chain.height)
    const page = recordPage(certified, 'identity')
    expect(page.answers).toHaveLength(maxRecordsPerPage)
    expect(encode(recordPageCodec, page).length).toBeLessThan(maxRecordPageBytes + 1024)
    const keys = [...entries(certified.ledger.tree)].map(([key]) => key)
    for (const key of [
      keys[0]!,
      keys[77]!,
      keys.at(-1)!,
      'f'.repeat(64) as StateKey,
      '0'.repeat(64) as StateKey,
    ])
      expect([...entries(certified.ledger.tree, key)].map(([each]) => each)).toEqual(
        keys.filter(each => each > key),
      )
  })

  test('record list: groups are listed by their ids', async () => {
    const { client } = await opened()
    const group = await createGroup(client, keysOf('device-1'), 'valves')
    const { ids, next } = await groupPage(client)
    expect([ids, next]).toEqual([[group.value!.record.id], undefined])
  })

  test('record list: a changed or absent record, another order, and a page that leads back are bad-proof', async () => {
    const { source, client } = await opened()
    const { next } = await source.records('identity')
    const changed = (answer: StateAnswer): StateAnswer => {
      const record = unwrap(decode(identityCodec, answer.value!)) as IdentityRecord
      return { ...answer, value: encode(identityCodec, { ...record, trustLevel: 0 as const }) }
    }
    const lies: readonly ((page: RecordPage) => RecordPage)[] = [
      page => ({ ...page, answers: [changed(page.answers[0]!), ...page.answers.slice(1)] }),
      page => ({ ...page, answers: page.answers.toReversed() }),
      page => ({ ...page, answers: [], next: '0'.repeat(64) as StateKey }),
      page => ({ ...page, answers: page.answers.map(answer => ({ ...answer, value: undefined })) }),
    ]
    for (const lie of lies) {
      const page = lie(await source.records('identity', next))
      await expect(takeDevicePage(client.records, source, next, page)).rejects.toMatchObject({
        code: 'bad-proof',
      })
    }
  })

  test('record list: a record that has changed since is asked for anew', async () => {
    const { source, client } = await opened()
    source.stateFrozenAt = chain.height
    const { ids } = await devicePage(client)
    expect((await client.records.device(ids[0]!)).value?.id).toBe(ids[0])
    expect(stateKeyOf.identity(ids[0]!) < stateKeyOf.identity(ids[1]!)).toBe(true)
  })
})
