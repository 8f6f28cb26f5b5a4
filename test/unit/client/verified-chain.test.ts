import { describe, expect, it } from 'vitest'
import type { StateKey } from '../../../chain/brands.ts'
import { Milliseconds } from '../../../chain/brands.ts'
import { decode, encode } from '../../../chain/codec.ts'
import { headerHash } from '../../../chain/header.ts'
import { certifiedHeaderCodec, stateAnswerCodec } from '../../../chain/light-client.ts'
import { groupIdOf, stateKeyOf } from '../../../chain/records.ts'
import { MoteError } from '../../../chain/result.ts'
import { ChainClient } from '../../../client/chain-client.ts'
import { type ChainSource, groupAnswerCodec } from '../../../client/chain-source.ts'
import { systemClock } from '../../../client/clock.ts'
import { keysOf, TestChain } from '../../support/test-chain.ts'

const sensor = keysOf('sensor')

function clientOf(chain: TestChain, ...sources: readonly ChainSource[]): Promise<ChainClient> {
  return ChainClient.open({
    sources,
    checkpoint: chain.checkpoint,
    clock: { ...systemClock, wall: () => chain.time },
  })
}

/** The code with which a promise is refused. */
async function refusal(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (cause: unknown) => cause,
  )
  return error instanceof MoteError ? error.code : `not refused: ${String(error)}`
}

/** Every value that differs from `bytes` in one byte, by flipping its lowest and its highest bit. */
function* oneByteChanged(bytes: Uint8Array): Generator<Uint8Array> {
  for (let i = 0; i < bytes.length; i++)
    for (const bit of [0x01, 0x80]) {
      const changed = Uint8Array.from(bytes)
      changed[i] = changed[i]! ^ bit
      yield changed
    }
}

describe('verified chain: honest sources', () => {
  it('verified chain: gives a record with height, term, time and age of the certified head', async () => {
    const chain = new TestChain({ devices: ['sensor'] })
    chain.append()
    const client = await clientOf(chain, chain.source())
    await client.follower.sync()
    const { value, height, term, time, ageMs } = await client.records.device(sensor.id)
    expect(value?.status).toBe('active')
    expect({ height, term, time }).toEqual({ height: 1, term: 1, time: chain.time })
    // The wall clock says 0; it is as old as it is here, by the steady clock.
    expect(ageMs).toBeLessThan(1_000)
  })

  it('verified chain: proves that an identity is absent, and asks no more until a block names it', async () => {
    const chain = new TestChain()
    chain.append()
    const source = chain.source()
    const client = await clientOf(chain, source)
    await client.follower.sync()
    for (let i = 0; i < 3; i++) expect((await client.records.device(sensor.id)).value).toBeUndefined()
    expect(source.asked.get('state')).toBe(1)
  })

  it('verified chain: keeps a proven value without asking again until a block names its key', async () => {
    const chain = new TestChain({ devices: ['sensor', 'other'] })
    chain.append()
    const source = chain.source()
    const client = await clientOf(chain, source)
    await client.follower.sync()
    await client.records.device(sensor.id)
    chain.append()
    chain.revoke(keysOf('other').id)
    await client.follower.sync()
    expect((await client.records.device(sensor.id)).height).toBe(3)
    expect(source.asked.get('state')).toBe(1)
    chain.revoke(sensor.id)
    await client.follower.sync()
    expect(client.records.cachedDevice(sensor.id)).toBeUndefined()
    expect((await client.records.device(sensor.id)).value?.status).toBe('revoked')
    expect(source.asked.get('state')).toBe(2)
  })

  it('verified chain: one request serves many askers of the same record', async () => {
    const chain = new TestChain({ devices: ['sensor'] })
    chain.append()
    const source = chain.source()
    const client = await clientOf(chain, source)
    await client.follower.sync()
    await Promise.all(Array.from({ length: 20 }, () => client.records.device(sensor.id)))
    expect(source.asked.get('state')).toBe(1)
  })

  it('verified chain: a change that overtakes its answer is seen, and nobody is accused', async () => {
    const chain = new TestChain({ devices: ['sensor'] })
    chain.append()
    const source = chain.source()
    const client = await clientOf(chain, source)
    await client.follower.sync()
    source.beforeStateArrives = async () => {
      source.beforeStateArrives = () => {}
      chain.revoke(sensor.id)
      await client.follower.sync()
    }
    expect((await client.records.device(sensor.id)).value?.status).toBe('revoked')
  })

  it('verified chain: an answer newer than the head brings the head along', async () => {
    const chain = new TestChain({ devices: ['sensor'] })
    chain.append()
    const client = await clientOf(chain, chain.source())
    await client.follower.sync()
    chain.revoke(sensor.id)
    const read = await client.records.device(sensor.id)
    expect([read.value?.status, read.height]).toEqual(['revoked', 2])
  })

  it('verified chain: refuses as stale what is older than the caller allows', async () => {
    const chain = new TestChain({ devices: ['sensor'] })
    chain.append()
    const clock = { ...systemClock, wall: () => Milliseconds(chain.time + 20_000) }
    const client = await ChainClient.open({ sources: [chain.source()], checkpoint: chain.checkpoint, clock })
    await client.follower.sync()
    expect((await client.records.device(sensor.id)).ageMs).toBe(20_000)
    expect(await refusal(client.records.device(sensor.id, { maxAgeMs: 19_999 }))).toBe('stale')
  })
})

