/**
 * A decision of a contract as it is published (docs/FORMATS.md, "Decisions of contracts"): JSON for actuators that know nothing of the chain.
 *
 * It is named by height, place of the transaction in the block and place of the event in the receipt, which ascend within the requester's shard:
 * shards are published by gateways that do not wait for each other. It may come more than once, always under that name.
 */
import type { Receipt } from '../../chain/block.ts'
import type { Height, Milliseconds } from '../../chain/brands.ts'
import { valuesJson } from '../../chain/contracts/document.ts'
import type { RecordEvent } from '../../chain/record-events.ts'
import { shardOf } from '../protocol/sharded-topics.ts'

type Decided = Extract<RecordEvent, { type: 'contract.decided' }>

/** A decision that is to be published. */
export interface PublishedDecision {
  readonly decided: Decided & { readonly publishTopic: string }
  /** Whose transaction it was, with a record. */
  readonly receipt: Receipt
  readonly height: Height
  /** Block time. */
  readonly time: Milliseconds
  readonly index: number
  readonly event: number
}

/** The decisions of a block that are to be published, in the order of their names. One that failed is not. */
export function publishedDecisions(
  { height, time }: Pick<PublishedDecision, 'height' | 'time'>,
  receipts: readonly Receipt[],
): readonly PublishedDecision[] {
  return receipts.flatMap((receipt, index) =>
    receipt.events.flatMap((decided, event) => {
      if (decided.type !== 'contract.decided' || decided.failed) return []
      const { publishTopic } = decided
      if (publishTopic === undefined) return []
      return [{ decided: { ...decided, publishTopic }, receipt, height, time, index, event }]
    }),
  )
}

/** UTF-8 JSON. An integer beyond 2^53 is a text. */
export function encodeDecision({
  decided,
  receipt,
  height,
  time,
  index,
  event,
}: PublishedDecision): Uint8Array {
  const hasRecord = receipt.events.some(({ type }) => type === 'record.added')
  const message = {
    Decision: decided.decision,
    Values: valuesJson(decided.values),
    Contract: decided.contract,
    Record: hasRecord ? receipt.id : null,
    Shard: shardOf(decided.caller),
    Height: height,
    Index: index,
    Event: event,
    Time: time,
  }
  return new TextEncoder().encode(JSON.stringify(message))
}
