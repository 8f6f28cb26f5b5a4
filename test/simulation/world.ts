/**
 * One run: a chain of a few full nodes with clients and faults, decided by one seed. Nothing but the seed and the number of
 * events goes in, so that two runs of one seed are the same to the byte.
 *
 * First faults are made, and every rule is judged at every event. Then all faults end: within a bound of time everybody
 * who can must run, agree, certify all blocks and serve, and what clients were told must still be so.
 */
import { chainIdOf, checkpointFromGenesis, consentersOf } from '../../chain/genesis.ts'
import type { ChainParameters } from '../../chain/records.ts'
import { nativeSignerFromSeed, nativeVerifier } from '../../client/native-crypto.ts'
import type { Configuration } from '../../consensus/types.ts'
import { epochModel } from '../../devnet/chaos/epoch-register.ts'
import { checkLinearizable } from '../../devnet/chaos/linearizability.ts'
import { RememberingVerifier } from '../../node/ledger/remembered-checks.ts'
import { type SampleIdentity, sampleGenesis, sampleIdentity, seedOf } from '../support/sample-genesis.ts'
import { Clients } from './clients.ts'
import { Faults } from './faults.ts'
import { Gateways } from './gateways.ts'
import { Governor } from './governor.ts'
import { Host, SimulatedProcess, type Site } from './host.ts'
import { Judge } from './judge.ts'
import { SimulatedNetwork } from './network.ts'
import { SeededRandom } from './random.ts'
import { Reporters } from './reporters.ts'
import { Timeline } from './timeline.ts'
import { Trace } from './trace.ts'
import { must, Violation } from './violation.ts'

export interface SimulationOptions {
  readonly seed: number
  /** Events before the faults end. */
  readonly events?: number
  readonly trace?: boolean
}

export interface RunReport {
  readonly seed: number
  /** Undefined if everything held. */
  readonly violation: { readonly property: string; readonly message: string } | undefined
  readonly events: number
  readonly simulatedMs: number
  readonly elections: number
  readonly blocks: number
  readonly acknowledged: number
  readonly faults: number
  /** Answers of followers that could take no more entries. */
  readonly fullAnswers: number
  readonly disjointHandovers: number
  /** Acknowledgements of plain clients' messages. */
  readonly messages: number
  readonly traceHash: string
  readonly trace: string
}

export const defaultEvents = 2_500
/** Simulated time for everything to come right. */
const healMsMax = 60_000

/** How many of the runs have nodes that forget old blocks. */
const forgettingShare = 0.4
/** How many of the runs have gateways, and plain clients of theirs. */
const gatewayShare = 0.25
/** How many of the runs have a device that reports. */
const reportingShare = 0.4
const names = ['a', 'b', 'c', 'd', 'e', 'f']
function identityOf(name: string) {
  const signer = nativeSignerFromSeed('ed25519', seedOf(name, 'signing'))
  return { ...sampleIdentity(name), signer }
}
const identities = names.map(identityOf)
const owners = ['owner-1', 'owner-2'].map(identityOf)
const operator = identityOf('operator')
const gateways = ['gateway-1', 'gateway-2'].map(identityOf)
const plainDevices = ['plain-1', 'plain-2', 'plain-3'].map(identityOf)
/** So many consenters, and so many full nodes that are none yet. */
const sizes = [
  { consenters: 3, more: 0 },
  { consenters: 5, more: 0 },
  { consenters: 3, more: 1 },
  // Two sets that have nobody in common.
  { consenters: 3, more: 3 },
] as const
const chainsWith = (more: readonly SampleIdentity[]) =>
  sizes.map(size => ({
    full: identities.slice(0, size.consenters + size.more),
    governed: size.more > 0,
    genesis: sampleGenesis(identities.slice(0, size.consenters), [
      ...identities
        .slice(size.consenters, size.consenters + size.more)
        .map(identity => ({ identity, label: 'full' as const })),
      ...[...owners, ...more].map(identity => ({ identity, label: 'lightweight' as const })),
    ]),
  }))
