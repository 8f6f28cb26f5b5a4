/**
 * Gives devices what they should get, in order: at once to who listens, from the mailbox to who was away
 * (docs/decisions/0027-kept-messages.md).
 *
 * Invariants:
 * - a message that is to be kept is on the disk before its sender is told anything, and leaves it when the device says that it has it,
 *   when it may not have it any more, or when its time is over;
 * - while older mail of a device is not sent, newer mail for it goes behind it, whoever sent it;
 * - each message from a mailbox is judged again at the newest head when it is given out; what is refused for good then is dropped,
 *   with a line in the decision log, and what cannot be judged now waits for the next step of the chain;
 * - a device that has not acknowledged `maxUnacknowledged` messages, or `maxUnacknowledgedBytes`, gets no further one from its mailbox, and after a while those again.
 */
import type { DeviceId, Hash } from '../../chain/brands.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import { MoteError, unwrap } from '../../chain/result.ts'
import { deliverableUntil, type Envelope, notKept, parseEnvelope } from '../protocol/envelope.ts'
import { type EpochBoxes, memberBoxes } from '../protocol/epoch-boxes.ts'
import { deliveryTopic, filters, topics } from '../protocol/topics.ts'
import type { TrustView } from '../protocol/trust.ts'
import type { BoxStore } from './boxes.ts'
import { type Broker, type BrokerSession, type MessageAbout, mayPassLater } from './broker.ts'
import type { Mailboxes, WaitingMail } from './mailboxes.ts'
import { type Decision, decideDelivery, errorDecision, type TrustFacts } from './verification.ts'

/** Messages from its mailbox that a device may have to acknowledge at the same time. */
const maxUnacknowledged = 32
/** Bytes of them: beyond that the next one waits, so that a device with a slow link is not cut (outgoing-queues.ts). */
const maxUnacknowledgedBytes = 8 * 1024 * 1024
/** How often mail whose time is over, or that was not acknowledged, is looked for. */
const sweepMs = 60_000
/** A device that has acknowledged nothing for so long gets what it did not acknowledge again: it may have had no room for it. */
const defaultRedeliverMs = 60_000

/** What has happened to a message when its sender is told: given to who listens, or waiting for somebody. */
export type RelayOutcome = 'relayed' | 'kept'

/** A message that is dropped from the mailbox of a device. */
export interface DroppedMail {
  /** Empty if the disk has lost who it was. */
  readonly sender: string
  readonly recipient: DeviceId
  readonly messageId: Hash
  readonly decision: Decision
}

export interface KeptDeliveriesOptions {
  /** Undefined: this gateway keeps nothing. */
  readonly mailboxes: Mailboxes | undefined
  readonly trust: TrustView
  readonly verifier: SignatureVerifier
  readonly trustTtlMs: number
  readonly boxes: BoxStore
  readonly broker: Pick<Broker, 'publish'>
  /** What holds of the ends of an envelope at the newest head. Throws `MoteError` when the chain is out of reach. */
  readonly factsAbout: (envelope: Envelope) => Promise<TrustFacts>
  readonly onDropped: (dropped: DroppedMail) => void
  readonly onError: (error: unknown) => void
  /** In place of `defaultRedeliverMs`. */
  readonly redeliverMs?: number | undefined
}

interface ReadMail {
  readonly wire: Uint8Array
  readonly box: Uint8Array | undefined
  readonly envelope: Envelope
}

/** A device that listens. */
interface Lane {
  readonly sessions: Set<BrokerSession>
  /** Given to who listens now, and not acknowledged, with its bytes. */
  sent: Map<Hash, number>
  /** When it subscribed, acknowledged something or was given something again; of `performance.now()`. */
  heardAt: number
  pumping: Promise<void> | undefined
}

function boxFor(boxes: EpochBoxes, device: DeviceId): Uint8Array | undefined {
  return memberBoxes({ ...boxes, boxes: boxes.boxes.filter(({ member }) => member === device) })[0]?.payload
}

function hasRoom({ sent }: Lane): boolean {
  const bytes = [...sent.values()].reduce((sum, each) => sum + each, 0)
  return sent.size < maxUnacknowledged && bytes < maxUnacknowledgedBytes
}

function newLane(): Lane {
  return { sessions: new Set(), sent: new Map(), heardAt: 0, pumping: undefined }
}

export class KeptDeliveries {
  readonly #options: KeptDeliveriesOptions
  readonly #lanes = new Map<DeviceId, Lane>()
  readonly #deviceOf = new Map<BrokerSession, DeviceId>()
  #sweeping: NodeJS.Timeout | undefined
  #stopped = false

  constructor(options: KeptDeliveriesOptions) {
    this.#options = options
  }

  start(): void {
    const sweep = () => void this.#sweep().catch(this.#options.onError)
    this.#sweeping = setInterval(sweep, Math.min(sweepMs, this.#options.redeliverMs ?? sweepMs))
    this.#sweeping.unref()
    sweep()
  }

