/**
 * Snapshots on the side that needs one: fetches the leader's chunk by chunk, verifies the whole, and keeps it aside
 * until Raft says that it takes the place of the log.
 *
 * A lost answer costs one chunk: it is asked for again, and a fetch of the same snapshot that was given up goes on where
 * it was. Nothing here touches what the node has.
 */
import type { DeviceId } from '../../chain/brands.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import { MoteError } from '../../chain/result.ts'
import type { SnapshotMeta } from '../../consensus/types.ts'
import { memberRequests } from '../network/request-table.ts'
import { ask } from '../network/requests.ts'
import type { Clock, Network } from '../ports.ts'
import { type CertifiedLedger, SnapshotAssembly, type SnapshotJudge } from './snapshot-stream.ts'

export interface SnapshotFetchLimits {
  /** All chunks of one snapshot together: it is put together in memory. */
  readonly maxBytes: number
  readonly chunkTimeoutMs: number
  /** Attempts at one chunk. */
  readonly attempts: number
  readonly retryDelayMs: number
}

export const defaultSnapshotFetchLimits: SnapshotFetchLimits = {
  maxBytes: 1024 * 1024 * 1024,
  chunkTimeoutMs: 10_000,
  attempts: 5,
  retryDelayMs: 200,
}

export interface SnapshotFetchParts {
  readonly network: Pick<Network, 'request'>
  readonly clock: Clock
  readonly verifier: SignatureVerifier
  /** What the node has, and what it trusts. */
  readonly own: () => Pick<SnapshotJudge, 'height' | 'trusted'>
  readonly onProgress: (detail: object, message: string) => void
  readonly limits: SnapshotFetchLimits
}

export interface FetchedSnapshot extends CertifiedLedger {
  readonly meta: SnapshotMeta
}

interface Fetch {
  readonly from: DeviceId
  readonly meta: SnapshotMeta
  readonly assembly: SnapshotAssembly
  chunk: number
}

export class SnapshotFetch {
  readonly #parts: SnapshotFetchParts
  readonly #limits: SnapshotFetchLimits
  #fetch: Fetch | undefined
  #fetched: FetchedSnapshot | undefined
  #stopped = false

  constructor(parts: SnapshotFetchParts) {
    this.#parts = parts
    this.#limits = parts.limits
  }

  /** Fetches in place of what was being fetched. `done` is told once, unless another fetch takes the place of this one. */
  begin(from: DeviceId, meta: SnapshotMeta, done: (fetched: boolean) => void): void {
    const fetch = this.#resumed(from, meta) ?? {
      from,
      meta,
      assembly: this.#assembly(meta),
      chunk: 0,
    }
    this.#fetch = fetch
    this.#run(fetch).then(
      result => {
        if (this.#fetch !== fetch || this.#stopped) return
        this.#fetch = undefined
        this.#fetched = result
        done(true)
      },
      (error: unknown) => {
        if (this.#fetch !== fetch || this.#stopped) return
        this.#parts.onProgress(
          { from, index: meta.lastIncludedIndex, error: String(error) },
          'snapshot refused',
        )
        if (!isTransient(error)) this.#fetch = undefined
        done(false)
      },
    )
  }

  /** The verified snapshot that Raft installs. */
  take(meta: SnapshotMeta): FetchedSnapshot | undefined {
    const fetched = this.#fetched
    this.#fetched = undefined
    return fetched && isSamePlace(fetched.meta, meta) ? fetched : undefined
  }

  stop(): void {
    this.#stopped = true
  }

  #assembly(place: SnapshotMeta): SnapshotAssembly {
    const { own, verifier } = this.#parts
    return new SnapshotAssembly({ ...own(), place, verifier, maxBytes: this.#limits.maxBytes })
  }

  /** What an earlier fetch of the same snapshot from the same node has got. */
  #resumed(from: DeviceId, meta: SnapshotMeta): Fetch | undefined {
    const earlier = this.#fetch
    if (earlier?.from !== from || !isSamePlace(earlier.meta, meta)) return undefined
    return { ...earlier }
  }

  async #run(fetch: Fetch): Promise<FetchedSnapshot> {
    const { assembly, meta, from } = fetch
    this.#parts.onProgress({ from, index: meta.lastIncludedIndex, chunk: fetch.chunk }, 'fetching a snapshot')
    for (;;) {
      const bytes = await this.#chunk(fetch)
      const added = assembly.add(bytes)
      if (!added.ok) throw new MoteError(added.error.code, added.error.detail)
      fetch.chunk++
      if (added.value === 'end') break
    }
    const whole = assembly.finish()
    if (!whole.ok) throw new MoteError(whole.error.code, whole.error.detail)
    return { ...whole.value, meta }
  }

  async #chunk(fetch: Fetch): Promise<Uint8Array> {
    const { network, clock } = this.#parts
    const { lastIncludedIndex } = fetch.meta
    const request = { lastIncludedIndex, chunk: fetch.chunk }
    const { attempts, chunkTimeoutMs, retryDelayMs } = this.#limits
    for (let attempt = 1; ; attempt++) {
      try {
        return await ask(network, fetch.from, memberRequests.snapshot, request, chunkTimeoutMs)
      } catch (error) {
        const isOver = this.#fetch !== fetch || this.#stopped || attempt >= attempts
        if (isOver || !isTransient(error)) throw error
        await new Promise<void>(resolve => clock.after(retryDelayMs, resolve))
      }
    }
  }
}

function isSamePlace(a: SnapshotMeta, b: SnapshotMeta): boolean {
  return a.lastIncludedIndex === b.lastIncludedIndex && a.lastIncludedTerm === b.lastIncludedTerm
}

function isTransient(error: unknown): boolean {
  return error instanceof MoteError && (error.code === 'unreachable' || error.code === 'timeout')
}
