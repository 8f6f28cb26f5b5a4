/** What a device asks its gateway for: records of the chain with their proofs, and for plain clients what a contract remembers. */
import { unwrap } from '../../chain/result.ts'
import { checkFresh } from '../../client/freshness.ts'
import { contractAsJson, parseContractRead } from '../protocol/contract-read.ts'
import { encodeProofAnswer, parseQuestion } from '../protocol/question.ts'
import { topics } from '../protocol/topics.ts'
import type { TrustView } from '../protocol/trust.ts'
import { answerTo, answerTopic } from './answers.ts'
import type { Broker, ReplyWish } from './broker.ts'
import { type Ruling, refusalsAsDecision } from './ruling.ts'
import type { Session } from './sessions.ts'
import { type Decision, errorDecision } from './verification.ts'

export interface QuestionRulingsOptions {
  readonly trust: TrustView
  readonly trustTtlMs: number
  readonly onError: (error: unknown) => void
}

/** The answer has been published when a promise resolves; none rejects. */
export class QuestionRulings {
  readonly #options: QuestionRulingsOptions
  readonly #broker: Pick<Broker, 'publish'>

  constructor(options: QuestionRulingsOptions, broker: Pick<Broker, 'publish'>) {
    this.#options = options
    this.#broker = broker
  }

  async rule({ device }: Session, payload: Uint8Array, reply: ReplyWish | undefined): Promise<Ruling> {
    const parsed = parseQuestion(payload)
    if (!parsed.ok) return { event: 'ask', id: null, recipient: null, decision: errorDecision(parsed.error) }
    const { nonce, subject } = parsed.value
    const decision = await this.#decide(async () => {
      const proof = await this.#options.trust.answer(subject)
      const answer = encodeProofAnswer(nonce, proof)
      const topicName = answerTopic(device, reply, topics.answer(device))
      await this.#broker.publish({ topicName, payload: answer, retain: false, about: answerTo(reply) })
      return { verdict: 'Check' }
    })
    const recipient = 'id' in subject ? subject.id : null
    return { event: 'ask', id: Buffer.from(nonce).toString('hex'), recipient, decision }
  }

  async ruleOnContract(
    { device }: Session,
    payload: Uint8Array,
    reply: ReplyWish | undefined,
  ): Promise<Ruling> {
    const parsed = parseContractRead(payload)
    if (!parsed.ok) return { event: 'ask', id: null, recipient: null, decision: errorDecision(parsed.error) }
    const { trust, trustTtlMs } = this.#options
    const decision = await this.#decide(async () => {
      unwrap(checkFresh(trust.ageMs(), trustTtlMs))
      const read = unwrap(await contractAsJson(trust, parsed.value))
      const topicName = answerTopic(device, reply, topics.state(device))
      const about = { ...answerTo(reply), contentType: 'application/json' }
      await this.#broker.publish({ topicName, payload: read, retain: false, about })
      return { verdict: 'Check' }
    })
    return { event: 'ask', id: null, recipient: parsed.value, decision }
  }

  #decide(rule: () => Promise<Decision>): Promise<Decision> {
    return refusalsAsDecision(rule, this.#options.onError)
  }
}
