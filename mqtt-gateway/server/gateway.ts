/**
 * The gateway: takes what devices publish, decides against certified chain state, relays what passes
 * (docs/ARCHITECTURE.md, "Life of a message").
 *
 * Invariants:
 * - nothing is relayed without `Check`; without fresh trust data there is no `Check` (fail closed);
 * - one device's messages are decided and relayed in the order in which they came (the broker port's contract);
 * - every refusal goes to the sender's `error` topic, every decision to its `verdict` topic and to the decision log, where
 *   connections that are refused alike share a line; a refusal for good is acknowledged, one that may pass later is not;
 * - it holds no key of any device and no epoch key.
 */

import type { DeviceId } from '../../chain/brands.ts'
import { type ErrorCode, errorTable } from '../../chain/errors.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import { MoteError, type Refusal, type Result, unwrap } from '../../chain/result.ts'
import { checkFresh } from '../../client/freshness.ts'
import type { DecisionLine, DecisionLog } from '../protocol/decision-log.ts'
import { type Envelope, type EnvelopeTarget, parseEnvelope } from '../protocol/envelope.ts'
import { boxesHash } from '../protocol/epoch-boxes.ts'
import { encodeProofAnswer, parseQuestion } from '../protocol/question.ts'
import { ReplayWindow } from '../protocol/replay-window.ts'
import {
  deliveryTopic,
  isPrivateToAnother,
  type PublishedTopic,
  parsePublishedTopic,
  topics,
} from '../protocol/topics.ts'
import type { TrustAdvance, TrustedMoment, TrustView } from '../protocol/trust.ts'
import type { BoxStore } from './boxes.ts'
import { acceptBoxes, memberBoxMessages } from './boxes.ts'
import type {
  Broker,
  BrokerAddress,
  BrokerFactory,
  BrokerSession,
  IncomingMessage,
  Login,
  PublishOutcome,
} from './broker.ts'
import { RefusedConnects } from './refused-connects.ts'
import { type CutSession, type Session, Sessions } from './sessions.ts'
import { type Decision, decide, type TrustFacts } from './verification.ts'

/** Sender keys whose counters the gateway remembers until their envelopes expire. */
const maxReplayKeys = 100_000
/** How long a message may wait for a header that its sender had seen already. */
const defaultCatchUpMs = 2_000
/** How often the refused connections that have no line of their own get one together. */
const refusedSummaryMs = 300_000

export interface GatewayOptions {
  readonly trust: TrustView
  readonly verifier: SignatureVerifier
  readonly broker: BrokerFactory
  readonly boxes: BoxStore
  readonly log: DecisionLog
  readonly trustTtlMs: number
  /** Told of failures that no client can be told of. */
  readonly onError: (error: unknown) => void
  readonly catchUpMs?: number
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

/** What one published message came to. */
interface Ruling {
  readonly event: DecisionLine['event']
  readonly id: string | null
  readonly recipient: string | null
  readonly decision: Decision
}

export class Gateway {
  readonly #options: GatewayOptions
  readonly #broker: Broker
  readonly #sessions: Sessions
  readonly #replayWindow = new ReplayWindow(maxReplayKeys)
  readonly #refusedConnects = new RefusedConnects()
  readonly #catchUpMs: number
  #summarising: NodeJS.Timeout | undefined
  #stopFollowing = () => {}
  #checked = 0
  #refused = 0

