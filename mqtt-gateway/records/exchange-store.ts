/**
 * Which message became which transaction, on the disk: by exchange of MQTT, so that a repeat is recognised after a crash, and by what the
 * device calls the message, so that it is recognised in another session.
 *
 * Invariants
 * 1. A client has one incarnation at a time, and exchanges of that one only.
 * 2. A tie is on the disk before its transaction goes anywhere. How that ended may be written later: the chain says it again.
 * 3. Bounded: what has ended is forgotten, the oldest first. What is open is bounded by who takes it in (durable-recorder.ts).
 * 4. What is open is on the disk until it has ended, also when nobody can repeat its exchange any more: whoever sent it may rely on it.
 * 5. After a write that failed nothing new is taken before the disk has what it lacks (owed-writes.ts).
 *
 * Keys: `session/` and the hash of the client; `exchange/`, the same and the packet identifier; `message/`, the device and the hash of the
 * message id; `open/` and the id of a transaction, for what no exchange and no message id finds. The hashes make names of any text, of one length.
 */
import { randomBytes } from 'node:crypto'
import type { DeviceId, Milliseconds, TransactionId } from '../../chain/brands.ts'
import { bytesToHex } from '../../chain/hex.ts'
import { MoteError } from '../../chain/result.ts'
import type { ParsedTransaction } from '../../chain/transaction.ts'
import type { MessageStore, StoreChange } from '../../client/message-store.ts'
import { OwedWrites } from './owed-writes.ts'
import type { Exchange, Incarnation, RecordOutcome, SessionStart } from './recorder.ts'
import {
  changeOf,
  endedFirst,
  endOf,
  exchangeKey,
  gone,
  messageKey,
  nameHash,
  type OpenRecord,
  openPrefix,
  ownerCharacters,
  readSession,
  readTie,
  type SessionTies,
  sessionChange,
  type Tie,
} from './ties.ts'

export interface NamedMessage {
  readonly device: DeviceId
  readonly messageId: string
  /** 32 bytes. */
  readonly digest: Uint8Array
}

/** By what a message is found again. */
interface MessageNames {
  readonly exchange?: Exchange | undefined
  readonly message?: NamedMessage | undefined
}

/** Sessions that are known at a time; of those in which nothing is open the one not seen for longest is forgotten. */
export const maxSessions = 65_536
/** The same of clients whose names begin with one device's id. */
export const maxSessionsPerOwner = 64
/** A session that is not seen for so long is forgotten. */
export const sessionMs = 7 * 86_400_000
/** Exchanges of one session, those that have ended and may be repeated among them. */
export const maxExchangesPerSession = 2_048
/** The same of all sessions. */
export const maxExchanges = 262_144
/** Messages with an id that are recognised in other sessions. */
export const maxNamedMessages = 65_536
/** And for how long. */
export const namedMessageMs = 86_400_000
/** A session that is used is written again this often. */
const seenEveryMs = 60_000
/** A seventh more is forgotten than has to be, so that it is seldom done. */
const spared = 7 / 8

/** Of all clients together. */
const defaultLimits = { sessions: maxSessions, exchanges: maxExchanges, namedMessages: maxNamedMessages }
type ExchangeLimits = Readonly<typeof defaultLimits>

export class ExchangeStore {
  readonly #store: MessageStore
  readonly #disk: OwedWrites
  readonly #now: () => Milliseconds
  readonly #limits: ExchangeLimits
  /** By hash of the client; in the order in which they were seen. */
  readonly #sessions = new Map<string, SessionTies>()
  readonly #owners = new Map<string, Set<SessionTies>>()
  /** What each had at its last `passed`. */
  readonly #earlier = new WeakMap<SessionTies, ReadonlyMap<number, Tie>>()
  /** Of all sessions. */
  #exchanges = 0
  /** By key, the oldest first. */
  readonly #messages = new Map<string, Tie>()

  private constructor(store: MessageStore, now: () => Milliseconds, limits: ExchangeLimits) {
    this.#store = store
    this.#disk = new OwedWrites(store)
    this.#now = now
    this.#limits = limits
  }

