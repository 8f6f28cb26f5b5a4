/** Blocks with as many changed keys as the grants of one operator can make. */
import { randomBytes } from 'node:crypto'
import { Milliseconds } from '../../chain/brands.ts'
import { encode } from '../../chain/codec.ts'
import type { ChainClient } from '../../client/chain-client.ts'
import { submissionCodec } from '../../client/chain-source.ts'
import { exchange, httpSource } from '../../client/http-source.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { nativeSignerFromSeed } from '../../client/native-crypto.ts'
import { signedBody } from '../../client/submission.ts'

/** Changed keys whose headers are over the first limit that an answer had, 32 KiB. */
export const keysOfFullBlocks = 950
/** Grants at once: nearly as many as one operator may have wait for a block. */
const grantsAtOnce = 481

export interface FullBlocksOptions {
  readonly client: ChainClient
  readonly operator: IdentityKeys
  /** How many keys such blocks are to change in all. */
  readonly keys: number
  /** URL of the full node that leads. Links to it that are slow make blocks full. */
  readonly leader: () => Promise<string>
}

/** Gives out grants until their blocks change so many keys; returns how many. Gives up after ten times. */
export async function makeFullBlocks({ client, operator, keys, leader }: FullBlocksOptions): Promise<number> {
  let changed = 0
  for (let attempt = 0; attempt < 10 && changed < keys; attempt++) {
    const { height: from, time } = (await client.follower.sync()).header
    const signed = Array.from({ length: grantsAtOnce }, () => {
      const { publicKey: tokenKey } = nativeSignerFromSeed('ed25519', randomBytes(32))
      const expiry = Milliseconds(time + 60 * 60_000)
      const body = {
        type: 'identity.grant',
        tokenKey,
        quota: 1,
        expiry,
        highestLabel: 'lightweight',
      } as const
      return signedBody({ chainId: client.chainId, body, keys: operator, time })
    })
    const url = await leader()
    // The first is on its way when the others come.
    const batches = [signed.slice(0, 1), signed.slice(1, 241), signed.slice(241)]
    await Promise.all(
      batches.map(batch =>
        exchange(url, {
          path: '/v1/transactions/batch?wait=certified',
          timeoutMs: 60_000,
          signal: undefined,
          body: encode(submissionCodec, batch),
        }),
      ),
    )
    const { height: to } = (await client.follower.sync()).header
    for (const { changes } of await httpSource(url).headersFrom(from, to - from + 1))
      if (changes.length > grantsAtOnce / 2) changed += changes.length
  }
  return changed
}
