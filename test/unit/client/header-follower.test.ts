import { describe, expect, it } from 'vitest'
import { type Hash, Height } from '../../../chain/brands.ts'
import { headerHash } from '../../../chain/header.ts'
import type { CertifiedHeader } from '../../../chain/light-client.ts'
import { MoteError } from '../../../chain/result.ts'
import type { CheckpointStore } from '../../../client/checkpoint-file.ts'
import { FailoverSource } from '../../../client/failover-source.ts'
import { type HeadEvent, HeaderFollower } from '../../../client/header-follower.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import { LongChain, strangeKeys } from '../../support/long-chain.ts'
import { keysOf, TestChain, type TestSource } from '../../support/test-chain.ts'

function memoryStore(): CheckpointStore & { bytes: Uint8Array | undefined } {
  const store: CheckpointStore & { bytes: Uint8Array | undefined } = {
    bytes: undefined,
    load: async () => store.bytes,
    save: async bytes => {
      store.bytes = bytes
    },
  }
  return store
}

async function followerOf(chain: TestChain, source: TestSource, store?: CheckpointStore, longestRun = 1024) {
  const pool = new FailoverSource([source])
  const options = { pool, verifier: nativeVerifier, checkpoint: chain.checkpoint, longestRun }
  return HeaderFollower.open({ ...options, ...(store && { store, saveEveryMs: 0 }) })
}

