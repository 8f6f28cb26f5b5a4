/** Records as commands print them, and where they are looked up. */

import type { Block } from '../chain/block.ts'
import type { DeviceId } from '../chain/brands.ts'
import { scalarJson, valuesJson } from '../chain/contracts/document.ts'
import { bytesToHex } from '../chain/hex.ts'
import type { RecordEvent } from '../chain/record-events.ts'
import { MoteError } from '../chain/result.ts'
import type { RecordValue } from '../chain/transaction.ts'
import { type PlacedRecord, placedRecords, recordIdText } from '../client/record-proof.ts'
import type { ChainAccess } from '../devnet/access.ts'
import { durationText, printable } from './output.ts'
import { heightOf, indexOf, provenBlock, transactionIdOf } from './proven-blocks.ts'

/** `ID` or `ID.PLACE`. Throws `usage`. */
export function recordIdOf(text: string): Pick<PlacedRecord, 'transaction' | 'item'> {
  const [, id = text, place = '0'] = /^([0-9a-f]{64})(?:\.(\d{1,2}))?$/.exec(text) ?? []
  return { transaction: transactionIdOf(id), item: Number(place) }
}

/** A record in its block, both proven. */
export interface FoundRecord {
  readonly placed: PlacedRecord
  readonly block: Block
  /** Place of the transaction. */
  readonly index: number
}

/** Throws `not-found` for a transaction without a record there, and what proving a block throws. */
export async function findRecord(access: ChainAccess, text: string): Promise<FoundRecord> {
  const { transaction, item } = recordIdOf(text)
  const block = await provenBlock(access, await heightOf(access, transaction))
  const index = indexOf(block, transaction)
  const placed = recordsAt(block, index).find(each => each.item === item)
  if (!placed) throw new MoteError('not-found', `record ${text}: its transaction recorded none there`)
  return { placed, block, index }
}

/** The records that the transaction at this place recorded. */
export function recordsAt({ header, transactions, receipts }: Block, index: number): readonly PlacedRecord[] {
  const [transaction, receipt] = [transactions[index], receipts[index]]
  return transaction && receipt ? placedRecords(header, transaction, receipt) : []
}

/** Who vouches for a record: the device, or a gateway that says what the device said. */
export function vouchedText({ attested }: Pick<PlacedRecord, 'attested'>): string {
  return attested ? 'gateway-attested' : 'device-signed'
}

/** JSON on one line that a terminal only prints. */
export function quoted(value: unknown): string {
  return printable(JSON.stringify(value))
}

/** Values on one line; a text is quoted and escaped. */
export function valuesText(values: readonly RecordValue[]): string {
  return values.map(({ name, value }) => `${name} ${quoted(scalarJson(value))}`).join(', ')
}

/** A decision for JSON. */
export function decisionJson(decided: Extract<RecordEvent, { type: 'contract.decided' }> | undefined) {
  if (!decided) return undefined
  const { contract, failed, decision, values, publishTopic = null, qos } = decided
  return { contract, failed, decision, values: valuesJson(values), publishTopic, qos }
}

/** How long after the time that the device claims the record's block came; negative where one of the clocks is wrong. */
export function claimedLatencyMs({
  claimedTime,
  time,
}: {
  readonly claimedTime: number | undefined
  readonly time: number
}): number | undefined {
  return claimedTime === undefined ? undefined : time - claimedTime
}

/** `-` is printed for undefined. */
export function latencyText(ms: number | undefined): string | undefined {
  if (ms === undefined) return undefined
  return `${ms < 0 ? '-' : ''}${durationText(Math.abs(ms))}`
}

/** A record for JSON: device, who vouches for it, what it says and when. */
export function recordJson(placed: PlacedRecord, nameOf: (id: DeviceId) => string | null) {
  const { record, device, signer, qos, height, time, decided } = placed
  return {
    id: recordIdText(placed),
    device: { name: nameOf(device), id: device },
    vouched: vouchedText(placed),
    signer: { name: nameOf(signer.deviceId), id: signer.deviceId, keyId: signer.keyId },
    topic: record.topic,
    values: valuesJson(record.values),
    payload: payloadText(record.payload),
    claimedTime: record.claimedTime === undefined ? null : new Date(record.claimedTime).toISOString(),
    claimedLatencyMs: claimedLatencyMs({ claimedTime: record.claimedTime, time }) ?? null,
    messageId: record.messageId ?? null,
    qos,
    height,
    time: new Date(time).toISOString(),
    decided: decisionJson(decided) ?? null,
  }
}

/** UTF-8 as it is, other bytes in hexadecimal. */
function payloadText(payload: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(payload)
  } catch {
    return `0x${bytesToHex(payload)}`
  }
}
