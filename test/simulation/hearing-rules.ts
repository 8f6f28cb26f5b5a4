/**
 * What must hold of one process while disks are slow, whatever waits for them: a follower that takes an append says so in
 * the same event, and a leader that a quorum is heard by leads on. Together: slow disks of followers depose nobody.
 */
import { isVoter } from '../../consensus/configuration.ts'
import type { RaftStatus } from '../../consensus/status.ts'
import type { Configuration, HardState, Message } from '../../consensus/types.ts'
import type { PeerMessage } from '../../node/ports.ts'
import type { SimulatedProcess } from './host.ts'
import { must } from './violation.ts'

/** The fastest clock of a run (faults.ts). */
const fastestRate = 1.1

export class HearingRules {
  /** Whose append is to be answered before the event is over. */
  #owed: string | undefined
  #term = 0
  /** As leader of `#term`: when a voter was last heard, in simulated milliseconds. */
  readonly #heardAt = new Map<string, number>()

  /** A message reaches the process; `durable` is what its disk has of term and vote. */
  receives({ node, host }: SimulatedProcess, message: PeerMessage, durable: HardState): void {
    if (message.type !== 'raft' || !node || node.replica.stopped) return
    const { from, term, type } = message.message
    const status = node.replica.consensus
    if (term !== status.currentTerm) return
    if (status.role === 'leader' && isAnswer(message.message)) this.#heard(from, term, host.site.timeline.now)
    const isDurable = durable.currentTerm === term && durable.votedFor === status.votedFor
    // Behind an earlier write: an append that meets an idle disk may be answered alone.
    const waits = status.persistedIndex < status.lastLogIndex
    if (type === 'append-entries' && status.leader === from && isDurable && waits) this.#owed = from
  }

  sends(to: string, message: PeerMessage): void {
    if (message.type === 'raft' && isAnswer(message.message) && to === this.#owed) this.#owed = undefined
  }

  /** The event is over. */
  after(
    { node, name, host }: SimulatedProcess,
    before: RaftStatus | undefined,
    { role, currentTerm, configuration }: RaftStatus,
  ): void {
    const owed = this.#owed
    this.#owed = undefined
    if (!node || node.replica.stopped) return
    must(owed === undefined, 'who takes an append says so at once', `${name} to ${owed?.slice(0, 4)}`)
    const stepsDown = before?.role === 'leader' && role !== 'leader' && before.currentTerm === currentTerm
    if (!stepsDown || currentTerm !== this.#term || !isVoter(configuration, host.id)) return
    must(
      !this.#isHeardByQuorum(host.id, host.site, before.configuration),
      'a leader that a quorum hears leads on',
      name,
    )
  }

  #heard(from: string, term: number, now: number): void {
    if (term !== this.#term) this.#heardAt.clear()
    this.#term = term
    this.#heardAt.set(from, now)
  }

  #isHeardByQuorum(
    own: string,
    { timeline, raft }: SimulatedProcess['host']['site'],
    { voters, votersOutgoing }: Configuration,
  ): boolean {
    const since = timeline.now - (raft.electionTimeoutTicks * raft.tickMs) / fastestRate
    const isHeard = (id: string) => id === own || (this.#heardAt.get(id) ?? 0) > since
    return [voters, votersOutgoing].every(
      ids => ids.length === 0 || 2 * ids.filter(isHeard).length > ids.length,
    )
  }
}

function isAnswer({ type }: Message): boolean {
  return type === 'append-response' || type === 'heard' || type === 'snapshot-response'
}
