/** What a client does not believe of an answer, a header or a block. */
import { never, type RefusalCheck, takenOut } from './refusal-check.ts'

export const answers: readonly RefusalCheck[] = [
  {
    refusal: 'a header below a trusted one that is another than it names',
    file: 'client/certified-blocks.ts',
    find: 'if (headerHash(header) !== previousHash)',
    replace: never,
    test: 'test/unit/client/certified-blocks.test.ts',
  },
  {
    refusal: 'receipts that are not those of the block',
    file: 'client/certified-blocks.ts',
    find: 'if (merkleRoot(leaves) !== receiptsRoot)',
    replace: never,
    test: 'test/unit/client/certified-blocks.test.ts',
  },
  {
    refusal: 'an answer with a changed record, proof or header',
    file: 'chain/light-client.ts',
    find: '  return signed.ok ? verified : signed\n',
    replace: '  return verified\n',
    test: 'test/unit/chain/light-client.test.ts',
  },
  ...takenOut('chain/light-client.ts', 'test/unit/chain/light-client.test.ts', {
    'an answer under another state root than the trusted header of its height':
      'if (isOfTrusted && hash !== trusted.headerHash)',
    'a proof that is not in its one valid form': 'if (stateRoot === undefined)',
    'a certificate of another header':
      'if (certificate.height !== header.height || certificate.headerHash !== hash)',
    'a header of another signer set': 'if (header.signersHash !== last.nextSignersHash)',
  }),
  {
    refusal: 'a list of changes that leaves a key out',
    file: 'chain/light-client.ts',
    find: '.height}`)\n    if (!matchesChanges(header, changes))',
    replace: '.height}`)\n    if (false)',
    test: 'test/unit/chain/light-client.test.ts',
  },
  {
    refusal: 'the same at a handover on the way to an answer',
    file: 'chain/light-client.ts',
    find: 'before) continue\n    if (!matchesChanges(header, changes))',
    replace: 'before) continue\n    if (false)',
    test: 'test/unit/client/handover.test.ts',
  },
  ...takenOut('chain/certificate.ts', 'test/unit/chain/light-client.test.ts', {
    'a certificate with a changed signature': 'if (!verifier.verify(consenter.key, message, signature))',
    'a certificate of fewer than a quorum': 'if (signatures.length < quorum)',
    'a certificate with one consenter twice': 'if (signer <= previous)',
  }),
  {
    refusal: 'a record without a change that later certified headers name (withheld revocation)',
    file: 'client/verified-chain.ts',
    find: "if (verdict.type === 'holds') return this.#remember",
    replace: "if (verdict.type !== 'unknown') return this.#remember",
    test: 'test/unit/client/verified-chain.test.ts',
  },
  ...takenOut('client/verified-chain.ts', 'test/unit/client/verified-chain.test.ts', {
    'a member list that is not the one of the record': 'if (!isMemberListOf(record, members))',
  }),
]
