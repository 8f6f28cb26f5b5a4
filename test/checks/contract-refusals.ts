/** What is refused of contracts: by their check, and by a run. */
import { never, type RefusalCheck, takenOut } from './refusal-check.ts'

const execution = 'test/unit/chain/execute-records.test.ts'
const language = 'test/unit/chain/contract-language.test.ts'

export const contracts: readonly RefusalCheck[] = [
  ...takenOut('chain/contracts/check.ts', language, {
    'a contract that gives a name twice': 'if (this.#types.has(name))',
    'a contract of more steps than a run may cost': 'if (this.#steps > maxContractSteps)',
    'a contract whose last case has a condition': 'if ((when === undefined) !== (i === cases.length - 1))',
    'a decision that looks like a failure': "if (decision.startsWith('failed'))",
    'an operand of another type': 'if (got !== wanted)',
    'a number of the other arithmetic': 'if (!arithmetics[arithmetic].is(value))',
    'the time of what is no stream': 'if (!this.#streams.has(expression.stream))',
  }),
  ...takenOut('client/contract-file.ts', 'test/unit/cli/contract-test.test.ts', {
    'a contract file with a name twice': 'if (twice !== undefined)',
  }),
  {
    refusal: 'a text of a device, in CSV, that gives a terminal commands',
    file: 'cli/record-list.ts',
    find: 'printable(String(cell))',
    replace: 'String(cell)',
    test: 'test/unit/cli/records.test.ts',
    only: 'gives a terminal no commands',
  },
  {
    refusal: 'a text of a device, in JSON, that gives a terminal commands',
    file: 'cli/output.ts',
    find: 'printable(JSON.stringify(value))',
    replace: 'JSON.stringify(value)',
    test: 'test/unit/cli/records.test.ts',
    only: 'gives a terminal no commands',
  },
  {
    refusal: 'a QoS that MQTT does not have',
    file: 'chain/record-bodies.ts',
    find: 'uint(2) as Codec<number>',
    replace: 'uint(3) as Codec<number>',
    test: 'test/unit/chain/transaction.test.ts',
  },
  {
    refusal: 'a name that is not given before',
    file: 'chain/contracts/check.ts',
    find: 'this.#types.get(expression.name) ??',
    replace: "this.#types.get(expression.name) ?? (place ? 'number' : undefined) ??",
    test: language,
  },
  ...takenOut('chain/contracts/arithmetic.ts', language, {
    'a result that is NaN or infinite': 'if (!Number.isFinite(value))',
  }),
  {
    refusal: 'an integer that does not fit 64 bits',
    file: 'chain/contracts/arithmetic.ts',
    find: "return isInt64(value) ? value : fail('overflow')",
    replace: 'return value',
    test: language,
  },
  {
    refusal: 'a zero with a sign',
    file: 'chain/contracts/arithmetic.ts',
    find: 'return value === 0 ? 0 : value',
    replace: 'return value',
    test: language,
  },
  {
    refusal: 'a number from outside that is no integer',
    file: 'chain/contracts/arithmetic.ts',
    find: 'ofNumber: value => (Number.isSafeInteger(value) ? BigInt(value) : undefined)',
    replace: 'ofNumber: value => BigInt(Math.trunc(value))',
    test: language,
  },
  {
    refusal: 'a state after a rule that does not hold',
    file: 'chain/contracts/evaluate.ts',
    find: "return { type: 'violated', rule: name }",
    replace: 'continue',
    test: language,
  },
  {
    refusal: 'a record that a guard rejects',
    file: 'chain/contract-runs.ts',
    find: "if (outcome.type === 'violated')",
    replace: never,
    test: execution,
  },
  {
    refusal: 'a record on which a guard fails',
    file: 'chain/contract-runs.ts',
    find: "return outcome.type === 'failed' ?",
    replace: 'return false ?',
    test: execution,
  },
  ...takenOut('chain/contract-runs.ts', execution, {
    'an attested record that a guard does not take': 'if (from.attested && !contract.attested)',
  }),
  {
    refusal: 'a record that is attested for a device that is not active',
    file: 'chain/execute-records.ts',
    find: "if (status === 'active') return",
    replace: 'return',
    test: execution,
  },
  {
    refusal: 'a reading of a topic that nobody reads',
    file: 'chain/execute-records.ts',
    find: 'if ((view.topicRules(topic)?.readers ?? 0) > 0)',
    replace: 'if (true)',
    test: execution,
  },
  {
    refusal: 'speaking for another device without the right of a gateway',
    file: 'chain/permissions.ts',
    find: 'attestedSources(body).length === 0 ||',
    replace: 'true ||',
    test: execution,
  },
  ...takenOut('chain/execute-contracts.ts', execution, {
    'a contract that makes no sense': 'if (!checked.ok)',
    'a contract that is deployed twice': 'if (view.contract(address))',
    'retiring a contract that guards a topic': 'if (record.guarded > 0)',
    'guards as of another version': 'if (rules.version !== expectedVersion)',
    'a guard that is not there': 'if (activeContract(view, address) === undefined)',
    'a call of who is not listed': 'if (callers && !callers.includes(from.device))',
    'an attested call that a contract does not take': 'if (from.attested && !attested)',
    'a decision on a topic that the contract does not list':
      'if (publishTopic !== undefined && !publish.some(filter => covers(filter, publishTopic)))',
  }),
  {
    refusal: 'more steps of contracts than a block may cost',
    file: 'chain/execution.ts',
    find: 'context.steps.used + maxTransactionSteps > maxBlockSteps',
    replace: 'false',
    test: execution,
  },
  ...takenOut('client/record-proof.ts', 'test/unit/client/record-proof.test.ts', {
    'a record that does not stand in its block':
      'if (!stands(header.transactionsRoot, transaction, transactionPath))',
    'a receipt that does not stand in its block':
      'if (!stands(header.receiptsRoot, encode(receiptCodec, receipt), receiptPath))',
    'a proof of a record that was refused': 'if (!placed)',
    'a record under another key than it names':
      'if (!parsed.ok || keyIdOf(key) !== parsed.value.unsigned.signer.keyId)',
  }),
  {
    refusal: 'more bytes of receipts than a block may have',
    file: 'chain/execution.ts',
    find: 'receiptBytes + maxReceiptBytes > maxBlockReceiptBytes',
    replace: 'false',
    test: execution,
  },
  {
    refusal: 'a rewritten transaction in a database that is verified',
    file: 'node/verify.ts',
    find: 'if (merkleRoot(transactions) !== header.transactionsRoot)',
    replace: never,
    test: 'test/unit/node/verify.test.ts',
  },
  ...takenOut('node/verify.ts', 'test/unit/node/verify.test.ts', {
    'rewritten receipts in a database that is verified': 'if (merkleRoot(leaves) !== header.receiptsRoot)',
    'a header that execution does not give': 'if (block.headerHash !== headerHash(header))',
    'a receipt that execution does not give': 'if (code !== given.code)',
    'a certificate in another place': 'if (certificate.headerHash !== headerHash(header))',
    'another header than the node has signed': 'if (signed && signed.headerHash !== headerHash(header))',
  }),
  {
    refusal: 'a guard before a transaction, of a source that is not active',
    file: 'client/topic-guards.ts',
    find: 'const source = from.attested ?',
    replace: 'const source = from.device === undefined ?',
    test: 'test/unit/client/topic-guards.test.ts',
  },
  {
    refusal: 'a guard before a transaction, by the last reading',
    file: 'client/topic-guards.ts',
    find: 'reading: stream => at(stateKeyOf.reading(streamIdOf(stream)))',
    replace: 'reading: () => undefined',
    test: 'test/unit/client/topic-guards.test.ts',
  },
]
