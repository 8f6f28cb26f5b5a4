/**
 * A chain of one process behind the gateway's trust port: records in memory, a height that rises with every change.
 * It proves nothing, so only the gateway's own behaviour is tested with it; the real chain is test/e2e's devnet.
 */
import type {
  ChainId,
  ContractAddress,
  DeviceId,
  GroupId,
  Height,
  Milliseconds,
  StateKey,
} from '../../chain/brands.ts'
import { type Contract, encodedContract } from '../../chain/contracts/contract.ts'
import type { Credential, CredentialsRecord } from '../../chain/credentials.ts'
import { builtSuites, type EnvelopeSuite } from '../../chain/envelope-suites.ts'
import {
  type ContractRecord,
  type GroupRecord,
  groupIdOf,
  type IdentityRecord,
  type IdentityStatus,
  memberRootOf,
  stateKeyOf,
} from '../../chain/records.ts'
import { MoteError } from '../../chain/result.ts'
import { type IdentityRights, noRights } from '../../chain/rights.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import type { ListedIds } from '../../client/record-list.ts'
import type { AgentChain, RekeyChange } from '../../mqtt-gateway/device/agent-chain.ts'
import type {
  TrustAdvance,
  Trusted,
  TrustedGroup,
  TrustedMoment,
  TrustView,
} from '../../mqtt-gateway/protocol/trust.ts'

export class MemoryTrust implements TrustView, AgentChain {
  readonly chainId = 'c4'.repeat(32) as ChainId
  /** False: every lookup fails, and time stands still, as when all full nodes are stopped. */
  reachable = true
  /** What the full nodes have and this view does not have yet. */
  ahead: (() => void) | undefined
  /** How messages may be sealed. */
  suites: readonly EnvelopeSuite[] = builtSuites
  /** Of contracts, topics and readings, as a test puts them here. */
  readonly leaves = new Map<StateKey, unknown>()
  /** Devices that were asked for. */
  lookUps = 0
  readonly #devices = new Map<DeviceId, IdentityRecord>()
  readonly #groups = new Map<GroupId, TrustedGroup>()
  readonly #credentials = new Map<DeviceId, CredentialsRecord>()
  readonly #contracts = new Map<ContractAddress, ContractRecord>()
  readonly #rights = new Map<DeviceId, IdentityRights>()
  readonly #listeners = new Set<(advance: TrustAdvance) => void>()
  #height = 1 as Height
  #time = Date.now() as Milliseconds

  now(): Milliseconds {
    return Date.now() as Milliseconds
  }

