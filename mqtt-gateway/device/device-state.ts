/**
 * What a device must remember between runs, as files of its own directory (0700, files 0600, atomic, locked):
 *
 * - `contacts.json`: its copy of other devices' encryption keys (Hsu-Lu B1, the node list) and of open topics' keys. A key is written down at
 *   first contact and used as it stands; whether it is still the chain's, the gateway checks on every message (Hsu-Lu B2). A copy
 *   that cannot be used is a refusal, and stays as it is: only `refreshContact` (contacts.ts) and `refreshTopicCopy` (topic-copies.ts) replace one.
 * - `counters.json`: the next free counter per signing key. A range is reserved durably before its first counter is
 *   used, so a crash skips counters and never repeats one.
 * - `listening/N/replay.json`: which counters of which senders a listener has accepted (listening-place.ts).
 * - `epoch-keys.json`: the epoch keys it knows, the newest few of each group.
 */

import { join } from 'node:path'
import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js'
import { type DeviceId, type GroupId, Height, isDigest, type KeyId } from '../../chain/brands.ts'
import { type EncryptionKey, type EncryptionSuite, encryptionSuites } from '../../chain/keys.ts'
import { MoteError, ok, type Result, refuse } from '../../chain/result.ts'
import { privateDirectory, withDirectoryLock } from '../../client/atomic-file.ts'
import { OrderedQueue } from '../../client/ordered-queue.ts'
import { readStateFile, writeStateFile } from './state-file.ts'

/** Counters reserved at a time. */
const counterRange = 64
/** Epoch keys of one group that are kept: messages under an older one may still be on their way. */
const epochKeysKept = 4

/** Another device's encryption key as this device has it. */
export interface Contact {
  readonly key: EncryptionKey
  /** Height at which it was read from the chain. */
  readonly height: Height
}

/** An open topic's key as this device has it. */
export interface TopicCopy extends Contact {
  /** The epoch that it is of. */
  readonly epoch: number
}

/** What an entry holds when nobody has altered it. */
interface StoredContact {
  readonly suite: EncryptionSuite
  readonly publicKey: string
  readonly height: number
  /** Of a topic's key only. */
  readonly epoch?: number
}

interface ContactsFile {
  /** Anything: the file may have been edited. */
  readonly contacts: Record<string, unknown>
}
interface CountersFile {
  readonly next: Record<string, number>
}
interface EpochKeysFile {
  readonly groups: Record<string, Record<string, string>>
}

export class DeviceState {
  readonly #directory: string
  /** Counters reserved and not used yet, per key. */
  readonly #ranges = new Map<KeyId, { next: number; readonly end: number }>()
  /** Edits of this process, one after another; the lock is for other processes. */
  readonly #edits = new OrderedQueue()

  private constructor(directory: string) {
    this.#directory = directory
  }

  static async open(directory: string): Promise<DeviceState> {
    await privateDirectory(directory)
    return new DeviceState(directory)
  }

