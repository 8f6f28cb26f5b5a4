/** Clients while the consenters change: the follower walks and skips across handovers, and reads go on. */

import { describe, expect, it } from 'vitest'
import { Height } from '../../../chain/brands.ts'
import { type CertifiedHeader, throughHandovers, verifyStateAnswer } from '../../../chain/light-client.ts'
import { stateKeyOf } from '../../../chain/records.ts'
import { MoteError } from '../../../chain/result.ts'
import { ChainClient } from '../../../client/chain-client.ts'
import type { ChainSource } from '../../../client/chain-source.ts'
import type { CheckpointStore } from '../../../client/checkpoint-file.ts'
import { systemClock } from '../../../client/clock.ts'
import { FailoverSource } from '../../../client/failover-source.ts'
import { type HeadEvent, HeaderFollower } from '../../../client/header-follower.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import { keysOf, TestChain, type TestSource } from '../../support/test-chain.ts'

const [one, two, three, four, five] = ['full-1', 'full-2', 'full-3', 'full-4', 'full-5'].map(keysOf)
const first = [one!, two!, three!]
const second = [two!, three!, four!]
const third = [four!, five!]
const sensor = keysOf('sensor')

function freshChain(): TestChain {
  return new TestChain({ devices: ['sensor', 'other'], spares: ['full-4', 'full-5'] })
}

/** Hands over to each of these after some quiet blocks, and goes on quietly. */
function chainThrough(quiet: number, ...sets: readonly (typeof first)[]): TestChain {
  const chain = freshChain()
  for (const nodes of sets) {
    for (let i = 0; i < quiet; i++) chain.append()
    chain.changeConsenters(nodes)
  }
  for (let i = 0; i < quiet; i++) chain.append()
  return chain
}

function memoryStore(): CheckpointStore {
  let bytes: Uint8Array | undefined
  return {
    load: async () => bytes,
    save: async checkpoint => {
      bytes = checkpoint
    },
  }
}

interface FollowerChoices {
  readonly store?: CheckpointStore
  readonly longestRun?: number
}

async function followerOf(chain: TestChain, source: TestSource, choices: FollowerChoices = {}) {
  const follower = await HeaderFollower.open({
    pool: new FailoverSource([source]),
    verifier: nativeVerifier,
    checkpoint: chain.checkpoint,
    saveEveryMs: 0,
    ...choices,
  })
  const events: HeadEvent[] = []
  follower.onAdvance(event => events.push(event))
  return { follower, events }
}

async function refusal(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (cause: unknown) => cause,
  )
  return error instanceof MoteError ? error.code : `not refused: ${String(error)}`
}

