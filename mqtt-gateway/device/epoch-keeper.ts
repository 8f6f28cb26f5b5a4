/**
 * Members that are online give a group a new epoch soon after its membership has changed, so that there is a key, sealed to every
 * member, before the next message (Hsu C3): after a revocation, say, which no member's command made.
 *
 * They take turns: the first member in the order of their ids a second after the block, the next one a second later, and so on.
 * Whoever's turn comes looks first whether an earlier one has made it. The chain takes one in any case, by compare-and-set.
 *
 * Of an open topic they also replace an epoch whose key did not come, or does not fit the public one on the chain: who publishes there
 * cannot. Of any group a member replaces the epoch whose key is sealed to a key that it had before a rotation and has no more. A member
 * does either once for a membership, so that members that can read nothing do not re-key for ever.
 */
import type { DeviceId, GroupId } from '../../chain/brands.ts'
import { stateKeyOf } from '../../chain/records.ts'
import { type Refusal, refusalOf } from '../../chain/result.ts'
import type { TrustAdvance, TrustedGroup } from '../protocol/trust.ts'
import type { AgentChain } from './agent-chain.ts'
import { type EpochKeys, needsEpoch } from './agent-epochs.ts'

/** Time between the turns of two members, and before the first: who changed the membership by a command re-keys at once. */
const turnMs = 1_000
/** How long a member of an open topic waits for the box with its epoch key before it takes its turn to make another epoch. */
const missingKeyMs = 5_000

export interface EpochKeeperOptions {
  readonly device: DeviceId
  readonly chain: Pick<AgentChain, 'group' | 'memberships' | 'onAdvance'>
  readonly epochs: Pick<
    EpochKeys,
    'ensureEpoch' | 'key' | 'rekey' | 'isSealedToAnother' | 'onSealedToAnother'
  >
  /** Told why a group got no new epoch by this member; the next to send makes one. */
  readonly onFailure: (group: GroupId, refusal: Refusal) => void
  readonly turnMs?: number
}

interface Turn {
  readonly membershipVersion: number
  readonly timer: NodeJS.Timeout
}

export class EpochKeeper {
  readonly #options: EpochKeeperOptions
  readonly #turns = new Map<GroupId, Turn>()
  /** Membership versions for which this member has replaced an epoch. */
  readonly #replaced = new Map<GroupId, number>()
  /** Of this device; undefined while the chain was out of reach. */
  #groups: readonly GroupId[] | undefined
  #stopFollowing = () => {}
  #isStopped = false

  constructor(options: EpochKeeperOptions) {
    this.#options = options
  }

  /** Looks at every group of this device now, and again when a block changes one. Never rejects: out of reach, the next block counts. */
  async start(): Promise<void> {
    const { chain, epochs } = this.#options
    this.#stopFollowing = chain.onAdvance(advance => void this.#follow(advance))
    epochs.onSealedToAnother(id => void this.#look(id))
    await this.#readGroups()
  }

  stop(): void {
    this.#isStopped = true
    this.#stopFollowing()
    for (const { timer } of this.#turns.values()) clearTimeout(timer)
    this.#turns.clear()
  }

  async #follow({ changed }: TrustAdvance): Promise<void> {
    const isOwn = changed === 'unknown' || changed.has(stateKeyOf.memberships(this.#options.device))
    if (isOwn || !this.#groups) return this.#readGroups()
    await Promise.all(this.#groups.filter(id => changed.has(stateKeyOf.group(id))).map(id => this.#look(id)))
  }

  async #readGroups(): Promise<void> {
    const { chain, device } = this.#options
    try {
      this.#groups = (await chain.memberships(device)).value ?? []
    } catch {
      this.#groups = undefined
    }
    await Promise.all((this.#groups ?? []).map(id => this.#look(id)))
  }

  async #look(id: GroupId): Promise<void> {
    try {
      const { value: group } = await this.#options.chain.group(id)
      if (!group || this.#isStopped) return
      if (needsEpoch(group)) this.#takeTurn(group)
      else if (await this.#lacksKey(group)) this.#takeTurn(group, missingKeyMs)
    } catch (error) {
      this.#options.onFailure(id, refusalOf(error))
    }
  }

  async #lacksKey({
    record: { id, topic, epoch, membershipVersion },
    members,
  }: TrustedGroup): Promise<boolean> {
    const { device, epochs } = this.#options
    const isMissed = topic || epochs.isSealedToAnother(id)
    if (!isMissed || !members.includes(device) || this.#replaced.get(id) === membershipVersion) return false
    return (await epochs.key(id, epoch, 0)) === undefined
  }

  #takeTurn({ record, members }: TrustedGroup, waitMs = 0): void {
    const { id, membershipVersion } = record
    const rank = members.indexOf(this.#options.device)
    const before = this.#turns.get(id)
    if (rank < 0 || before?.membershipVersion === membershipVersion) return
    clearTimeout(before?.timer)
    const turn = waitMs + (rank + 1) * (this.#options.turnMs ?? turnMs)
    const timer = setTimeout(() => void this.#rekey(id, waitMs > 0), turn)
    this.#turns.set(id, { membershipVersion, timer })
  }

  async #rekey(id: GroupId, replaces: boolean): Promise<void> {
    const { chain, epochs, onFailure } = this.#options
    this.#turns.delete(id)
    try {
      const { value: group } = await chain.group(id)
      if (!group) return
      if (needsEpoch(group)) await epochs.ensureEpoch(group)
      else if (await this.#lacksKey(group)) {
        if (!replaces) return this.#takeTurn(group, missingKeyMs)
        this.#replaced.set(id, group.record.membershipVersion)
        await epochs.rekey(id)
      }
    } catch (error) {
      if (!this.#isStopped) onFailure(id, refusalOf(error))
    }
  }
}
