/**
 * What a message that a device published comes to: an envelope is relayed, to each whom it is for, boxes are kept and handed out, a question is
 * answered, a report goes to the chain (record-rulings.ts), what else is in the clear is relayed by right, or it is refused (docs/ARCHITECTURE.md, "Life of a message").
 *
 * Invariant: nothing is relayed without `Check`; without fresh trust data there is no `Check` (fail closed).
 */
import type { DeviceId, Hash } from '../../chain/brands.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import { RecentMap } from '../../chain/recent-map.ts'
import { MoteError, unwrap } from '../../chain/result.ts'
import { covers } from '../../chain/rights.ts'
import { checkFresh } from '../../client/freshness.ts'
import { type Envelope, type EnvelopeTarget, parseEnvelope } from '../protocol/envelope.ts'
import { boxesHash } from '../protocol/epoch-boxes.ts'
import { parseAcknowledgement } from '../protocol/kept-mail.ts'
import { parseWatch } from '../protocol/question.ts'
import { type HeldCounter, ReplayWindow } from '../protocol/replay-window.ts'
import { type PublishedTopic, printableTopic } from '../protocol/topics.ts'
import type { TrustedMoment, TrustView } from '../protocol/trust.ts'
import { parseBallotAnswer, parseVoteRequest } from '../protocol/vote.ts'
import { acceptBoxes, type BoxStore } from './boxes.ts'
import type { Broker, IncomingMessage } from './broker.ts'
import { type DroppedMail, KeptDeliveries, type RelayOutcome } from './kept-deliveries.ts'
import type { Mailboxes } from './mailboxes.ts'
import { QuestionRulings } from './question-rulings.ts'
import { RecordRulings, type RecordRulingsOptions, type RecordTopic } from './record-rulings.ts'
import type { RetainedBoxes } from './retained-boxes.ts'
import { type Ruling, type RulingToCome, refusalsAsDecision } from './ruling.ts'
import type { Session } from './sessions.ts'
import { type Decision, decide, errorDecision, type TrustFacts } from './verification.ts'
import type { Votes } from './votes.ts'
import type { Watches } from './watches.ts'

/** Sender keys whose counters the gateway remembers until their envelopes expire. */
const maxReplayKeys = 100_000
/** Relayed messages at least, and twice as many at most, of which an exact repeat is acknowledged. */
const maxRelayedMessages = 65_536
/** How long a message may wait for a header that its sender had seen already. */
const defaultCatchUpMs = 2_000
/** Rounds in which the head may go on while records are read. */
const readRounds = 4

export interface RulingsOptions {
  readonly trust: TrustView
  readonly verifier: SignatureVerifier
  readonly boxes: BoxStore
  readonly trustTtlMs: number
  /** Told of failures that no client can be told of. */
  readonly onError: (error: unknown) => void
  readonly catchUpMs?: number
  /** Messages for who is away; without it none is kept. */
  readonly mailboxes?: Mailboxes
  /** How long an acknowledgement of them is waited for. */
  readonly redeliverMs?: number
  /** Without it nothing is recorded. */
  readonly records?: RecordRulingsOptions
}

export class Rulings {
  readonly #options: RulingsOptions
  readonly #broker: Pick<Broker, 'publish'>
  readonly #votes: Pick<Votes, 'open' | 'answer'>
  readonly #watches: Pick<Watches, 'set'>
  readonly #retainedBoxes: Pick<RetainedBoxes, 'put'>
  readonly #catchUpMs: number
  readonly #replayWindow = new ReplayWindow(maxReplayKeys)
  /** Messages that were relayed lately, or are being relayed, by their ids. */
  readonly #relayed = new RecentMap<Hash, Promise<RelayOutcome>>(maxRelayedMessages)
  readonly #records: RecordRulings | undefined
  readonly #questions: QuestionRulings
  readonly deliveries: KeptDeliveries

  constructor(
    options: RulingsOptions,
    broker: Pick<Broker, 'publish'>,
    votes: Pick<Votes, 'open' | 'answer'>,
    watches: Pick<Watches, 'set'>,
    retainedBoxes: Pick<RetainedBoxes, 'put'>,
    onDropped: (dropped: DroppedMail) => void,
  ) {
    this.#options = options
    this.#broker = broker
    this.#votes = votes
    this.#watches = watches
    this.#retainedBoxes = retainedBoxes
    this.#catchUpMs = options.catchUpMs ?? defaultCatchUpMs
    const { mailboxes, redeliverMs, trust, verifier, trustTtlMs, boxes, onError } = options
    this.#questions = new QuestionRulings(options, broker)
    this.#records = options.records && new RecordRulings(options.records, options)
    this.deliveries = new KeptDeliveries({
      mailboxes,
      redeliverMs,
      trust,
      verifier,
      trustTtlMs,
      boxes,
      broker,
      factsAbout: envelope => this.#factsAbout(envelope),
      onDropped,
      onError,
    })
  }

