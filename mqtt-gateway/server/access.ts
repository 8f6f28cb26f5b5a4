/**
 * Which topics a device receives: its own, and those of its rights (chain/rights.ts; docs/FORMATS.md, "MQTT topics").
 *
 * A subscription is judged when it is asked for, and again at each delivery. Its own topics are a device's by their names
 * alone; what is delivered there is judged by who the message is for. Rights are read from certified state when a
 * subscription first needs them. A right to receive a plain topic is one to decisions that are published on it; where the configuration
 * says so (plain-topics.ts), every active device has that. As soon as a block is known that changes them, or the device, nothing is delivered by them until they have been
 * read again: so a right that was taken away ends with the block, whatever was subscribed to.
 */
import type { DeviceId, Height } from '../../chain/brands.ts'
import { stateKeyOf } from '../../chain/records.ts'
import { MoteError, ok, type Result, refuse } from '../../chain/result.ts'
import { covers, type IdentityRights, noRights } from '../../chain/rights.ts'
import { noPlainTopics, openFilters, type PlainTopics } from '../protocol/plain-topics.ts'
import { filters, ownFilters, printableTopic, topics } from '../protocol/topics.ts'
import type { TrustAdvance, TrustView } from '../protocol/trust.ts'
import type { BrokerSession } from './broker.ts'
import type { Session } from './sessions.ts'

interface HeldRights {
  readonly device: DeviceId
  /** What they let it receive; undefined while that is not known. */
  receives: readonly string[] | undefined
  /** What was read below this height does not count. */
  since: Height
}

/** Why a device may subscribe. */
export type SubscriptionGround = 'own' | 'right'

const readRounds = 4

export class Access {
  readonly #trust: Pick<TrustView, 'device' | 'rights'>
  readonly #plain: PlainTopics
  /** Of the sessions that asked for a topic that is not their own. */
  readonly #held = new Map<BrokerSession, HeldRights>()

  constructor(trust: Pick<TrustView, 'device' | 'rights'>, plain = noPlainTopics) {
    this.#trust = trust
    this.#plain = plain
  }

  /**
   * Whether everything that the filter matches is the device's to receive. Refuses `topic-not-allowed`; throws `MoteError` when the chain is
   * out of reach.
   */
  async judgeSubscription(session: Session, topicFilter: string): Promise<Result<SubscriptionGround>> {
    if (ownFilters(session.device).some(own => covers(own, topicFilter))) return ok('own')
    const { device } = session
    const held = this.#held.get(session) ?? { device, receives: undefined, since: 0 as Height }
    this.#held.set(session, held)
    await this.#read(held)
    return (held.receives ?? []).some(granted => covers(granted, topicFilter))
      ? ok('right')
      : refuse(
          'topic-not-allowed',
          `filter: '${printableTopic(topicFilter)}' is not within the device's topics`,
        )
  }

  /** Whether a message on this topic may go to the device now. */
  mayReceive(session: Session, topicName: string): boolean {
    return (
      ownFilters(session.device).some(own => covers(own, topicName)) ||
      (this.#held.get(session)?.receives ?? []).some(granted => covers(granted, topicName))
    )
  }

  /** Nothing that the step of the chain changed counts from the call on; resolves when it has been read again. */
  async reviewAfter({ changed, height }: TrustAdvance): Promise<void> {
    const touched = [...this.#held.values()].filter(
      ({ device, receives }) =>
        receives === undefined ||
        changed === 'unknown' ||
        changed.has(stateKeyOf.rights(device)) ||
        changed.has(stateKeyOf.identity(device)),
    )
    for (const held of touched) {
      held.receives = undefined
      held.since = height
    }
    await Promise.all(touched.map(held => this.#readAgain(held)))
  }

  /** Forgets a session: closed, cut, or taken over. */
  close(session: BrokerSession): void {
    this.#held.delete(session)
  }

  /** Out of reach: they stay unknown, and the next step of the chain tries again. */
  async #readAgain(held: HeldRights): Promise<void> {
    try {
      await this.#read(held)
    } catch (error) {
      if (!(error instanceof MoteError)) throw error
    }
  }

  async #read(held: HeldRights): Promise<void> {
    const { device } = held
    for (let round = 0; round < readRounds; round++) {
      const [record, rights] = await Promise.all([this.#trust.device(device), this.#trust.rights(device)])
      if (Math.min(record.height, rights.height) < held.since) continue
      held.receives =
        record.value?.status === 'active' ? receivable(rights.value ?? noRights, this.#plain) : []
      return
    }
    throw new MoteError('stale', `rights of ${device}: they change faster than they are read`)
  }
}

/** The filters of what an active device may receive beyond its own topics. */
export function receivable({ observe, subscribe }: IdentityRights, plain: PlainTopics): readonly string[] {
  return [
    ...(observe ? [filters.anyDelivery] : []),
    ...subscribe,
    ...(plain.open ? openFilters(plain) : subscribe.map(topics.decision)),
  ]
}
