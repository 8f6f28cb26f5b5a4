/**
 * What a node without the chain serves to others: headers and proofs that it has verified itself, and a way through to
 * the full node that serves it. For the API of lightweight and coordination nodes.
 *
 * The caller can verify every answer once more; that it has been verified here only means that it is not asked in vain.
 * Old headers are passed on as they come.
 */
import type { Height } from '../chain/brands.ts'
import { type CertifiedHeader, verifyStateAnswer } from '../chain/light-client.ts'
import { MoteError, unwrap } from '../chain/result.ts'
import type { ChainClient } from './chain-client.ts'
import type { ChainSource, NodeStatus } from './chain-source.ts'
import { Deadline } from './deadline.ts'
import { nativeVerifier } from './native-crypto.ts'
import { Refusals } from './submission.ts'

/** The API's source over a chain client; `status` is what the node says of itself. */
export function relaySource(client: ChainClient, status: () => NodeStatus): ChainSource {
  const { pool, follower, records } = client
  return {
    name: 'relay',
    status: async () => status(),
    submit: (bytes, wait) => new Refusals().send(pool, bytes, wait),
    transactionStatus: id => pool.attempt(source => source.transactionStatus(id)),
    certifiedHeader: async height => {
      if (height === 'latest' || height === follower.newest?.header.height) return newestOf(client)
      return pool.attempt(source => source.certifiedHeader(height))
    },
    headersFrom: (from, limit) => pool.attempt(source => source.headersFrom(from, limit)),
    receipts: height => pool.attempt(source => source.receipts(height)),
    waitForHeader: (after, timeoutMs, options) => waitForHeader(client, after, timeoutMs, options?.signal),
    state: (key, height) =>
      height === undefined
        ? records.stateProof(key)
        : pool.attempt(async source => {
            // Other consenters may have signed what the follower has not seen yet.
            if (height > follower.head.header.height) await follower.syncFrom(source)
            const answer = await source.state(key, height)
            unwrap(verifyStateAnswer(follower.head, key, answer, nativeVerifier))
            return answer
          }),
    group: id => records.groupProof(id),
    records: (type, after) => pool.attempt(source => source.records(type, after)),
    deviceTransactions: (id, before) => pool.attempt(source => source.deviceTransactions(id, before)),
    coordination: () => pool.attempt(source => source.coordination()),
  }
}

async function newestOf({ follower, pool }: ChainClient): Promise<CertifiedHeader> {
  const newest = follower.newest
  if (newest) return newest
  // The head is still the checkpoint: its certificate is somewhere else.
  return pool.attempt(async source => {
    await follower.syncFrom(source)
    if (follower.newest) return follower.newest
    throw new MoteError('not-ready', 'no certified header has arrived yet')
  })
}

/** Waits on the follower, so that many who wait cost the full node nothing. */
function waitForHeader(
  { follower }: ChainClient,
  after: Height,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<CertifiedHeader | undefined> {
  const { promise, resolve } = Promise.withResolvers<CertifiedHeader>()
  const news = () => {
    const newest = follower.newest
    if (newest && newest.header.height > after) resolve(newest)
  }
  const detach = follower.onAdvance(news)
  news()
  return new Deadline(timeoutMs, { signal }).race(promise).finally(detach)
}
