/**
 * A cluster in one process, driven by one seed: every tick, delivery, write and fault is an event that the seed
 * picks. Cores run unchanged; the rest is `node.ts` and a list of messages on their way.
 *
 * Two phases: `disturb` picks events at random, faults among them, with the invariants judged at each; `heal` ends
 * all faults, after which the cluster has to elect a leader, commit, and agree.
 */
import { defaultConfig } from '../../../consensus/config.ts'
import type { Raft } from '../../../consensus/raft.ts'
import type { RaftStatus } from '../../../consensus/status.ts'
import type { Config, Configuration, Effect, Input, Message, NodeId } from '../../../consensus/types.ts'
import { Invariants } from './invariants.ts'
import { Node } from './node.ts'
import { FuzzRandom } from './random.ts'
import { SentAgain } from './sent-again.ts'
import { simple } from './server.ts'

interface Envelope {
  readonly to: NodeId
  readonly message: Message
}

type Fetch = Extract<Effect, { type: 'fetch-snapshot' }> & { readonly to: NodeId }

const ids = ['a', 'b', 'c', 'd', 'e']
const electionTimeoutTicks = 5
/** A configuration with all of them, in both halves; commands of a schedule are shorter. */
const largestEntryBytes = 64 * (1 + 2 * ids.length)

export class Cluster {
  readonly random: FuzzRandom
  readonly invariants = new Invariants()
  readonly nodes = new Map<NodeId, Node>()
  #network: Envelope[] = []
  #fetches: Fetch[] = []
  /** `a>b`: nothing that a sends reaches b. */
  #cut = new Set<string>()
  /** The core is not told what it has applied. */
  readonly #slow = new Set<Node>()
  /** Of a leader: who has said `full` since its last tick. */
  readonly #full = new Map<Node, Set<NodeId>>()
  readonly #sentAgain = new Map<NodeId, SentAgain>()
  readonly #limits: Config
  /** Answers that said `full`: how often a run has met that state. */
  fullAnswers = 0
  #context = 0

  constructor(seed: number, config: Partial<Config> = {}) {
    this.random = new FuzzRandom(seed)
    this.#limits = { ...defaultConfig('a'), ...config }
    // Who joins later knows where the cluster began, too.
    const initial = simple(...ids.slice(0, this.random.pick([1, 3, 3, 3, 5])))
    for (const id of ids) {
      const node = new Node(id, {
        config: { electionTimeoutTicks, ...config },
        initial,
        random: this.random,
      })
      this.nodes.set(id, node)
      node.start()
    }
  }

  get leader(): Node | undefined {
    const [latest] = [...this.nodes.values()]
      .filter(({ raft }) => raft?.status.role === 'leader')
      .toSorted((left, right) => termOf(right) - termOf(left))
    return latest
  }

  /** Lets `count` events happen. */
  disturb(count: number): void {
    for (let event = 0; event < count; event += 1) this.#event()
  }