describe('header follower: handovers', () => {
  it.each([
    ['the set of now signed it too, before it was replaced for a while', [second, first]],
    ['another set signed it', [second]],
  ])(
    'header follower: after a restart it says of what is below the handover that it is old: %s',
    async (_, sets) => {
      const chain = chainThrough(2, ...sets)
      const store = memoryStore()
      const before = await followerOf(chain, chain.source(), { store })
      await before.follower.sync()
      const { follower } = await followerOf(chain, chain.source(), { store })
      expect(follower.head).toEqual(before.follower.head)
      const key = stateKeyOf.identity(sensor.id)
      const old = verifyStateAnswer(follower.head, key, chain.answer(key, 1), nativeVerifier)
      expect(old).toMatchObject({ ok: false, error: { code: 'stale' } })
    },
  )

  it('header follower: walks through handovers, telling of every header', async () => {
    const chain = chainThrough(2, second, third, first)
    const { follower, events } = await followerOf(chain, chain.source())
    const head = await follower.sync()
    expect(head.headerHash).toBe(chain.ledger.headerHash)
    expect(head.consenters).toEqual(chain.ledger.parameters.consenters)
    const seen = events.flatMap(event => (event.type === 'headers' ? event.headers : []))
    expect(seen.map(({ header }) => header.height)).toEqual(
      Array.from({ length: chain.height }, (_, i) => i + 1),
    )
  })

  it('header follower: takes each of them when it comes', async () => {
    const chain = freshChain()
    const { follower } = await followerOf(chain, chain.source())
    for (const nodes of [second, third, second]) {
      chain.changeConsenters(nodes)
      expect((await follower.sync()).consenters).toEqual(chain.ledger.parameters.consenters)
      expect(follower.newest).toEqual(chain.served(chain.height))
      chain.append()
      expect((await follower.sync()).headerHash).toBe(chain.ledger.headerHash)
    }
  })

  it('header follower: goes on from a checkpoint stored before, at and after a handover', async () => {
    const chain = chainThrough(2, second)
    const handover = chain.height - 2
    for (const stored of [handover - 1, handover, handover + 1]) {
      const store = memoryStore()
      const source = chain.source()
      source.frozenAt = stored
      await (await followerOf(chain, source, { store })).follower.sync()
      const { follower } = await followerOf(chain, chain.source(), { store })
      expect(follower.head.header.height, `stored at ${stored}`).toBe(stored)
      expect((await follower.sync()).headerHash).toBe(chain.ledger.headerHash)
    }
  })

  it('header follower: far behind it skips from handover to handover, without the headers in between', async () => {
    const chain = chainThrough(100, second, third, first, [one!, four!])
    const source = chain.source()
    const { follower, events } = await followerOf(chain, source, { longestRun: 50 })
    const head = await follower.sync()
    expect(head.headerHash).toBe(chain.ledger.headerHash)
    expect(events.map(({ type }) => type)).toEqual(['skipped', 'skipped', 'skipped', 'skipped', 'skipped'])
    expect(source.asked.get('headersFrom')).toBeUndefined()
    // Four searches in some five hundred headers.
    expect(source.asked.get('certifiedHeader')).toBeLessThan(60)
  })

  it('header follower: after the last handover it walks when the rest is short', async () => {
    const chain = chainThrough(30, second)
    const { follower, events } = await followerOf(chain, chain.source(), { longestRun: 31 })
    expect((await follower.sync()).headerHash).toBe(chain.ledger.headerHash)
    expect(events.map(({ type }) => type)).toEqual(['skipped', 'headers', 'headers'])
  })

  it('header follower: a handover right after the head, and one as newest header, are found by a skip', async () => {
    const chain = freshChain()
    const source = chain.source()
    chain.perform(chain.operator, {
      type: 'governance.consenters',
      target: chainThrough(0, second).ledger.parameters.consenters,
    })
    const { follower } = await followerOf(chain, source, { longestRun: 1 })
    await follower.sync()
    chain.handOver(chain.ledger.parameters.nextConsenters!)
    for (let i = 0; i < 5; i++) chain.append()
    expect((await follower.sync()).headerHash).toBe(chain.ledger.headerHash)
    for (let i = 0; i < 5; i++) chain.append()
    chain.changeConsenters(third)
    expect((await follower.sync()).headerHash).toBe(chain.ledger.headerHash)
    expect(follower.head.consenters).toEqual(chain.ledger.parameters.consenters)
  })

  const withoutNew = (entry: CertifiedHeader) => ({ ...entry, handover: undefined })
  const lies: readonly (readonly [
    string,
    (chain: TestChain) => (entry: CertifiedHeader) => CertifiedHeader,
    RegExp,
  ])[] = [
    ['leaves the new set out', () => withoutNew, /^bad-header$/],
    [
      'leaves the certificate of the handover out',
      () => entry => (entry.handover ? { ...entry, certificate: undefined } : entry),
      /^bad-certificate$/,
    ],
    [
      'shows the old certificate as the new one',
      () => entry =>
        entry.handover && entry.certificate
          ? { ...entry, handover: { ...entry.handover, certificate: entry.certificate } }
          : entry,
      /^bad-certificate$/,
    ],
    [
      'hands over to consenters of its own',
      chain => entry => {
        if (!entry.handover) return entry
        const consenters = {
          ...entry.handover.consenters,
          consenters: chain.signersAt(Height(1)).consenters.slice(1),
        }
        const { height, headerHash } = entry.handover.certificate
        return {
          ...entry,
          handover: { consenters, certificate: chain.certify(height, headerHash, undefined, consenters) },
        }
      },
      /^bad-header$/,
    ],
    [
      'shows no header of the new set below the newest',
      chain => entry =>
        entry.header.height === chain.height
          ? entry
          : { ...entry, header: { ...entry.header, signersHash: chain.checkpoint.header.signersHash } },
      /^bad-(header|certificate)$/,
    ],
  ]
  for (const [what, lieOf, code] of lies)
    for (const longestRun of [1024, 5])
      it(`header follower: a source that ${what} gets nobody across (runs of ${longestRun})`, async () => {
        const chain = chainThrough(20, second)
        const source = chain.source()
        source.tamperHeader = lieOf(chain)
        const { follower } = await followerOf(chain, source, { longestRun })
        expect(await refusal(follower.sync())).toMatch(code)
        expect(follower.head.consenters).toEqual(chain.checkpoint.consenters)
      })
})