describe('verified chain: lies', () => {
  it('verified chain: refuses an answer with one byte changed anywhere', async () => {
    const chain = new TestChain({ devices: ['sensor', 'a', 'b', 'c'] })
    chain.append()
    for (const [key, id] of [
      [stateKeyOf.identity(sensor.id), sensor.id],
      [stateKeyOf.identity(keysOf('nobody').id), keysOf('nobody').id],
    ] as const) {
      const honest = encode(stateAnswerCodec, chain.answer(key, 1))
      let refused = 0
      for (const changed of oneByteChanged(honest)) {
        const decoded = decode(stateAnswerCodec, changed)
        refused++
        if (!decoded.ok) continue
        const source = chain.source()
        source.tamperState = () => decoded.value
        const client = await clientOf(chain, source)
        await client.follower.sync()
        expect(await refusal(client.records.device(id))).toMatch(/^(bad-proof|bad-certificate|stale)$/)
      }
      expect(refused).toBe(2 * honest.length)
    }
  })

  it('verified chain: refuses a header with one byte changed anywhere', async () => {
    const chain = new TestChain({ devices: ['sensor'] })
    chain.revoke(sensor.id)
    const honest = encode(certifiedHeaderCodec, chain.served(1))
    for (const changed of oneByteChanged(honest)) {
      const decoded = decode(certifiedHeaderCodec, changed)
      if (!decoded.ok) continue
      const source = chain.source()
      source.tamperHeader = () => decoded.value
      const client = await clientOf(chain, source)
      const outcome = await refusal(client.follower.sync())
      if (decoded.value.header.height === 0)
        expect(outcome, 'another header at height 0').toMatch(/^bad-header$/)
      else expect(outcome).toMatch(/^(bad-header|bad-certificate|wrong-chain|height-not-available)$/)
      expect(client.follower.head.header.height).toBe(0)
    }
  })

  it('verified chain: refuses a group answer with a member added, removed or exchanged', async () => {
    const chain = new TestChain({ devices: ['sensor', 'a', 'b'] })
    const [a, b] = [keysOf('a').id, keysOf('b').id]
    const group = groupIdOf(sensor.id, 'g')
    chain.perform(sensor, { type: 'group.create', name: 'g', epochKeyHash: undefined })
    chain.perform(sensor, { type: 'group.add', group, membershipVersion: 1, members: [a] })
    const source = chain.source()
    const client = await clientOf(chain, source)
    await client.follower.sync()
    const members = [sensor.id, a].sort()
    for (const lie of [
      [...members, b].sort(),
      [sensor.id],
      [sensor.id, b].sort(),
      [],
      [...members].reverse(),
    ]) {
      source.tamperGroup = answer => ({ ...answer, members: lie })
      expect(await refusal((await clientOf(chain, source)).records.group(group))).toBe('bad-proof')
    }
    source.tamperGroup = answer => answer
    expect((await client.records.group(group)).value?.members).toEqual(members)
    expect(decode(groupAnswerCodec, encode(groupAnswerCodec, chain.groupAnswer(group, 2))).ok).toBe(true)
  })

  it('verified chain: catches a source that withholds a revocation while it serves fresh headers', async () => {
    const chain = new TestChain({ devices: ['sensor'] })
    chain.append()
    const liar = chain.source('liar')
    const client = await clientOf(chain, liar)
    await client.follower.sync()
    chain.revoke(sensor.id)
    chain.append()
    liar.stateFrozenAt = 1
    await client.follower.sync()
    expect(await refusal(client.records.device(sensor.id))).toBe('withheld')
    expect(client.pool.isDistrusted(liar)).toBe(true)
  })

  it('verified chain: goes on with an honest source when one withholds, and does not come back', async () => {
    const chain = new TestChain({ devices: ['sensor'] })
    chain.append()
    const [liar, honest] = [chain.source('liar'), chain.source('honest')]
    const client = await clientOf(chain, liar, honest)
    await client.follower.sync()
    chain.revoke(sensor.id)
    liar.stateFrozenAt = 1
    await client.follower.sync()
    expect((await client.records.device(sensor.id)).value?.status).toBe('revoked')
    expect(client.pool.isDistrusted(liar)).toBe(true)
    expect(client.pool.preferred).toBe(honest)
  })

  it('verified chain: a source that is merely behind is passed over, not distrusted', async () => {
    const chain = new TestChain({ devices: ['sensor'] })
    chain.append()
    const [slow, fast] = [chain.source('slow'), chain.source('fast')]
    slow.frozenAt = 1
    const client = await clientOf(chain, slow, fast)
    chain.revoke(sensor.id)
    await client.follower.syncFrom(fast)
    expect((await client.records.device(sensor.id)).value?.status).toBe('revoked')
    expect(client.pool.isDistrusted(slow)).toBe(false)
  })

  it('verified chain: refuses an answer older than everything it knows of changes', async () => {
    const chain = new TestChain({ devices: ['sensor'] })
    chain.append()
    chain.revoke(sensor.id)
    chain.append()
    const liar = chain.source('liar')
    liar.stateFrozenAt = 1
    const sources = [liar]
    const client = await ChainClient.open({ sources, checkpoint: chain.checkpoint, longestRun: 1 })
    await client.follower.sync()
    expect(await refusal(client.records.device(sensor.id))).toBe('stale')
  })

  it('verified chain: refuses a record of another chain with the same consenters', async () => {
    const [chain, twin] = [new TestChain({ devices: ['sensor'] }), new TestChain({ name: 'twin' })]
    chain.append()
    twin.append()
    twin.append()
    for (const [height, code] of [
      [1, 'bad-proof'],
      [2, 'bad-certificate'],
    ] as const) {
      const source = chain.source()
      source.tamperState = () => twin.answer(stateKeyOf.identity(sensor.id), height)
      const client = await clientOf(chain, source)
      expect(await refusal(client.records.device(sensor.id))).toBe(code)
    }
  })

  it('verified chain: refuses a record at the place of another one', async () => {
    const chain = new TestChain({ devices: ['sensor', 'other'] })
    chain.append()
    const source = chain.source()
    const other: StateKey = stateKeyOf.identity(keysOf('other').id)
    source.tamperState = () => chain.answer(other, 1)
    const client = await clientOf(chain, source)
    expect(await refusal(client.records.device(sensor.id))).toMatch(/^(bad-proof|bad-certificate)$/)
  })

  it('verified chain: refuses a certificate of one consenter only', async () => {
    const chain = new TestChain({ devices: ['sensor'] })
    chain.append()
    const { header } = chain.served(1)
    const certificate = chain.certify(header.height, headerHash(header), [1])
    const source = chain.source()
    source.tamperHeader = served => ({ ...served, certificate })
    source.tamperState = answer => ({ ...answer, signatures: certificate.signatures })
    const client = await clientOf(chain, source)
    expect(await refusal(client.follower.sync())).toBe('bad-certificate')
    expect(await refusal(client.records.device(sensor.id))).not.toMatch(/not refused/)
  })
})