  /** Ends all faults and gives the cluster `rounds` of time. True once everybody agrees and new work is done. */
  heal(rounds: number): boolean {
    this.#cut.clear()
    for (const node of this.nodes.values()) if (node.raft === undefined) node.start()
    for (const node of this.#slow) this.#catchUp(node)
    const goal = this.invariants.highestCommitted
    for (let round = 0; round < rounds; round += 1) {
      for (const node of this.nodes.values()) this.step(node, { type: 'tick' })
      this.#drain()
      const { leader } = this
      if (leader === undefined) continue
      this.#propose(leader)
      this.step(leader, { type: 'leave-joint', context: this.#nextContext() })
      this.#drain()
      if (this.invariants.highestCommitted > goal && this.#isAgreed()) return this.#removesOne(rounds)
    }
    return false
  }

  /** A member that takes the log is removed. It has to learn that, and to stand for no election from then on. */
  #removesOne(rounds: number): boolean {
    const leader = this.leader?.raft
    const [id] = [...(leader?.status.followers ?? [])].find(([, { state }]) => state === 'replicate') ?? []
    const removed = id === undefined ? undefined : this.nodes.get(id)?.raft
    if (leader === undefined || id === undefined || removed === undefined) return true
    const leavesOut = ({ status }: Raft) => !isMemberOf(status.configuration, id)
    for (let round = 0; !leavesOut(leader); round += 1) {
      if (round > rounds) return false
      const [voters = [], learners = []] = [
        leader.status.configuration.voters,
        leader.status.configuration.learners,
      ].map(ids => ids.filter(other => other !== id))
      this.#ask({ type: 'change-membership', voters, learners, context: this.#nextContext() })
      this.#passTime()
    }
    const knows = () => leavesOut(removed) && removed.status.commitIndex >= removed.status.configurationIndex
    for (let round = 0; round < 3 * electionTimeoutTicks && !knows(); round += 1) this.#passTime()
    for (let round = 0; round < 3 * electionTimeoutTicks; round += 1) {
      this.#ask({ type: 'propose', data: [new Uint8Array(1)], context: this.#nextContext() })
      this.#passTime()
      if (!knows() || removed.status.role !== 'follower')
        throw new Error(`violated: who is removed learns it, and stands no more (${id})`)
    }
    return true
  }

  #ask(input: Input): void {
    const { leader } = this
    if (leader !== undefined) this.step(leader, input)
  }

  /** A tick of everybody, and what follows; joint consensus is left. */
  #passTime(): void {
    for (const node of this.nodes.values()) this.step(node, { type: 'tick' })
    this.#drain()
    this.#ask({ type: 'leave-joint', context: this.#nextContext() })
    this.#drain()
  }

  /** Steps one node and carries out what it asks for. */
  step(node: Node, input: Input): void {
    const { raft } = node
    if (raft === undefined) return
    const before = raft.status
    if (input.type === 'tick') {
      this.#sentAgain.get(node.id)?.reset()
      this.#full.delete(node)
    }
    const intended = node.intended
    const effects = node.step(input)
    const after = node.intended
    node.intended = intended
    for (const effect of effects) if (effect.type === 'persist') this.invariants.written(node, before, effect)
    node.intended = after
    this.invariants.step(node, before, effects)
    this.#sentAgain.get(node.id)?.keep(raft.status.followers)
    this.#judgeFull(node, before, { input, effects })
    for (const effect of effects) this.#perform(node, effect)
  }

  #perform(node: Node, effect: Effect): void {
    switch (effect.type) {
      case 'send':
        if (node.mayLeave(effect)) this.#leave(node, effect)
        return
      case 'commit':
        node.apply(effect.entries)
        if (!this.#slow.has(node)) this.step(node, { type: 'applied', index: node.lastApplied })
        return
      case 'load':
        this.step(node, node.load(effect))
        return
      case 'fetch-snapshot':
        this.#fetches = this.#fetches.filter(fetch => fetch.to !== node.id)
        this.#fetches.push({ ...effect, to: node.id })
        return
      default:
        return
    }
  }

  #leave(node: Node, { to, message }: Envelope): void {
    this.invariants.leaves(node, message)
    if (message.type === 'vote' && message.voteGranted && !message.preVote) {
      this.invariants.voteLeaves(node, to, message.term)
    }
    if (message.type === 'append-entries') {
      this.#judgeSentAgain(node, { to, message })
      judgeFarewell(node, { to, message })
    }
    if (message.type === 'append-response' && message.full) this.fullAnswers += 1
    if (!this.#cut.has(`${node.id}>${to}`)) this.#network.push({ to, message })
  }

  /** Who can take no more says so, and gets heartbeats alone from then on. */
  #judgeFull(
    node: Node,
    before: RaftStatus,
    { input, effects }: { readonly input: Input; readonly effects: readonly Effect[] },
  ): void {
    const full = this.#full.get(node) ?? new Set()
    this.#full.set(node, full)
    for (const id of full) if (!before.followers.has(id)) full.delete(id)
    if (input.type !== 'message') return
    const { message } = input
    const isOverBound = before.unappliedBytes > this.#limits.maxUncommittedBytes
    const isCurrent = message.term === before.currentTerm && before.role === 'leader'
    // Who fetches a snapshot gets no entries, and has it in place of all that waited to be applied.
    const fetches = before.followers.get(message.from)?.state === 'snapshot'
    if (message.type === 'append-response' && message.full && isCurrent && !fetches) full.add(message.from)
    for (const effect of effects) {
      if (effect.type !== 'send') continue
      const { to, message: sent } = effect
      if (sent.type === 'append-response' && message.term >= before.currentTerm && isOverBound && !sent.full)
        throw new Error(`violated: who is full says so (${node.id})`)
      if (sent.type === 'append-entries' && sent.entries.length > 0 && full.has(to))
        throw new Error(`violated: who is full gets heartbeats alone (${node.id} to ${to})`)
    }
  }

