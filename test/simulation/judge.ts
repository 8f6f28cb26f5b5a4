/**
 * What must hold at every event of a run, judged from outside and by means of its own: the judge keeps the log that each
 * node believes to have, what is durable on each disk, what was ever voted for, signed, committed and executed by anybody,
 * and compares. The first violation ends the run.
 *
 * Properties (Figure 3 of the Raft paper, and docs/ARCHITECTURE.md): election safety, leader append-only, log matching,
 * leader completeness, state machine safety; commitment means durable on a quorum; votes, acknowledgements and signatures
 * leave only when what they promise is durable; one header hash per height; one signature per height; certificates cover
 * committed blocks only; a transaction is executed once; indexes and heights never go back; memory is bounded.
 */
import { receiptsCodec } from '../../chain/block.ts'
import type { DeviceId, Hash, TransactionId } from '../../chain/brands.ts'
import { type Certificate, certificateSigningBytes } from '../../chain/certificate.ts'
import { decodeOwn } from '../../chain/codec.ts'
import { type ConsenterSet, quorumOf, signersHash } from '../../chain/consenters.ts'
import type { SignatureVerifier } from '../../chain/keys.ts'
import type { Ledger } from '../../chain/ledger.ts'
import type { MoteError } from '../../chain/result.ts'
import { defaultConfig } from '../../consensus/config.ts'
import type { RaftStatus } from '../../consensus/status.ts'
import type { Configuration, Message } from '../../consensus/types.ts'
import { maxHandovers } from '../../node/ledger/snapshot-stream.ts'
import type { LedgerNode } from '../../node/ledger-node.ts'
import type { ApplyWrite, LogWrite, PeerMessage, RecoveredNode, SignatureMessage } from '../../node/ports.ts'
import { SentAgain } from '../unit/consensus/sent-again.ts'
import { DiskView } from './disk-view.ts'
import { HearingRules } from './hearing-rules.ts'
import type { Host, ProcessObserver, SimulatedProcess } from './host.ts'
import { type LogEntry, LogMirror } from './log-mirror.ts'
import { judgeBounds, judgeMembers, judgeProgress, mostSentAgain } from './status-rules.ts'
import { TimeRules } from './time-rules.ts'
import { must, Violation } from './violation.ts'

type AppendEntries = Extract<Message, { type: 'append-entries' }>

/** What the judge remembers of one process. */
interface Seen {
  readonly log: LogMirror
  status: RaftStatus | undefined
  height: number
  certificate: Certificate | undefined
  certifiedHeight: number
  readonly hearing: HearingRules
  readonly sentAgain: SentAgain
  sentAgainSince: number
  /** Has to be in the log when the event is over. */
  due: LogEntry | undefined
}

interface CommittedBlock {
  readonly headerHash: Hash
  readonly ledger: Ledger
}

export interface ObservedExecution {
  readonly height: number
  readonly index: number
  readonly code: string
}

export interface JudgeParts {
  /** Of the genesis. */
  readonly consenters: ConsenterSet
  readonly verifier: SignatureVerifier
  readonly host: (id: string) => Host | undefined
  /** A process that cannot go on for a reason that its world gave it. */
  readonly onFailed: (process: SimulatedProcess, error: MoteError) => void
}

export class Judge implements ProcessObserver {
  readonly #parts: JudgeParts
  readonly #seen = new WeakMap<SimulatedProcess, Seen>()
  readonly #disk = new DiskView()
  readonly #time: TimeRules
  readonly #leaders = new Map<number, string>()
  readonly #votes = new Map<string, string>()
  readonly #entries = new Map<string, LogEntry & { readonly previousTerm: number | undefined }>()
  /** By index; with the term in which it was committed. */
  readonly #committed = new Map<number, LogEntry & { readonly committedIn: number }>()
  /** By height. */
  readonly #blocks = new Map<number, CommittedBlock>()
  readonly #executed = new Map<TransactionId, ObservedExecution>()
  readonly #signed = new Map<string, Hash>()
  readonly #certificatesSeen = new WeakSet<Certificate>()
  /** Heights of handovers whose certificates were both judged. */
  readonly #handovers = new Set<number>()
  /** Thrown where only an event may be ended: judged when it is over. */
  #pending: unknown
  highestCommitted = 0
  elections = 0
  /** Answers of followers that could take no more entries. */
  fullAnswers = 0
  /** Certified handovers to a set that has nobody of the one before. */
  disjointHandovers = 0

