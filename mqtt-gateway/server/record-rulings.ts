/**
 * What a message comes to that is to be recorded, or that a contract is to decide about: it is refused at once, or handed to the recorder
 * (mqtt-gateway/records/recorder.ts), and there is a ruling when it is certified or refused for good.
 *
 * Invariants:
 * - a device speaks for itself alone: the source of its records is whose connection they came on;
 * - a message is acknowledged when it is certified or refused for good, and no failure of this gateway, nor a chain out of reach, is
 *   such a refusal;
 * - certified state says who may, and it is fresh (fail closed);
 * - what a guard rejects by that state costs no transaction. The chain judges again, and its word counts;
 * - a repeat of what was accepted has that outcome, whatever state says by now;
 * - what comes again on a later connection is not recorded beside that;
 * - beside a broker that has acknowledged it, a message is refused for good by what the chain has at that moment (as-of-now.ts), and one of a
 *   device that has too many on their way does not hold up the others for longer than `crowdedMs`.
 */
import type { DeviceId } from '../../chain/brands.ts'
import type { ErrorCode } from '../../chain/errors.ts'
import type { AttestedBody } from '../../chain/record-bodies.ts'
import { type RecordEvent, refusedBy } from '../../chain/record-events.ts'
import { MoteError, ok, type Refusal, type Result, refuse } from '../../chain/result.ts'
import { covers } from '../../chain/rights.ts'
import type { DeviceRecord } from '../../chain/transaction.ts'
import { parseTransaction } from '../../chain/transaction.ts'
import { pause } from '../../client/deadline.ts'
import { checkFresh } from '../../client/freshness.ts'
import { verdictOfGuards } from '../../client/topic-guards.ts'
import { type PlainMessage, parsePlainMessage } from '../protocol/plain-message.ts'
import { comesIn, goesOut, type PlainTopics } from '../protocol/plain-topics.ts'
import { type PublishedTopic, printableTopic } from '../protocol/topics.ts'
import type { TrustView } from '../protocol/trust.ts'
import {
  type Accepted,
  exchangeDigest,
  type Recorder,
  type RecordOutcome,
  type RecordRequest,
} from '../records/recorder.ts'
import { judgedAsOfNow } from './as-of-now.ts'
import { type IncomingMessage, mayPassLater } from './broker.ts'
import type { RecordPlace, RecordReport, Ruling, RulingToCome } from './ruling.ts'
import type { Session } from './sessions.ts'
import { errorDecision } from './verification.ts'

export interface RecordRulingsOptions {
  readonly recorder: Recorder
  /** Who signs for plain clients. */
  readonly gateway: DeviceId
  readonly plain: PlainTopics
}

interface Surroundings {
  readonly trust: Pick<TrustView, 'device' | 'rights' | 'ageMs' | 'leaf' | 'now' | 'refresh'>
  readonly trustTtlMs: number
  readonly onError: (error: unknown) => void
}

/** Of a device's own topics, those whose messages are recorded. */
export type RecordTopic = Extract<PublishedTopic, { type: 'report' | 'record' }>

/** A message as the recorder takes it, and what is told of it. */
interface Read {
  readonly request: RecordRequest
  readonly about: About
}

interface About {
  readonly messageId: string | null
  /** The contract. */
  readonly recipient: string | null
  readonly type: RecordPlace['type']
}

/** The recorder's refusal of a device that has too many messages on their way. */
const crowded = 'rate-limited'
/** How long such a message may hold up those of other devices that a broker has sent behind it. */
const crowdedMs = 10_000
const crowdedPauseMs = 500

const unread: About = { messageId: null, recipient: null, type: 'record' }

export class RecordRulings {
  readonly #options: RecordRulingsOptions
  readonly #surroundings: Surroundings
  /** Messages of each device that are on their way to the chain. */
  readonly #underWay = new Map<DeviceId, number>()

  constructor(options: RecordRulingsOptions, surroundings: Surroundings) {
    this.#options = options
    this.#surroundings = surroundings
  }

