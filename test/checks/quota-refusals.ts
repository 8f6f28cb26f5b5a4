/** Refusals that keep one identity from using up what others need: places in the mempool, unexpired transactions, groups. */
import { type RefusalCheck, takenOut } from './refusal-check.ts'

const quotasTest = 'test/unit/node/quotas.test.ts'

export const quotas: readonly RefusalCheck[] = [
  {
    refusal: 'a revocation too many of one signer in the lane of revocations',
    file: 'node/replica/mempool.ts',
    find: 'emptyLane(limits.revocations, limits.revocationsPerSigner)',
    replace: 'emptyLane(limits.revocations, limits.revocations)',
    test: quotasTest,
    only: 'as many of one device',
  },
  {
    refusal: "devices a place in the operators' lane",
    file: 'node/replica/admission.ts',
    find: "return type === 'key.revoke' ? 'revocation' : 'ordinary'",
    replace: "return type === 'key.revoke' ? 'operator' : 'ordinary'",
    test: quotasTest,
    only: 'keep no operator out',
  },
  ...takenOut('node/replica/admission.ts', quotasTest, {
    'more unexpired transactions of one signer than its share':
      'if ((this.#counts.get(signer) ?? 0) >= share)',
    "an unexpired transaction in the operators' places": "if (lane !== 'operator' && all >= places)",
  }),
  {
    refusal: 'newcomers a quota for each id that they make up',
    file: 'node/replica/admission.ts',
    find: "permissions[body.type] === 'newcomer' ? 'newcomers' : signer.deviceId",
    replace: 'signer.deviceId',
    test: quotasTest,
    only: 'of newcomers',
  },
  {
    refusal: 'a lightweight node the rate of other labels',
    file: 'node/network/peer-links.ts',
    find: "peer.record.label === 'lightweight' ? this.#requestsOfLight : this.#requests",
    replace: 'this.#requests',
    test: 'test/e2e/libp2p-network.test.ts',
    only: 'request rate of a lightweight node',
  },
  {
    refusal: 'over HTTP more of one address than its rate',
    file: 'node/service/callers.ts',
    find: 'if (rate.take(cost)) return',
    replace: 'return',
    test: 'test/unit/node/http-rate.test.ts',
    only: 'one address',
  },
  {
    refusal: "a group too many of one owner in another's list",
    file: 'chain/execute-group.ts',
    find: 'if (!share.ok) return share',
    replace: '',
    test: 'test/unit/chain/execute-group.test.ts',
    only: 'one owner fills',
  },
]
