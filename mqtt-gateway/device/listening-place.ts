/**
 * Several processes may listen for one device, and each gives out every message once
 * (docs/decisions/0025-listeners-of-one-device.md). So each has a replay window of its
 * own, written when a message has been taken, in a place of the device's directory that it alone holds:
 * `listening/1` to `listening/8`.
 *
 * Who comes takes the first free place, and begins with the union of the windows of all places, the free ones included. It does
 * that before it subscribes, so what any listener of this device has accepted before is refused as a replay, and what it gets from then on it
 * gives out, though others have it too.
 */
import { join } from 'node:path'
import type { Milliseconds } from '../../chain/brands.ts'
import { MoteError, type Result } from '../../chain/result.ts'
import { type DirectoryLock, lockDirectory } from '../../client/directory-lock.ts'
import { OrderedQueue } from '../../client/ordered-queue.ts'
import { ReplayWindow, type Sighting, type StoredKeyWindow } from '../protocol/replay-window.ts'
import { readStateFile, writeStateFile } from './state-file.ts'

/** Processes that may listen for one device at the same time. */
const maxListeners = 8
/** Senders' keys whose counters are remembered. */
const maxDeviceReplayKeys = 10_000

interface ReplayFile {
  readonly windows: Readonly<Record<string, StoredKeyWindow>>
}

interface Place {
  readonly directory: string
  readonly lock: DirectoryLock
}

export class ListeningPlace {
  readonly #place: Place
  readonly #window: ReplayWindow
  readonly #edits = new OrderedQueue()

  private constructor(place: Place, window: ReplayWindow) {
    this.#place = place
    this.#window = window
  }

  /**
   * Takes a free place of a device's directory.
   * Throws `in-use` if there is none, which names the first holder, and `storage-corrupt`.
   * @param now the newest head's time: what had expired by then is not remembered
   */
  static async take(directory: string, now: Milliseconds): Promise<ListeningPlace> {
    const directories = Array.from({ length: maxListeners }, (_, i) =>
      join(directory, 'listening', `${i + 1}`),
    )
    const place = await firstFree(directories)
    try {
      const files = await Promise.all(
        directories.map(each => readStateFile<ReplayFile>(replayFile(each), { windows: {} })),
      )
      const stored = files.map(({ windows }) => windows)
      const taken = new ListeningPlace(place, ReplayWindow.union(maxDeviceReplayKeys, stored, now))
      await taken.#write()
      return taken
    } catch (error) {
      await place.lock.release()
      throw error
    }
  }

  /**
   * Runs `take` for a message whose counter was not used, and marks that as used, durably, when `take` has taken it. What it refuses,
   * or fails at, may come again. A crash between the two lets it come again too: whoever takes it on a disk remembers it there
   * (mqtt-gateway/agent/inbox.ts). Refuses `replayed`, `counter-too-old`, `overloaded`, and what `take` refuses.
   */
  async acceptOnce<T>(
    sighting: Sighting,
    now: Milliseconds,
    take: () => Promise<Result<T>>,
  ): Promise<Result<T>> {
    const held = this.#window.hold(sighting, now)
    if (!held.ok) return held
    let taken: Result<T> | undefined
    try {
      taken = await take()
    } finally {
      if (!taken?.ok) held.value.free()
    }
    if (!taken.ok) return taken
    return this.#edits.run(async () => {
      held.value.use()
      await this.#write()
      return taken
    })
  }

  /** Where chunks of kept messages lie until the last one has come: whoever has this place next goes on with them. */
  get chunkDirectory(): string {
    return join(this.#place.directory, 'chunks')
  }

  /** Gives the place free; what was accepted is on disk. */
  async release(): Promise<void> {
    await this.#edits.idle()
    await this.#place.lock.release()
  }

  #write(): Promise<void> {
    return writeStateFile(replayFile(this.#place.directory), { windows: this.#window.toStored() })
  }
}

function replayFile(directory: string): string {
  return join(directory, 'replay.json')
}

async function firstFree(directories: readonly string[]): Promise<Place> {
  let first: MoteError | undefined
  for (const directory of directories) {
    try {
      return { directory, lock: await lockDirectory(directory) }
    } catch (error) {
      if (!(error instanceof MoteError) || error.code !== 'in-use') throw error
      first ??= error
    }
  }
  throw new MoteError('in-use', `${directories.length} processes listen for this device: ${first?.detail}`)
}
