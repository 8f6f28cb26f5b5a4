/**
 * Who keeps this chain, and who may speak with this node, judged in one place.
 *
 * `Members` are the members of the Raft configuration in force, the voters by certified state (known-voters.ts), and the peers of
 * this node's own configuration. Only they are heard (of the last, no Raft message that only a voter may send:
 * consensus/hearing.ts), and only they may ask `/mote/member/1`. Beside them, at a leader: members that were removed and are still told so
 * (consensus/departing.ts). Of them nothing is taken but Raft messages, whose answers show that they know it; they may ask
 * for the amnesia check, without which they hear no leader that is new to them (`MemberGate`), and for nothing else.
 *
 * `FullMembers` are the identities that the chain counts as full nodes, out of which members are taken. Which members a leader may
 * put into the log, `withholdUnproven` judges.
 */
import type { DeviceId } from '../../chain/brands.ts'
import { decode } from '../../chain/codec.ts'
import type { ConsenterSet } from '../../chain/consenters.ts'
import { type IdentityRecord, identityCodec, stateKeyOf } from '../../chain/records.ts'
import { entries, get } from '../../chain/state-tree.ts'
import { typeOfKind } from '../../chain/transaction.ts'
import { isJoint, isVoter } from '../../consensus/configuration.ts'
import type { Configuration, Message, Recovered } from '../../consensus/types.ts'
import { memberRequests } from '../network/request-table.ts'
import type { Network, PeerMessage } from '../ports.ts'
import type { Execution, LiveChain } from './live-chain.ts'
import type { NodeEvents, NodeListener } from './node-events.ts'

export class Members implements NodeListener {
  readonly #id: DeviceId
  readonly #peers: readonly DeviceId[]
  #configuration: Configuration
  #others: ReadonlySet<string>
  #departing: ReadonlySet<string> = new Set()
  #knownVoters: readonly DeviceId[] = []

  /** @param peers of this node's configuration: heard even before this node knows them as members */
  constructor(
    id: DeviceId,
    peers: readonly DeviceId[],
    recovered: Pick<Recovered, 'configuration' | 'entries'>,
  ) {
    this.#id = id
    this.#peers = peers
    const inLog = recovered.entries.findLast(entry => entry.configuration !== undefined)
    this.#configuration = inLog?.configuration ?? recovered.configuration
    this.#others = this.#othersIn(this.#configuration)
  }

  /** In force: the latest in the log, committed or not. Another object after each change. */
  get inForce(): Configuration {
    return this.#configuration
  }

  /** Everybody else who keeps this chain. */
  get others(): ReadonlySet<string> {
    return this.#others
  }

  /** True if its vote counts in the configuration in force. */
  isVoter(id: DeviceId): boolean {
    return isVoter(this.#configuration, id)
  }

  configurationChanged(configuration: Configuration): void {
    this.#configuration = configuration
    this.#others = this.#othersIn(configuration)
  }

  votersKnown(ids: readonly DeviceId[]): void {
    this.#knownVoters = ids
    this.#others = this.#othersIn(this.#configuration)
  }

  departing(members: readonly string[]): void {
    this.#departing = new Set(members)
  }

  isDeparting(id: DeviceId): boolean {
    return this.#departing.has(id)
  }

  /** In the configuration in force, or by certified state. */
  isKnownVoter(id: DeviceId): boolean {
    return this.isVoter(id) || this.#knownVoters.includes(id)
  }

  hears(from: DeviceId, type: PeerMessage['type']): boolean {
    return this.#others.has(from) || (type === 'raft' && this.#departing.has(from))
  }

  mayAsk(id: DeviceId, request: string): boolean {
    return this.#others.has(id) || (request === memberRequests.amnesiaCheck.name && this.#departing.has(id))
  }

  #othersIn({ voters, votersOutgoing, learners }: Configuration): ReadonlySet<string> {
    const others = new Set<string>([
      ...voters,
      ...votersOutgoing,
      ...learners,
      ...this.#knownVoters,
      ...this.#peers,
    ])
    others.delete(this.#id)
    return others
  }
}

/**
 * Keeps Raft messages to and from a peer back until the peer has been asked what it remembers of this node
 * (member-server.ts), once in the life of the process: nobody can be part of a quorum with this node before.
 */
export class MemberGate implements Pick<Network, 'send' | 'flush'> {
  readonly #network: Pick<Network, 'send' | 'flush'>
  readonly #events: Pick<NodeEvents, 'unasked' | 'unreachable'>
  readonly #open = new Set<DeviceId>()

  constructor(network: Pick<Network, 'send' | 'flush'>, events: Pick<NodeEvents, 'unasked' | 'unreachable'>) {
    this.#network = network
    this.#events = events
  }

