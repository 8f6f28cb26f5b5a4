/** What a full node does not forget, and what nobody takes for the leaf hashes of a block. */
import { type RefusalCheck, takenOut } from './refusal-check.ts'

const test = 'test/unit/node/retention.test.ts'

export const retention: readonly RefusalCheck[] = [
  ...takenOut('node/ledger/retention.ts', test, {
    'retention: to forget a block that was rewritten': 'if (foreign)',
    'retention: to forget a block that is not old enough':
      'if (header.time + limits.ageMs > chain.certified.header.time)',
  }),
  {
    refusal: 'retention: to forget one of the newest certified blocks',
    file: 'node/ledger/retention.ts',
    find: 'chain.certifiedHeight - limits.blocks',
    replace: 'chain.certifiedHeight',
    test,
  },
  {
    refusal: 'retention: leaf hashes in a database that is verified, other ones than the header names',
    file: 'node/verify.ts',
    find: 'for (const tree of foreignLeaves(header, leaves))',
    replace: 'for (const tree of [])',
    test,
  },
  {
    refusal: 'retention: leaf hashes that the certified header does not name',
    file: 'client/block-proof.ts',
    find: 'if (foreign) throw lieOf(source, height, `leaf',
    replace: 'if (false) throw lieOf(source, height, `leaf',
    test: 'test/unit/cli/records.test.ts',
    only: 'record keep',
  },
  {
    refusal: 'retention: to keep the room of what was forgotten',
    file: 'node/ledger/retention.ts',
    find: 'await storage.forget(rows, reclaims)',
    replace: 'await storage.forget(rows, false)',
    test,
    only: 'give the room back',
  },
  ...takenOut('client/record-proof.ts', 'test/unit/client/record-proof.test.ts', {
    'retention: a kept record that does not stand in its block': 'if (index < 0)',
  }),
]
