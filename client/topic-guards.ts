/**
 * What the guards of a topic would say of a record now: the very judgement of execution (chain/execute-records.ts), on leaves that were proven
 * to who asks. So a gateway refuses what a guard rejects before it costs a transaction.
 *
 * The chain's word is the one that counts: until the record is executed the state may move, and block time is not the time here.
 */
import type { Milliseconds, StateKey } from '../chain/brands.ts'
import type { Codec } from '../chain/codec.ts'
import type { Reporter } from '../chain/contract-runs.ts'
import { type GuardView, judgeRecord, type RecordRefusal } from '../chain/execute-records.ts'
import {
  contractRecordCodec,
  contractStateCodec,
  identityCodec,
  readingCodec,
  stateKeyOf,
  streamIdOf,
  topicIdOf,
  topicRulesCodec,
} from '../chain/records.ts'
import type { DeviceRecord } from '../chain/transaction.ts'

/** Proven reads: VerifiedChain (verified-chain.ts), or a port in front of it. Throws `MoteError` when the chain is out of reach. */
export interface ProvenLeaves {
  leaf<T>(key: StateKey, codec: Codec<T>): Promise<{ readonly value: T | undefined }>
}

/**
 * Why the chain would not let the record stand, by what is proven now; undefined if it would. A topic has at most `maxGuardsPerTopic` guards, each
 * with `maxStreams` readings; what did not change since it was last asked for costs no request. Throws what reading throws.
 *
 * @param now the chain's time, in milliseconds, for rules that name it
 */
export async function verdictOfGuards(
  leaves: ProvenLeaves,
  record: Pick<DeviceRecord, 'topic' | 'values'>,
  { from, now }: { readonly from: Reporter; readonly now: Milliseconds },
): Promise<RecordRefusal | undefined> {
  const view = await guardView(leaves, record.topic, from)
  return judgeRecord({ view, time: now, steps: { used: 0 } }, record, from)
}

/** Everything that the judgement can look at, read before. */
async function guardView(leaves: ProvenLeaves, topic: string, from: Reporter): Promise<GuardView> {
  const read = new Map<StateKey, unknown>()
  const fetch = async <T>(key: StateKey, codec: Codec<T>): Promise<T | undefined> => {
    const { value } = await leaves.leaf(key, codec)
    read.set(key, value)
    return value
  }
  const rules = fetch(stateKeyOf.topic(topicIdOf(topic)), topicRulesCodec)
  const source = from.attested ? fetch(stateKeyOf.identity(from.device), identityCodec) : undefined
  const guards = (await Promise.all([rules, source]))[0]?.guards ?? []
  await Promise.all(
    guards.map(async address => {
      const state = fetch(stateKeyOf.contractState(address), contractStateCodec)
      const record = await fetch(stateKeyOf.contract(address), contractRecordCodec)
      const streams = (record?.contract.streams ?? []).map(({ device = from.device, ...stream }) =>
        fetch(stateKeyOf.reading(streamIdOf({ ...stream, device })), readingCodec),
      )
      await Promise.all([state, ...streams])
    }),
  )
  const at = <T>(key: StateKey): T | undefined => read.get(key) as T | undefined
  return {
    identity: id => at(stateKeyOf.identity(id)),
    topicRules: name => at(stateKeyOf.topic(topicIdOf(name))),
    contract: address => at(stateKeyOf.contract(address)),
    contractState: address => at(stateKeyOf.contractState(address)),
    reading: stream => at(stateKeyOf.reading(streamIdOf(stream))),
  }
}
