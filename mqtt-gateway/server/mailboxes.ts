/**
 * The mail of recipients that are away, on the gateway's disk (docs/decisions/0027-kept-messages.md): what was sent, sealed as it is,
 * and who still has to get it.
 *
 *   mail/<number>                 the envelope, once for all its recipients
 *   waits/<device>/<number>       it waits for this device; with the box of its epoch, if it is for a group
 *
 * Invariants:
 * - `add` and `remove` are one synced write each: a crash leaves all of it or nothing, and no envelope without a recipient;
 * - a number is above every one that waits, so a device's mail is in order after a restart too;
 * - what does not fit is refused to its sender (`mailbox-full`), nothing that was taken is pushed out before its time.
 *
 * It neither judges nor sends (kept-deliveries.ts).
 */
import type { DeviceId, Hash, Milliseconds } from '../../chain/brands.ts'
import {
  boolean,
  bytes,
  constant,
  decode,
  digest,
  encode,
  optional,
  struct,
  uint,
} from '../../chain/codec.ts'
import { MoteError, ok, type Result, refuse } from '../../chain/result.ts'
import { MessageStore, type StoreChange } from '../../client/message-store.ts'
import { maxEnvelopeBytes } from '../protocol/envelope.ts'
import { maxMemberBoxBytes } from '../protocol/epoch-boxes.ts'

export interface MailboxLimits {
  /** Messages that wait for one device. */
  readonly messagesPerDevice: number
  /** Bytes of their envelopes. */
  readonly bytesPerDevice: number
  /** Messages that wait, once for each recipient. */
  readonly messagesInAll: number
  /** Bytes of all envelopes, once for each. */
  readonly bytesInAll: number
}

export const defaultMailboxLimits: MailboxLimits = {
  messagesPerDevice: 1_000,
  // A message of 16 MiB in its chunks, and others.
  bytesPerDevice: 32 * 1024 * 1024,
  messagesInAll: 50_000,
  bytesInAll: 512 * 1024 * 1024,
}

/** A message that waits for one device. */
export interface WaitingMail {
  readonly device: DeviceId
  readonly number: number
  readonly messageId: Hash
  readonly until: Milliseconds
  readonly bytes: number
  /** Its sender did not ask to keep it: it came while older mail waited, and leaves when it has been sent. */
  readonly isBehind: boolean
}

export interface NewMail {
  readonly messageId: Hash
  readonly wire: Uint8Array
  readonly until: Milliseconds
  readonly isBehind: boolean
  readonly recipients: readonly { readonly device: DeviceId; readonly box: Uint8Array | undefined }[]
}

const formatVersion = 1 as const

interface StoredWaiting {
  readonly version: typeof formatVersion
  readonly messageId: Hash
  readonly until: Milliseconds
  readonly bytes: number
  readonly isBehind: boolean
  readonly box: Uint8Array | undefined
}

const waitingCodec = struct<StoredWaiting>({
  version: constant(formatVersion),
  messageId: digest<Hash>(),
  until: uint<Milliseconds>(),
  bytes: uint(maxEnvelopeBytes),
  isBehind: boolean,
  box: optional(bytes(1, maxMemberBoxBytes)),
})
/** Largest encoded `StoredWaiting`, in bytes. */
const maxWaitingRecordBytes = 2048

/** What waits for one device, in order, and how much that is with what is being written. */
interface Box {
  readonly mail: WaitingMail[]
  messages: number
  bytes: number
}

export class Mailboxes {
  readonly #store: MessageStore
  readonly #limits: MailboxLimits
  readonly #boxes = new Map<DeviceId, Box>()
  /** For how many devices each envelope waits. */
  readonly #recipients = new Map<number, number>()
  /** The same by message id. */
  readonly #ids = new Map<Hash, number>()
  #next = 1
  #messages = 0
  #bytes = 0

  private constructor(store: MessageStore, limits: MailboxLimits) {
    this.#store = store
    this.#limits = limits
  }

  /** What waited when the gateway ended. Throws `in-use`, `storage-corrupt`, `storage-failed`. */
  static async open(directory: string, limits: MailboxLimits = defaultMailboxLimits): Promise<Mailboxes> {
    const store = await MessageStore.open(directory)
    try {
      const boxes = new Mailboxes(store, limits)
      await boxes.#load()
      return boxes
    } catch (error) {
      await store.close()
      throw error
    }
  }

