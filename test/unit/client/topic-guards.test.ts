import { describe, expect, it } from 'vitest'
import { encode } from '../../../chain/codec.ts'
import { contractCodec, encodedContract } from '../../../chain/contracts/contract.ts'
import { MoteError } from '../../../chain/result.ts'
import { noRights } from '../../../chain/rights.ts'
import type { Scalar } from '../../../chain/scalars.ts'
import type { DeviceRecord } from '../../../chain/transaction.ts'
import { ChainClient } from '../../../client/chain-client.ts'
import { systemClock } from '../../../client/clock.ts'
import { signedBody } from '../../../client/submission.ts'
import { verdictOfGuards } from '../../../client/topic-guards.ts'
import { sampleContract } from '../../support/sample-contract.ts'
import { sampleRecord } from '../../support/sample-record.ts'
import { keysOf, TestChain, type TestSource } from '../../support/test-chain.ts'

const [sensor, gateway] = [keysOf('sensor'), keysOf('gateway')]
/** Water may move by 2 from one reading to the next, and a reading of 0 fails. */
const guard = {
  attested: true,
  inputs: { level: 'number' },
  streams: { before: { topic: 'tank', field: 'level', attested: true } },
  let: ['share = 100 / level'],
  rules: ['range = level <= 100', 'step = not has(before) or abs(level - before) <= 2'],
}
const values = (level: Scalar) => [{ name: 'level', value: level }]
const from = { device: sensor.id, attested: true }

class Guarded {
  readonly chain = new TestChain({ devices: ['sensor', 'gateway'] })
  readonly source: TestSource = this.chain.source()
  readonly #client: Promise<ChainClient>

  constructor(document: object = guard) {
    const { chain } = this
    const contract = sampleContract(document)
    const rights = { ...noRights, gateway: true }
    chain.perform(chain.operator, {
      type: 'identity.rights',
      subject: gateway.id,
      expectedVersion: 0,
      ...rights,
    })
    chain.perform(chain.operator, { type: 'contract.deploy', contract: encode(contractCodec, contract) })
    const guards = [encodedContract(contract).address]
    chain.perform(chain.operator, { type: 'contract.guard', topic: 'tank', expectedVersion: 0, guards })
    this.#client = ChainClient.open({
      sources: [this.source],
      checkpoint: chain.checkpoint,
      clock: { ...systemClock, wall: () => chain.time },
    })
  }

  record(level: Scalar): DeviceRecord {
    return sampleRecord({ source: sensor.id, values: values(level) })
  }

  /** What the gateway would say, and what the chain says of the record then. */
  async both(level: Scalar): Promise<readonly [string | undefined, string | undefined]> {
    const verdict = await this.verdict(level)
    const { chain } = this
    const body = { type: 'record.one', qos: 1, record: this.record(level) } as const
    const [receipt] = chain.append([
      signedBody({ chainId: chain.chainId, body, keys: gateway, time: chain.time }),
    ])
    const refused = receipt?.events.find(event => event.type === 'record.refused')
    return [verdict, refused?.type === 'record.refused' ? refused.reason : undefined]
  }

  async verdict(level: Scalar, more: object = {}): Promise<string | undefined> {
    const { follower, records } = await this.#client
    await follower.sync()
    const now = records.time()
    const given = { from: { ...from, ...more }, now }
    return (await verdictOfGuards(records, this.record(level), given))?.reason
  }
}

describe('topic guards', () => {
  it('topic guards: says what the chain then says, reading after reading', async () => {
    const tank = new Guarded()
    const seen: (readonly [string | undefined, string | undefined])[] = []
    for (const level of [50, 51, 55, 0, 101, 'full', 53]) seen.push(await tank.both(level))
    for (const [verdict, receipt] of seen) expect(verdict).toBe(receipt)
    expect(seen.map(([verdict]) => verdict)).toEqual([
      undefined,
      undefined,
      'step',
      'division-by-zero in share',
      'range',
      'wrong-input in level',
      undefined,
    ])
  })

  it('topic guards: of a guard that takes no attested record, and of a source that is not active', async () => {
    const signed = new Guarded({ ...guard, attested: false })
    expect(await signed.both(50)).toEqual(['attested-not-allowed', 'attested-not-allowed'])
    const tank = new Guarded()
    tank.chain.revoke(sensor.id)
    expect(await tank.verdict(50)).toBe('source is revoked')
    expect(await tank.verdict(50, { device: keysOf('stranger').id })).toBe('source is unknown')
  })

  it('topic guards: a topic without guards costs one request, once', async () => {
    const chain = new TestChain({ devices: ['sensor'] })
    chain.append()
    const source = chain.source()
    const { records } = await ChainClient.open({ sources: [source], checkpoint: chain.checkpoint })
    const own = { from: { device: sensor.id, attested: false }, now: chain.time }
    for (const level of [1, 2, 3])
      expect(await verdictOfGuards(records, sampleRecord({ values: values(level) }), own)).toBeUndefined()
    expect(source.asked.get('state')).toBe(1)
  })

  it('topic guards: a chain out of reach is no permission', async () => {
    const { chain, source } = new Guarded()
    source.failure = new MoteError('unreachable', 'off')
    const { records } = await ChainClient.open({ sources: [source], checkpoint: chain.checkpoint })
    const asked = verdictOfGuards(records, sampleRecord({ values: values(50) }), { from, now: chain.time })
    await expect(asked).rejects.toMatchObject({ code: 'unreachable' })
  })
})