  /** What a published message comes to. What it should be relayed to has been published when the promise resolves; never rejects. */
  rule(
    session: Session,
    topic: PublishedTopic | undefined,
    message: IncomingMessage,
  ): Promise<Ruling | RulingToCome> {
    const { topicName, payload, reply } = message
    const mayNot = session.login.type === 'credential' && session.login.scope === 'receive'
    if (!topic || mayNot || ('device' in topic && topic.device !== session.device)) {
      return Promise.resolve({
        event: 'message',
        id: null,
        recipient: null,
        decision: notAllowed(topicName),
      })
    }
    switch (topic.type) {
      case 'send':
        return this.#ruleOnEnvelope(session, payload)
      case 'boxes':
        return this.#ruleOnBoxes(session, topic, payload)
      case 'ask':
        return this.#questions.rule(session, payload, reply)
      case 'read':
        return this.#questions.ruleOnContract(session, payload, reply)
      case 'watch':
        return Promise.resolve(this.#ruleOnWatch(session, payload))
      case 'vote':
        return this.#ruleOnVote(session, payload)
      case 'check':
        return this.#ruleOnBallotAnswer(session, payload)
      case 'got':
        return this.#ruleOnAcknowledgement(session, payload)
      case 'report':
      case 'record':
        return this.#ruleOnRecord(session, topic, message)
      case 'plain': {
        const mapped = this.#records?.mapped(session, topicName)
        return mapped
          ? this.#ruleOnRecord(session, mapped, message)
          : this.#ruleOnPlain(session, topicName, payload)
      }
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
    const { trust, verifier, trustTtlMs } = this.#options
    const times = { head: trust.head().time, now: trust.now() }
    const replayWindow = this.#replayWindow
    const relayed = this.#relayed.get(envelope.messageId)
    const wasRelayed = relayed !== undefined || this.deliveries.has(envelope.messageId)
    const decision = decide({
      envelope,
      session,
      facts,
      times,
      trustTtlMs,
      replayWindow,
      wasRelayed,
      verifier,
    })
    if (decision.verdict === 'Error') return decision
    if (decision.isRepeat) {
      return { ...decision, delivery: (await relayed) ?? 'kept' }
    }
    const { senderKeyId: keyId, counter, expiry } = envelope.header
    const held = unwrap(replayWindow.hold({ keyId, counter, expiry }, times.head))
    const relaying = this.#relay(envelope, facts, payload, held)
    this.#relayed.set(envelope.messageId, relaying)
    return { ...decision, delivery: await relaying }
  }

  /** The counter is used up by what was relayed or kept. What failed half-way may come again: a recipient takes it once. */
  async #relay(
    envelope: Envelope,
    facts: TrustFacts,
    payload: Uint8Array,
    held: HeldCounter,
  ): Promise<RelayOutcome> {
    try {
      const outcome = await this.deliveries.relay(envelope, payload, recipientsOf(envelope, facts))
      held.use()
      return outcome
    } catch (error) {
      held.free()
      this.#relayed.delete(envelope.messageId)
      throw error
    }
  }

  /**
   * What holds at the newest head, so that who a block took out of a group gets nothing that is decided after it. Heads that come faster
   * than the records are read end the attempts: `stale`, to be tried again.
   */
  async #factsAbout(envelope: Envelope): Promise<TrustFacts> {
    const { trust } = this.#options
    await this.#reachSeenHeight(envelope)
    for (let round = 1; ; round++) {
      const facts = await this.#readFacts(envelope)
      if (facts.height >= trust.head().height) return facts
      if (round === readRounds) throw new MoteError('stale', 'records: they change faster than they are read')
    }
  }