  ageMs(): number {
    return Math.max(0, Date.now() - this.#time)
  }

  head(): TrustedMoment {
    return { height: this.#height, time: this.#time }
  }

  async device(id: DeviceId): Promise<Trusted<IdentityRecord>> {
    this.lookUps += 1
    return this.#answer(this.#devices.get(id))
  }

  async group(id: GroupId): Promise<Trusted<TrustedGroup>> {
    return this.#answer(this.#groups.get(id))
  }

  async credentials(id: DeviceId): Promise<Trusted<CredentialsRecord>> {
    return this.#answer(this.#credentials.get(id))
  }

  async rights(id: DeviceId): Promise<Trusted<IdentityRights>> {
    return this.#answer(this.#rights.get(id))
  }

  async leaf<T>(key: StateKey): Promise<Trusted<T>> {
    const device = [...this.#devices.values()].find(({ id }) => stateKeyOf.identity(id) === key)
    return this.#answer((this.leaves.get(key) ?? device) as T | undefined)
  }

  async allowedSuites(): Promise<readonly EnvelopeSuite[]> {
    return this.#answer(this.suites).value ?? []
  }

  async memberships(id: DeviceId): Promise<Trusted<readonly GroupId[]>> {
    const groups = [...this.#groups].filter(([, { members }]) => members.includes(id))
    return this.#answer(groups.map(([group]) => group).toSorted())
  }

  async contract(address: ContractAddress): Promise<Trusted<ContractRecord>> {
    return this.#answer(this.#contracts.get(address))
  }

  async devicePage(): Promise<ListedIds<DeviceId>> {
    return { ids: this.#answer([...this.#devices.keys()]).value ?? [], next: undefined }
  }

  async answer(): Promise<Uint8Array> {
    throw new MoteError('unreachable', 'memory trust: has no proofs')
  }

  onAdvance(listener: (advance: TrustAdvance) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  waitForHeight(height: Height, timeoutMs: number): Promise<boolean> {
    if (this.#height >= height) return Promise.resolve(true)
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const timer = setTimeout(() => resolve(false), timeoutMs)
    const stop = this.onAdvance(advance => {
      if (advance.height >= height) resolve(true)
    })
    return promise.finally(() => {
      clearTimeout(timer)
      stop()
    })
  }

  /** A block that changes nothing: trust data is fresh again. */
  heartbeat(): void {
    this.#certify([])
  }

  /** Moves the head's time into the past, as if no header had come for so long. */
  age(ms: number): void {
    this.#time = (this.#time - ms) as Milliseconds
  }

  register(keys: IdentityKeys): void {
    const lifetime = { notBefore: 0 as Milliseconds, notAfter: undefined, revokedAt: undefined }
    this.put({
      id: keys.id,
      version: 1,
      label: 'lightweight',
      status: 'active',
      trustLevel: 2,
      keys: [
        { purpose: 'sign', key: keys.signing.publicKey, ...lifetime },
        { purpose: 'encrypt', key: keys.encryption.publicKey, ...lifetime },
      ],
      admittedBy: undefined,
      credential: undefined,
      metadataHash: undefined,
      transportKey: undefined,
      incidents: 0,
      incidentsHash: undefined,
      registeredAt: this.#height,
      updatedAt: this.#height,
    })
  }

  put(record: IdentityRecord): void {
    this.#devices.set(record.id, record)
    this.#certify([stateKeyOf.identity(record.id)])
  }

  record(id: DeviceId): IdentityRecord {
    const record = this.#devices.get(id)
    if (!record) throw new Error(`no record of ${id}`)
    return record
  }

  setStatus(id: DeviceId, status: IdentityStatus): void {
    this.put({ ...this.record(id), status })
  }

  /** Replaces what a device may do beyond its own messages. */
  setCredentials(id: DeviceId, credentials: readonly Credential[]): void {
    const version = (this.#credentials.get(id)?.version ?? 0) + 1
    this.#credentials.set(id, { id, version, credentials, updatedAt: this.#height })
    this.#certify([stateKeyOf.credentials(id)])
  }

  deploy(contract: Contract, retiredAt?: Height): ContractAddress {
    const { address } = encodedContract(contract)
    this.#contracts.set(address, {
      address,
      contract,
      steps: 0,
      deployer: 'd0'.repeat(32) as DeviceId,
      deployedAt: this.#height,
      retiredAt,
      guarded: 0,
    })
    return address
  }

  setRights(id: DeviceId, rights: Partial<IdentityRights>): void {
    this.#rights.set(id, { ...noRights, ...rights })
    this.#certify([stateKeyOf.rights(id)])
  }

  createGroup(owner: DeviceId, name: string, topic?: { readonly publishers: GroupId | undefined }): GroupId {
    const id = groupIdOf(owner, name)
    const zero = 0 as Milliseconds
    this.#setGroup(
      {
        id,
        name,
        owner,
        version: 0,
        memberCount: 1,
        memberRoot: memberRootOf([owner]),
        membershipVersion: 0,
        epoch: 0,
        epochKeyHash: undefined,
        boxesHash: undefined,
        epochMembershipVersion: 0,
        epochGraceUntil: undefined,
        previousEpochGraceUntil: zero,
        topic: topic && { ...topic, key: undefined },
        createdAt: this.#height,
        updatedAt: this.#height,
      },
      [owner],
    )
    return id
  }

  /** Adds or removes members; after a removal the current epoch is refused at once, after a join it has a grace. */
  changeMembers(id: GroupId, changes: { add?: readonly DeviceId[]; remove?: readonly DeviceId[] }): void {
    const { record, members } = this.#group(id)
    const removed = new Set(changes.remove)
    const next = [...new Set([...members, ...(changes.add ?? [])])].filter(m => !removed.has(m)).toSorted()
    const graceMs = removed.size > 0 ? -this.#time : 60_000
    this.#setGroup(
      {
        ...record,
        memberCount: next.length,
        memberRoot: memberRootOf(next),
        membershipVersion: record.membershipVersion + 1,
        epochGraceUntil: (this.#time + graceMs) as Milliseconds,
      },
      next,
    )
  }

  /** Compare-and-set, as execution does it. Throws `epoch-conflict`. */
  async rekey({ group, epochKeyHash, boxesHash, topicKey }: RekeyChange): Promise<TrustedGroup> {
    const { id, membershipVersion, epoch } = group.record
    const { record, members } = this.#group(id)
    if (membershipVersion !== record.membershipVersion || epoch !== record.epoch)
      throw new MoteError('epoch-conflict', `group ${id}: epoch is ${record.epoch}`)
    this.#setGroup(
      {
        ...record,
        epoch: epoch + 1,
        epochKeyHash,
        boxesHash,
        epochMembershipVersion: membershipVersion,
        epochGraceUntil: undefined,
        topic: record.topic && { ...record.topic, key: topicKey },
      },
      members,
    )
    return this.#group(id)
  }

  async refresh(): Promise<void> {
    if (!this.reachable) throw new MoteError('unreachable', 'memory trust: switched off')
    this.ahead?.()
    this.ahead = undefined
  }

  #group(id: GroupId): TrustedGroup {
    const group = this.#groups.get(id)
    if (!group) throw new MoteError('unknown-subject', `no group ${id}`)
    return group
  }

  #setGroup(record: GroupRecord, members: readonly DeviceId[]): void {
    const version = record.version + 1
    const before = new Set(this.#groups.get(record.id)?.members)
    const moved = [...before]
      .filter(id => !members.includes(id))
      .concat(members.filter(id => !before.has(id)))
    this.#groups.set(record.id, { record: { ...record, version }, members })
    this.#certify([stateKeyOf.group(record.id), ...moved.map(stateKeyOf.memberships)])
  }

  #answer<T>(value: T | undefined): Trusted<T> {
    if (!this.reachable) throw new MoteError('unreachable', 'memory trust: switched off')
    return { ...this.head(), value }
  }

  #certify(changed: readonly StateKey[]): void {
    this.#height = (this.#height + 1) as Height
    this.#time = Math.max(this.#time, Date.now()) as Milliseconds
    const advance = { ...this.head(), changed: new Set(changed) }
    for (const listener of this.#listeners) listener(advance)
  }
}
