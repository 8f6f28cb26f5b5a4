/** Known bugs of records and contracts, to be put in one at a time (mutants.ts). */
import type { Mutant } from './mutation.ts'

export const recordMutants: readonly Mutant[] = [
  {
    name: 'state-kept-after-failure',
    source: 'a run that fails leaves nothing',
    file: 'chain/execute-contracts.ts',
    find: "  if (outcome.type !== 'decided') return failedDecision(decisionText(outcome))\n",
    replace:
      "  if (outcome.type !== 'decided') {\n    remember(context, record.address, context.view.contractState(record.address)!.values)\n    return failedDecision(decisionText(outcome))\n  }\n",
  },
  {
    name: 'reading-of-a-refused-record',
    source: 'a record that a guard rejects changes nothing',
    file: 'chain/execute-contracts.ts',
    find: '  if (refusal) return refusedRecord(refusal, record ? [refusalEvent(0, refusal)] : [])\n',
    replace:
      '  if (refusal) {\n    if (record) keepReading(context, record, from)\n    context.view.keep()\n    return refusedRecord(refusal, record ? [refusalEvent(0, refusal)] : [])\n  }\n',
  },
  {
    name: 'guard-not-asked',
    source: 'what a guard rejects is not recorded',
    file: 'chain/contract-runs.ts',
    find: "  if (outcome.type === 'violated') return",
    replace: "  if (outcome.type === 'violated' && from.device === undefined) return",
  },
  {
    name: 'certified-before-the-certificate',
    source: 'acknowledgements wait for certificates',
    file: 'node/service/submission.ts',
    find: "    return { ...place, status: height <= this.#parts.chain.certifiedHeight ? 'certified' : 'committed' }\n",
    replace: "    return { ...place, status: 'certified' }\n",
  },
]
