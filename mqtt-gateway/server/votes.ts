/**
 * Votes on a device's copy of a key at the gateway (mqtt-gateway/protocol/vote.ts): ballots to every connected device, their answers
 * counted by whose connection they came from, the result to who asked.
 *
 * A vote is counted when all have answered or the time is over, whichever is first; who has not answered by then is
 * `Silent`. Nothing is awaited while a vote is open: who votes may be voting on another's copy.
 *
 * Bounded: one vote in a second of a device, votes that are open, devices in a vote. An answer counts once for a device.
 */
import { randomBytes } from 'node:crypto'
import type { DeviceId, KeyId } from '../../chain/brands.ts'
import { type EncryptionKey, keyIdOf } from '../../chain/keys.ts'
import { RecentMap } from '../../chain/recent-map.ts'
import { currentEncryptionKey, findKey, isKeyValidAt } from '../../chain/records.ts'
import { MoteError, unwrap } from '../../chain/result.ts'
import { type Clock, systemClock } from '../../client/clock.ts'
import { checkFresh } from '../../client/freshness.ts'
import type { CopyDifference, DecisionLine } from '../protocol/decision-log.ts'
import { canSealTo } from '../protocol/envelope.ts'
import { topics } from '../protocol/topics.ts'
import type { TrustView } from '../protocol/trust.ts'
import {
  type BallotAnswer,
  type CountedAnswer,
  encodeBallot,
  encodeVoteResult,
  type KeyVoteResult,
  maxLinesPerVote,
  maxVoters,
  type VoteRequest,
  voteTimeoutMs,
} from '../protocol/vote.ts'
import type { Broker } from './broker.ts'

/** Votes that are open at the same time. */
const maxOpenVotes = 8
/** Time from one vote of a device to its next. */
const voteIntervalMs = 1_000
/** Devices of which the last vote is remembered at least; twice as many at most. More have not voted within a second. */
const maxVoteTimes = 64

export interface VotesOptions {
  readonly trust: TrustView
  readonly trustTtlMs: number
  readonly broker: Pick<Broker, 'publish'>
  /** Devices that have a connection now. */
  readonly connected: () => readonly DeviceId[]
  readonly log: (line: ResultLine) => void
  readonly onError: (error: unknown) => void
  readonly clock?: Clock
}

/** What a vote adds to the decision log. */
export type ResultLine = Pick<
  DecisionLine,
  'id' | 'sender' | 'recipient' | 'verdict' | 'code' | 'reason' | 'mismatch'
>

interface OpenVote {
  readonly sender: DeviceId
  readonly request: VoteRequest
  readonly gateway: KeyVoteResult['gateway']
  /** Undefined until it has come. */
  readonly answers: Map<DeviceId, Omit<CountedAnswer, 'device'> | undefined>
  waitingFor: number
  cancel: () => void
}

export class Votes {
  readonly #options: VotesOptions
  readonly #clock: Clock
  readonly #open = new Map<string, OpenVote>()
  /** Requests that are being judged. */
  #opening = 0
  readonly #lastVoteAt = new RecentMap<DeviceId, number>(maxVoteTimes)

  constructor(options: VotesOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
  }

  /**
   * Opens a vote; resolves when the ballots are on their way. Throws `rate-limited`, `limit-exceeded` for more devices
   * than a vote may have, `stale`, or why the chain is out of reach.
   */
  async open(sender: DeviceId, request: VoteRequest): Promise<void> {
    this.#admit(sender)
    this.#opening += 1
    try {
      const gateway = await this.#ownCheck(request)
      await this.#ballot(sender, request, gateway)
    } finally {
      this.#opening -= 1
    }
  }

  /** Counts an answer. One that is late, of a device that was not asked, or its second, changes nothing. */
  answer(device: DeviceId, { vote: number, check, inCopy }: BallotAnswer): void {
    const vote = this.#open.get(hex(number))
    if (!vote?.answers.has(device) || vote.answers.get(device)) return
    vote.answers.set(device, { check, inCopy })
    vote.waitingFor -= 1
    if (vote.waitingFor === 0) this.#close(hex(number), vote)
  }