  /** A plain topic that the configuration maps is a report to it. */
  mapped({ device }: Session, topicName: string): RecordTopic | undefined {
    return comesIn(this.#options.plain, topicName) ? { type: 'report', device, topic: topicName } : undefined
  }

  /** Gateways alone publish there. */
  isDecision(topicName: string): boolean {
    return goesOut(this.#options.plain, topicName)
  }

  /** Never rejects. @param topic of the device itself */
  async rule(session: Session, topic: RecordTopic, message: IncomingMessage): Promise<Ruling | RulingToCome> {
    const read = readMessage(session, topic, message)
    const about = read.ok ? read.value.about : unread
    let judged: Result<RecordRequest>
    try {
      const judge = () => this.#judge(session, topic, read)
      if (read.ok && this.#options.recorder.isRepeat(read.value.request)) judged = ok(read.value.request)
      else judged = message.asOfNow ? await judgedAsOfNow(judge, this.#surroundings) : await judge()
      mustNotBeOver(message)
    } catch (error) {
      return this.#failed(about, error)
    }
    if (!judged.ok) return refused(about, judged.error)
    const request = judged.value
    this.#count(session.device, 1)
    const accepting = this.#accept(request, message)
    // A broker that has acknowledged it holds up others for it, and not for ever: the device is told to send it again.
    const isNeeded = message.asOfNow ? mayPassLater : comesAgain
    return {
      kept: accepting.then(
        accepted => accepted.ok || !isNeeded(accepted.error.code),
        () => false,
      ),
      later: this.#conclude(about, accepting).finally(() => this.#count(session.device, -1)),
    }
  }

  /** Asks the recorder before anything is waited for, so that messages keep their order. */
  async #accept(request: RecordRequest, message: IncomingMessage): Promise<Result<Accepted>> {
    const accept = async () => {
      mustNotBeOver(message)
      return this.#options.recorder.accept(request)
    }
    if (!message.asOfNow) return accept()
    const since = performance.now()
    for (;;) {
      const accepted = await judgedAsOfNow(accept, this.#surroundings)
      const isCrowded = !accepted.ok && accepted.error.code === crowded
      if (!isCrowded || performance.now() - since > crowdedMs) return accepted
      await pause(crowdedPauseMs)
    }
  }

  async #judge({ device }: Session, topic: RecordTopic, read: Result<Read>): Promise<Result<RecordRequest>> {
    const { trust, trustTtlMs } = this.#surroundings
    const fresh = checkFresh(trust.ageMs(), trustTtlMs)
    if (!fresh.ok) return fresh
    const standing = await this.#standing(device)
    if (!standing.ok) return standing
    if (!read.ok) return read
    const { request } = read.value
    if (topic.type === 'report') {
      const named = attestedRecordIn(request)?.topic ?? topic.topic
      const allowed = await this.#mayReport(device, [topic.topic, named])
      if (!allowed.ok) return allowed
    }
    const passed = await this.#passesGuards(request)
    if (!passed.ok) return passed
    return ok(request)
  }

  async #standing(device: DeviceId): Promise<Result<void>> {
    const { value } = await this.#surroundings.trust.device(device)
    return value?.status === 'active'
      ? ok(undefined)
      : refuse('signer-not-active', `device ${device} is ${value?.status ?? 'not on the chain'}`)
  }

  /** By its own right, or where all may; and whether this gateway may speak for anybody. */
  async #mayReport(device: DeviceId, topicNames: readonly string[]): Promise<Result<void>> {
    const { trust } = this.#surroundings
    const { gateway, plain } = this.#options
    const [{ value: own }, { value: rights }] = await Promise.all([
      trust.rights(gateway),
      trust.rights(device),
    ])
    if (!own?.gateway)
      return refuse(
        'not-authorised',
        `gateway ${gateway}: has no right to attest for devices; an operator gives it: mote device rights ${gateway} --gateway`,
      )
    const denied = topicNames.find(
      name => !plain.open && !rights?.publish.some(filter => covers(filter, name)),
    )
    return denied === undefined
      ? ok(undefined)
      : refuse(
          'topic-not-allowed',
          `topic: '${printableTopic(denied)}' is not among those that ${device} may publish to`,
        )
  }

  /**
   * What a device signed is judged on the chain alone: the device can run the guards by itself. So is what comes behind messages of the device
   * that are on their way: a rule about steps compares with one of them, and not with what is proven now.
   */
  async #passesGuards(request: RecordRequest): Promise<Result<void>> {
    const { device } = request
    const record = attestedRecordIn(request)
    const isBehind = this.#underWay.has(device)
    if (!record || isBehind) return ok(undefined)
    const { trust } = this.#surroundings
    const from = { device, attested: true }
    const refusal = await verdictOfGuards(trust, record, { from, now: trust.now() })
    return refusal ? refuse(refusal.code, `record: ${refusedBy(refusal)}`) : ok(undefined)
  }

  #count(device: DeviceId, change: 1 | -1): void {
    const count = (this.#underWay.get(device) ?? 0) + change
    if (count > 0) this.#underWay.set(device, count)
    else this.#underWay.delete(device)
  }