  constructor(options: GatewayOptions) {
    this.#options = options
    this.#catchUpMs = options.catchUpMs ?? defaultCatchUpMs
    this.#sessions = new Sessions(options)
    this.#broker = options.broker({
      authenticate: login => this.#authenticate(login),
      published: (handle, message) => this.#published(handle, message),
      maySubscribe: handle => this.#sessions.find(handle) !== undefined,
      mayReceive: (handle, topicName) => this.#mayReceive(handle, topicName),
      cut: (handle, refusal) => this.#logCutBy(handle, refusal),
      closed: handle => this.#sessions.close(handle),
    })
  }

  /** Opens the MQTT port; the retained boxes are in place before anybody can ask for them. */
  async start(): Promise<BrokerAddress> {
    const address = await this.#broker.listen()
    for (const boxes of this.#options.boxes.all())
      for (const message of memberBoxMessages(boxes, undefined)) await this.#broker.publish(message)
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

  async stop(): Promise<void> {
    this.#stopFollowing()
    clearInterval(this.#summarising)
    await this.#broker.close()
    this.#summariseRefusedConnects()
    await this.#options.log.close()
  }

  #ageMs(): number {
    return this.#options.trust.ageMs()
  }

  async #authenticate(login: Login): Promise<Result<Session>> {
    const opened = await this.#sessions.open(login)
    const { username, address } = login
    const decision: Decision = opened.ok ? { verdict: 'Check' } : errorDecision(opened.error)
    this.#count(decision)
    if (opened.ok || this.#refusedConnects.count(address, opened.error.code))
      this.#write(username.slice(0, 64), null, connectRuling(decision), address)
    return opened
  }

  #summariseRefusedConnects(): void {
    for (const { address, code, more } of this.#refusedConnects.take()) {
      const detail = `connections: ${more} more were refused like the first one`
      this.#write('', null, connectRuling(errorDecision({ code, detail })), address)
    }
  }

  #mayReceive(handle: BrokerSession, topicName: string): boolean {
    const session = this.#sessions.find(handle)
    return session !== undefined && !isPrivateToAnother(topicName, session.device)
  }

  async #published(handle: BrokerSession, message: IncomingMessage): Promise<PublishOutcome> {
    const session = this.#sessions.find(handle)
    if (!session) return 'close'
    const topic = parsePublishedTopic(message.topicName)
    const ruling = await this.#rule(session, topic, message)
    return this.#conclude(session, message.topicName, ruling)
  }

  #rule(
    session: Session,
    topic: PublishedTopic | undefined,
    { topicName, payload }: IncomingMessage,
  ): Promise<Ruling> {
    if (!topic || (topic.type !== 'boxes' && topic.device !== session.device)) {
      const decision = errorDecision({
        code: 'topic-not-allowed',
        detail: `topic: '${printable(topicName)}'`,
      })
      return Promise.resolve({ event: 'message', id: null, recipient: null, decision })
    }
    switch (topic.type) {
      case 'send':
        return this.#ruleOnEnvelope(session, payload)
      case 'boxes':
        return this.#ruleOnBoxes(session, topic, payload)
      case 'ask':
        return this.#ruleOnQuestion(session, payload)
    }
  }

  async #ruleOnEnvelope({ device }: Session, payload: Uint8Array): Promise<Ruling> {
    const parsed = parseEnvelope(this.#options.trust.chainId, payload)
    if (!parsed.ok)
      return { event: 'message', id: null, recipient: null, decision: errorDecision(parsed.error) }
    const envelope = parsed.value
    const decision = await this.#refusalsAsDecision(() => this.#decideAndRelay(device, envelope, payload))
    return { event: 'message', id: envelope.messageId, recipient: envelope.header.target.id, decision }
  }

  async #decideAndRelay(session: DeviceId, envelope: Envelope, payload: Uint8Array): Promise<Decision> {
    const facts = await this.#factsAbout(envelope)
    const { verifier, trustTtlMs } = this.#options
    const { trust } = this.#options
    const times = { head: trust.head().time, now: trust.now() }
    const replayWindow = this.#replayWindow
    const decision = decide({ envelope, session, facts, times, trustTtlMs, replayWindow, verifier })
    if (decision.verdict === 'Error') return decision
    const { senderKeyId: keyId, counter, expiry } = envelope.header
    unwrap(replayWindow.accept({ keyId, counter, expiry }, times.head))
    await this.#broker.publish({ topicName: deliveryTopic(envelope), payload, retain: false })
    return decision
  }

  async #factsAbout({ header }: Envelope): Promise<TrustFacts> {
    this.#requireFresh()
    const { trust } = this.#options
    if (!(await trust.waitForHeight(header.seenHeight, this.#catchUpMs)))
      throw new MoteError(
        'stale',
        `height: the sender had seen ${header.seenHeight}, this gateway has ${trust.head().height}`,
      )
    const [sender, target] = await Promise.all([trust.device(header.sender), this.#lookUp(header.target)])
    const older = target.moment.height < sender.height ? target.moment : sender
    return {
      sender: sender.value,
      target: target.fact,
      height: older.height,
      ageMs: trust.ageMs() + trust.head().time - older.time,
    }
  }

  async #lookUp(
    target: EnvelopeTarget,
  ): Promise<{ readonly moment: TrustedMoment; readonly fact: TrustFacts['target'] }> {
    const { trust } = this.#options
    if (target.type === 'device') {
      const moment = await trust.device(target.id)
      return { moment, fact: { type: 'device', record: moment.value } }
    }
    const moment = await trust.group(target.id)
    return { moment, fact: { type: 'group', group: moment.value } }
  }

  async #ruleOnBoxes(
    { device }: Session,
    { group }: Extract<PublishedTopic, { type: 'boxes' }>,
    payload: Uint8Array,
  ): Promise<Ruling> {
    const { trust, boxes: store } = this.#options
    const decision = await this.#refusalsAsDecision(async () => {
      this.#requireFresh()
      const catchUpMs = this.#catchUpMs
      const accepted = unwrap(await acceptBoxes({ trust, publisher: device, group, payload, catchUpMs }))
      const before = store.get(group)
      await store.put(accepted, payload)
      for (const message of memberBoxMessages(accepted, before)) await this.#broker.publish(message)
      return { verdict: 'Check' }
    })
    return { event: 'boxes', id: boxesHash(payload), recipient: group, decision }
  }

  async #ruleOnQuestion({ device }: Session, payload: Uint8Array): Promise<Ruling> {
    const parsed = parseQuestion(payload)
    if (!parsed.ok) return { event: 'ask', id: null, recipient: null, decision: errorDecision(parsed.error) }
    const { nonce, subject } = parsed.value
    const decision = await this.#refusalsAsDecision(async () => {
      const proof = await this.#options.trust.answer(subject)
      const answer = encodeProofAnswer(nonce, proof)
      await this.#broker.publish({ topicName: topics.answer(device), payload: answer, retain: false })
      return { verdict: 'Check' }
    })
    return { event: 'ask', id: Buffer.from(nonce).toString('hex'), recipient: subject.id, decision }
  }

  #requireFresh(): void {
    unwrap(checkFresh(this.#ageMs(), this.#options.trustTtlMs))
  }

  async #refusalsAsDecision(rule: () => Promise<Decision>): Promise<Decision> {
    try {
      return await rule()
    } catch (error) {
      if (error instanceof MoteError) return errorDecision(error)
      this.#options.onError(error)
      return errorDecision({ code: 'internal', detail: 'the gateway failed; its log has the cause' })
    }
  }

  async #conclude({ device }: Session, topicName: string, ruling: Ruling): Promise<PublishOutcome> {
    const { decision, event, id } = ruling
    this.#log(device, topicName, ruling)
    if (decision.verdict === 'Error')
      await this.#tell(topics.error(device), {
        messageId: id,
        topic: printable(topicName),
        code: decision.code,
        reason: decision.reason,
        retry: mayPassLater(decision.code),
      })
    if (event !== 'ask') await this.#tell(topics.verdict(device), this.#verdictOf(ruling))
    return decision.verdict === 'Error' && mayPassLater(decision.code) ? 'close' : 'acknowledge'
  }

  #verdictOf({ id, decision }: Ruling): object {
    const { verdict } = decision
    const error = verdict === 'Error' ? { code: decision.code, reason: decision.reason } : {}
    return {
      messageId: id,
      verdict,
      ...error,
      height: this.#options.trust.head().height,
      ageMs: this.#ageMs(),
    }
  }

  #tell(topicName: string, message: object): Promise<void> {
    return this.#broker.publish({ topicName, payload: Buffer.from(JSON.stringify(message)), retain: false })
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
    const { event, id, recipient, decision } = ruling
    const refused = decision.verdict === 'Error' ? decision : undefined
    this.#options.log.write({
      id,
      event,
      sender,
      ...(address !== undefined && { address }),
      recipient,
      topic: topicName && printable(topicName),
      verdict: decision.verdict,
      code: refused?.code ?? null,
      reason: refused?.reason ?? null,
      mismatch: refused?.mismatch ?? null,
      height: this.#options.trust.head().height,
      ageMs: this.#ageMs(),
    })
  }

  async #review(advance: TrustAdvance): Promise<void> {
    for (const cut of await this.#sessions.reviewAfter(advance)) this.#cut(cut)
  }

  #cut(cut: CutSession): void {
    const { session } = cut
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

function connectRuling(decision: Decision): Ruling {
  return { event: 'connect', id: null, recipient: null, decision }
}

function errorDecision({ code, detail }: Refusal): Decision {
  return { verdict: 'Error', code, reason: detail }
}

/** True for a refusal that is this gateway's state and not the message's: the client should keep the message. */
export function mayPassLater(code: ErrorCode): boolean {
  const { http } = errorTable[code]
  return http === 503 || http === 504
}

/** A topic as the log shows it: cut, and without control characters. */
function printable(topicName: string): string {
  return topicName.slice(0, 200).replace(/[^\x20-\x7e]/g, '?')
}