describe('through handovers', () => {
  it('through handovers: the head of a newcomer is led from set to set, and a changed list of keys ends it', async () => {
    const chain = chainThrough(1, second, third)
    const headers = await chain.source().headersFrom(Height(1), chain.height)
    const handovers = headers.filter(({ handover }) => handover)
    const led = throughHandovers(chain.checkpoint, handovers, chain.height, nativeVerifier)
    expect(led.ok && led.value.header.height).toBe(handovers.at(-1)!.header.height)
    const less = handovers.map(entry => ({ ...entry, changes: [] }))
    const refused = throughHandovers(chain.checkpoint, less, chain.height, nativeVerifier)
    expect(refused).toMatchObject({ ok: false, error: { code: 'bad-header' } })
  })
})

describe('verified chain: handovers', () => {
  function clientOf(chain: TestChain, ...sources: readonly ChainSource[]): Promise<ChainClient> {
    return ChainClient.open({
      sources,
      checkpoint: chain.checkpoint,
      clock: { ...systemClock, wall: () => chain.time },
    })
  }

  it('verified chain: what was proven before a handover holds after it, without being asked for again', async () => {
    const chain = freshChain()
    chain.append()
    const source = chain.source()
    const client = await clientOf(chain, source)
    await client.follower.sync()
    await client.records.device(sensor.id)
    chain.changeConsenters(second)
    await client.follower.sync()
    const { height, provenAt } = await client.records.device(sensor.id)
    expect({ height, provenAt }).toEqual({ height: chain.height, provenAt: 1 })
    expect(source.asked.get('state')).toBe(1)
    // The parameters changed with it.
    expect((await client.records.parameters()).value).toEqual(chain.ledger.parameters)
  })

  it('verified chain: an answer above a handover that was not seen yet is believed once it is', async () => {
    const chain = freshChain()
    chain.append()
    const client = await clientOf(chain, chain.source())
    await client.follower.sync()
    chain.changeConsenters(second)
    chain.append()
    expect((await client.records.device(sensor.id)).height).toBe(chain.height)
  })

  it('verified chain: a source that is behind the handover is passed over, not distrusted', async () => {
    const chain = freshChain()
    chain.append()
    const [behind, ahead] = [chain.source('behind'), chain.source('ahead')]
    const client = await clientOf(chain, behind, ahead)
    await client.follower.sync()
    behind.frozenAt = 1
    chain.changeConsenters(second)
    chain.append()
    await client.follower.syncFrom(ahead)
    const { value } = await client.records.device(sensor.id)
    expect(value?.id).toBe(sensor.id)
    expect(client.pool.isDistrusted(behind)).toBe(false)
  })

  it('verified chain: a source that is behind a stored checkpoint of new consenters is passed over, too', async () => {
    const chain = chainThrough(2, second)
    const store = memoryStore()
    const options = {
      checkpoint: chain.checkpoint,
      store,
      saveEveryMs: 0,
      clock: { ...systemClock, wall: () => chain.time },
    }
    await (await ChainClient.open({ ...options, sources: [chain.source()] })).follower.sync()
    const [behind, ahead] = [chain.source('behind'), chain.source('ahead')]
    behind.frozenAt = 1
    const client = await ChainClient.open({ ...options, sources: [behind, ahead] })
    expect((await client.records.device(sensor.id)).height).toBe(chain.height)
    expect(client.pool.isDistrusted(behind)).toBe(false)
  })

  it('verified chain: an answer that a handover overtakes on its way is judged by the set of the question', async () => {
    const chain = freshChain()
    chain.append()
    const source = chain.source()
    const client = await clientOf(chain, source)
    await client.follower.sync()
    source.beforeStateArrives = async () => {
      source.beforeStateArrives = () => {}
      chain.changeConsenters(second)
      await client.follower.sync()
    }
    const { height, provenAt } = await client.records.device(sensor.id)
    expect({ height, provenAt }).toEqual({ height: chain.height, provenAt: 1 })
    expect(source.asked.get('state')).toBe(1)
  })

  it('verified chain: the old set certifies no answer above the handover', async () => {
    const chain = freshChain()
    const old = chain.ledger.parameters.consenters
    chain.changeConsenters(second)
    chain.append()
    const source = chain.source()
    source.tamperState = answer => ({
      ...answer,
      signatures: chain.certify(answer.height, chain.at(answer.height).ledger.headerHash, undefined, old)
        .signatures,
    })
    const client = await clientOf(chain, source)
    await client.follower.sync()
    expect(await refusal(client.records.device(sensor.id))).toBe('bad-certificate')
  })

  it('verified chain: hands on proofs that the new set certified', async () => {
    const chain = freshChain()
    chain.append()
    const client = await clientOf(chain, chain.source())
    await client.follower.sync()
    chain.changeConsenters(second)
    await client.follower.sync()
    const key = stateKeyOf.identity(sensor.id)
    expect(await client.records.stateProof(key)).toEqual(chain.answer(key, chain.height))
  })
})
