/** A hostile operator: revokes and suspends those that sign blocks, one after the other, and one after the other again. */
import type { ChainId, DeviceId, Milliseconds } from '../../../chain/brands.ts'
import type { ChainSource } from '../../../client/chain-source.ts'
import { pause } from '../../../client/deadline.ts'
import type { IdentityKeys } from '../../../client/key-directory.ts'
import { signedBody } from '../../../client/submission.ts'
import type { Counts } from './counts.ts'

const betweenMs = 50

export async function takeConsentersAway(
  operator: { readonly keys: IdentityKeys; readonly chainId: ChainId },
  {
    sources,
    consenters,
  }: { readonly sources: readonly ChainSource[]; readonly consenters: readonly DeviceId[] },
  counts: Counts,
  over: AbortSignal,
): Promise<void> {
  for (let i = 0; !over.aborted; i++) {
    const type = i % 2 === 0 ? 'identity.revoke' : 'identity.suspend'
    const subject = consenters[(i >> 1) % consenters.length] as DeviceId
    const source = sources[i % sources.length] as ChainSource
    const body = { type, subject, reason: 'hostile' } as const
    const bytes = signedBody({ ...operator, body, time: Date.now() as Milliseconds })
    const answer = await source.submit(bytes, 'certified').catch(() => undefined)
    counts.add(
      answer?.status === 'certified' ? 'taken away' : `${answer?.code ?? answer?.status ?? 'no answer'}`,
    )
    await pause(betweenMs, over)
  }
}
