/**
 * The node list and the topic list of a chain (Hsu-Lu, Tables 1 and 2), and its contracts: the ids of all of a kind, page by page.
 *
 * Whatever a page names is proven before it is given out. That a page names everything is the word of the node that
 * served it: a state proof shows what is there, not that nothing else of its kind is.
 */
import type { ContractAddress, DeviceId, GroupId, StateKey } from '../chain/brands.ts'
import { type Codec, decode } from '../chain/codec.ts'
import { contractRecordCodec, groupCodec, identityCodec, stateKeyOf } from '../chain/records.ts'
import { MoteError } from '../chain/result.ts'
import type { ChainClient } from './chain-client.ts'
import type { ChainSource, RecordPage } from './chain-source.ts'
import type { VerifiedChain } from './verified-chain.ts'

/** Ids that were listed, and where to go on: above `next`; undefined at the end. */
export interface ListedIds<Id> {
  readonly ids: readonly Id[]
  readonly next: StateKey | undefined
}

type Client = Pick<ChainClient, 'pool' | 'records'>

/** A page of the identities; their records need not be asked for again. Throws `bad-proof`, `bad-certificate`, `stale`. */
export function devicePage({ pool, records }: Client, after?: StateKey): Promise<ListedIds<DeviceId>> {
  return pool.attempt(async source =>
    takeDevicePage(records, source, after, await source.records('identity', after)),
  )
}

/** The same of a page that came another way. `source` is asked for headers only. */
export async function takeDevicePage(
  records: Pick<VerifiedChain, 'takeDevice'>,
  source: ChainSource,
  after: StateKey | undefined,
  page: RecordPage,
): Promise<ListedIds<DeviceId>> {
  const ids = page.answers.map(({ value }) => listed(source, identityCodec, value).id)
  checkOrder(source, after, ids.map(stateKeyOf.identity), page.next)
  for (const [i, id] of ids.entries())
    await records.takeDevice(source, id, page.answers[i] as RecordPage['answers'][number])
  return { ids, next: page.next }
}

/** A page of the groups' ids, not proven: each group is asked for with its members, and proven then. */
export function groupPage({ pool }: Client, after?: StateKey): Promise<ListedIds<GroupId>> {
  return pool.attempt(async source => {
    const { answers, next } = await source.records('group', after)
    const ids = answers.map(({ value }) => listed(source, groupCodec, value).id)
    checkOrder(source, after, ids.map(stateKeyOf.group), next)
    return { ids, next }
  })
}

/** A page of the contracts' addresses, not proven: each contract is asked for, and proven then. */
export function contractPage({ pool }: Client, after?: StateKey): Promise<ListedIds<ContractAddress>> {
  return pool.attempt(async source => {
    const { answers, next } = await source.records('contract', after)
    const ids = answers.map(({ value }) => listed(source, contractRecordCodec, value).address)
    checkOrder(source, after, ids.map(stateKeyOf.contract), next)
    return { ids, next }
  })
}

function listed<T>({ name }: ChainSource, codec: Codec<T>, value: Uint8Array | undefined): T {
  const record = value && decode(codec, value)
  if (record?.ok) return record.value
  throw new MoteError(
    'bad-proof',
    `${name}: records: ${record ? record.error.detail : 'lists what is not there'}`,
  )
}

/** Keys ascend from page to page, so that no source leads anybody in a circle. */
function checkOrder(
  { name }: ChainSource,
  after: StateKey | undefined,
  keys: readonly StateKey[],
  next: StateKey | undefined,
): void {
  const all = [...(after === undefined ? [] : [after]), ...keys]
  const isAscending = all.every((key, i) => i === 0 || (all[i - 1] as StateKey) < key)
  const last = keys.at(-1)
  const goesOn =
    next === undefined || ((after === undefined || after < next) && (last === undefined || last <= next))
  if (!isAscending || !goesOn) throw new MoteError('bad-proof', `${name}: records: expected ascending keys`)
}