  /** Resolves when nothing is under way; what waits stays on the disk. */
  async stop(): Promise<void> {
    this.#stopped = true
    clearInterval(this.#sweeping)
    await Promise.all([...this.#lanes.values()].map(({ pumping }) => pumping))
    await this.#options.mailboxes?.close()
  }

  /** True if this message waits for somebody: it was taken before. */
  has(messageId: Hash): boolean {
    return this.#options.mailboxes?.has(messageId) ?? false
  }

  /** A subscription is granted and not in force yet: from now on newer messages go behind the mail that waits. */
  arriving(handle: BrokerSession, device: DeviceId, topicFilter: string): void {
    if (topicFilter !== filters.toDevice(device)) return
    const lane = this.#lanes.get(device) ?? newLane()
    lane.sessions.add(handle)
    this.#giveAgain(lane)
    this.#lanes.set(device, lane)
    this.#deviceOf.set(handle, device)
  }

  /** The subscription is in force: who listens now gets everything that waits. */
  subscribed(handle: BrokerSession, topicFilter: string): void {
    const device = this.#deviceOf.get(handle)
    const lane = device && this.#lanes.get(device)
    if (!lane || topicFilter !== filters.toDevice(device)) return
    this.#giveAgain(lane)
    void this.#pump(device, lane)
  }

  closed(handle: BrokerSession): void {
    const device = this.#deviceOf.get(handle)
    const lane = device && this.#lanes.get(device)
    this.#deviceOf.delete(handle)
    if (!lane) return
    lane.sessions.delete(handle)
    if (lane.sessions.size === 0) this.#lanes.delete(device)
  }

  /** A device has a message: it leaves its mailbox. Nothing happens for one that does not wait. Throws `storage-failed`. */
  async got(device: DeviceId, messageId: Hash): Promise<void> {
    await this.#options.mailboxes?.remove(device, messageId)
    const lane = this.#lanes.get(device)
    if (!lane) return
    lane.sent.delete(messageId)
    lane.heardAt = performance.now()
    void this.#pump(device, lane)
  }

  /** What could not be judged is tried again. */
  retry(): void {
    for (const [device, lane] of this.#lanes) void this.#pump(device, lane)
  }

  /** Gives a checked envelope to each recipient, or keeps it for them. Throws `mailbox-full`, and nobody gets it; `storage-failed`. */
  async relay(envelope: Envelope, wire: Uint8Array, recipients: readonly DeviceId[]): Promise<RelayOutcome> {
    const { header, messageId } = envelope
    const isKept = header.keepUntil !== notKept
    const prompt = recipients.filter(each => this.#lanes.has(each) && this.#nextFor(each) === undefined)
    const boxes = this.#boxesOf(envelope)
    const toMailbox = isKept ? recipients : recipients.filter(each => this.#hasOlderMail(each))
    if (toMailbox.length > 0)
      unwrap(
        await this.#requireMailboxes().add({
          messageId,
          wire,
          until: isKept ? header.keepUntil : header.expiry,
          isBehind: !isKept,
          recipients: toMailbox.map(device => ({ device, box: boxes && boxFor(boxes, device) })),
        }),
      )
    await Promise.all(
      recipients.map(async recipient => {
        const lane = this.#lanes.get(recipient)
        if (!toMailbox.includes(recipient))
          return this.#options.broker.publish({
            topicName: deliveryTopic(recipient, envelope),
            payload: wire,
            retain: false,
            about: this.#about(envelope),
          })
        const pumped = lane && this.#pump(recipient, lane)
        if (prompt.includes(recipient)) await pumped
      }),
    )
    return toMailbox.every(each => this.#wasSent(each, messageId)) ? 'relayed' : 'kept'
  }

  #about({ header }: Envelope): MessageAbout {
    const lifetimeMs = deliverableUntil(header) - this.#options.trust.now()
    return { contentType: 'application/octet-stream', lifetimeMs }
  }

  #requireMailboxes(): Mailboxes {
    const { mailboxes } = this.#options
    if (!mailboxes) throw new MoteError('mailbox-full', 'gateway: it keeps no messages')
    return mailboxes
  }

  #waiting(device: DeviceId): readonly WaitingMail[] {
    return this.#options.mailboxes?.waiting(device) ?? []
  }