  async #reachSeenHeight({ header }: Envelope): Promise<void> {
    this.#requireFresh()
    const { trust } = this.#options
    if (!(await trust.waitForHeight(header.seenHeight, this.#catchUpMs)))
      throw new MoteError(
        'stale',
        `height: the sender had seen ${header.seenHeight}, this gateway has ${trust.head().height}`,
      )
  }

  async #readFacts({ header }: Envelope): Promise<TrustFacts> {
    const { trust } = this.#options
    const [sender, target, allowedSuites] = await Promise.all([
      trust.device(header.sender),
      this.#lookUp(header.target),
      trust.allowedSuites(),
    ])
    const older = target.moment.height < sender.height ? target.moment : sender
    return {
      sender: sender.value,
      target: target.fact,
      allowedSuites,
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
    if (target.type === 'group') return { moment, fact: { type: 'group', group: moment.value } }
    const publishing = moment.value?.record.topic?.publishers
    const publishers = publishing && (await trust.group(publishing))
    return {
      moment: publishers && publishers.height < moment.height ? publishers : moment,
      fact: {
        type: 'topic',
        topic: moment.value,
        publishers: publishers && (publishers.value?.members ?? []),
      },
    }
  }

  async #ruleOnBoxes(
    { device }: Session,
    { group }: Extract<PublishedTopic, { type: 'boxes' }>,
    payload: Uint8Array,
  ): Promise<Ruling> {
    const { trust } = this.#options
    const decision = await this.#refusalsAsDecision(async () => {
      this.#requireFresh()
      const catchUpMs = this.#catchUpMs
      const accepted = unwrap(await acceptBoxes({ trust, publisher: device, group, payload, catchUpMs }))
      await this.#retainedBoxes.put(accepted, payload)
      return { verdict: 'Check' }
    })
    return { event: 'boxes', id: boxesHash(payload), recipient: group, decision }
  }

  #ruleOnWatch(session: Session, payload: Uint8Array): Ruling {
    const parsed = parseWatch(payload)
    if (parsed.ok) this.#watches.set(session, parsed.value.subjects)
    const decision: Decision = parsed.ok ? { verdict: 'Check' } : errorDecision(parsed.error)
    return { event: 'watch', id: null, recipient: null, decision }
  }

  async #ruleOnVote({ device }: Session, payload: Uint8Array): Promise<Ruling> {
    const parsed = parseVoteRequest(payload)
    if (!parsed.ok) return { event: 'vote', id: null, recipient: null, decision: errorDecision(parsed.error) }
    const { nonce, recipient } = parsed.value
    const decision = await this.#refusalsAsDecision(async () => {
      await this.#votes.open(device, parsed.value)
      return { verdict: 'Check' }
    })
    return { event: 'vote', id: Buffer.from(nonce).toString('hex'), recipient, decision }
  }

  async #ruleOnBallotAnswer({ device }: Session, payload: Uint8Array): Promise<Ruling> {
    const decision = await this.#refusalsAsDecision(async () => {
      this.#votes.answer(device, unwrap(parseBallotAnswer(payload)))
      return { verdict: 'Check' }
    })
    return { event: 'check', id: null, recipient: null, decision }
  }

  async #ruleOnAcknowledgement({ device }: Session, payload: Uint8Array): Promise<Ruling> {
    const decision = await this.#refusalsAsDecision(async () => {
      await this.deliveries.got(device, unwrap(parseAcknowledgement(payload)).messageId)
      return { verdict: 'Check' }
    })
    return { event: 'got', id: null, recipient: null, decision }
  }

  async #ruleOnRecord(
    session: Session,
    topic: RecordTopic,
    message: IncomingMessage,
  ): Promise<Ruling | RulingToCome> {
    if (this.#records) return this.#records.rule(session, topic, message)
    return { event: 'record', id: null, recipient: null, decision: notAllowed(message.topicName) }
  }

  async #ruleOnPlain({ device }: Session, topicName: string, payload: Uint8Array): Promise<Ruling> {
    const decision = await this.#refusalsAsDecision(async () => {
      this.#requireFresh()
      const { trust } = this.#options
      const [record, rights] = await Promise.all([trust.device(device), trust.rights(device)])
      if (record.value?.status !== 'active')
        return errorDecision({ code: 'signer-not-active', detail: `${device} is not active` })
      const isDecision = this.#records?.isDecision(topicName)
      if (isDecision || !rights.value?.publish.some(filter => covers(filter, topicName)))
        return notAllowed(topicName)
      await this.#broker.publish({ topicName, payload, retain: false })
      return { verdict: 'Check' }
    })
    return { event: 'plain', id: null, recipient: null, decision }
  }

  #requireFresh(): void {
    const { trust, trustTtlMs } = this.#options
    unwrap(checkFresh(trust.ageMs(), trustTtlMs))
  }

  #refusalsAsDecision(rule: () => Promise<Decision>): Promise<Decision> {
    return refusalsAsDecision(rule, this.#options.onError)
  }
}

/** Whom an envelope goes to: the device, or each member of the group or topic but the sender. */
function recipientsOf({ header }: Envelope, { target }: TrustFacts): readonly DeviceId[] {
  if (header.target.type === 'device') return [header.target.id]
  const group = target.type === 'group' ? target.group : target.type === 'topic' ? target.topic : undefined
  return (group?.members ?? []).filter(member => member !== header.sender)
}

function notAllowed(topicName: string): Decision {
  return errorDecision({ code: 'topic-not-allowed', detail: `topic: '${printableTopic(topicName)}'` })
}
