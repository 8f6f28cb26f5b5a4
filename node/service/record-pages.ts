/**
 * Pages of what there is of one type in a certified state, each record with its proof (client/chain-source.ts). The order is that of
 * the state keys, which are hashes: a page begins anywhere, and looks at a bounded number of leaves of any type.
 */
import type { StateKey } from '../../chain/brands.ts'
import type { Certificate } from '../../chain/certificate.ts'
import { encode } from '../../chain/codec.ts'
import type { Ledger } from '../../chain/ledger.ts'
import { type StateAnswer, stateAnswer, stateAnswerCodec } from '../../chain/light-client.ts'
import { isRecordOf } from '../../chain/records.ts'
import { entries, prove } from '../../chain/state-tree.ts'
import {
  type ListedType,
  maxRecordPageBytes,
  maxRecordsPerPage,
  type RecordPage,
} from '../../client/chain-source.ts'

/** Leaves that one page looks at: about a millisecond. */
const maxLeavesPerPage = 4_096

/** A state and what certifies it; undefined at the genesis. */
export interface ListedState {
  readonly ledger: Pick<Ledger, 'header' | 'tree'>
  readonly certificate: Certificate | undefined
}

/** The value at a key with its proof, or the proof that there is none. */
export function answerAt(
  { ledger: { header, tree }, certificate }: ListedState,
  key: StateKey,
  value: Uint8Array | undefined,
): StateAnswer {
  return stateAnswer(header, certificate, value, prove(tree, key))
}

export function recordPage(certified: ListedState, type: ListedType, after?: StateKey): RecordPage {
  const answers: StateAnswer[] = []
  let bytes = 0
  let leaves = 0
  let last = after
  for (const [key, value] of entries(certified.ledger.tree, after)) {
    if (leaves === maxLeavesPerPage || answers.length === maxRecordsPerPage) return { answers, next: last }
    leaves += 1
    if (isRecordOf(type, value)) {
      const answer = answerAt(certified, key, value)
      bytes += encode(stateAnswerCodec, answer).length
      if (answers.length > 0 && bytes > maxRecordPageBytes) return { answers, next: last }
      answers.push(answer)
    }
    last = key
  }
  return { answers, next: undefined }
}
