/** Refusals around a change of the consenters: who may decide it, who certifies it, and what counts on its other side. */
import { type RefusalCheck, takenOut } from './refusal-check.ts'

export const handovers: readonly RefusalCheck[] = [
  {
    refusal: 'a history proof of another height',
    file: 'chain/light-client.ts',
    find: '    proof.index === header.height &&\n    proof.size === trusted.header.height &&\n',
    replace: '',
    test: 'test/unit/chain/light-client.test.ts',
  },
  ...takenOut('chain/light-client.ts', 'test/unit/chain/handover.test.ts', {
    'a handover without the new consenters': 'if (!handover)',
    'a handover to others than its header names':
      'if (signersHash(handover.consenters) !== header.nextSignersHash)',
  }),
  {
    refusal: 'after a restart, what other consenters certified below the handover',
    file: 'client/checkpoint-file.ts',
    find: 'unwrap(checkpointOf(header, consenters, handoverHeight))',
    replace: 'unwrap(checkpointOf(header, consenters))',
    test: 'test/unit/client/handover.test.ts',
  },
  {
    refusal: 'a handover that the new consenters have not certified',
    file: 'chain/light-client.ts',
    find: 'return signed.ok ? ok(handover.consenters) : signed',
    replace: 'return signed.ok || signed ? ok(handover.consenters) : signed',
    test: 'test/unit/chain/handover.test.ts',
  },
  {
    refusal: 'a handover that the old consenters have not certified',
    file: 'chain/light-client.ts',
    find: '  if (!signed.ok) return signed\n  const next =',
    replace: '  const next =',
    test: 'test/unit/chain/handover.test.ts',
  },
  ...takenOut('chain/execute-governance.ts', 'test/unit/chain/execute-governance.test.ts', {
    'consenters in no sound set': 'if (!sound.ok)',
    'a consenter that is suspended or revoked': "if (record.status !== 'active')",
    'a consenter that is no full node': "if (record.label !== 'full')",
    'a consenter under a key that is not its own, or over':
      "if (entry?.purpose !== 'sign' || !isKeyValidAt(entry, time))",
    'a decision of fewer authorities than the threshold': 'if (approvals < parameters.threshold)',
    'a handover to others than governance has decided on':
      'if (!nextConsenters || signersHash(nextConsenters) !== target)',
  }),
  {
    refusal: 'an approval of a suspended or revoked authority',
    file: 'chain/execute-governance.ts',
    find: "view.identity(id)?.status === 'active' && ",
    replace: '',
    test: 'test/unit/chain/execute-governance.test.ts',
  },
  {
    refusal: 'an approval from before the last change of the parameters',
    file: 'chain/execute-governance.ts',
    find: 'approval?.parametersVersion === parameters.version && signersHash',
    replace: 'approval !== undefined && signersHash',
    test: 'test/unit/chain/execute-governance.test.ts',
  },
  {
    refusal: 'light nodes that show a proof of before the last handover',
    file: 'node/light/identities.ts',
    find: 'return this.#proofHeight <= handoverHeight && header.height > handoverHeight',
    replace: 'return false',
    test: 'test/unit/node/light-identities.test.ts',
  },
]