  constructor(parts: JudgeParts) {
    this.#parts = parts
    this.#time = new TimeRules(parts.host)
  }

  get highestBlock(): number {
    return this.#highestBlock
  }
  #highestBlock = 0

  get executions(): ReadonlyMap<TransactionId, ObservedExecution> {
    return this.#executed
  }

  get certificatesMade(): number {
    return this.#highestCertified
  }
  #highestCertified = 0

  /** Time of the highest block; 0 before there is one. */
  get newestTime(): number {
    return this.#blocks.get(this.#highestBlock)?.ledger.header.time ?? 0
  }

  block(height: number): CommittedBlock | undefined {
    return this.#blocks.get(height)
  }

  /** Runs a rule inside of production code, which must not be unwound by it. */
  inside(rule: () => void): void {
    try {
      rule()
    } catch (error) {
      this.#pending ??= error
    }
  }

  /* ------------------------------------------------------------ what processes do */

  recovered(process: SimulatedProcess, found: RecoveredNode | undefined): void {
    const log = new LogMirror(found?.before ?? { index: 0, term: 0 })
    if (found) log.append(found.entries)
    this.#seen.set(process, {
      log,
      status: undefined,
      height: -1,
      certificate: undefined,
      certifiedHeight: 0,
      hearing: new HearingRules(),
      sentAgain: new SentAgain(),
      sentAgainSince: 0,
      due: undefined,
    })
  }

  started(_process: SimulatedProcess): void {}

  receives(process: SimulatedProcess, message: PeerMessage): void {
    this.inside(() => {
      const seen = this.#must(process)
      seen.due = this.#time.due(process, seen.log, message)
      seen.hearing.receives(process, message, this.#disk.hardState(process.host.disk))
    })
  }

  failed(process: SimulatedProcess, error: MoteError): void {
    const { host } = process
    this.inside(() => {
      must(error.code !== 'execution-diverged', 'nobody diverges', `${host.name}: ${error.detail}`)
      must(
        error.code !== 'state-lost',
        'nobody is taken for one that lost its state',
        `${host.name}: ${error.detail}`,
      )
      must(
        error.code !== 'storage-corrupt' || host.rotten,
        'sound disks are not taken for corrupt',
        `${host.name}: ${error.detail}`,
      )
    })
    this.#parts.onFailed(process, error)
  }

  threw(process: { readonly name: string }, error: unknown): void {
    this.#pending ??= new Violation('nothing throws', `${process.name}: ${errorText(error)}`)
  }

  persists(process: SimulatedProcess, write: LogWrite): void {
    this.inside(() => {
      const { log, status } = this.#must(process)
      const now = process.node?.replica.consensus
      const leads =
        status?.role === 'leader' && now?.role === 'leader' && status.currentTerm === now.currentTerm
      const cuts = write.truncateAfter !== undefined || write.snapshot !== undefined
      must(!leads || !cuts, 'leader append-only', process.name)
      const { truncateAfter, snapshot } = write
      if (snapshot) {
        const { lastIncludedIndex: index, lastIncludedTerm: term } = snapshot.meta
        must(index > (status?.commitIndex ?? 0), 'a snapshot takes nothing back', `${process.name} ${index}`)
        const committed = this.#committed.get(index)
        must(
          committed?.term === term,
          'a snapshot ends at a committed entry',
          `${process.name} ${index}@${term}`,
        )
        log.reset({ index, term })
      }
      if (truncateAfter !== undefined) {
        const floor = status?.commitIndex ?? 0
        must(
          truncateAfter >= floor,
          'committed entries are never cut',
          `${process.name} ${truncateAfter} < ${floor}`,
        )
        log.truncateAfter(truncateAfter)
      }
      if (now?.role === 'leader') {
        const own = write.entries.filter(entry => entry.term === now.currentTerm)
        this.#time.proposes(process, own, now.configuration)
      }
      for (const entry of write.entries) {
        const previousTerm = log.termAt(entry.index - 1)
        const key = `${entry.index}@${entry.term}`
        const known = this.#entries.get(key)
        const same = !known || (isSame(known, entry) && sameTerm(known.previousTerm, previousTerm))
        must(same, 'log matching', `${process.name} ${key}`)
        if (!known) this.#entries.set(key, { ...entry, previousTerm })
        log.append([entry])
      }
    })
  }

  applies(process: SimulatedProcess, { applied, blocks }: ApplyWrite): void {
    this.inside(() => {
      const commitIndex = process.node?.replica.consensus.commitIndex ?? 0
      must(applied <= commitIndex, 'only what is committed is applied', `${process.name} ${applied}`)
      for (const block of blocks) {
        const receipts = decodeOwn(receiptsCodec, block.receipts)
        for (const { id, index } of block.transactions) {
          const { height } = block
          const code = receipts[index]?.code ?? 'no receipt'
          const known = this.#executed.get(id)
          const same = !known || (known.height === height && known.index === index && known.code === code)
          must(same, 'executed once', `${id}: ${JSON.stringify(known)}, then ${height}/${index}`)
          this.#executed.set(id, { height, index, code })
        }
        must(
          !block.signed || block.signed.headerHash === block.headerHash,
          'what is recorded as signed is the block',
          `${process.name} ${block.height}`,
        )
      }
    })
  }

  sends(process: SimulatedProcess, to: DeviceId, message: PeerMessage): void {
    this.inside(() => {
      if (message.type === 'raft') this.#sendsRaft(process, to, message.message)
      this.#must(process).hearing.sends(to, message)
      if (message.type === 'signatures')
        for (const signature of message.signatures) this.#sendsSignature(process, signature)
    })
  }

  #sendsRaft(process: SimulatedProcess, to: DeviceId, message: Message): void {
    const { disk, id, name } = process.host
    const { term } = message
    if (message.type === 'vote' && message.voteGranted && !message.preVote) {
      const { currentTerm, votedFor } = this.#disk.hardState(disk)
      const isDurable = currentTerm > term || (currentTerm === term && votedFor === to)
      must(isDurable, 'a vote is durable before it leaves', `${name} term ${term}`)
      this.#voted(id, term, to)
    }
    if (message.type === 'request-vote' && !message.preVote) {
      const { currentTerm, votedFor } = this.#disk.hardState(disk)
      const isDurable = currentTerm > term || (currentTerm === term && votedFor === id)
      must(isDurable, 'a vote for oneself is durable before it leaves', `${name} term ${term}`)
      this.#voted(id, term, id)
    }
    if (message.type === 'append-entries') this.#judgeSentAgain(process, to, message)
    if (message.type === 'append-response' && message.full) this.fullAnswers++
    if (message.type === 'append-response' && message.success) {
      const { matchIndex } = message
      const end = this.#disk.logEnd(disk)
      must(matchIndex <= end, 'acknowledged entries are durable', `${name} ${matchIndex} > ${end}`)
      this.#acknowledges(process, { to, term, matchIndex })
    }
  }

  /** Of the time of one tick: three heartbeats at most, and what may be sent again after each. */
  #judgeSentAgain(process: SimulatedProcess, to: DeviceId, message: AppendEntries): void {
    const seen = this.#must(process)
    const { timeline, raft, limits } = process.host.site
    if (timeline.now - seen.sentAgainSince >= raft.tickMs) {
      seen.sentAgain.reset()
      seen.sentAgainSince = timeline.now
    }
    must(
      seen.sentAgain.count(to, message) <= 3 * mostSentAgain({ ...defaultConfig(process.id), ...limits }),
      'bytes sent again are bounded',
      `${process.name} to ${to.slice(0, 4)}`,
    )
  }

  /** It must be the entry of its log that is durable, and who leads the term that is answered must have the same there. */
  #acknowledges(
    process: SimulatedProcess,
    { to, term, matchIndex }: { to: DeviceId; term: number; matchIndex: number },
  ): void {
    const { log } = this.#must(process)
    const termAt = log.termAt(matchIndex)
    // In a later term the log may have changed since; what the message speaks of was durable then.
    const isNow = process.node?.replica.consensus.currentTerm === term && matchIndex > log.before.index
    must(
      !isNow || (termAt !== undefined && this.#disk.holds(process.host.disk, matchIndex, termAt)),
      'what is acknowledged is durable as it is in the log',
      `${process.name} ${matchIndex}@${termAt}`,
    )
    const leader = this.#parts.host(to)?.process
    const theirs = leader && this.#seen.get(leader)
    if (!leader?.alive || theirs?.status?.role !== 'leader' || theirs.status.currentTerm !== term) return
    const [a, b] = [theirs.log.termAt(matchIndex), termAt]
    must(
      a === undefined || b === undefined || a === b,
      'what is acknowledged agrees with the leader',
      `${process.name} ${matchIndex}: ${b}, leader ${a}`,
    )
  }

  #voted(id: string, term: number, to: string): void {
    const key = `${id}@${term}`
    must((this.#votes.get(key) ?? to) === to, 'one vote per term', `${key}: ${to}`)
    this.#votes.set(key, to)
  }

  #sendsSignature(process: SimulatedProcess, { height, headerHash }: SignatureMessage): void {
    const { disk, id, name } = process.host
    const where = `${name} ${height}`
    const key = `${id}/${height}`
    must((this.#signed.get(key) ?? headerHash) === headerHash, 'one signature per height', where)
    this.#signed.set(key, headerHash)
    must(
      this.#disk.signedHash(disk, height) === headerHash,
      'a signature is recorded before it leaves',
      where,
    )
    must(this.#disk.hasHeader(disk, height), 'what is signed is executed and durable', where)
    must(this.#blocks.get(height)?.headerHash === headerHash, 'what is signed is committed', where)
  }

  /* ------------------------------------------------------------ after every event */

  /** Judges what the event has made of this process. Throws the first violation. */
  after(process: SimulatedProcess): void {
    this.settle()
    const { node } = process
    if (!process.alive || !node) return
    const seen = this.#must(process)
    const status = node.replica.consensus
    this.#time.look(status.configuration)
    this.#takes(process, seen)
    seen.hearing.after(process, seen.status, status)
    judgeProgress(process.name, seen.status, status)
    judgeMembers(process, status)
    judgeBounds(process, { log: seen.log, status, highestBlock: this.highestBlock })
    if (status.role === 'leader') this.#leads(process, seen, status)
    this.#commits(process, seen, status)
    this.#leaves(process, seen.status, status)
    seen.status = status
    this.#executes(process, seen)
    this.#certifies(process, seen)
    this.settle()
  }

  /** Throws what was found inside of an event. */
  settle(): void {
    const error = this.#pending
    this.#pending = undefined
    if (error !== undefined) throw error
  }

  #takes({ name, node }: SimulatedProcess, seen: Seen): void {
    const { log, due } = seen
    seen.due = undefined
    if (!due || node?.replica.stopped) return
    must(
      log.termAt(due.index) === due.term || due.index <= log.before.index,
      'what comes before a late proposal is taken',
      `${name} ${due.index}@${due.term}`,
    )
  }

  #leads({ host }: SimulatedProcess, { log, status: before }: Seen, status: RaftStatus): void {
    const { currentTerm } = status
    if (before?.role === 'leader' && before.currentTerm === currentTerm) return
    this.elections++
    const known = this.#leaders.get(currentTerm) ?? host.id
    must(known === host.id, 'election safety', `term ${currentTerm}: ${host.name} and another`)
    this.#leaders.set(currentTerm, host.id)
    for (const [index, { term, committedIn }] of this.#committed)
      must(
        index <= log.before.index || log.termAt(index) === term || committedIn >= currentTerm,
        'leader completeness',
        `${host.name} term ${currentTerm} lacks ${index}@${term}`,
      )
  }

  #commits({ name }: SimulatedProcess, { log, status: before }: Seen, status: RaftStatus): void {
    const leads = before?.role === 'leader' && status.role === 'leader'
    const isCount =
      leads && before.currentTerm === status.currentTerm && before.commitIndex < status.commitIndex
    must(
      !isCount || log.termAt(status.commitIndex) === status.currentTerm,
      'a leader counts entries of its own term alone',
      `${name} ${status.commitIndex}@${log.termAt(status.commitIndex)} in ${status.currentTerm}`,
    )
    const from = Math.max((before?.commitIndex ?? 0) + 1, log.before.index + 1)
    for (let index = from; index <= status.commitIndex; index++) {
      const entry = log.entryAt(index)
      must(entry !== undefined, 'what is committed is in the log', `${name} ${index}`)
      if (!entry) return
      const known = this.#committed.get(index)
      must(
        !known || isSame(known, entry),
        'state machine safety',
        `${name} ${index}@${entry.term}, was ${known?.term}`,
      )
      if (known) continue
      // In one event an entry may be committed, and then the configuration changed.
      this.#isOnQuorum(index, entry, [status.configuration, ...(before ? [before.configuration] : [])])
      this.#committed.set(index, { ...entry, committedIn: status.currentTerm })
      this.highestCommitted = Math.max(this.highestCommitted, index)
    }
  }

  /** The entry is on this host's disk, or the host has promised not to vote before it is there again. */
  #holds(id: string, index: number, term: number | undefined): boolean {
    const host = this.#parts.host(id)
    if (!host) return false
    return host.promisedUpTo >= index || (term !== undefined && this.#disk.holds(host.disk, index, term))
  }

  /** Whoever commits an entry first, a quorum holds it durably by then, or has promised not to vote before it does. */
  #isOnQuorum(index: number, { term }: LogEntry, inForce: readonly Configuration[]): void {
    const holds = (id: string) => this.#holds(id, index, term)
    const isQuorum = ({ voters, votersOutgoing }: Configuration) =>
      [voters, votersOutgoing].every(ids => ids.length === 0 || 2 * ids.filter(holds).length > ids.length)
    must(inForce.some(isQuorum), 'what is committed is durable on a quorum', `${index}@${term}`)
  }

  #executes({ node, name }: SimulatedProcess, seen: Seen): void {
    const chain = node?.chain
    if (!chain || chain.height === seen.height) return
    must(chain.height > seen.height, 'the height never goes back', name)
    for (let height = Math.max(0, seen.height); height <= chain.height; height++) {
      const ledger = chain.at(height as typeof chain.height)
      if (!ledger) continue
      const known = this.#blocks.get(height)
      const { headerHash } = ledger
      must(!known || known.headerHash === headerHash, 'one header per height', `${name} ${height}`)
      if (known) continue
      this.#blocks.set(height, { headerHash, ledger })
      const parent = this.#blocks.get(height - 1)?.ledger.header
      if (parent) this.#time.executes(name, ledger.header.time, parent.time)
      this.#isHeldByNext(ledger, node, seen)
      this.#highestBlock = Math.max(this.#highestBlock, height)
    }
    seen.height = chain.height
  }

  #certifies({ node, name }: SimulatedProcess, seen: Seen): void {
    if (!node) return
    const { certifiedHeight } = node.certifier
    must(certifiedHeight >= seen.certifiedHeight, 'the certified height never goes back', name)
    seen.certifiedHeight = certifiedHeight
    const { certificate } = node.chain
    if (!certificate || certificate === seen.certificate) return
    seen.certificate = certificate
    if (this.#certificatesSeen.has(certificate)) return
    this.#certificatesSeen.add(certificate)
    const { height, headerHash } = certificate
    const where = `${name} ${height}`
    must(
      this.#blocks.get(height)?.headerHash === headerHash,
      'no certificate over an uncommitted block',
      where,
    )
    const below = this.#blocks.get(height - 1)?.ledger.parameters.consenters
    this.#isOfQuorum(certificate, below ?? this.#parts.consenters, where)
    for (const { header, certificate: old, handover } of node.handovers.newest(maxHandovers)) {
      if (!handover || this.#handovers.has(header.height)) continue
      const known = this.#blocks.get(header.height)?.ledger
      const isSame = known && signersHash(known.parameters.consenters) === signersHash(handover.consenters)
      must(isSame === true, 'a handover is to the decided set', where)
      const before = this.#blocks.get(header.height - 1)?.ledger.parameters.consenters
      if (before && old) this.#isOfQuorum(old, before, `${where}, handover by the old set`)
      this.#isOfQuorum(handover.certificate, handover.consenters, `${where}, handover by the new set`)
      this.#handovers.add(header.height)
      if (before && areDisjoint(before, handover.consenters)) this.disjointHandovers++
    }
    this.#highestCertified = Math.max(this.#highestCertified, height)
    this.#isHandedOver(name, certifiedHeight)
  }

  /** The consenters of a handover can sign it: a majority of them holds its entry when the first node executes it. */
  #isHeldByNext({ header, parameters }: Ledger, node: LedgerNode, { log }: Seen): void {
    if (header.nextSignersHash === header.signersHash) return
    // Entries that were applied with it were committed by the same majorities.
    const index = node.replica.appliedIndex
    const term = log.termAt(index)
    const { consenters } = parameters
    const holders = consenters.consenters.filter(({ id }) => this.#holds(id, index, term))
    const isMajority = 2 * holders.length > consenters.consenters.length
    must(isMajority, 'a set that takes over can sign', `${header.height}`)
  }

  /** Nothing above a handover is certified anywhere before the handover is, by both sets. */
  #isHandedOver(name: string, certifiedHeight: number): void {
    for (const [height, { ledger }] of this.#blocks) {
      if (height > certifiedHeight || ledger.header.nextSignersHash === ledger.header.signersHash) continue
      must(this.#handovers.has(height), 'a handover is certified by both sets', `${name} ${height}`)
    }
  }

  #isOfQuorum({ height, headerHash, signatures }: Certificate, set: ConsenterSet, where: string): void {
    const signers = new Set(signatures.map(({ signer }) => signer))
    must(signers.size >= quorumOf(set), 'a certificate is of a quorum', where)
    const header = this.#blocks.get(height)?.ledger.header
    must(this.#blocks.get(height)?.headerHash === headerHash, 'a certificate is over the block', where)
    if (!header) return
    const message = certificateSigningBytes(header.chainId, header.incarnation, height, headerHash)
    for (const { signer, signature } of signatures) {
      const key = set.consenters[signer]?.key
      const isValid = key !== undefined && this.#parts.verifier.verify(key, message, signature)
      must(isValid, 'a certificate verifies', where)
    }
  }

  /** A leader that has left joint consensus for the new voters has had the handover to them certified. */
  #leaves({ node, name }: SimulatedProcess, before: RaftStatus | undefined, status: RaftStatus): void {
    const { votersOutgoing, voters } = before?.configuration ?? { votersOutgoing: [], voters: [] }
    if (votersOutgoing.length === 0 || status.configuration.votersOutgoing.length > 0) return
    if (
      status.role !== 'leader' ||
      before?.role !== 'leader' ||
      !isSameSet(voters, status.configuration.voters)
    )
      return
    const consenters = node?.chain.ledger.parameters.consenters.consenters.map(({ id }) => id) ?? []
    must(isSameSet(consenters, voters), 'joint consensus is left for the consenters', name)
    const isProven = node?.handovers
      .newest(1)
      .some(({ handover }) => isSameSet(handover?.consenters.consenters.map(({ id }) => id) ?? [], voters))
    must(isProven === true, 'joint consensus is left after a certified handover', name)
  }

  #must(process: SimulatedProcess): Seen {
    const seen = this.#seen.get(process)
    if (!seen) throw new Violation('nothing happens before recovery', process.name)
    return seen
  }
}

function isSame(a: LogEntry, b: LogEntry): boolean {
  return a.term === b.term && a.type === b.type && (a.data === b.data || Buffer.compare(a.data, b.data) === 0)
}

function sameTerm(a: number | undefined, b: number | undefined): boolean {
  return a === undefined || b === undefined || a === b
}

function isSameSet(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every(each => b.includes(each))
}

function errorText(error: unknown): string {
  return error instanceof Error
    ? (error.stack ?? error.message).split('\n').slice(0, 4).join(' | ')
    : String(error)
}

function areDisjoint(before: ConsenterSet, after: ConsenterSet): boolean {
  const ids = new Set(before.consenters.map(({ id }) => id))
  return after.consenters.every(({ id }) => !ids.has(id))
}
