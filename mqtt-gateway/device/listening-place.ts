/**
 * Several processes may listen for one device, and each gives out every message once
 * (docs/decisions/0025-listeners-of-one-device.md). So each has a replay window of its
 * own, durable before a message is given out, in a place of the device's directory that it alone holds:
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

  /** Marks a sender's counter as used, durably. Refuses `replayed`, `overloaded`. */
  acceptOnce(sighting: Sighting, now: Milliseconds): Promise<Result<void>> {
    return this.#edits.run(async () => {
      const result = this.#window.accept(sighting, now)
      if (result.ok) await this.#write()
      return result
    })
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
