/** Records that say no more than a test of them needs. */
import type { DeviceRecord } from '../../chain/transaction.ts'

/** Nothing of a tank, as its device says it, with what a test adds. */
export function sampleRecord(more: Partial<DeviceRecord> = {}): DeviceRecord {
  return {
    source: undefined,
    topic: 'tank',
    payload: new Uint8Array(0),
    values: [],
    claimedTime: undefined,
    messageId: undefined,
    ...more,
  }
}
