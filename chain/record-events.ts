/**
 * What became of records and contracts, as receipts say it (docs/FORMATS.md, section Blocks and receipts). An event is named by height,
 * place of the transaction in the block, and place of the event in the receipt.
 */
import type { ContractAddress, DeviceId } from './brands.ts'
import { boolean, type Codec, digest, list, optional, struct, text, uint } from './codec.ts'
import { recordTopicCodec } from './contracts/contract.ts'
import { maxDecisionValues } from './contracts/contract-limits.ts'
import { contractNameCodec } from './contracts/expression.ts'
import { type Qos, qosCodec, type RecordValue } from './record-bodies.ts'
import { scalarCodec } from './scalars.ts'

export type RecordEvent =
  | {
      readonly type: 'record.added'
      /** Place of the record in its transaction. */
      readonly item: number
      readonly device: DeviceId
      /** A gateway says that the device said so; else the device signed it. */
      readonly attested: boolean
    }
  | {
      readonly type: 'record.refused'
      readonly item: number
      /** The guard; undefined for a source that is not active. */
      readonly contract: ContractAddress | undefined
      /** Name of the rule, or why the guard came to no answer. */
      readonly reason: string
    }
  | {
      readonly type: 'contract.decided'
      readonly contract: ContractAddress
      readonly caller: DeviceId
      readonly attested: boolean
      /** Without a decision: nothing is published, and the state is as it was. */
      readonly failed: boolean
      /** One that the contract lists, or `failed: ` and why. */
      readonly decision: string
      readonly values: readonly RecordValue[]
      readonly publishTopic: string | undefined
      /** Of the request. */
      readonly qos: Qos
    }
  | { readonly type: 'contract.deployed'; readonly contract: ContractAddress }
  | { readonly type: 'contract.retired'; readonly contract: ContractAddress }
  | { readonly type: 'contract.guards'; readonly topic: string; readonly version: number }

/** Who refused a record, and why, in words. */
export function refusedBy({
  contract,
  reason,
}: Pick<Extract<RecordEvent, { type: 'record.refused' }>, 'contract' | 'reason'>): string {
  return contract === undefined ? reason : `guard ${contract}: ${reason}`
}

/** Characters of a reason or a decision. */
const maxReasonBytes = 128
type Fields<K extends RecordEvent['type']> = Omit<Extract<RecordEvent, { type: K }>, 'type'>
const reason = text(maxReasonBytes)
const item = uint(0xff)
const address = digest<ContractAddress>()
const device = digest<DeviceId>()

/** Number and codec of the fields, by type. */
export const recordEventVariants: {
  readonly [K in RecordEvent['type']]: readonly [number: number, fields: Codec<Fields<K>>]
} = {
  'record.added': [13, struct<Fields<'record.added'>>({ item, device, attested: boolean })],
  'record.refused': [14, struct<Fields<'record.refused'>>({ item, contract: optional(address), reason })],
  'contract.decided': [
    15,
    struct<Fields<'contract.decided'>>({
      contract: address,
      caller: device,
      attested: boolean,
      failed: boolean,
      decision: reason,
      values: list(struct<RecordValue>({ name: contractNameCodec, value: scalarCodec }), maxDecisionValues),
      publishTopic: optional(recordTopicCodec),
      qos: qosCodec,
    }),
  ],
  'contract.deployed': [16, struct<Fields<'contract.deployed'>>({ contract: address })],
  'contract.retired': [17, struct<Fields<'contract.retired'>>({ contract: address })],
  'contract.guards': [
    18,
    struct<Fields<'contract.guards'>>({ topic: recordTopicCodec, version: uint(0xffff_ffff) }),
  ],
}
