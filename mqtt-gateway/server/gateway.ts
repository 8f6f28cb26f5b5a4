/**
 * The gateway: takes what devices publish, has it ruled on (rulings.ts), and tells the sender and the decision log
 * (docs/ARCHITECTURE.md, "Life of a message").
 *
 * Invariants:
 * - one device's messages are decided and relayed in the order in which they came (the broker port's contract);
 * - every refusal goes to the sender's `error` topic, every decision to its `verdict` topic and to the decision log, where
 *   connections that are refused alike share a line; a refusal for good is acknowledged, one that may pass later is not;
 * - it holds no key of any device and no epoch key.
 */
import { type Refusal, type Result, refusalOf } from '../../chain/result.ts'
import type { DecisionLog } from '../protocol/decision-log.ts'
import { isBoxFilter, parsePublishedTopic, printableTopic, topics } from '../protocol/topics.ts'
import type { TrustAdvance } from '../protocol/trust.ts'
import { Access } from './access.ts'
import { answerTo, answerTopic } from './answers.ts'
import {
  type Broker,
  type BrokerFactory,
  type BrokerSession,
  type IncomingMessage,
  type Listening,
  type Login,
  type MessageAbout,
  mayPassLater,
  type OutgoingMessage,
  type PublishAnswer,
  type PublishOutcome,
  type SubscribeOutcome,
} from './broker.ts'
import type { DroppedMail } from './kept-deliveries.ts'
import { RefusedConnects } from './refused-connects.ts'
import { RetainedBoxes } from './retained-boxes.ts'
import type { Ruling } from './ruling.ts'
import { Rulings, type RulingsOptions } from './rulings.ts'
import { type CutSession, type Session, Sessions } from './sessions.ts'
import { type Decision, errorDecision } from './verification.ts'
import { type ResultLine, Votes } from './votes.ts'
import { Watches } from './watches.ts'

/** How often the refused connections that have no line of their own get one together. */
const refusedSummaryMs = 300_000

export interface GatewayOptions extends RulingsOptions {
  readonly broker: BrokerFactory
  readonly log: DecisionLog
  readonly refusedSummaryMs?: number
}

export interface GatewayStatus {
  readonly height: number
  readonly ageMs: number
  /** False while every message would be refused as stale. */
  readonly fresh: boolean
  readonly sessions: number
  readonly checked: number
  readonly refused: number
}

export class Gateway {
  readonly #options: GatewayOptions
  readonly #broker: Broker
  readonly #sessions: Sessions
  readonly #access: Access
  readonly #refusedConnects = new RefusedConnects()
  readonly #rulings: Rulings
  readonly #votes: Votes
  readonly #watches: Watches
  readonly #boxes: RetainedBoxes
  #summarising: NodeJS.Timeout | undefined
  #stopFollowing = () => {}
  #checked = 0
  #refused = 0