  /** Between two ticks of a leader, what it sends again is bounded, whatever is answered. */
  #judgeSentAgain({ id }: Node, { to, message }: Envelope): void {
    if (message.type !== 'append-entries') return
    const sent = this.#sentAgain.get(id) ?? new SentAgain()
    this.#sentAgain.set(id, sent)
    const { maxBytesInFlight, maxBytesPerAppend } = this.#limits
    const again = sent.count(to, message)
    if (again > maxBytesInFlight + Math.max(maxBytesPerAppend, largestEntryBytes))
      throw new Error(`violated: bytes sent again between two ticks are bounded (${id} to ${to}: ${again})`)
  }

  /** Tells a core what was applied while it was not told. */
  #catchUp(node: Node): void {
    this.#slow.delete(node)
    this.step(node, { type: 'applied', index: node.lastApplied })
  }

  #sync(node: Node): void {
    const done = node.sync()
    if (done === undefined) return
    for (const send of done.sends) this.#leave(node, send)
    this.step(node, { type: 'persisted', token: done.token })
  }

  #deliver({ to, message }: Envelope): void {
    const node = this.nodes.get(to)
    if (node !== undefined) this.step(node, { type: 'message', message })
  }

  #fetched({ to, from, snapshot }: Fetch): void {
    const node = this.nodes.get(to)
    const source = this.nodes.get(from)
    if (node?.raft === undefined) return
    const { lastIncludedIndex } = snapshot
    const isThere = source?.raft !== undefined && source.lastApplied >= lastIncludedIndex
    if (!isThere || this.#cut.has(`${from}>${to}`)) {
      this.step(node, { type: 'snapshot-failed', lastIncludedIndex })
      return
    }
    node.fetched.set(lastIncludedIndex, source.applied.slice(0, lastIncludedIndex))
    this.step(node, { type: 'snapshot-installed', snapshot })
  }

  #propose(node: Node): void {
    const context = this.#nextContext()
    const data = Array.from({ length: 1 + this.random.below(3) }, (_, part) => {
      return new TextEncoder().encode(`${context}.${part}`)
    })
    this.step(node, { type: 'propose', data, context })
  }

  #nextContext(): number {
    this.#context += 1
    return this.#context
  }

  #event(): void {
    const { random } = this
    const node = random.pick([...this.nodes.values()])
    const kind = random.below(1000)
    if (kind < 440) this.#deliverOne()
    else if (kind < 640) this.#sync(node)
    else if (kind < 840) this.step(node, { type: 'tick' })
    else if (kind < 900) this.#propose(this.leader ?? node)
    else if (kind < 930) this.#read(random.chance(0.3) ? node : random.pick(this.#leaders(node)))
    else if (kind < 945) this.#fetchOne()
    else if (kind < 955) this.#changeMembers()
    else if (kind < 965) this.step(node, { type: 'transfer', to: random.pick(ids) })
    else if (kind < 975) node.compact()
    else if (kind < 980) this.#slow.add(node)
    else if (kind < 984) for (const slow of this.#slow) this.#catchUp(slow)
    else if (kind < 986) this.#drain()
    else this.#fault(node)
  }

  #fault(node: Node): void {
    const { random } = this
    switch (random.below(6)) {
      case 0:
        node.crash()
        this.#slow.delete(node)
        this.#fetches = this.#fetches.filter(fetch => fetch.to !== node.id)
        return
      case 1:
        for (const other of this.nodes.values()) if (other.raft === undefined) other.start()
        return
      case 2:
        this.#isolate(random.chance(0.5) ? node : random.pick(this.#leaders(node)))
        return
      case 3:
      case 4:
        this.#cut.clear()
        return
      default:
        this.step(node, { type: 'unreachable', peer: random.pick(ids) })
    }
  }

  /** Cuts a node off: from everybody, or one way from each. */
  #isolate({ id }: Node): void {
    const isWhole = this.random.chance(0.5)
    for (const other of ids) {
      const isOutward = this.random.chance(0.5)
      if (isWhole || isOutward) this.#cut.add(`${id}>${other}`)
      if (isWhole || !isOutward) this.#cut.add(`${other}>${id}`)
    }
  }

  /** Everybody who believes to lead, or else `node`. */
  #leaders(node: Node): Node[] {
    const leaders = [...this.nodes.values()].filter(({ raft }) => raft?.status.role === 'leader')
    return leaders.length > 0 ? leaders : [node]
  }

  /** Any message may be next, and may be lost or come again. */
  #deliverOne(): void {
    const { random } = this
    if (this.#network.length === 0) return
    // Mostly in order, as streams give them; sometimes not.
    const position = random.chance(0.8) ? 0 : random.below(this.#network.length)
    const [envelope] = random.chance(0.03)
      ? this.#network.slice(position, position + 1)
      : this.#network.splice(position, 1)
    if (envelope !== undefined && !random.chance(0.03)) this.#deliver(envelope)
  }

  #fetchOne(): void {
    const fetch = this.#fetches.shift()
    if (fetch !== undefined) this.#fetched(fetch)
  }

  #read(node: Node): void {
    const context = this.#nextContext()
    this.invariants.readStarted(context)
    this.step(node, { type: 'read', context })
  }

  #changeMembers(): void {
    const { leader, random } = this
    if (leader === undefined) return
    const context = this.#nextContext()
    this.step(leader, { type: 'leave-joint', abandon: random.chance(0.3), context })
    const voters = ids.filter(() => random.chance(0.6))
    const learners = ids.filter(id => !voters.includes(id) && random.chance(0.5))
    this.step(leader, { type: 'change-membership', voters, learners, context })
  }

  /** Lets everything that is under way happen, in order, and no time pass: it has to come to an end. */
  #drain(): void {
    for (let pass = 0; pass < 1_000; pass += 1) {
      const batch = this.#network
      this.#network = []
      for (const envelope of batch) this.#deliver(envelope)
      for (const node of this.nodes.values()) while (node.writes.length > 0) this.#sync(node)
      while (this.#fetches.length > 0) this.#fetchOne()
      if (this.#network.length === 0) return
    }
    throw new Error('violated: without ticks, messages run out')
  }

  #isAgreed(): boolean {
    const { leader } = this
    const status = leader?.raft?.status
    if (leader === undefined || status === undefined) return false
    const { voters, votersOutgoing, learners } = status.configuration
    // One that is about to go is no leader to go on with.
    if (!voters.includes(leader.id) || status.configurationIndex > status.commitIndex) return false
    const members = [...voters, ...learners].map(id => this.nodes.get(id))
    const agrees = (node: Node | undefined) =>
      node?.lastApplied === leader.lastApplied &&
      node.applied.every((entry, index) => entry?.data.join() === leader.applied[index]?.data.join())
    return votersOutgoing.length === 0 && members.every(agrees)
  }
}

function isMemberOf({ voters, votersOutgoing, learners }: Configuration, id: NodeId): boolean {
  return [voters, votersOutgoing, learners].some(ids => ids.includes(id))
}

/** Who is no member is sent nothing behind the configuration in force, which left it out at the latest. */
function judgeFarewell({ id, raft }: Node, { to, message }: Envelope): void {
  if (message.type !== 'append-entries' || raft === undefined) return
  const { configuration, configurationIndex } = raft.status
  const last = Math.max(message.leaderCommit, message.prevLogIndex + message.entries.length)
  if (!isMemberOf(configuration, to) && last > configurationIndex)
    throw new Error(`violated: who is removed gets nothing behind it (${id} to ${to}: ${last})`)
}

function termOf(node: Node): number {
  return node.raft?.status.currentTerm ?? 0
}
