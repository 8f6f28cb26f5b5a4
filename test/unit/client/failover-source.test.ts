import { describe, expect, it } from 'vitest'
import { MoteError } from '../../../chain/result.ts'
import { FailoverSource } from '../../../client/failover-source.ts'
import { TestChain } from '../../support/test-chain.ts'

function setUp() {
  const chain = new TestChain()
  const [a, b, c] = [chain.source('a'), chain.source('b'), chain.source('c')]
  let now = 0
  const pool = new FailoverSource([a, b, c], { distrustMs: 1_000, clock: { steady: () => now } })
  const ask = () => pool.attempt(async source => (await source.status()).name)
  return { a, b, c, pool, ask, wait: (ms: number) => (now += ms) }
}

const down = new MoteError('unreachable', 'down')

describe('failover source', () => {
  it('failover source: stays with the one that works', async () => {
    const { a, b, ask, wait } = setUp()
    expect([await ask(), await ask()]).toEqual(['a', 'a'])
    a.failure = down
    expect(await ask()).toBe('b')
    a.failure = undefined
    wait(4_999)
    expect(await ask()).toBe('b')
    b.failure = new MoteError('no-leader', 'election')
    expect(await ask()).toBe('c')
    expect(a.asked.get('status')).toBe(3)
  })

  it('failover source: the one that serves is the one that answered last and has not failed since', async () => {
    const { a, b, pool, ask } = setUp()
    expect(pool.serving, 'nobody was asked').toBeUndefined()
    await ask()
    expect(pool.serving?.name).toBe('a')
    a.failure = down
    await ask()
    expect(pool.serving?.name).toBe('b')
    pool.replace([a])
    expect(pool.serving, 'b is no source any more').toBeUndefined()
    await expect(ask()).rejects.toMatchObject({ code: 'unreachable' })
    expect(pool.serving).toBeUndefined()
    a.failure = undefined
    pool.replace([b, a])
    b.failure = down
    await ask()
    pool.replace([b, a])
    expect(pool.serving?.name, 'goes on with a').toBe('a')
  })

  it('failover source: returns to its first source after a while', async () => {
    const { a, b, ask, wait } = setUp()
    a.failure = down
    expect(await ask()).toBe('b')
    wait(5_000)
    expect(await ask()).toBe('b')
    wait(5_000)
    a.failure = undefined
    expect([await ask(), await ask()]).toEqual(['a', 'a'])
    expect(b.asked.get('status')).toBe(2)
  })

  it('failover source: one that is late or without a leader is asked after the others, for half a minute', async () => {
    for (const code of ['stale', 'no-leader'] as const) {
      const { a, b, c, ask, wait } = setUp()
      a.failure = new MoteError(code, 'no progress')
      expect(await ask()).toBe('b')
      a.failure = undefined
      wait(29_999)
      expect(await ask()).toBe('b')
      b.failure = c.failure = down
      expect(await ask(), 'better than nobody').toBe('a')
      b.failure = c.failure = undefined
      a.failure = new MoteError(code, 'no progress')
      expect(await ask()).toBe('b')
      a.failure = undefined
      wait(30_000)
      expect(await ask()).toBe('a')
    }
  })

  it('failover source: compares with each of the others, and a lie is a lie there too', async () => {
    const { a, c, pool, ask } = setUp()
    await ask()
    const other = () => pool.compare(a, async source => (await source.status()).name)
    expect([await other(), await other(), await other()]).toEqual(['b', 'c', 'b'])
    expect(pool.preferred).toBe(a)
    c.failure = new MoteError('bad-header', 'a lie')
    expect(await other()).toBeUndefined()
    expect(pool.isDistrusted(c)).toBe(true)
    expect([await other(), await other()]).toEqual(['b', 'b'])
    pool.replace([a])
    expect(await other()).toBeUndefined()
  })

  it('failover source: fails with the last failure when all are down, and recovers', async () => {
    const { a, b, c, ask } = setUp()
    a.failure = b.failure = c.failure = down
    await expect(ask()).rejects.toMatchObject({ code: 'unreachable' })
    b.failure = undefined
    expect(await ask()).toBe('b')
  })

  it('failover source: of failures the gravest is thrown: a refusal, else a lie, else the last one', async () => {
    const lie = new MoteError('bad-proof', 'a lie')
    const { a, b, c, ask } = setUp()
    a.failure = lie
    b.failure = new MoteError('rate-limited', 'requests: again in 100 ms')
    c.failure = down
    await expect(ask()).rejects.toMatchObject({ code: 'bad-proof' })
    await expect(ask(), 'who lied is not asked').rejects.toMatchObject({ code: 'unreachable' })
    const refusing = setUp()
    refusing.a.failure = lie
    refusing.b.failure = new MoteError('not-found', 'no such transaction')
    refusing.c.failure = down
    await expect(refusing.ask()).rejects.toMatchObject({ code: 'not-found' })
  })

  it('failover source: one that limits the rate is passed over for now', async () => {
    const { a, pool, ask } = setUp()
    a.failure = new MoteError('rate-limited', 'requests: again in 100 ms')
    expect(await ask()).toBe('b')
    expect(pool.isDistrusted(a)).toBe(false)
  })

  it('failover source: a refusal is one word: the next is asked, and it is the answer if nobody has another', async () => {
    const { a, b, c, pool, ask } = setUp()
    a.failure = new MoteError('not-found', 'no such transaction')
    expect(await ask()).toBe('b')
    expect(pool.isDistrusted(a)).toBe(false)
    b.failure = c.failure = down
    await expect(ask()).rejects.toMatchObject({ code: 'not-found' })
    for (const source of [a, b, c]) source.failure = new MoteError('malformed', source.name)
    await expect(ask()).rejects.toMatchObject({ code: 'malformed' })
    a.failure = undefined
    expect(await ask()).toBe('a')
  })

  it('failover source: what stops this program is not asked elsewhere', async () => {
    const { a, b, ask } = setUp()
    a.failure = new MoteError('interrupted', 'stopped')
    await expect(ask()).rejects.toMatchObject({ code: 'interrupted' })
    expect(b.asked.size).toBe(0)
  })

  it('failover source: leaves one that lied alone for the whole of distrustMs', async () => {
    for (const code of ['bad-proof', 'bad-certificate', 'bad-header', 'wrong-chain', 'withheld'] as const) {
      const { a, b, c, pool, ask, wait } = setUp()
      a.failure = new MoteError(code, 'a lie')
      expect(await ask()).toBe('b')
      expect(pool.isDistrusted(a)).toBe(true)
      a.failure = undefined
      b.failure = c.failure = down
      wait(999)
      await expect(ask()).rejects.toMatchObject({ code: 'unreachable' })
      wait(1)
      expect(await ask()).toBe('a')
    }
  })

  it('failover source: an answer over the limit, or a refusal that nobody has confirmed, costs its source nothing', async () => {
    for (const code of ['too-large', 'unconfirmed'] as const) {
      const { a, b, c, pool, ask } = setUp()
      await ask()
      a.failure = new MoteError(code, 'more than an answer may have')
      expect(await ask()).toBe('b')
      expect(pool.isDistrusted(a)).toBe(false)
      b.failure = c.failure = down
      await expect(ask()).rejects.toMatchObject({ code })
      a.failure = b.failure = c.failure = undefined
      expect(await ask(), 'the first at once').toBe('a')
    }
  })

  it('failover source: asks nobody once all have lied', async () => {
    const { a, b, c, ask } = setUp()
    a.failure = b.failure = c.failure = new MoteError('bad-proof', 'a lie')
    await expect(ask()).rejects.toMatchObject({ code: 'bad-proof' })
    await expect(ask()).rejects.toMatchObject({ code: 'unreachable' })
    expect(a.asked.get('status')).toBe(1)
  })

  it('failover source: takes new sources, and none means unreachable', async () => {
    const { b, pool, ask } = setUp()
    pool.replace([b])
    expect(await ask()).toBe('b')
    pool.replace([])
    await expect(ask()).rejects.toMatchObject({ code: 'unreachable' })
  })
})