  /**
   * The copy of a device's key; undefined before the first contact. Refuses `recipient-key-mismatch`, with what is wrong, a
   * copy that is no key.
   */
  async contact(id: DeviceId): Promise<Result<Contact | undefined>> {
    const { contacts } = await readStateFile<ContactsFile>(this.#pathOf('contacts'), { contacts: {} })
    return Object.hasOwn(contacts, id) ? contactOf(contacts[id]) : ok(undefined)
  }

  /** Replaces the copy of a device's key. */
  setContact(id: DeviceId, contact: Contact): Promise<void> {
    return this.#setCopy(id, storedContact(contact))
  }

  /** The copy of an open topic's key, among the contacts; as `contact`. */
  async topicCopy(id: GroupId): Promise<Result<TopicCopy | undefined>> {
    const { contacts } = await readStateFile<ContactsFile>(this.#pathOf('contacts'), { contacts: {} })
    return Object.hasOwn(contacts, id) ? topicCopyOf(contacts[id]) : ok(undefined)
  }

  /** Replaces the copy of a topic's key. */
  setTopicCopy(id: GroupId, copy: TopicCopy): Promise<void> {
    return this.#setCopy(id, { ...storedContact(copy), epoch: copy.epoch })
  }

  #setCopy(id: string, entry: StoredContact): Promise<void> {
    return this.#edits.run(() =>
      this.#edit<ContactsFile, void>('contacts', { contacts: {} }, ({ contacts }) => ({
        file: { contacts: { ...contacts, [id]: entry } },
        result: undefined,
      })),
    )
  }

  /** Adds copies where there is none; one that is there stays. Gives how many were added. */
  addContacts(added: ReadonlyMap<DeviceId, Contact>): Promise<number> {
    return this.#edits.run(() =>
      this.#edit<ContactsFile, number>('contacts', { contacts: {} }, ({ contacts }) => {
        const missing = [...added].filter(([id]) => !Object.hasOwn(contacts, id))
        const entries = missing.map(([id, contact]) => [id, storedContact(contact)] as const)
        const file = { contacts: { ...contacts, ...Object.fromEntries(entries) } }
        return { file: missing.length > 0 ? file : undefined, result: missing.length }
      }),
    )
  }

  /** A counter that this key has never used. */
  nextCounter(keyId: KeyId): Promise<number> {
    return this.#edits.run(async () => {
      let range = this.#ranges.get(keyId)
      if (!range || range.next === range.end) {
        const start = await this.#reserve(keyId)
        range = { next: start, end: start + counterRange }
        this.#ranges.set(keyId, range)
      }
      range.next += 1
      return range.next - 1
    })
  }

  async epochKey(group: GroupId, epoch: number): Promise<Uint8Array | undefined> {
    const { groups } = await readStateFile<EpochKeysFile>(this.#pathOf('epoch-keys'), { groups: {} })
    const stored = groups[group]?.[epoch]
    if (stored === undefined) return undefined
    if (!isDigest(String(stored)))
      throw new MoteError(
        'storage-corrupt',
        `${this.#pathOf('epoch-keys')}: group ${group}: no key of 32 bytes`,
      )
    return hexToBytes(stored)
  }

  /** The newest epoch whose key is here; 0 if none is. */
  async newestEpoch(group: GroupId): Promise<number> {
    const { groups } = await readStateFile<EpochKeysFile>(this.#pathOf('epoch-keys'), { groups: {} })
    return Math.max(0, ...Object.keys(groups[group] ?? {}).map(Number))
  }

  /** Resolves when everything that was begun is on disk. */
  async settled(): Promise<void> {
    await this.#edits.idle()
  }

  /** Keeps a key that the chain's hash confirms. */
  putEpochKey(group: GroupId, epoch: number, key: Uint8Array): Promise<void> {
    return this.#edits.run(() =>
      this.#edit<EpochKeysFile, void>('epoch-keys', { groups: {} }, ({ groups }) => {
        const known: Record<string, string> = { ...groups[group], [epoch]: bytesToHex(key) }
        const epochs = Object.entries(known)
          .toSorted(([a], [b]) => Number(b) - Number(a))
          .slice(0, epochKeysKept)
        return { file: { groups: { ...groups, [group]: Object.fromEntries(epochs) } }, result: undefined }
      }),
    )
  }

  #reserve(keyId: KeyId): Promise<number> {
    return this.#edit<CountersFile, number>('counters', { next: {} }, ({ next }) => {
      const start = next[keyId] ?? 0
      if (!Number.isSafeInteger(start) || start < 0)
        throw new MoteError('storage-corrupt', `${this.#pathOf('counters')}: key ${keyId}: no counter`)
      return { file: { next: { ...next, [keyId]: start + counterRange } }, result: start }
    })
  }

  #pathOf(name: string): string {
    return join(this.#directory, `${name}.json`)
  }

  #edit<File extends object, T>(
    name: string,
    empty: File,
    change: (file: File) => { readonly file: File | undefined; readonly result: T },
  ): Promise<T> {
    return withDirectoryLock(this.#directory, async () => {
      const { file, result } = change(await readStateFile(this.#pathOf(name), empty))
      if (file) await writeStateFile(this.#pathOf(name), file)
      return result
    })
  }
}

function storedContact({ key, height }: Contact): StoredContact {
  return { suite: key.suite, publicKey: bytesToHex(key.bytes), height }
}

/** An entry of the contacts as a key. Whether it is a point that can be sealed to, sealing says. */
function contactOf(stored: unknown): Result<Contact> {
  const { suite, publicKey, height } = (stored ?? {}) as Partial<Record<keyof StoredContact, unknown>>
  const wrong = (field: string, expected: string, value: unknown) =>
    refuse('recipient-key-mismatch', `copy: ${field}: expected ${expected}, got ${shown(value)}`)
  if (publicKey === undefined || publicKey === null || publicKey === '')
    return refuse('recipient-key-mismatch', 'copy: publicKey: there is none')
  const known = encryptionSuites.find(name => name === suite)
  if (!known) return wrong('suite', encryptionSuites.join(', '), suite)
  if (typeof publicKey !== 'string' || !/^([0-9a-f]{2}){32,512}$/.test(publicKey))
    return wrong('publicKey', '64 hexadecimal characters or more', publicKey)
  if (typeof height !== 'number' || !Number.isSafeInteger(height) || height < 0)
    return wrong('height', 'a natural number', height)
  return ok({ key: { suite: known, bytes: hexToBytes(publicKey) }, height: Height(height) })
}

/** The same of a topic: of X25519, with its epoch. */
function topicCopyOf(stored: unknown): Result<TopicCopy> {
  const contact = contactOf(stored)
  if (!contact.ok) return contact
  const { epoch } = stored as { readonly epoch?: unknown }
  if (contact.value.key.suite !== 'x25519')
    return refuse('recipient-key-mismatch', `copy: suite: expected x25519, got '${contact.value.key.suite}'`)
  if (typeof epoch !== 'number' || !Number.isSafeInteger(epoch) || epoch < 1 || epoch > 0xffff_ffff)
    return refuse('recipient-key-mismatch', `copy: epoch: expected a number of an epoch, got ${shown(epoch)}`)
  return ok({ ...contact.value, epoch })
}

/** A value from an edited file, short enough for a message. */
function shown(value: unknown): string {
  const text = typeof value === 'string' ? `'${value}'` : JSON.stringify(value)
  return text === undefined ? 'nothing' : text.slice(0, 80)
}