  /** True if messages may pass; otherwise an event says that this peer still has to pass the amnesia check. */
  passes(peer: DeviceId): boolean {
    if (this.#open.has(peer)) return true
    this.#events.unasked(peer)
    return false
  }

  /** A message that the gate holds back is lost. */
  send(to: DeviceId, message: PeerMessage, leaves?: 'now' | 'soon'): void {
    if (this.passes(to)) this.#network.send(to, message, leaves)
  }

  flush(): void {
    this.#network.flush()
  }

  /** Nothing that this peer remembers speaks against this node: what was held back is to be sent anew. */
  open(peer: DeviceId): void {
    this.#open.add(peer)
    this.#events.unreachable(peer)
  }
}

/* Which identities the chain counts as full nodes: a set that follows execution, so that nobody has to search the state. */

export class FullMembers implements NodeListener {
  readonly #chain: Pick<LiveChain, 'ledger'>
  #ids: ReadonlySet<DeviceId> = new Set()

  constructor(chain: Pick<LiveChain, 'ledger'>) {
    this.#chain = chain
    this.installed()
  }

  /** Active identities with the label full. The set is another one after each change. */
  get ids(): ReadonlySet<DeviceId> {
    return this.#ids
  }

  /** Reads the whole state: at a start and after a snapshot. */
  installed(): void {
    this.#ids = new Set()
    for (const [, value] of entries(this.#chain.ledger.tree)) {
      if (!looksLikeIdentity(value)) continue
      const record = decode(identityCodec, value)
      if (record.ok) this.#judge(record.value)
    }
  }

  /** The chain's ledger is the result of the block. */
  executed({ write }: Execution): void {
    const { ledger } = this.#chain
    for (const { kind, devices } of write.transactions) {
      if (!typeOfKind.get(kind)?.startsWith('identity.')) continue
      for (const device of devices) {
        const value = get(ledger.tree, stateKeyOf.identity(device))
        const record = value && decode(identityCodec, value)
        if (record?.ok) this.#judge(record.value)
      }
    }
  }

  #judge({ id, label, status }: IdentityRecord): void {
    const counts = label === 'full' && status === 'active'
    if (counts === this.#ids.has(id)) return
    this.#ids = new Set(counts ? [...this.#ids, id] : [...this.#ids].filter(other => other !== id))
  }
}

/** A leaf is `[record type, format, record]`: most of a large state need not be decoded to be passed over. */
function looksLikeIdentity(leaf: Uint8Array): boolean {
  return leaf[0] === 0x93 && leaf[1] === 1
}

/*
 * A configuration is judged, not believed (docs/CONSENSUS.md, "Who is heard"): a leader that lies could otherwise put one with
 * voters of its own into every log, and nobody else would ever be elected.
 *
 * What the members may be, the chain's state says: the voters are the present consenters; in joint consensus the outgoing
 * ones are, and the incoming ones are those that were decided on, once that decision is certified here: else nobody could
 * prove to who missed it that they may lead. (Where the entry is committed, a majority had the certificate; a node that comes
 * back may never get that one.) Learners get the log and decide nothing, so their number is bounded
 * (consensus/message-check.ts) and that is all.
 *
 * An append is cut before its first configuration that this node's durable state, after exactly the entry before it, does
 * not bear out, and before one whose time of judgement has not come: what is left is taken, executed, and the rest comes
 * again. No honest leader waits for ever: it proposes a configuration only when its whole log is applied, so everything
 * before the entry is committed, and whoever holds the entry knows that.
 *
 * Entries that are applied, and those found in the log at a start, were judged before.
 */

type Append = Extract<Message, { type: 'append-entries' }>

/** Raft indexes that are executed here, and of those the ones on disk. */
export interface Applied {
  readonly applied: number
  readonly durable: number
}

/** The append up to its first configuration that is not to be taken, and whether entries were taken off its end. */
export function withholdUnproven(
  append: Append,
  done: Applied,
  chain: Pick<LiveChain, 'ledger' | 'certified'>,
): { readonly message: Append; readonly withheld: boolean } {
  const first = append.entries.findIndex(
    ({ index, configuration }) =>
      configuration !== undefined &&
      index > done.applied &&
      !(isAfter(done, index - 1) && isBorneOut(configuration, chain, index <= append.leaderCommit)),
  )
  if (first < 0) return { message: append, withheld: false }
  return { message: { ...append, entries: append.entries.slice(0, first) }, withheld: true }
}

function isAfter({ applied, durable }: Applied, index: number): boolean {
  return applied === index && durable === index
}

/** True if the state allows these members. */
function isBorneOut(
  configuration: Configuration,
  { ledger, certified }: Pick<LiveChain, 'ledger' | 'certified'>,
  isCommitted: boolean,
): boolean {
  const { consenters, nextConsenters } = ledger.parameters
  if (!isJoint(configuration)) return isSetOf(configuration.voters, consenters)
  return (
    isSetOf(configuration.votersOutgoing, consenters) &&
    isSetOf(configuration.voters, nextConsenters) &&
    (isCommitted || isSetOf(configuration.voters, certified.parameters.nextConsenters))
  )
}

/** True if this can be the configuration at the place of a block whose state has these consenters: they are one of its halves. */
export function isAtPlaceOf({ voters, votersOutgoing }: Configuration, consenters: ConsenterSet): boolean {
  return isSetOf(voters, consenters) || isSetOf(votersOutgoing, consenters)
}

/** True if these are the ids of this set. */
function isSetOf(ids: readonly string[], set: ConsenterSet | undefined): boolean {
  if (set?.consenters.length !== ids.length) return false
  return set.consenters.every(({ id }) => ids.includes(id))
}