  #hasOlderMail(device: DeviceId): boolean {
    return this.#lanes.has(device) && this.#nextFor(device) !== undefined
  }

  #wasSent(device: DeviceId, messageId: Hash): boolean {
    return (
      this.#lanes.get(device)?.sent.has(messageId) ||
      !this.#waiting(device).some(mail => mail.messageId === messageId)
    )
  }

  /** The oldest mail that was not given to who listens now. */
  #nextFor(device: DeviceId): WaitingMail | undefined {
    const sent = this.#lanes.get(device)?.sent
    return this.#waiting(device).find(({ messageId }) => !sent?.has(messageId))
  }

  /**
   * The boxes with the key of a message to a group or topic: a recipient's is kept for as long as the message waits, since the retained one
   * may be of a newer epoch then. Throws `epoch-mismatch` where they have not come yet: whoever was away could not read it.
   */
  #boxesOf({ header: { target, keepUntil } }: Envelope): EpochBoxes | undefined {
    if (target.type === 'device') return undefined
    const boxes = this.#options.boxes.get(target.id)
    if (boxes?.epoch === target.epoch) return boxes
    if (keepUntil === notKept) return undefined
    const detail = `${target.type} ${target.id}: the boxes of epoch ${target.epoch} have not come yet`
    throw new MoteError('epoch-mismatch', detail)
  }

  #pump(device: DeviceId, lane: Lane): Promise<void> {
    lane.pumping ??= this.#work(device, lane).catch((error: unknown) => {
      lane.pumping = undefined
      this.#options.onError(error)
    })
    return lane.pumping
  }

  async #work(device: DeviceId, lane: Lane): Promise<void> {
    // The caller has to see that this is under way before the first look finds nothing.
    await Promise.resolve()
    for (;;) {
      const mail = this.#nextFor(device)
      const isOver = this.#stopped || this.#lanes.get(device) !== lane
      if (!mail || isOver || !hasRoom(lane) || !(await this.#deliver(mail, lane))) {
        // Nothing is between the last look and this: who adds mail after it begins anew.
        lane.pumping = undefined
        return
      }
    }
  }

  /** False if it cannot be judged now. */
  async #deliver(mail: WaitingMail, lane: Lane): Promise<boolean> {
    const { broker } = this.#options
    const { sent } = lane
    const read = await this.#read(mail)
    if (!read) return true
    const { wire, box, envelope } = read
    const decision = await this.#judge(mail.device, envelope)
    // Another listener of the device may have acknowledged it meanwhile.
    if (!this.#isWaiting(mail)) return true
    if (decision.verdict === 'Error') {
      if (mayPassLater(decision.code)) return false
      await this.#drop(mail, envelope.header.sender, decision)
      return true
    }
    const { target } = envelope.header
    if (box && target.type !== 'device')
      await broker.publish({ topicName: topics.box(target.id, mail.device), payload: box, retain: false })
    if (mail.isBehind) await this.#options.mailboxes?.remove(mail.device, mail.messageId)
    // Before it is published: the acknowledgement may come before `publish` resolves. After a new subscription this set is not the lane's.
    else sent.set(mail.messageId, mail.bytes)
    const topicName = deliveryTopic(mail.device, envelope)
    await broker.publish({ topicName, payload: wire, retain: false, about: this.#about(envelope) })
    return true
  }

  /** Undefined for what does not wait any more, and for what the disk has lost: that is dropped, or it would hold up what comes after it. */
  async #read(mail: WaitingMail): Promise<ReadMail | undefined> {
    try {
      const { wire, box } = await this.#requireMailboxes().read(mail)
      return { wire, box, envelope: unwrap(parseEnvelope(this.#options.trust.chainId, wire)) }
    } catch (error) {
      if (!this.#isWaiting(mail)) return undefined
      if (!(error instanceof MoteError) || error.code === 'storage-failed') throw error
      this.#options.onError(error)
      await this.#drop(mail, '', errorDecision(error))
      return undefined
    }
  }

  #isWaiting(mail: WaitingMail): boolean {
    return this.#waiting(mail.device).includes(mail)
  }

  async #judge(recipient: DeviceId, envelope: Envelope): Promise<Decision> {
    const { trust, trustTtlMs, verifier, factsAbout } = this.#options
    try {
      const facts = await factsAbout(envelope)
      const times = { head: trust.head().time, now: trust.now() }
      return decideDelivery({ envelope, recipient, facts, times, trustTtlMs, verifier })
    } catch (error) {
      if (error instanceof MoteError) return errorDecision(error)
      throw error
    }
  }

  async #drop({ device, messageId }: WaitingMail, sender: string, decision: Decision): Promise<void> {
    if (await this.#options.mailboxes?.remove(device, messageId))
      this.#options.onDropped({ sender, recipient: device, messageId, decision })
  }

  /** From now on all that waits is to be given, whatever was. */
  #giveAgain(lane: Lane): void {
    lane.sent = new Map()
    lane.heardAt = performance.now()
  }

  async #sweep(): Promise<void> {
    const { redeliverMs = defaultRedeliverMs } = this.#options
    for (const [device, lane] of this.#lanes)
      if (lane.sent.size > 0 && performance.now() - lane.heardAt > redeliverMs) {
        this.#giveAgain(lane)
        void this.#pump(device, lane)
      }
    const head = this.#options.trust.head().time
    for (const device of this.#options.mailboxes?.devices ?? [])
      for (const mail of this.#waiting(device).filter(({ until }) => until < head)) {
        const read = await this.#read(mail)
        if (!read) continue
        const detail = `message: nobody took it until ${new Date(mail.until).toISOString()}`
        const decision = errorDecision({ code: 'envelope-expired', detail })
        await this.#drop(mail, read.envelope.header.sender, decision)
      }
  }
}
