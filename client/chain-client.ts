/**
 * One chain as a program sees it: sources with failover, the header follower, verified reads and submission, wired
 * once. The command line, the gateway and tests all start here.
 */

import type { ChainId } from '../chain/brands.ts'
import type { SignatureVerifier } from '../chain/keys.ts'
import type { TrustedHead } from '../chain/light-client.ts'
import type { TransactionBody } from '../chain/transaction.ts'
import type { ChainSource } from './chain-source.ts'
import { systemClock, type Timepiece } from './clock.ts'
import { type FailoverOptions, FailoverSource } from './failover-source.ts'
import { type FollowerOptions, HeaderFollower } from './header-follower.ts'
import type { IdentityKeys } from './key-directory.ts'
import { nativeVerifier } from './native-crypto.ts'
import { type FinalTransaction, type SubmitOptions, signedBody, submitUntilFinal } from './submission.ts'
import { VerifiedChain } from './verified-chain.ts'

export interface ChainClientOptions
  extends Pick<
      FollowerOptions,
      'store' | 'saveEveryMs' | 'longestRun' | 'longestRunKeys' | 'waitMs' | 'quietMs' | 'timers' | 'onError'
    >,
    Pick<FailoverOptions, 'onFault' | 'distrustMs'> {
  /** The preferred one first. */
  readonly sources: readonly ChainSource[]
  /** Where trust starts: `checkpointFromGenesis`, or a head from the operator. */
  readonly checkpoint: TrustedHead
  readonly verifier?: SignatureVerifier
  /** The machine's unless given. */
  readonly clock?: Timepiece
}

export class ChainClient {
  readonly pool: FailoverSource
  readonly follower: HeaderFollower
  /** Verified reads. */
  readonly records: VerifiedChain

  private constructor(pool: FailoverSource, follower: HeaderFollower, records: VerifiedChain) {
    this.pool = pool
    this.follower = follower
    this.records = records
  }

  /** Wires the parts; asks nobody yet. `follower.sync()` catches up once, `follower.run()` goes on following. */
  static async open(options: ChainClientOptions): Promise<ChainClient> {
    const verifier = options.verifier ?? nativeVerifier
    const { clock = systemClock } = options
    const pool = new FailoverSource(options.sources, { ...options, clock })
    const follower = await HeaderFollower.open({ ...options, pool, verifier, clock })
    return new ChainClient(pool, follower, new VerifiedChain({ pool, follower, verifier, clock }))
  }

  get chainId(): ChainId {
    return this.follower.head.chainId
  }

  /**
   * Signs a body with these keys, sends it until it is final, and catches up with its block. The expiry goes by the chain's
   * time, so a client that has seen no head in this process asks for one first.
   */
  async perform(
    keys: IdentityKeys,
    body: TransactionBody,
    options?: SubmitOptions,
  ): Promise<FinalTransaction> {
    if (this.follower.arrivedAt === undefined) await this.follower.sync()
    const time = this.records.time()
    return this.submit(signedBody({ chainId: this.chainId, body, keys, time }), options)
  }

  /**
   * Sends signed bytes until they are final. Once they are certified the head is at their block or above, so that
   * what is read next shows their effect.
   */
  async submit(bytes: Uint8Array, options?: SubmitOptions): Promise<FinalTransaction> {
    const final = await submitUntilFinal(this.pool, bytes, options)
    if ((options?.wait ?? 'certified') === 'certified') await this.follower.reach(final.height)
    return final
  }
}
