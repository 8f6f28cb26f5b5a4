/**
 * The changes of the consenters that a node without blocks has passed, the newest of them: what it shows beside the proof
 * of its own record, to a peer that trusts the consenters of before (hello.ts).
 *
 * The follower has verified each. They are stored before a checkpoint that lies above them: the follower does not pass
 * them a second time.
 */
import { decode, encode, list } from '../../chain/codec.ts'
import { type CertifiedHeader, certifiedHeaderCodec, isHandover } from '../../chain/light-client.ts'
import type { CheckpointStore } from '../../client/checkpoint-file.ts'
import type { HeadEvent, HeaderFollower } from '../../client/header-follower.ts'
import { maxHelloHandovers } from '../network/hello.ts'

const handoversCodec = list(certifiedHeaderCodec, maxHelloHandovers)

export class PassedHandovers {
  readonly #store: CheckpointStore
  #newest: readonly CertifiedHeader[]
  #stored: readonly CertifiedHeader[]

  private constructor(store: CheckpointStore, stored: readonly CertifiedHeader[]) {
    this.#store = store
    this.#newest = stored
    this.#stored = stored
  }

  /** Those of earlier runs. What cannot be read is none: peers that are behind refuse this node until they have caught up. */
  static async open(store: CheckpointStore): Promise<PassedHandovers> {
    const bytes = await store.load()
    const stored = bytes && decode(handoversCodec, bytes)
    return new PassedHandovers(store, stored?.ok ? stored.value : [])
  }

  /** Ascending by height, at most `maxHelloHandovers`. The same array until there is another one. */
  get newest(): readonly CertifiedHeader[] {
    return this.#newest
  }

  /** Takes what the follower passes from now on. */
  follow(follower: Pick<HeaderFollower, 'onAdvance'>): void {
    follower.onAdvance(event => this.#take(event))
  }

  /** The store of checkpoints, before each of which the handovers are stored. */
  beforeCheckpoints(checkpoints: CheckpointStore): CheckpointStore {
    return {
      load: () => checkpoints.load(),
      save: async checkpoint => {
        await this.#save()
        await checkpoints.save(checkpoint)
      },
    }
  }

  #take(event: HeadEvent): void {
    const passed = event.type === 'skipped' ? [event.header] : event.headers
    const last = this.#newest.at(-1)?.header.height ?? 0
    const handovers = passed.filter(({ header }) => isHandover(header) && header.height > last)
    if (handovers.length > 0) this.#newest = [...this.#newest, ...handovers].slice(-maxHelloHandovers)
  }

  async #save(): Promise<void> {
    const newest = this.#newest
    if (newest === this.#stored) return
    await this.#store.save(encode(handoversCodec, newest))
    this.#stored = newest
  }
}
