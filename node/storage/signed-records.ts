/**
 * What this node has promised with its signatures: one header hash at each (incarnation, height), for ever.
 *
 * Headers are signed in order, so what comes after the newest record cannot contradict one and is not looked up: a search
 * for a key that is not there is the slowest kind. Recent records are kept in memory, because the writes of one batch
 * are checked before any of them is stored.
 */

import type { Height } from '../../chain/brands.ts'
import { RecentMap } from '../../chain/recent-map.ts'
import { MoteError } from '../../chain/result.ts'
import type { SignedHeader } from '../ports.ts'

type Place = Pick<SignedHeader, 'incarnation' | 'height'>

/** What is stored. */
export interface SignedStore {
  newest(): Promise<Place | undefined>
  at(place: Place): Promise<SignedHeader | undefined>
}

/** More records than one batch can hold. */
const maxRecent = 16_384

export class SignedRecords {
  readonly #store: SignedStore
  readonly #recent = new RecentMap<string, SignedHeader>(maxRecent)
  /** The newest record, stored or remembered; read once. */
  #newest: Promise<Place | undefined> | undefined

  constructor(store: SignedStore) {
    this.#store = store
  }

  /** Throws `execution-diverged` if another hash is recorded at that place. */
  async check(signed: SignedHeader): Promise<void> {
    this.#newest ??= this.#store.newest()
    if (isAfter(signed, await this.#newest)) return
    const earlier = this.#recent.get(nameOf(signed)) ?? (await this.#store.at(signed))
    if (!earlier || earlier.headerHash === signed.headerHash) return
    throw new MoteError(
      'execution-diverged',
      `height ${signed.height}: signed ${earlier.headerHash} before, refusing to sign ${signed.headerHash}`,
    )
  }

  /** The record is part of a batch that is being written. Follows `check`. */
  async remember(signed: SignedHeader): Promise<void> {
    if (isAfter(signed, await this.#newest)) this.#newest = Promise.resolve(signed)
    this.#recent.set(nameOf(signed), signed)
  }
}

function isAfter(place: Place, newest: Place | undefined): boolean {
  if (newest === undefined || place.incarnation !== newest.incarnation)
    return newest === undefined || place.incarnation > newest.incarnation
  return place.height > newest.height
}

function nameOf({ incarnation, height }: { incarnation: number; height: Height }): string {
  return `${incarnation}/${height}`
}
