/** The trust port over client/: a header follower and its verified reads. Adds nothing but the shape. */

import type { Height } from '../../chain/brands.ts'
import { encode } from '../../chain/codec.ts'
import { stateAnswerCodec } from '../../chain/light-client.ts'
import { stateKeyOf } from '../../chain/records.ts'
import { assertNever } from '../../chain/result.ts'
import {
  contractAnswerCodec,
  groupAnswerCodec,
  recordPageCodec,
  type SourcePool,
} from '../../client/chain-source.ts'
import { Deadline } from '../../client/deadline.ts'
import type { HeadEvent } from '../../client/header-follower.ts'
import type { VerifiedChain } from '../../client/verified-chain.ts'
import type { Subject, TrustAdvance, TrustedMoment, TrustView } from './trust.ts'

export function chainTrust(chain: VerifiedChain, pool: SourcePool): TrustView {
  const { follower } = chain
  const head = (): TrustedMoment => ({ height: follower.head.header.height, time: follower.head.header.time })
  return {
    chainId: follower.head.chainId,
    head,
    ageMs: () => chain.ageMs(),
    now: () => chain.time(),
    device: id => chain.device(id),
    group: id => chain.group(id),
    rights: id => chain.rights(id),
    credentials: id => chain.credentials(id),
    leaf: (key, codec) => chain.leaf(key, codec),
    // A chain whose parameters are not there allows nothing.
    allowedSuites: async () => (await chain.parameters()).value?.envelopeSuites ?? [],
    refresh: async () => void (await follower.sync()),
    // Listens after the chain does, so that a lookup from a listener never finds what the advance replaced.
    onAdvance: listener => follower.onAdvance(event => listener(advanceOf(event, head()))),
    waitForHeight: (height, timeoutMs) => waitForHeight(chain, height, timeoutMs),
    answer: subject => answerTo(chain, pool, subject),
  }
}

async function answerTo(chain: VerifiedChain, pool: SourcePool, subject: Subject): Promise<Uint8Array> {
  switch (subject.type) {
    case 'device':
      return encode(stateAnswerCodec, await chain.stateProof(stateKeyOf.identity(subject.id)))
    case 'chain':
      return encode(stateAnswerCodec, await chain.stateProof(stateKeyOf.parameters()))
    case 'group':
      return encode(groupAnswerCodec, await chain.groupProof(subject.id))
    case 'devices':
      return encode(recordPageCodec, await pool.attempt(source => source.records('identity', subject.after)))
    case 'contract': {
      // The contract first: one that is there has a state then.
      const contract = await chain.stateProof(stateKeyOf.contract(subject.id))
      const state = await chain.stateProof(stateKeyOf.contractState(subject.id))
      return encode(contractAnswerCodec, { contract, state })
    }
    default:
      return assertNever(subject)
  }
}

function advanceOf(event: HeadEvent, head: TrustedMoment): TrustAdvance {
  const changed =
    event.type === 'skipped' ? ('unknown' as const) : new Set(event.headers.flatMap(({ changes }) => changes))
  return { ...head, changed }
}

async function waitForHeight(
  { follower }: VerifiedChain,
  height: Height,
  timeoutMs: number,
): Promise<boolean> {
  if (follower.head.header.height >= height) return true
  const { promise, resolve } = Promise.withResolvers<true>()
  const stop = follower.onAdvance(({ head }) => {
    if (head.header.height >= height) resolve(true)
  })
  return (await new Deadline(timeoutMs).race(promise).finally(stop)) ?? false
}