  async #conclude(about: About, accepting: Promise<Result<Accepted>>): Promise<Ruling> {
    try {
      const accepted = await accepting
      if (!accepted.ok) return refused(about, accepted.error)
      return concluded(about, await accepted.value.outcome)
    } catch (error) {
      return this.#failed(about, error)
    }
  }

  /** It may pass, whatever its code says of other messages: who sent it keeps it. */
  #failed(about: About, error: unknown): Ruling {
    if (!(error instanceof MoteError)) this.#surroundings.onError(error)
    const refusal: Refusal =
      error instanceof MoteError
        ? error
        : { code: 'internal', detail: 'the gateway failed; its log has the cause' }
    return ruling(about, null, refusal, { outcome: 'close' })
  }
}

/** Refuses what is no plain message. Who sent a transaction knows it by its id, and the recorder judges it. */
function readMessage(
  { device }: Session,
  topic: RecordTopic,
  { topicName, payload, qos, ...message }: IncomingMessage,
): Result<Read> {
  const exchange = message.exchange && { ...message.exchange, digest: exchangeDigest(topicName, payload) }
  if (topic.type === 'record') {
    const transaction = parseTransaction(payload)
    return ok({
      request: { device, exchange, messageId: undefined, content: { type: 'signed', transaction: payload } },
      about: { ...unread, messageId: transaction.ok ? transaction.value.id : null },
    })
  }
  const parsed = parsePlainMessage({ device, topic: topic.topic, payload, qos })
  if (!parsed.ok) return parsed
  const { body, messageId } = parsed.value
  const request = { device, exchange, messageId, content: { type: 'attested', body } } as const
  return ok({ request, about: aboutPlain(parsed.value) })
}

/** While it was judged the same message may have come again, and been accepted. Throws `interrupted`. */
function mustNotBeOver({ isOver }: IncomingMessage): void {
  if (isOver?.()) throw new MoteError('interrupted', 'record: its connection has ended')
}

/** Whether its sender keeps what is refused so. */
function comesAgain(code: ErrorCode): boolean {
  return mayPassLater(code) || code === crowded
}

function attestedRecordIn({ content }: RecordRequest): DeviceRecord | undefined {
  return content.type === 'attested' ? recordIn(content.body) : undefined
}

function recordIn(body: AttestedBody): DeviceRecord | undefined {
  if (body.type === 'record.one') return body.record
  return body.input.type === 'record' ? body.input.record : undefined
}

function aboutPlain({ body, ...message }: PlainMessage): About {
  const messageId = message.messageId ?? null
  if (body.type === 'record.one') return { messageId, recipient: null, type: 'record' }
  return { messageId, recipient: body.contract, type: body.input.type }
}

function ruling(
  { messageId, recipient }: About,
  id: string | null,
  refusal: Refusal | undefined,
  report: Partial<RecordReport> = {},
): Ruling {
  return {
    event: 'record',
    id,
    recipient,
    decision: refusal ? errorDecision(refusal) : { verdict: 'Check' },
    record: { messageId, outcome: 'acknowledge', place: undefined, failure: undefined, ...report },
  }
}

function refused(about: About, refusal: Refusal, id: string | null = null): Ruling {
  return ruling(about, id, refusal, { outcome: comesAgain(refusal.code) ? 'close' : 'acknowledge' })
}

function concluded(about: About, outcome: RecordOutcome): Ruling {
  if (outcome.type === 'refused') return ruling(about, outcome.transaction, outcome)
  const { transaction, height, index, receipt } = outcome
  const decided = receipt.events.find(event => event.type === 'contract.decided')
  const left = receipt.events.find(event => event.type === 'record.refused')
  const type = receipt.events.some(event => event.type === 'record.added') ? 'record' : 'call'
  const place: RecordPlace = { type, height, index, decision: decided?.decision }
  return ruling({ ...about, recipient: decided?.contract ?? about.recipient }, transaction, undefined, {
    place,
    failure: decided?.failed ? failureOf(decided) : left && refusedPart(left),
  })
}

/** Of a batch: the others stand. */
function refusedPart(part: Extract<RecordEvent, { type: 'record.refused' }>): Refusal {
  return { code: 'rule-violated', detail: `record ${part.item}: ${refusedBy(part)}` }
}

/** The record that came with it stands all the same. */
function failureOf({
  contract,
  decision,
}: {
  readonly contract: string
  readonly decision: string
}): Refusal {
  return {
    code: decision === 'failed: unknown-contract' ? 'unknown-contract' : 'decision-failed',
    detail: `contract ${contract}: ${decision}`,
  }
}
