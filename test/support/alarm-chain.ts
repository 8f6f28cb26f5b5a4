/** A chain in one object (test-chain.ts) with a contract that decides about whatever level it is told, to be published. */
import type { Qos } from '../../chain/record-bodies.ts'
import type { ChainClientOptions } from '../../client/chain-client.ts'
import { ChainClient } from '../../client/chain-client.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { signedBody } from '../../client/submission.ts'
import { deployable } from './sample-contract.ts'
import { sampleRecord } from './sample-record.ts'
import { TestChain, type TestChainOptions, type TestSource } from './test-chain.ts'

/** Says `high` from 25 on, and fails at 0. Publishes on `fire/#`. */
export const alarm = deployable({
  name: 'alarm',
  inputs: { level: 'number' },
  attested: true,
  publish: ['fire/#'],
  let: ['share = 100 / level'],
  decide: [{ when: 'level >= 25', say: 'high' }, { say: 'low' }],
  values: ['level'],
})

export interface AlarmCall {
  /** `none`: nobody asks to publish it. */
  readonly publishTopic?: string
  readonly isRecord?: boolean
  /** 1 by default. */
  readonly qos?: Qos
}

export class AlarmChain {
  readonly chain: TestChain
  readonly source: TestSource

  constructor(options: TestChainOptions) {
    this.chain = new TestChain(options)
    this.source = this.chain.source()
    this.chain.perform(this.chain.operator, { type: 'contract.deploy', contract: alarm.bytes })
  }

  /** One call, in bytes. */
  call(
    from: IdentityKeys,
    level: number,
    { publishTopic = 'fire/north', isRecord, qos = 1 }: AlarmCall = {},
  ): Uint8Array {
    const values = [{ name: 'level', value: level }]
    const input = isRecord
      ? ({ type: 'record', record: sampleRecord({ values }) } as const)
      : ({ type: 'call', source: undefined, values } as const)
    const { chainId, time } = this.chain
    const topic = publishTopic === 'none' ? undefined : publishTopic
    const body = {
      type: 'contract.action',
      qos,
      contract: alarm.address,
      input,
      publishTopic: topic,
    } as const
    return signedBody({ chainId, body, keys: from, time })
  }

  /** A block of its own for each. */
  decide(from: IdentityKeys, ...levels: readonly number[]): void {
    for (const level of levels) this.chain.append([this.call(from, level)])
  }

  /** A client on this chain, from its genesis. */
  client(more: Partial<ChainClientOptions> = {}): Promise<ChainClient> {
    return ChainClient.open({
      sources: [this.source],
      checkpoint: this.chain.checkpoint,
      waitMs: 200,
      ...more,
    })
  }
}
