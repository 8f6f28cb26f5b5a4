import { expect, test } from 'vitest'
import type { MoteError } from '../../../chain/result.ts'
import type { Storage } from '../../../node/ports.ts'
import { type RecordKind, recordKinds, watchCorruption } from '../../../node/storage/store-records.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import type { MemoryDisk } from '../../support/memory-byte-store.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'

/** Flips the last bit of the last record of a kind. */
function damageLast(disk: MemoryDisk, kind: RecordKind): void {
  const range = { from: Uint8Array.of(recordKinds[kind]), to: Uint8Array.of(recordKinds[kind] + 1) }
  const key = disk.keys({ ...range, reverse: true, limit: 1 })[0]
  if (key === undefined) throw new Error(`no ${kind} is stored`)
  disk.damage(Buffer.from(key, 'hex'), value => {
    value[value.length - 1]! ^= 1
    return value
  })
}

const reads: readonly [RecordKind, (storage: Storage) => AsyncIterable<unknown>][] = [
  ['leaf', storage => storage.leaves()],
  ['replay', storage => storage.replay(0)],
]

test.each(reads)(
  'corruption watch: tells of a damaged %s that is met half-way through a list',
  async (kind, read) => {
    const device = sampleIdentity('device-1')
    const world = await new LedgerWorld(1, [device]).startCertified()
    const answer = world.node(0).submission.submit(world.group(device, 'fleet'), 'certified')
    await world.run(100)
    expect(await answer).toMatchObject({ status: 'certified' })
    const reported: MoteError[] = []
    const storage = watchCorruption(world.storage(0), error => reported.push(error))
    const all = async () => {
      const seen: unknown[] = []
      for await (const item of read(storage)) seen.push(item)
      return seen.length
    }
    expect(await all()).toBeGreaterThan(0)
    expect(reported).toEqual([])
    damageLast(world.disk(0), kind)
    await expect(all()).rejects.toMatchObject({ code: 'storage-corrupt' })
    expect(reported).toMatchObject([{ code: 'storage-corrupt' }])
  },
)