const chains = { alone: chainsWith([]), withGateways: chainsWith([...gateways, ...plainDevices]) }
/** Remembers valid signatures from run to run: what is valid once is valid always. */
const verifier = new RememberingVerifier(nativeVerifier)

export class World {
  readonly #options: SimulationOptions
  readonly #timeline = new Timeline()
  readonly #trace: Trace
  readonly #judge: Judge
  readonly #hosts: Host[]
  readonly #clients: Clients
  readonly #faults: Faults
  readonly #governor: Governor | undefined
  readonly #reporters: Reporters | undefined
  readonly #gateways: Gateways | undefined
  readonly #site: Site
  #events = 0

  constructor(options: SimulationOptions) {
    this.#options = options
    const { seed } = options
    this.#trace = new Trace(options.trace ?? false)
    const random = new SeededRandom(seed, 'world')
    const edge = new SeededRandom(seed, 'gateways')
    const hasGateways = edge.chance(gatewayShare)
    const kinds = hasGateways ? chains.withGateways : chains.alone
    const { full, genesis, governed } = kinds[random.pick([0, 0, 0, 1, 2, 3])]!
    const network = new SimulatedNetwork(this.#timeline, new SeededRandom(seed, 'network'))
    this.#judge = new Judge({
      consenters: consentersOf(genesis),
      verifier,
      host: id => this.#hosts.find(host => host.id === id),
      onFailed: ({ host }, error) => this.#faults.failed(host, error.code === 'storage-corrupt'),
    })
    this.#site = {
      seed,
      timeline: this.#timeline,
      network,
      genesis,
      members: full.map(({ id }) => id),
      verifier,
      observer: this.#judge,
      note: text => this.#trace.line(this.#timeline.now, `. ${text}`),
      ...settings(random),
      // What a gateway proves it reads from blocks.
      retention: hasGateways ? {} : retentionOf(new SeededRandom(seed, 'retention')),
    }
    this.#hosts = full.map(identity => new Host(this.#site, identity))
    this.#clients = new Clients({
      site: this.#site,
      random: new SeededRandom(seed, 'clients'),
      hosts: this.#hosts,
      judge: this.#judge,
      trusted: checkpointFromGenesis(genesis),
      owners: owners.slice(0, 1 + random.below(2)),
      count: 2 + random.below(4),
    })
    const faultRandom = new SeededRandom(seed, 'faults')
    const first = consentersOf(genesis)
    const sets = () => [first, ...(this.#governor?.targets ?? [])]
    this.#faults = new Faults(this.#site, this.#hosts, faultRandom, { sets, hasEvenSets: governed })
    this.#governor = governed
      ? new Governor({
          site: this.#site,
          random: new SeededRandom(seed, 'governor'),
          hosts: this.#hosts,
          identities: full,
          first,
          operator,
          clients: this.#clients,
          careful: this.#faults.kinds.includes('bit-rot'),
        })
      : undefined
    // In some of the runs; the others go on as if there were none.
    const reports = new SeededRandom(seed, 'reporters')
    this.#reporters = reports.chance(reportingShare)
      ? new Reporters({
          site: this.#site,
          random: reports,
          judge: this.#judge,
          clients: this.#clients,
          device: owners[0] as SampleIdentity,
          operator,
        })
      : undefined
    this.#gateways = hasGateways
      ? new Gateways({
          site: this.#site,
          random: edge,
          hosts: this.#hosts,
          judge: this.#judge,
          clients: this.#clients,
          trusted: checkpointFromGenesis(genesis),
          operator,
          gateways,
          devices: plainDevices,
        })
      : undefined
    this.#site.note(
      `chain ${chainIdOf(genesis).slice(0, 8)}, ${full.length} nodes, ${this.#faults.kinds.join(' ')}`,
    )
  }

  async run(): Promise<RunReport> {
    let violation: RunReport['violation']
    const unhandled = (error: unknown) => this.#judge.threw(this.#hosts[0]!.process!, error)
    process.on('unhandledRejection', unhandled)
    try {
      await this.#disturb()
      await this.#heal()
      this.#judgeHistories()
    } catch (error) {
      const property = error instanceof Violation ? error.property : 'nothing throws'
      violation = {
        property,
        message: error instanceof Violation ? error.message : String((error as Error).stack),
      }
      this.#site.note(`VIOLATION ${violation.message}`)
    } finally {
      process.off('unhandledRejection', unhandled)
    }
    return {
      seed: this.#options.seed,
      violation,
      events: this.#events,
      simulatedMs: this.#timeline.now,
      elections: this.#judge.elections,
      blocks: this.#judge.highestBlock,
      acknowledged: this.#clients.acknowledged.size,
      faults: [...this.#faults.made.values()].reduce((sum, count) => sum + count, 0),
      fullAnswers: this.#judge.fullAnswers,
      disjointHandovers: this.#judge.disjointHandovers,
      messages: this.#gateways?.acknowledged ?? 0,
      traceHash: this.#trace.hash,
      trace: this.#trace.text,
    }
  }

  async #disturb(): Promise<void> {
    for (const host of this.#hosts) host.start()
    this.#clients.start()
    this.#governor?.start()
    this.#reporters?.start()
    this.#gateways?.start()
    this.#faults.begin()
    const events = this.#options.events ?? defaultEvents
    while (this.#events < events) await this.#step()
  }

  async #heal(): Promise<void> {
    this.#clients.stop()
    this.#governor?.stop()
    this.#reporters?.stop()
    this.#gateways?.stop()
    this.#faults.end()
    const present = () => this.#hosts.filter(({ retired }) => !retired)
    let probes = 0
    const others = [this.#governor, this.#reporters, this.#gateways]
    const isIdle = () => this.#clients.idle && others.every(other => other?.idle ?? true)
    const comesRight = async () => {
      const deadline = this.#timeline.now + healMsMax
      while (probes > 0 || !isIdle() || !this.#agree(present())) {
        must(this.#timeline.now < deadline, 'all comes right when faults end', this.#state(probes))
        await this.#step()
      }
    }
    // Once without new blocks: their certificates would cover for those that are missing.
    await comesRight()
    for (const host of present()) {
      probes++
      this.#clients.probe(host, () => probes--)
    }
    await comesRight()
    this.#reporters?.judgeBlocks()
    this.#gateways?.judgeAll()
    await this.#judgeAcknowledged(present())
  }

  async #step(): Promise<void> {
    const event = this.#timeline.next()
    if (!event) throw new Violation('time goes on', 'nothing is going to happen any more')
    const { actor, label } = event
    this.#events++
    this.#trace.line(this.#timeline.now, actor ? `${actor.name} ${label}` : label)
    event.happen()
    // Every promise that this event has settled is done with before the next one.
    await new Promise<void>(resolve => setImmediate(resolve))
    if (actor instanceof SimulatedProcess) this.#judge.after(actor)
    else this.#judge.settle()
  }

  /** Everybody runs, follows one leader, has executed the same and has it certified. */
  #agree(hosts: readonly Host[]): boolean {
    const nodes = hosts.flatMap(({ node, process }) => (node && !process?.ending ? [node] : []))
    const [first] = nodes
    if (nodes.length < hosts.length || !first) return false
    const { leader } = first.replica.leadership
    const { headerHash } = first.chain.ledger
    return nodes.every(
      ({ replica, chain, certifier }) =>
        leader !== undefined &&
        replica.leadership.leader === leader &&
        chain.ledger.headerHash === headerHash &&
        certifier.certifiedHeight === chain.height &&
        isSettled(replica.configuration, chain.ledger.parameters),
    )
  }

  #state(probes: number): string {
    const hosts = this.#hosts.map(({ name, node, retired, busy }) => {
      if (!node) return `${name}: ${retired ? 'retired' : busy ? 'busy' : 'down'}`
      const { role, term } = node.replica.leadership
      return `${name}: ${role} ${term}, ${node.chain.height}/${node.certifier.certifiedHeight}`
    })
    return `${hosts.join('; ')}; ${probes} probes open, clients ${this.#clients.idle ? 'idle' : 'busy'}; ${this.#gateways?.state ?? ''}`
  }

  /** Whoever has all blocks knows every transaction that a client was told of, at the place that it was told. */
  async #judgeAcknowledged(hosts: readonly Host[]): Promise<void> {
    for (const { id, height, index } of this.#clients.acknowledged.values())
      for (const { name, node, hasGaps, rotten } of hosts) {
        // A damaged record is found when it is read, and here that is late.
        if (rotten) continue
        const status = await node?.service.transactionStatus(id)
        const knowsIt = status?.status !== 'unknown' && status?.status !== 'pending'
        if (hasGaps && !knowsIt) continue
        const same = status?.height === height && status.index === index
        must(same, 'acknowledged is never lost', `${name} ${id.slice(0, 8)}: ${JSON.stringify(status)}`)
      }
  }

  #judgeHistories(): void {
    for (const id of this.#clients.ruledOut)
      must(!this.#judge.executions.has(id), 'what is ruled out is never executed', id)
    for (const { history } of this.#clients.groups) {
      const verdict = checkLinearizable(history, epochModel({ epoch: 0, value: '' }), { maxSteps: 50_000 })
      const stuck = verdict.type === 'violation' ? JSON.stringify(verdict.stuckAt.slice(0, 4)) : ''
      must(verdict.type !== 'violation', 'histories are linearizable', stuck)
    }
  }
}