  constructor(options: GatewayOptions) {
    this.#options = options
    this.#sessions = new Sessions(options)
    this.#access = new Access(options.trust, options.records?.plain)
    this.#broker = options.broker({
      authenticate: login => this.#authenticate(login),
      published: (handle, message) => this.#published(handle, message),
      released: async (client, packetIdentifier) =>
        options.records?.recorder.released(client, packetIdentifier),
      passed: async client => options.records?.recorder.passed(client),
      incarnationOf: async (client, start) =>
        (await options.records?.recorder.incarnationOf(client, start))?.incarnation ?? '',
      will: (handle, message) => this.#willFired(handle as Session, message),
      subscribed: (handle, topicFilter) => this.#rulings.deliveries.subscribed(handle, topicFilter),
      maySubscribe: (handle, topicFilter) => this.#judgeSubscription(handle, topicFilter),
      mayReceive: (handle, topicName) => this.#mayReceive(handle, topicName),
      turnedAway: (login, refusal) => this.#logConnect(login, errorDecision(refusal)),
      cut: (handle, refusal) => this.#logCutBy(handle, refusal),
      closed: handle => this.#closed(handle),
    })
    const { trust, trustTtlMs, onError } = options
    this.#votes = new Votes({
      trust,
      trustTtlMs,
      broker: this.#broker,
      connected: () => this.#sessions.devices(),
      log: line => this.#logResult(line),
      onError,
    })
    this.#watches = new Watches(trust, this.#broker)
    this.#boxes = new RetainedBoxes(trust, options.boxes, this.#broker)
    this.#rulings = new Rulings(options, this.#broker, this.#votes, this.#watches, this.#boxes, dropped =>
      this.#logDropped(dropped),
    )
  }

  /** Opens the MQTT port, and has the retained boxes in place; a subscription to boxes waits for that. */
  async start(): Promise<Listening> {
    const address = await this.#broker.listen()
    await this.#boxes.settled()
    this.#rulings.deliveries.start()
    this.#summarising = setInterval(
      () => this.#summariseRefusedConnects(),
      this.#options.refusedSummaryMs ?? refusedSummaryMs,
    )
    this.#stopFollowing = this.#options.trust.onAdvance(advance => {
      this.#review(advance).catch(this.#options.onError)
    })
    return address
  }

  status(): GatewayStatus {
    const { trust, trustTtlMs } = this.#options
    const ageMs = this.#ageMs()
    return {
      height: trust.head().height,
      ageMs,
      fresh: ageMs <= trustTtlMs,
      sessions: this.#sessions.count,
      checked: this.#checked,
      refused: this.#refused,
    }
  }

  /** Publishes what a contract decided. Resolves when the broker has it. Throws `unreachable` where that is elsewhere. */
  publishDecision(decision: Pick<OutgoingMessage, 'topicName' | 'payload' | 'qos'>): Promise<void> {
    const about = { contentType: 'application/json' }
    return this.#broker.publish({ ...decision, retain: false, about })
  }

  async stop(): Promise<void> {
    this.#stopFollowing()
    clearInterval(this.#summarising)
    this.#votes.stop()
    await this.#broker.close()
    await this.#rulings.deliveries.stop()
    this.#summariseRefusedConnects()
    await this.#options.log.close()
  }

  #ageMs(): number {
    return this.#options.trust.ageMs()
  }

  async #authenticate(login: Login): Promise<Result<Session>> {
    const opened = await this.#sessions.open(login)
    this.#logConnect(login, opened.ok ? { verdict: 'Check' } : errorDecision(opened.error))
    return opened
  }

  #logConnect({ clientId, username, address }: Login, decision: Decision): void {
    this.#count(decision)
    if (decision.verdict === 'Check' || this.#refusedConnects.count(address, decision.code))
      this.#write((username || clientId).slice(0, 64), null, connectRuling(decision), address)
  }

  #summariseRefusedConnects(): void {
    for (const { address, code, more } of this.#refusedConnects.take()) {
      const detail = `connections: ${more} more were refused like the first one`
      this.#write('', null, connectRuling(errorDecision({ code, detail })), address)
    }
  }

  #mayReceive(handle: BrokerSession, topicName: string): boolean {
    const session = this.#sessions.find(handle)
    return session !== undefined && this.#access.mayReceive(session, topicName)
  }

  /** A refusal has a line in the decision log, and so has what was granted by right. */
  async #judgeSubscription(handle: BrokerSession, topicFilter: string): Promise<SubscribeOutcome> {
    const session = this.#sessions.find(handle)
    if (!session) return 'close'
    const judged = await this.#access
      .judgeSubscription(session, topicFilter)
      .catch((error: unknown) => ({ ok: false, error: refusalOf(error) }) as const)
    if (judged.ok && judged.value === 'own') {
      if (isBoxFilter(topicFilter) && !(await this.#boxesSettled())) return 'close'
      this.#rulings.deliveries.arriving(session, session.device, topicFilter)
      return 'grant'
    }
    const decision: Decision = judged.ok ? { verdict: 'Check' } : errorDecision(judged.error)
    this.#log(session.device, topicFilter, { event: 'subscribe', id: null, recipient: null, decision })
    if (judged.ok) return 'grant'
    return mayPassLater(judged.error.code) ? 'close' : 'refuse'
  }

  #boxesSettled(): Promise<boolean> {
    return this.#boxes.settled().catch((error: unknown) => {
      this.#options.onError(error)
      return false
    })
  }

  #closed(handle: BrokerSession): void {
    this.#access.close(handle)
    this.#rulings.deliveries.closed(handle)
    this.#watches.close(handle)
    this.#sessions.close(handle)
  }

  async #published(handle: BrokerSession, message: IncomingMessage): Promise<PublishAnswer> {
    const session = this.#sessions.find(handle)
    if (!session) return 'close'
    const topic = parsePublishedTopic(message.topicName)
    const ruling = await this.#rulings.rule(session, topic, message)
    if (!('later' in ruling)) return this.#conclude(session, message, ruling)
    const { kept, later } = ruling
    return { kept, later: later.then(known => this.#conclude(session, message, known)) }
  }

  /** Judged as if its device published it now: also whether what the session stood on still holds. */
  async #willFired(session: Session, message: IncomingMessage): Promise<void> {
    const standing = await this.#sessions.stillStands(session)
    const ruling: Ruling = standing.ok
      ? await this.#ruleOnWill(session, message)
      : { event: 'message', id: null, recipient: null, decision: errorDecision(standing.error) }
    await this.#conclude(session, message, { ...ruling, isWill: true })
  }

  async #ruleOnWill(session: Session, message: IncomingMessage): Promise<Ruling> {
    const ruling = await this.#rulings.rule(session, parsePublishedTopic(message.topicName), message)
    return 'later' in ruling ? ruling.later : ruling
  }

  async #conclude(
    { device }: Session,
    { topicName, reply }: IncomingMessage,
    ruling: Ruling,
  ): Promise<PublishOutcome> {
    const { decision, event, record } = ruling
    // A vote has a line of its own, with what all have answered, and an acknowledgement is no decision.
    if ((event !== 'check' && event !== 'got') || decision.verdict === 'Error')
      this.#log(device, topicName, ruling)
    const messageId = messageIdOf(ruling)
    const outcome = record?.outcome ?? outcomeOf(ruling)
    const failure = failureOf(ruling)
    if (failure)
      await this.#tell(
        topics.error(device),
        {
          messageId,
          topic: printableTopic(topicName),
          code: failure.code,
          reason: failure.detail,
          retry: outcome === 'close' || mayPassLater(failure.code),
        },
        answerTo(reply, decision),
      )
    if (!hasNoVerdict.includes(event))
      await this.#tell(
        answerTopic(device, reply, topics.verdict(device)),
        this.#verdictOf(ruling),
        answerTo(reply, decision),
      )
    return outcome
  }

  #verdictOf(ruling: Ruling): object {
    const { decision, record, id } = ruling
    const { verdict } = decision
    const { type, height, index, decision: decided } = record?.place ?? {}
    const error = verdict === 'Error' ? { code: decision.code, reason: decision.reason } : {}
    return {
      messageId: messageIdOf(ruling),
      verdict,
      ...(decision.verdict === 'Check' && decision.delivery && { delivery: decision.delivery }),
      ...error,
      ...this.#asOf(),
      ...(type && { [type]: id, height, index, ...(decided !== undefined && { decision: decided }) }),
    }
  }

  #tell(topicName: string, message: object, about: MessageAbout): Promise<void> {
    const payload = Buffer.from(JSON.stringify(message))
    const contentType = 'application/json'
    return this.#broker.publish({ topicName, payload, retain: false, about: { ...about, contentType } })
  }

  #log(sender: string, topicName: string | null, ruling: Ruling): void {
    this.#count(ruling.decision)
    this.#write(sender, topicName, ruling)
  }

  #count({ verdict }: Decision): void {
    if (verdict === 'Error') this.#refused += 1
    else this.#checked += 1
  }

  #write(sender: string, topicName: string | null, ruling: Ruling, address?: string): void {
    const { event, id, recipient, decision, isWill } = ruling
    const refused = decision.verdict === 'Error' ? decision : undefined
    const failure = failureOf(ruling)
    this.#options.log.write({
      id,
      event,
      sender,
      ...(address !== undefined && { address }),
      recipient,
      topic: topicName && printableTopic(topicName),
      verdict: decision.verdict,
      ...(decision.verdict === 'Check' && decision.isRepeat && { repeat: true }),
      ...(isWill && { will: true }),
      code: failure?.code ?? null,
      reason: failure?.detail ?? null,
      mismatch: refused?.mismatch ?? null,
      ...this.#asOf(),
    })
  }

  #logDropped({ sender, recipient, messageId, decision }: DroppedMail): void {
    this.#write(sender, null, { event: 'kept', id: messageId, recipient, decision })
  }

  #logResult(line: ResultLine): void {
    this.#options.log.write({ event: 'result', topic: null, ...line, ...this.#asOf() })
  }

  /** The height and the age of the trust data now. */
  #asOf(): { readonly height: number; readonly ageMs: number } {
    return { height: this.#options.trust.head().height, ageMs: this.#ageMs() }
  }

  async #review(advance: TrustAdvance): Promise<void> {
    // Its first step is taken before anything is awaited: what the block took away ends here.
    const reviewed = Promise.all([this.#access.reviewAfter(advance), this.#boxes.reviewAfter(advance)])
    for (const cut of await this.#sessions.reviewAfter(advance)) this.#cut(cut)
    await reviewed
    this.#rulings.deliveries.retry()
    await this.#watches.tellOf(advance)
  }

  #cut(cut: CutSession): void {
    const { session } = cut
    this.#closed(session)
    this.#logCut(cut)
    this.#broker.disconnect(session.clientId)
  }

  /** The broker cuts a connection by itself. */
  #logCutBy(handle: BrokerSession, { code, detail }: Refusal): void {
    const session = this.#sessions.find(handle)
    if (session) this.#logCut({ session, code, reason: detail })
  }

  #logCut({ session, code, reason }: CutSession): void {
    const decision = errorDecision({ code, detail: reason })
    this.#log(session.device, null, { event: 'cut', id: null, recipient: null, decision })
  }
}

/** What has an answer, or needs none. */
const hasNoVerdict: readonly Ruling['event'][] = ['ask', 'watch', 'plain', 'check', 'got']

function messageIdOf({ id, record }: Ruling): string | null {
  return record ? record.messageId : id
}

/** Why a message was refused, or the decision about it failed. */
function failureOf({ decision, record }: Ruling): Refusal | undefined {
  if (decision.verdict === 'Error') return { code: decision.code, detail: decision.reason }
  return record?.failure
}

function outcomeOf({ decision, event }: Ruling): PublishOutcome {
  // A question is not kept by who asked it: a new one has a new nonce.
  const isKept = event !== 'ask'
  return decision.verdict === 'Error' && isKept && mayPassLater(decision.code) ? 'close' : 'acknowledge'
}

function connectRuling(decision: Decision): Ruling {
  return { event: 'connect', id: null, recipient: null, decision }
}