  /** Messages that wait, once for each recipient, and bytes of their envelopes. */
  get size(): { readonly messages: number; readonly bytes: number } {
    return { messages: this.#messages, bytes: this.#bytes }
  }

  /** The devices that mail waits for. */
  get devices(): readonly DeviceId[] {
    return [...this.#boxes.keys()]
  }

  /** True while this message waits for anybody. */
  has(messageId: Hash): boolean {
    return this.#ids.has(messageId)
  }

  /** What waits for a device, the oldest first. */
  waiting(device: DeviceId): readonly WaitingMail[] {
    return this.#boxes.get(device)?.mail ?? []
  }

  /**
   * Takes a message for all its recipients, or for none; it is on the disk when the promise resolves. Refuses `mailbox-full`. Throws
   * `storage-failed`.
   */
  async add(mail: NewMail): Promise<Result<void>> {
    const { wire, recipients } = mail
    const room = this.#checkRoom(mail)
    if (!room.ok) return room
    const number = this.#next
    this.#next += 1
    for (const { device } of recipients) this.#count(device, 1, wire.length)
    this.#bytes += wire.length
    try {
      await this.#store.write(changesOf(number, mail))
    } catch (error) {
      for (const { device } of recipients) this.#count(device, -1, -wire.length)
      this.#bytes -= wire.length
      throw error
    }
    const { messageId, until, isBehind } = mail
    for (const { device } of recipients)
      this.#index({ device, number, messageId, until, bytes: wire.length, isBehind })
    return ok(undefined)
  }

  /** The envelope, and the box of its epoch. Throws `storage-corrupt`, `storage-failed`. */
  async read(
    mail: WaitingMail,
  ): Promise<{ readonly wire: Uint8Array; readonly box: Uint8Array | undefined }> {
    const [wire, waiting] = await Promise.all([
      this.#store.get(mailKey(mail.number)),
      this.#store.get(waitingKey(mail)),
    ])
    if (!wire) throw corrupt(mailKey(mail.number), 'it is gone')
    return { wire, box: storedWaiting(waitingKey(mail), waiting).box }
  }

  /** A device has it, or will never get it: gone from the disk when the promise resolves. False if it did not wait. Throws `storage-failed`. */
  async remove(device: DeviceId, messageId: Hash): Promise<boolean> {
    const box = this.#boxes.get(device)
    const at = box?.mail.findIndex(mail => mail.messageId === messageId) ?? -1
    const [mail] = at < 0 ? [] : (box?.mail.splice(at, 1) ?? [])
    if (!mail) return false
    const others = (this.#recipients.get(mail.number) ?? 1) - 1
    const changes: StoreChange[] = [{ key: waitingKey(mail), value: undefined }]
    this.#count(device, -1, -mail.bytes)
    if (others > 0) this.#recipients.set(mail.number, others)
    else {
      this.#recipients.delete(mail.number)
      this.#ids.delete(messageId)
      this.#bytes -= mail.bytes
      changes.push({ key: mailKey(mail.number), value: undefined })
    }
    await this.#store.write(changes)
    return true
  }

  close(): Promise<void> {
    return this.#store.close()
  }

  #checkRoom({ wire, recipients }: NewMail): Result<void> {
    const { messagesPerDevice, bytesPerDevice, messagesInAll, bytesInAll } = this.#limits
    const full = (what: string) => refuse('mailbox-full', what)
    if (this.#messages + recipients.length > messagesInAll)
      return full(`gateway: expected at most ${messagesInAll} messages that wait`)
    if (this.#bytes + wire.length > bytesInAll)
      return full(`gateway: expected at most ${bytesInAll} bytes that wait`)
    for (const { device } of recipients) {
      const { messages, bytes } = this.#boxes.get(device) ?? { messages: 0, bytes: 0 }
      if (messages >= messagesPerDevice)
        return full(`recipient ${device}: expected at most ${messagesPerDevice} messages that wait`)
      if (bytes + wire.length > bytesPerDevice)
        return full(`recipient ${device}: expected at most ${bytesPerDevice} bytes that wait`)
    }
    return ok(undefined)
  }

  #count(device: DeviceId, messages: number, bytes: number): void {
    const box = this.#boxes.get(device) ?? { mail: [], messages: 0, bytes: 0 }
    box.messages += messages
    box.bytes += bytes
    this.#messages += messages
    if (box.messages > 0) this.#boxes.set(device, box)
    else this.#boxes.delete(device)
  }

  #index(mail: WaitingMail): void {
    const box = this.#boxes.get(mail.device)
    // Writes that are under way together may end in any order.
    const after = box?.mail.findLastIndex(({ number }) => number < mail.number) ?? -1
    box?.mail.splice(after + 1, 0, mail)
    this.#recipients.set(mail.number, (this.#recipients.get(mail.number) ?? 0) + 1)
    this.#ids.set(mail.messageId, mail.number)
  }

  async #load(): Promise<void> {
    for (const [name, value] of await this.#store.all(waitingPrefix)) {
      const [device, digits] = name.split('/')
      const number = Number(digits)
      const { messageId, until, bytes, isBehind } = storedWaiting(`${waitingPrefix}${name}`, value)
      const mail = { device: device as DeviceId, number, messageId, until, bytes, isBehind }
      this.#count(mail.device, 1, bytes)
      if (!this.#recipients.has(number)) this.#bytes += bytes
      this.#index(mail)
      this.#next = Math.max(this.#next, number + 1)
    }
  }
}

const waitingPrefix = 'waits/'

function mailKey(number: number): string {
  return `mail/${String(number).padStart(16, '0')}`
}

function waitingKey({ device, number }: Pick<WaitingMail, 'device' | 'number'>): string {
  return `${waitingPrefix}${device}/${String(number).padStart(16, '0')}`
}

function changesOf(number: number, { messageId, wire, until, isBehind, recipients }: NewMail): StoreChange[] {
  const fields = { version: formatVersion, messageId, until, bytes: wire.length, isBehind }
  return [
    { key: mailKey(number), value: wire },
    ...recipients.map(({ device, box }) => ({
      key: waitingKey({ device, number }),
      value: encode(waitingCodec, { ...fields, box }),
    })),
  ]
}

function storedWaiting(key: string, value: Uint8Array | undefined): StoredWaiting {
  const read = value && decode(waitingCodec, value, maxWaitingRecordBytes)
  if (read?.ok) return read.value
  throw corrupt(key, read ? read.error.detail : 'it is gone')
}

function corrupt(key: string, detail: string): MoteError {
  return new MoteError('storage-corrupt', `mailboxes: ${key}: ${detail}`)
}
