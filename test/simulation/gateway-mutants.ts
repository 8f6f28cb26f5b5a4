/** Known bugs of gateways, to be put in one at a time (mutants.ts). */
import type { Mutant } from './mutation.ts'

export const gatewayMutants: readonly Mutant[] = [
  {
    name: 'record-acknowledged-when-committed',
    source: 'PUBACK and PUBREC wait for the certificate',
    file: 'mqtt-gateway/records/settling.ts',
    find: "  if (height === undefined || status.status === 'committed') return status\n",
    replace:
      "  if (height === undefined) return status\n  if (status.status === 'committed')\n    return { height, index: status.index ?? 0, receipt: { id, code: 'ok', events: [] } as unknown as Receipt }\n",
    also: [
      {
        file: 'mqtt-gateway/records/settling.ts',
        find: "source.submitAll(wires, 'certified', { signal })",
        replace: "source.submitAll(wires, 'committed', { signal })",
      },
    ],
  },
  {
    name: 'exchanges-forgotten-at-a-restart',
    source: 'a repeat finds the transaction of the first time',
    file: 'mqtt-gateway/records/exchange-store.ts',
    find: '      tie.place?.session.ties.set(tie.place.packetIdentifier, tie)\n',
    replace: '',
  },
  {
    name: 'named-anew-after-a-takeover',
    source: 'a decision has the name that its place gives it, whoever publishes it',
    file: 'mqtt-gateway/records/decisions.ts',
    find: 'publishedDecisions(block, (await reads[place]) ?? [])',
    replace:
      'publishedDecisions(this.#published === 0 ? { ...block, height: range.head } : block, (await reads[place]) ?? [])',
  },
  {
    name: 'takeover-goes-on-at-the-head',
    source: 'a takeover repeats what has not expired',
    file: 'mqtt-gateway/records/decisions.ts',
    find: 'cursor.at(shard) ?? 0))',
    replace: 'cursor.at(shard) ?? blocks.head))',
    also: [
      {
        file: 'mqtt-gateway/records/decisions.ts',
        find: "'above' | 'receipts' | 'onAdvance'>",
        replace: "'above' | 'receipts' | 'onAdvance' | 'head'>",
      },
    ],
  },
]