/** No change of the consenters is under way: voters and signers are the same. */
function isSettled({ voters, votersOutgoing }: Configuration, parameters: ChainParameters): boolean {
  const { consenters, nextConsenters } = parameters
  const ids = consenters.consenters.map(({ id }) => id)
  const isSame = ids.length === voters.length && ids.every(id => voters.includes(id))
  return isSame && votersOutgoing.length === 0 && nextConsenters === undefined
}

/** Limits and timing of a run: defaults, or so small that every one of them is met. */
function settings(
  random: SeededRandom,
): Pick<Site, 'raft' | 'limits' | 'compaction' | 'producer' | 'heartbeatMs'> {
  const kibibyte = 1024
  const tight = {
    maxEntriesPerAppend: 1 + random.below(4),
    maxAppendsInFlight: 1 + random.below(3),
    maxBytesInFlight: 2 * kibibyte,
    maxLogBytesInMemory: random.pick([1, 4, 16]) * kibibyte,
    maxUncommittedBytes: random.pick([0.25, 1, 4, 64]) * kibibyte,
  }
  return {
    raft: { tickMs: 50, electionTimeoutTicks: 10, heartbeatTicks: random.pick([1, 2, 3]) },
    limits: random.chance(0.5) ? tight : {},
    compaction: random.chance(0.6) ? { entriesKept: 2 + random.below(random.pick([4, 30])) } : {},
    producer: {
      transactionsPerBlock: random.pick([1, 3, 2_000]),
      blocksInFlight: 1 + random.below(3),
      certificationLagMax: random.pick([1, 4, 16, 64]),
    },
    heartbeatMs: random.pick([300, 1_000, 5_000, 600_000]),
  }
}

/** In some runs old blocks are forgotten; in the others what they leave behind is looked at whole. */
function retentionOf(random: SeededRandom): Site['retention'] {
  if (!random.chance(forgettingShare)) return {}
  return { blocks: 1 + random.below(12), ageMs: random.pick([0, 3_000]) }
}

export function runSeed(options: SimulationOptions): Promise<RunReport> {
  return new World(options).run()
}
