/**
 * The epoch boxes that wait at the broker for members who come later, one retained message for each (boxes.ts), and who may still have one.
 *
 * Invariant: what a member finds when it subscribes was judged at the newest head that the gateway has: as soon as a block changes a group, its members are read
 * again, and the box of who is none any more is taken away, before a further subscription to boxes is granted. While the chain is out of reach
 * none is.
 */
import type { DeviceId, GroupId } from '../../chain/brands.ts'
import { stateKeyOf } from '../../chain/records.ts'
import { MoteError } from '../../chain/result.ts'
import { type EpochBoxes, memberBoxes } from '../protocol/epoch-boxes.ts'
import type { TrustAdvance, TrustView } from '../protocol/trust.ts'
import { type BoxStore, memberBoxMessages, retainedBoxMessages } from './boxes.ts'
import type { Broker } from './broker.ts'

export class RetainedBoxes {
  readonly #trust: Pick<TrustView, 'group'>
  readonly #store: BoxStore
  readonly #broker: Pick<Broker, 'publish'>
  /** Whose boxes are at the broker; of a group that was not looked at since the start it is not known. */
  readonly #members = new Map<GroupId, Set<DeviceId>>()
  /** Groups whose members have to be read before anybody gets a box. */
  readonly #unjudged: Set<GroupId>
  #judging: Promise<void> | undefined

  constructor(trust: Pick<TrustView, 'group'>, store: BoxStore, broker: Pick<Broker, 'publish'>) {
    this.#trust = trust
    this.#store = store
    this.#broker = broker
    this.#unjudged = new Set(store.all().map(({ group }) => group))
  }

  /** Takes boxes that were accepted (boxes.ts) in the place of older ones; durable, and at the broker, when it resolves. */
  async put(accepted: EpochBoxes, encoded: Uint8Array): Promise<void> {
    const before = this.#store.get(accepted.group)
    await this.#store.put(accepted, encoded)
    this.#members.set(accepted.group, new Set(accepted.boxes.map(({ member }) => member)))
    for (const message of memberBoxMessages(accepted, before)) await this.#broker.publish(message)
  }

  /** Resolves when everybody's right to a box has been judged that a step of the chain touched; or it can not be now. */
  async reviewAfter({ changed }: TrustAdvance): Promise<void> {
    for (const { group } of this.#store.all())
      if (changed === 'unknown' || changed.has(stateKeyOf.group(group))) this.#unjudged.add(group)
    await this.settled()
  }

  /** True when nobody finds a box that is not his any more; false while the chain is out of reach. Throws what the broker throws. */
  async settled(): Promise<boolean> {
    while (this.#unjudged.size > 0) {
      const before = this.#unjudged.size
      this.#judging ??= this.#judgeAll().finally(() => {
        this.#judging = undefined
      })
      await this.#judging
      if (this.#unjudged.size >= before) return false
    }
    return true
  }

  async #judgeAll(): Promise<void> {
    for (const group of [...this.#unjudged]) {
      this.#unjudged.delete(group)
      try {
        await this.#judge(group)
      } catch (error) {
        this.#unjudged.add(group)
        if (!(error instanceof MoteError)) throw error
        return
      }
    }
  }

  async #judge(group: GroupId): Promise<void> {
    const { value } = await this.#trust.group(group)
    const boxes = this.#store.get(group)
    // Newer boxes than this record were accepted meanwhile, against a newer one.
    if (!boxes || (value && value.record.epoch < boxes.epoch)) return
    const members = new Set(value?.members ?? [])
    const there = this.#members.get(group)
    const theirs = memberBoxes(boxes).filter(({ member }) => members.has(member))
    this.#members.set(group, new Set(theirs.map(({ member }) => member)))
    // A broker that others wrote may have what was put there before this gateway started.
    const mayBeThere = there ?? boxes.boxes.map(({ member }) => member)
    const gone = [...mayBeThere].filter(member => !members.has(member))
    const come = theirs.filter(({ member }) => !there?.has(member))
    for (const message of retainedBoxMessages(group, gone, come)) await this.#broker.publish(message)
  }
}
