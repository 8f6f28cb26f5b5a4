/**
 * Recovery from a crash at every write of a node's life: before the write reached the disk, and after it did but before
 * anybody was told. What is checked is what others count on.
 */
import { expect, test } from 'vitest'
import type { Height } from '../../../chain/brands.ts'
import { unwrap } from '../../../chain/result.ts'
import { parseTransaction } from '../../../chain/transaction.ts'
import type { TransactionStatus } from '../../../client/chain-source.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'

const devices = Array.from({ length: 12 }, (_, i) => sampleIdentity(`device-${i}`))

/** What was promised to the outside, and must never be contradicted. */
class Promises {
  readonly #signed = new Map<string, string>()
  readonly #votes = new Map<string, string>()
  readonly acknowledged = new Map<string, { readonly height: number; readonly bytes: Uint8Array }>()

  watch(world: LedgerWorld): void {
    world.filter = (from, to, message) => {
      if (message.type === 'signatures')
        for (const { height, headerHash } of message.signatures)
          this.#once(this.#signed, `${from} at height ${height}`, headerHash)
      if (message.type === 'raft' && message.message.type === 'vote') {
        const { voteGranted, preVote, term } = message.message
        if (voteGranted && !preVote) this.#once(this.#votes, `${from} in term ${term}`, to)
      }
      return true
    }
  }

  #once(promises: Map<string, string>, what: string, value: string): void {
    expect(promises.get(what) ?? value, what).toBe(value)
    promises.set(what, value)
  }
}

interface CrashPoint {
  readonly write: number
  readonly when: 'before' | 'after'
}

let nonce = 0

/** Submits through any node until it is certified; the same bytes every time. */
async function acknowledged(world: LedgerWorld, promises: Promises, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const bytes = world.group(devices[nonce % devices.length]!, `group-${nonce++}`)
    let status: TransactionStatus | undefined
    let attempt = 0
    await world.until('an acknowledgement', () => {
      if (status?.status === 'certified') return true
      const nodes = world.running
      const node = nodes[(i + attempt) % nodes.length]
      if (attempt++ % 20 < nodes.length)
        void node?.submission.submit(bytes, 'certified').then(answer => {
          if (answer.status === 'certified') status = answer
        })
      return false
    })
    promises.acknowledged.set(status!.id, { height: status!.height!, bytes })
  }
}

/**
 * A life with elections, blocks, a stretch away and a snapshot, in which node 0 ends at the point, and starts again at
 * once. Returns how many writes node 0 made.
 */
async function live(point: CrashPoint | undefined): Promise<number> {
  const world = new LedgerWorld(3, devices)
  world.compaction = { entriesKept: 4 }
  world.maxLogBytesInMemory = 1
  const promises = new Promises()
  promises.watch(world)
  let ended = false
  if (point)
    world.disk(0).endsAt = {
      ...point,
      end: () => {
        ended = true
        world.crash(0)
      },
    }
  const revive = async () => {
    if (!ended) return
    ended = false
    world.disk(0).endsAt = undefined
    await world.start(0)
  }
  await Promise.race([
    world.startAll(),
    world.until('the start', () => ended || world.running.length === 3, 5_000),
  ])
  for (const i of [1, 2]) if (!world.isRunning(i)) await world.start(i)
  await revive()
  await acknowledged(world, promises, 2)
  await revive()
  world.cutOff(0)
  await acknowledged(world, promises, 12)
  world.heal()
  await world.until('node 0 to follow', () => ended || inStep(world))
  await revive()
  await acknowledged(world, promises, 2)
  await world.until('all to be in step', () => ended || inStep(world))
  await revive()
  await world.until('all to be in step', () => inStep(world))
  expect(world.failures).toEqual([])
  const hashes = world.running.map(node => node.chain.ledger.headerHash)
  expect(new Set(hashes).size).toBe(1)
  for (const [id, { height, bytes }] of promises.acknowledged) {
    expect(id).toBe(unwrap(parseTransaction(bytes)).id)
    expect((await world.node(1).service.block(height as Height)).transactions).toMatchObject([{ id }])
  }
  return world.disk(0).writes
}

function inStep(world: LedgerWorld): boolean {
  const heights = world.running.flatMap(node => [node.chain.height, node.certifier.certifiedHeight])
  return world.running.length === 3 && new Set(heights).size === 1
}

test('crash points: an undisturbed life has snapshots and compactions in it', async () => {
  expect(await live(undefined)).toBeGreaterThan(12)
})

test.each(['before', 'after'] as const)(
  'crash points: a crash %s any write loses and contradicts nothing',
  async when => {
    const writes = await live(undefined)
    for (let write = 1; write <= writes; write++)
      await live({ write, when }).catch(cause => {
        throw new Error(`crash ${when} write ${write} of ${writes}: ${String(cause)}`, { cause })
      })
  },
  120_000,
)