  /** As it was left, and what is open in it. Throws `storage-corrupt`, `storage-failed`. */
  static async open(
    store: MessageStore,
    now: () => Milliseconds,
    limits: ExchangeLimits = defaultLimits,
  ): Promise<{ readonly exchanges: ExchangeStore; readonly open: readonly OpenRecord[] }> {
    const exchanges = new ExchangeStore(store, now, limits)
    return { exchanges, open: await exchanges.#load() }
  }

  /** Session Present, and which life of the session it is, on the disk. */
  async incarnationOf(client: string, start: SessionStart): Promise<Incarnation> {
    this.#disk.mustOweNothing()
    const hash = nameHash(client)
    const session = this.#sessions.get(hash)
    const isOver = session && session.seenAt + sessionMs < this.#now()
    if (session && start === 'kept' && !session.isClean && !isOver) {
      await this.#disk.write([this.#seen(session)])
      return { incarnation: session.incarnation, isPresent: true }
    }
    const gone = session ? this.#forgetSession(session) : []
    const incarnation = randomBytes(8).toString('hex')
    const owner = client.slice(0, ownerCharacters)
    const isClean = start === 'clean'
    const next = { hash, owner, incarnation, isClean, seenAt: this.#now(), ties: new Map() }
    const room = [...this.#makeRoomFor(owner), ...this.#makeRoomForSessions()]
    this.#add(next)
    await this.#disk.write([...gone, ...room, this.#seen(next)])
    return { incarnation, isPresent: false }
  }

  /** What the exchange was tied to, if it is a repeat. Throws `interrupted` when the session has ended. */
  find({ client, incarnation, packetIdentifier, qos, isRepeat, digest }: Exchange): Tie | undefined {
    const tie = this.#sessionOf(client, incarnation).ties.get(packetIdentifier)
    // QoS 1: a PUBLISH without DUP is another message (MQTT 3.1.1, 4.3.2). QoS 2: until PUBREL it is the same one (4.3.3).
    const mayRepeat = qos === 2 || isRepeat
    return mayRepeat && tie?.qos === qos && tie.digest === bytesToHex(digest) ? tie : undefined
  }

  findMessage({ device, messageId }: Pick<NamedMessage, 'device' | 'messageId'>): Tie | undefined {
    const tie = this.#messages.get(messageKey(device, messageId))
    return tie && (tie.open || tie.at + namedMessageMs > this.#now()) ? tie : undefined
  }

  /** Ties a message, on the disk when it resolves. What its packet identifier was tied to before is forgotten. Throws `storage-failed`. */
  async tie(open: OpenRecord, { exchange, message }: MessageNames): Promise<void> {
    this.#disk.mustOweNothing()
    const changes: StoreChange[] = []
    const at = this.#now()
    if (exchange) {
      const { client, incarnation, packetIdentifier, qos, digest } = exchange
      const session = this.#sessionOf(client, incarnation)
      if (session.seenAt + seenEveryMs < at) changes.push(this.#seen(session))
      const key = exchangeKey(session, packetIdentifier)
      const place = { session, packetIdentifier }
      const tie = { key, digest: bytesToHex(digest), qos, at, open, place }
      changes.push(...this.#forgetExchange(session, packetIdentifier))
      session.ties.set(packetIdentifier, tie)
      this.#exchanges++
      changes.push(...this.#makeRoomIn(session), ...this.#makeRoomForExchanges(), this.#opened(open, tie))
    }
    if (message) {
      const key = messageKey(message.device, message.messageId)
      const tie = { key, digest: bytesToHex(message.digest), qos: 0 as const, at, open, place: undefined }
      this.#messages.delete(key)
      changes.push(...this.#makeRoomForMessages())
      this.#messages.set(key, tie)
      changes.push(this.#opened(open, tie))
    }
    if (changes.length > 0) await this.#disk.write(changes)
  }

  /** The message has another transaction now. Throws `storage-failed`. */
  async replace(open: OpenRecord, transaction: ParsedTransaction): Promise<void> {
    const written = new Set<Tie>()
    // A session may end while it is written, and its tie give way to another one.
    for (let rest = [...open.ties]; rest.length > 0; rest = [...open.ties].filter(tie => !written.has(tie))) {
      await this.#disk.write(rest.map(tie => changeOf(tie, transaction)))
      for (const tie of rest) written.add(tie)
    }
    open.transaction = transaction
  }

  /** How it ended, on the disk when it resolves, in all ties of now; one that comes meanwhile stays. Throws `storage-failed`. */
  async end(open: OpenRecord, outcome: RecordOutcome): Promise<void> {
    const ties = [...open.ties]
    if (ties.length > 0) await this.#disk.write(ties.map(tie => endOf(tie, outcome)))
    for (const tie of ties) {
      tie.open = undefined
      open.ties.delete(tie)
    }
  }

  /** It did not come to anything: as if it had never been tied. Throws `storage-failed`. */
  async untie(open: OpenRecord): Promise<void> {
    const changes = [...open.ties].flatMap(({ key, place }) => {
      if (place) return this.#removeExchange(place.session, place.packetIdentifier)
      this.#messages.delete(key)
      return [gone(key)]
    })
    open.ties.clear()
    if (changes.length > 0) await this.#disk.write(changes)
  }

  /** How a message ended that is open no more. Throws `storage-failed`, `storage-corrupt`. */
  async outcomeOf({ key }: Tie): Promise<RecordOutcome | undefined> {
    const value = await this.#store.get(key)
    const state = value && readTie(key, value).state
    return state && 'type' in state ? state : undefined
  }

  /** PUBREL: the exchange is over. Throws `storage-failed`. */
  async released(client: string, packetIdentifier: number): Promise<void> {
    this.#disk.mustOweNothing()
    const session = this.#sessions.get(nameHash(client))
    if (session?.ties.get(packetIdentifier)?.qos !== 2) return
    await this.#disk.write(this.#forgetExchange(session, packetIdentifier))
  }

  /** Forgets the exchanges of a session that were there the last time already. Throws `storage-failed`. */
  async passed(client: string): Promise<void> {
    this.#disk.mustOweNothing()
    const session = this.#sessions.get(nameHash(client))
    if (!session) return
    const changes = [...(this.#earlier.get(session) ?? [])].flatMap(([identifier, tie]) =>
      session.ties.get(identifier) === tie ? this.#forgetExchange(session, identifier) : [],
    )
    this.#earlier.set(session, new Map(session.ties))
    if (changes.length > 0) await this.#disk.write(changes)
  }

  /** Forgets sessions and names whose time is over. Throws `storage-failed`. */
  async expire(): Promise<void> {
    this.#disk.mustOweNothing()
    const now = this.#now()
    const changes: StoreChange[] = []
    for (const session of [...this.#sessions.values()])
      if (session.seenAt + sessionMs < now) changes.push(...this.#forgetSession(session))
    for (const [key, { open, at }] of this.#messages)
      if (!open && at + namedMessageMs < now) {
        this.#messages.delete(key)
        changes.push(gone(key))
      }
    if (changes.length > 0) await this.#disk.write(changes)
  }

  #sessionOf(client: string, incarnation: string): SessionTies {
    const session = this.#sessions.get(nameHash(client))
    if (session?.incarnation === incarnation) return session
    throw new MoteError('interrupted', `session of ${client.slice(0, 100)}: another one has begun`)
  }

  #add(session: SessionTies): void {
    this.#sessions.set(session.hash, session)
    const siblings = this.#owners.get(session.owner) ?? new Set()
    this.#owners.set(session.owner, siblings.add(session))
  }

  /** As the one seen last. */
  #seen(session: SessionTies): StoreChange {
    session.seenAt = this.#now()
    this.#sessions.delete(session.hash)
    this.#sessions.set(session.hash, session)
    return sessionChange(session)
  }

  #opened(open: OpenRecord, tie: Tie): StoreChange {
    open.ties.add(tie)
    return changeOf(tie, open.transaction)
  }

  #forgetSession(session: SessionTies): readonly StoreChange[] {
    this.#sessions.delete(session.hash)
    const siblings = this.#owners.get(session.owner)
    siblings?.delete(session)
    if (siblings?.size === 0) this.#owners.delete(session.owner)
    const ties = [...session.ties.keys()].flatMap(identifier => this.#forgetExchange(session, identifier))
    return [gone(`session/${session.hash}`), ...ties]
  }

  /** A transaction that is open goes on, and stays on the disk where no exchange finds it. */
  #forgetExchange(session: SessionTies, packetIdentifier: number): readonly StoreChange[] {
    const tie = session.ties.get(packetIdentifier)
    const removed = this.#removeExchange(session, packetIdentifier)
    if (!tie?.open || tie.open.ties.size > 0) return removed
    const key = `${openPrefix}${tie.open.transaction.id}`
    return [...removed, this.#opened(tie.open, { ...tie, key, place: undefined })]
  }

  #removeExchange(session: SessionTies, packetIdentifier: number): readonly StoreChange[] {
    const tie = session.ties.get(packetIdentifier)
    if (!tie) return []
    tie.open?.ties.delete(tie)
    session.ties.delete(packetIdentifier)
    this.#exchanges--
    return [gone(tie.key)]
  }

  #makeRoomFor(owner: string): readonly StoreChange[] {
    const siblings = [...(this.#owners.get(owner) ?? [])]
    if (siblings.length < maxSessionsPerOwner) return []
    const [oldest] = endedFirst(siblings.toSorted((a, b) => a.seenAt - b.seenAt))
    return oldest ? this.#forgetSession(oldest) : []
  }

  #makeRoomForSessions(): readonly StoreChange[] {
    const { sessions } = this.#limits
    if (this.#sessions.size < sessions) return []
    const count = this.#sessions.size - Math.floor(spared * sessions)
    const oldest = endedFirst([...this.#sessions.values()]).slice(0, count)
    return oldest.flatMap(session => this.#forgetSession(session))
  }

  #makeRoomIn(session: SessionTies): readonly StoreChange[] {
    if (session.ties.size <= maxExchangesPerSession) return []
    return this.#forgetEnded(session, session.ties.size - Math.floor(spared * maxExchangesPerSession))
  }

  #makeRoomForExchanges(): readonly StoreChange[] {
    const { exchanges } = this.#limits
    if (this.#exchanges <= exchanges) return []
    const changes: StoreChange[] = []
    for (const session of this.#sessions.values()) {
      const surplus = this.#exchanges - Math.floor(spared * exchanges)
      if (surplus <= 0) break
      changes.push(...this.#forgetEnded(session, surplus))
    }
    return changes
  }

  /** The oldest that have ended, at most so many. */
  #forgetEnded(session: SessionTies, count: number): readonly StoreChange[] {
    const ended = [...session.ties].filter(([, { open }]) => !open).slice(0, count)
    return ended.flatMap(([packetIdentifier]) => this.#forgetExchange(session, packetIdentifier))
  }

  #makeRoomForMessages(): readonly StoreChange[] {
    const { namedMessages } = this.#limits
    if (this.#messages.size < namedMessages) return []
    const surplus = this.#messages.size - Math.floor(spared * namedMessages)
    const ended = [...this.#messages].filter(([, { open }]) => !open).slice(0, surplus)
    return ended.map(([key]) => {
      this.#messages.delete(key)
      return gone(key)
    })
  }

  async #load(): Promise<readonly OpenRecord[]> {
    const sessions = (await this.#store.all('session/')).map(stored => readSession(...stored))
    for (const session of sessions.toSorted((a, b) => a.seenAt - b.seenAt)) this.#add(session)
    const byTransaction = new Map<TransactionId, OpenRecord>()
    const exchanges = await this.#loadTies('exchange/', byTransaction)
    for (const tie of exchanges) {
      tie.place?.session.ties.set(tie.place.packetIdentifier, tie)
      this.#exchanges++
    }
    for (const tie of await this.#loadTies('message/', byTransaction)) this.#messages.set(tie.key, tie)
    await this.#loadTies(openPrefix, byTransaction)
    await this.#forgetClean()
    await this.expire()
    return [...byTransaction.values()]
  }

  /** A clean session ended with the process that had its connection: what is open in it goes on, and nobody repeats anything. */
  async #forgetClean(): Promise<void> {
    const changes = [...this.#sessions.values()]
      .filter(({ isClean }) => isClean)
      .flatMap(session => {
        const ended = this.#forgetEnded(session, session.ties.size)
        return session.ties.size > 0 ? ended : [...ended, ...this.#forgetSession(session)]
      })
    if (changes.length > 0) await this.#disk.write(changes)
  }

  /** The oldest first. */
  async #loadTies(prefix: string, byTransaction: Map<TransactionId, OpenRecord>): Promise<readonly Tie[]> {
    const ties = (await this.#store.all(prefix)).map(([name, value]) => {
      const key = `${prefix}${name}`
      const { tie: read, state } = readTie(key, value)
      const place = prefix === 'exchange/' ? this.#placeOf(name) : undefined
      const tie: Tie = { ...read, open: undefined, place }
      if ('bytes' in state) {
        const open = byTransaction.get(state.id) ?? { transaction: state, ties: new Set() }
        byTransaction.set(state.id, open)
        open.ties.add(tie)
        tie.open = open
      }
      return tie
    })
    return ties.toSorted((a, b) => a.at - b.at)
  }

  /** A session and its exchanges come and go in one write. */
  #placeOf(name: string): Tie['place'] {
    const [hash = '', identifier = ''] = name.split('/')
    const session = this.#sessions.get(hash)
    if (session) return { session, packetIdentifier: Number.parseInt(identifier, 16) }
    throw new MoteError('storage-corrupt', `records: exchange/${name}: its session is gone`)
  }
}
