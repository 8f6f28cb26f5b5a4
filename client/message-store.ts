/**
 * The disk under the queues of devices and under the mail that a gateway keeps: one LevelDB directory for a whole process, each
 * user under a prefix of its own, so that an agent of a thousand devices opens one database. What `write` has resolved is on
 * the disk (synced): it survives `kill -9` and loss of power. LevelDB's lock lets one process at a time in.
 *
 * Group commit: what is to be written while a write is under way shares the next one, which is one sync of the disk for all of
 * them. Changes reach the disk in the order in which they were asked for.
 */
import type { Level } from 'level'
import { MoteError } from '../chain/result.ts'
import { openLevel } from './level-directory.ts'

/** `value` undefined: the key goes. */
export interface StoreChange {
  readonly key: string
  readonly value: Uint8Array | undefined
}

/** What the store needs of a database: values under texts. */
export interface MessageDatabase {
  get(key: string): Promise<Uint8Array | undefined>
  /** Those whose keys begin with the prefix, ascending by key; whole keys. */
  all(prefix: string): Promise<readonly (readonly [string, Uint8Array])[]>
  /** All of it or nothing, and on the disk when it resolves. One write at a time is asked for. */
  write(changes: readonly StoreChange[]): Promise<void>
  close(): Promise<void>
}

/** Changes that wait for their write. */
interface Waiting {
  readonly changes: readonly StoreChange[]
  readonly written: PromiseWithResolvers<void>
}

/** Changes in one write, unless the first of those that wait has more. */
const maxChangesPerWrite = 4_096

export class MessageStore {
  readonly #database: MessageDatabase
  readonly #waiting: Waiting[] = []
  #isWriting = false

  /** Over a database that is open, which nobody else writes to. */
  constructor(database: MessageDatabase) {
    this.#database = database
  }

  /** Opens the store in a directory (created, 0700, if missing). Throws `in-use`, `storage-corrupt`, `storage-failed`. */
  static async open(directory: string): Promise<MessageStore> {
    const encodings = { keyEncoding: 'utf8', valueEncoding: 'view' } as const
    return new MessageStore(levelDatabase(await openLevel<string, Uint8Array>(directory, encodings)))
  }

  /** Throws `storage-failed`. */
  async get(key: string): Promise<Uint8Array | undefined> {
    return failing('read', () => this.#database.get(key))
  }

  /** Every key with this prefix, in order, without the prefix. Throws `storage-failed`. */
  async all(prefix: string): Promise<readonly (readonly [string, Uint8Array])[]> {
    const entries = await failing('read', () => this.#database.all(prefix))
    return entries.map(([key, value]) => [key.slice(prefix.length), value] as const)
  }

  /** All of it or nothing, on the disk when the promise resolves. Throws `storage-failed`. */
  write(changes: readonly StoreChange[]): Promise<void> {
    const written = Promise.withResolvers<void>()
    this.#waiting.push({ changes, written })
    if (!this.#isWriting) void this.#writeWaiting()
    return written.promise
  }

  async #writeWaiting(): Promise<void> {
    this.#isWriting = true
    while (this.#waiting.length > 0) {
      const group = this.#nextGroup()
      const changes = group.flatMap(each => each.changes)
      try {
        await failing('write', () => this.#database.write(changes))
        for (const { written } of group) written.resolve()
      } catch (error) {
        for (const { written } of group) written.reject(error)
      }
    }
    this.#isWriting = false
  }

  #nextGroup(): readonly Waiting[] {
    let count = 0
    const end = this.#waiting.findIndex(({ changes }, index) => {
      count += changes.length
      return index > 0 && count > maxChangesPerWrite
    })
    return this.#waiting.splice(0, end < 0 ? this.#waiting.length : end)
  }

  close(): Promise<void> {
    return this.#database.close()
  }
}

function levelDatabase(level: Level<string, Uint8Array>): MessageDatabase {
  return {
    get: key => level.get(key),
    all: prefix => level.iterator({ gte: prefix, lt: `${prefix}\u{ff}` }).all(),
    write: changes => level.batch(changes.map(operationOf), { sync: true }),
    close: () => level.close(),
  }
}

function operationOf({ key, value }: StoreChange) {
  return value === undefined ? ({ type: 'del', key } as const) : ({ type: 'put', key, value } as const)
}

async function failing<T>(what: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step()
  } catch (cause) {
    throw new MoteError('storage-failed', `message store: ${what}: ${(cause as Error).message}`, { cause })
  }
}
