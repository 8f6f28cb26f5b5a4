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
]
