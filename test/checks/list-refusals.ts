/** Refusals of the node list and the topic list: whatever is listed is proven, and no list goes in a circle. */
import { type RefusalCheck, takenOut } from './refusal-check.ts'

const test = 'test/unit/client/record-list.test.ts'

export const lists: readonly RefusalCheck[] = [
  ...takenOut('client/record-list.ts', test, {
    'lists: pages out of order, or that lead back': 'if (!isAscending || !goesOn)',
  }),
  {
    refusal: 'lists: a record that its proof does not show',
    file: 'client/record-list.ts',
    find: 'await records.takeDevice(source, id,',
    replace: 'if (!id) await records.takeDevice(source, id,',
    test,
  },
  {
    refusal: 'lists: more in a page than it may have',
    file: 'node/service/record-pages.ts',
    find: '|| answers.length === maxRecordsPerPage',
    replace: '',
    test,
  },
]