describe('header follower', () => {
  it('header follower: tells of every header in order with its changes', async () => {
    const chain = new TestChain({ devices: ['sensor'] })
    chain.append()
    chain.revoke(keysOf('sensor').id)
    chain.append()
    const follower = await followerOf(chain, chain.source())
    const events: HeadEvent[] = []
    follower.onAdvance(event => events.push(event))
    await follower.sync()
    const seen = events.flatMap(event => (event.type === 'headers' ? event.headers : []))
    expect(seen.map(entry => entry.header.height)).toEqual([1, 2, 3])
    expect(seen[1]?.changes).toEqual(chain.at(2).changes)
    expect(follower.newest).toEqual(chain.served(3))
  })

  it('header follower: a gap in certificates is covered by the next one', async () => {
    const chain = new TestChain()
    for (let i = 0; i < 30; i++) chain.append([], { certify: i % 10 === 9 })
    chain.append([], { certify: false })
    const follower = await followerOf(chain, chain.source())
    expect((await follower.sync()).header.height).toBe(30)
  })

  it('header follower: far behind it skips, and says that changes in between are unknown', async () => {
    const chain = new TestChain()
    for (let i = 0; i < 12; i++) chain.append()
    const source = chain.source()
    const follower = await followerOf(chain, source, undefined, 10)
    const events: HeadEvent[] = []
    follower.onAdvance(event => events.push(event))
    await follower.sync()
    expect(events.map(event => event.type)).toEqual(['skipped'])
    expect(source.asked.get('headersFrom')).toBeUndefined()
    chain.append()
    await follower.sync()
    expect(events.map(event => event.type)).toEqual(['skipped', 'headers'])
  })

  it('header follower: many changed keys end a walk as well, in one skip to the newest header', async () => {
    const chain = new TestChain()
    const long = new LongChain(chain)
    long.grow(60, strangeKeys(1_500))
    const follower = await HeaderFollower.open({
      pool: new FailoverSource([long.service]),
      verifier: nativeVerifier,
      checkpoint: chain.checkpoint,
    })
    const events: HeadEvent[] = []
    follower.onAdvance(event => events.push(event))
    await follower.sync()
    expect(follower.head.header.height).toBe(60)
    expect(events.map(event => event.type)).toEqual(['headers', 'headers', 'skipped'])
    long.grow(30, strangeKeys(1_500))
    await follower.sync()
    expect(events.slice(3).map(event => event.type)).not.toContain('skipped')
    long.service.stop()
  })

  it('header follower: knows how far behind it is, and is level again when it has caught up', async () => {
    const chain = new TestChain()
    const source = chain.source()
    const follower = await followerOf(chain, source)
    expect([follower.isLevel, follower.behind]).toEqual([false, 0])
    await follower.sync()
    expect([follower.isLevel, follower.behind]).toEqual([true, 0])
    for (let i = 0; i < 20; i++) chain.append()
    source.headersFrom = async () => {
      expect([follower.isLevel, follower.behind]).toEqual([false, 20])
      throw new MoteError('timeout', 'late')
    }
    await expect(follower.sync()).rejects.toMatchObject({ code: 'timeout' })
    expect([follower.isLevel, follower.behind]).toEqual([false, 20])
    // One that is behind itself shows nothing of that.
    const behind = chain.source()
    behind.frozenAt = 5
    await follower.syncFrom(behind)
    expect([follower.isLevel, follower.behind]).toEqual([false, 15])
    await follower.syncFrom(chain.source())
    expect([follower.isLevel, follower.behind]).toEqual([true, 0])
  })

  it('header follower: a height that nobody has certified is not believed, by whomever it is shown', async () => {
    const chain = new TestChain()
    for (let i = 0; i < 12; i++) chain.append()
    const source = chain.source()
    const follower = await followerOf(chain, source)
    await follower.sync()
    for (const strange of [{}, { signersHash: 'ab'.repeat(32) as Hash }]) {
      source.tamperHeader = entry => ({
        ...entry,
        header: { ...entry.header, height: Height(1_000_000), index: entry.header.index, ...strange },
      })
      await expect(follower.syncFrom(source)).rejects.toBeInstanceOf(MoteError)
      expect([follower.isLevel, follower.behind]).toEqual([true, 0])
    }
  })

  it('header follower: refuses a list of changes that leaves a key out', async () => {
    const chain = new TestChain({ devices: ['sensor'] })
    chain.append()
    chain.revoke(keysOf('sensor').id)
    for (const longestRun of [1024, 1]) {
      const source = chain.source()
      source.tamperHeader = entry => ({ ...entry, changes: entry.changes.slice(1) })
      const follower = await followerOf(chain, source, undefined, longestRun)
      await expect(follower.sync()).rejects.toMatchObject({ code: 'bad-header' })
      expect(follower.head.header.height).toBeLessThan(2)
    }
  })

  it('header follower: refuses an uncertified run, a broken link, and a header signed by strangers', async () => {
    const chain = new TestChain()
    const twin = new TestChain({ name: 'twin' })
    for (let i = 0; i < 3; i++) {
      chain.append()
      twin.append([], { afterMs: 2000 })
    }
    const lies: [(entry: CertifiedHeader) => CertifiedHeader, string][] = [
      [entry => ({ ...entry, certificate: undefined }), 'stale'],
      [entry => (entry.header.height === 2 ? twin.served(2) : entry), 'wrong-chain'],
      [
        entry => {
          if (entry.header.height !== 2) return entry
          return { ...entry, header: { ...entry.header, time: chain.time } }
        },
        'bad-',
      ],
      [
        entry => {
          const header = { ...entry.header, stateRoot: entry.header.receiptsRoot }
          const certificate = entry.certificate && { ...entry.certificate, headerHash: headerHash(header) }
          return { ...entry, header, certificate }
        },
        'bad-',
      ],
    ]
    for (const [lie, code] of lies) {
      const source = chain.source()
      source.tamperHeader = lie
      const follower = await followerOf(chain, source)
      await expect(follower.sync()).rejects.toMatchObject({ code: expect.stringContaining(code) })
      expect(follower.head.header.height).toBe(0)
    }
  })

  it('header follower: refuses another certified header at its height', async () => {
    const chain = new TestChain()
    chain.append()
    const source = chain.source()
    const follower = await followerOf(chain, source)
    await follower.sync()
    const fork = new TestChain()
    fork.append([], { afterMs: 5000 })
    source.tamperHeader = () => fork.served(1)
    await expect(follower.sync()).rejects.toMatchObject({ code: 'bad-header' })
  })

  it('header follower: goes on from its stored checkpoint, and refuses one of another chain', async () => {
    const chain = new TestChain()
    for (let i = 0; i < 5; i++) chain.append()
    const store = memoryStore()
    await (await followerOf(chain, chain.source(), store)).sync()
    const source = chain.source()
    const again = await followerOf(chain, source, store)
    expect(again.head.header.height).toBe(5)
    expect(again.head.headerHash).toBe(chain.ledger.headerHash)
    const other = new TestChain({ name: 'other' })
    await expect(followerOf(other, other.source(), store)).rejects.toMatchObject({ code: 'wrong-chain' })
    store.bytes = store.bytes!.slice(1)
    await expect(followerOf(chain, source, store)).rejects.toMatchObject({ code: 'storage-corrupt' })
  })

  it('header follower: runs until it is told to stop, and outlives failures', async () => {
    const chain = new TestChain()
    const source = chain.source()
    const follower = await followerOf(chain, source)
    const stop = new AbortController()
    const running = follower.run(stop.signal)
    const reached = (height: number) =>
      new Promise<void>(resolve => {
        const check = () => follower.head.header.height >= height && resolve()
        follower.onAdvance(check)
        check()
      })
    chain.append()
    await reached(1)
    source.failure = new MoteError('unreachable', 'down')
    chain.append()
    source.failure = undefined
    await reached(2)
    stop.abort()
    await running
  })

  it('header follower: reaches a height by whichever source gets there', async () => {
    const chain = new TestChain()
    chain.append()
    const [behind, ahead] = [chain.source('behind'), chain.source('ahead')]
    behind.frozenAt = 1
    const pool = new FailoverSource([behind, ahead])
    const follower = await HeaderFollower.open({
      pool,
      verifier: nativeVerifier,
      checkpoint: chain.checkpoint,
    })
    chain.append()
    expect((await follower.reach(Height(2))).header.height).toBe(2)
    await expect(follower.reach(Height(3), 30)).rejects.toMatchObject({ code: 'stale' })
  })

  it('header follower: one that asks once asks a second source too, and passes over who is late', async () => {
    const chain = new TestChain()
    for (let i = 0; i < 2; i++) chain.append()
    const [late, hung, lively] = ['late', 'hung', 'lively'].map(name => chain.source(name))
    late!.frozenAt = 1
    hung!.certifiedHeader = () => new Promise(() => {})
    const { checkpoint } = chain
    const follow = async (...sources: TestSource[]) => {
      const pool = new FailoverSource(sources)
      return { pool, follower: await HeaderFollower.open({ pool, verifier: nativeVerifier, checkpoint }) }
    }
    const two = await follow(late!, lively!)
    expect((await two.follower.sync()).header.height).toBe(2)
    expect(two.pool.preferred).toBe(lively)
    const alone = await follow(late!, hung!)
    expect((await alone.follower.sync()).header.height).toBe(1)
    expect(alone.pool.preferred).toBe(late)
  })

  it('header follower: a silent source is passed over after quietMs', async () => {
    const chain = new TestChain()
    chain.append()
    const [silent, lively] = [chain.source('silent'), chain.source('lively')]
    silent.frozenAt = 1
    // It cannot be compared with.
    lively.certifiedHeader = () => Promise.reject(new MoteError('unreachable', 'down'))
    const pool = new FailoverSource([silent, lively])
    const { checkpoint } = chain
    const timing = { waitMs: 1, quietMs: 0 }
    const follower = await HeaderFollower.open({ pool, verifier: nativeVerifier, checkpoint, ...timing })
    await follower.sync()
    chain.append()
    const stop = new AbortController()
    const advanced = new Promise<void>(resolve => follower.onAdvance(() => resolve()))
    const running = follower.run(stop.signal)
    await advanced
    stop.abort()
    await running
    expect(pool.preferred).toBe(lively)
    expect(pool.isDistrusted(silent)).toBe(false)
  })

  it('header follower: a source that is late behind another is passed over, whatever a clock says', async () => {
    const chain = new TestChain()
    chain.append()
    const [late, lively] = [chain.source('late'), chain.source('lively')]
    const failures: string[] = []
    const pool = new FailoverSource([late, lively], {
      onFault: ({ name }, fault, { code }) => failures.push(`${name} ${fault} ${code}`),
    })
    const { checkpoint } = chain
    const clock = { steady: () => 0 }
    const timing = { waitMs: 1, clock }
    const follower = await HeaderFollower.open({ pool, verifier: nativeVerifier, checkpoint, ...timing })
    await follower.sync()
    late.frozenAt = 1
    chain.append()
    const stop = new AbortController()
    const advanced = (height: number) =>
      new Promise<void>(resolve =>
        follower.onAdvance(({ head }) => {
          if (head.header.height === height) resolve()
        }),
      )
    const second = advanced(2)
    const running = follower.run(stop.signal)
    await second
    await expect.poll(() => failures).toEqual(['late late stale'])
    const third = advanced(3)
    chain.append()
    await third
    stop.abort()
    await running
    expect(pool.preferred).toBe(lively)
    expect(failures).toEqual(['late late stale'])
  })
})