  /** Ends every vote without a result. */
  stop(): void {
    for (const { cancel } of this.#open.values()) cancel()
    this.#open.clear()
  }

  #admit(sender: DeviceId): void {
    const now = this.#clock.steady()
    const last = this.#lastVoteAt.get(sender)
    if (last !== undefined && now - last < voteIntervalMs)
      throw new MoteError('rate-limited', `votes: one in ${voteIntervalMs} ms of a device`)
    if (this.#open.size + this.#opening >= maxOpenVotes)
      throw new MoteError('rate-limited', `votes: ${maxOpenVotes} are open`)
    this.#lastVoteAt.set(sender, now)
  }

  /** What certified state says of the sender's copy: the chain may hold several keys of the recipient that are valid. */
  async #ownCheck({ recipient, copy }: VoteRequest): Promise<KeyVoteResult['gateway']> {
    const { trust, trustTtlMs } = this.#options
    unwrap(checkFresh(trust.ageMs(), trustTtlMs))
    const [{ value }, allowed] = await Promise.all([trust.device(recipient), trust.allowedSuites()])
    if (value?.status !== 'active') return { check: 'Error', inCopy: undefined }
    const now = trust.now()
    const isUsable = canSealTo(allowed)
    const entry = copy && findKey(value, keyIdOf(copy))
    if (entry?.purpose === 'encrypt' && isKeyValidAt(entry, now) && isUsable(entry.key))
      return { check: 'Check', inCopy: keyIdOf(entry.key) }
    const current = currentEncryptionKey(value, now, isUsable)
    return { check: 'Error', inCopy: current && keyIdOf(current.key) }
  }

  async #ballot(sender: DeviceId, request: VoteRequest, gateway: KeyVoteResult['gateway']): Promise<void> {
    const { broker, connected } = this.#options
    const voters = [...new Set(connected())].filter(device => device !== sender).toSorted()
    if (voters.length > maxVoters)
      throw new MoteError(
        'limit-exceeded',
        `voters: expected at most ${maxVoters}, ${voters.length} are connected`,
      )
    const number = Uint8Array.from(randomBytes(16))
    const vote: OpenVote = {
      sender,
      request,
      gateway,
      answers: new Map(voters.map(device => [device, undefined])),
      waitingFor: voters.length,
      cancel: this.#clock.after(voteTimeoutMs, () => this.#close(hex(number), vote)),
    }
    this.#open.set(hex(number), vote)
    if (voters.length === 0) return this.#close(hex(number), vote)
    const { recipient, copy } = request
    const payload = encodeBallot({ vote: number, sender, recipient, copy })
    await Promise.all(
      voters.map(device => broker.publish({ topicName: topics.ballot(device), payload, retain: false })),
    )
  }

  #close(number: string, vote: OpenVote): void {
    if (!this.#open.delete(number)) return
    vote.cancel()
    const { sender, request, gateway } = vote
    const answers = [...vote.answers].map(
      ([device, answer]): CountedAnswer => ({
        device,
        ...(answer ?? { check: 'Silent', inCopy: undefined }),
      }),
    )
    for (const line of resultLines(vote, answers)) this.#options.log(line)
    const payload = encodeVoteResult({ nonce: request.nonce, gateway, answers })
    this.#options.broker
      .publish({ topicName: topics.result(sender), payload, retain: false })
      .catch(this.#options.onError)
  }
}

/** One line for each differing copy or silence, or one that says that all were the same. */
function resultLines(
  { sender, request, gateway }: OpenVote,
  answers: readonly CountedAnswer[],
): readonly ResultLine[] {
  const { nonce, recipient, copy } = request
  const about = { id: hex(nonce), sender, recipient }
  const objections = [
    { ...gateway, who: 'the gateway' },
    ...answers.map(answer => ({ ...answer, who: `device ${answer.device}` })),
  ].filter(({ check }) => check !== 'Check')
  if (objections.length === 0)
    return [{ ...about, verdict: 'Check', code: null, reason: null, mismatch: null }]
  const more = objections.length > maxLinesPerVote ? `; ${objections.length} objections in all` : ''
  return objections.slice(0, maxLinesPerVote).map(
    ({ who, check, inCopy }): ResultLine =>
      check === 'Silent'
        ? {
            ...about,
            verdict: 'Error',
            code: 'timeout',
            reason: `${who}: no answer within ${voteTimeoutMs} ms${more}`,
            mismatch: null,
          }
        : {
            ...about,
            verdict: 'Error',
            code: 'recipient-key-mismatch',
            reason: `${who}: the sender's copy is not its own${more}`,
            mismatch: differenceOf(copy, inCopy),
          },
  )
}

function differenceOf(copy: EncryptionKey | undefined, inCopy: KeyId | undefined): CopyDifference {
  return { inEnvelope: copy ? keyIdOf(copy) : null, inCopy: inCopy ?? null }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
