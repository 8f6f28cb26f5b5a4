/**
 * What the loss of a leader costs, measured from outside (`mote chaos kill-leader`).
 *
 * A load of signed transactions runs before, during and after the kill. Each one counts as acknowledged when a node
 * has said that it is certified, and afterwards every acknowledged one is asked for again on every node that runs: on
 * each it must be certified, at the height that was acknowledged.
 *
 * Each surviving node is asked for its role by a loop of its own, so that a slow answer of one does not hide the
 * other's; an acknowledgement out of a later term proves an election just as well.
 */

import { randomBytes } from 'node:crypto'
import { type Milliseconds, Term, type TransactionId } from '../../chain/brands.ts'
import { signerFromSeed } from '../../chain/noble-crypto.ts'
import { MoteError } from '../../chain/result.ts'
import type { ChainSource } from '../../client/chain-source.ts'
import { Deadline, pause } from '../../client/deadline.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { signedBody } from '../../client/submission.ts'
import { type ChainAccess, operatorKeys } from '../access.ts'
import { askControl } from '../control.ts'
import { type FullNode, fullNodesOf, nodeStatusOf } from './faults.ts'
import type { AcknowledgedWrite } from './load.ts'
import { nowMs } from './timing.ts'

export interface KillLeaderReport {
  readonly oldLeader: string
  readonly newLeader: string
  readonly oldTerm: number
  readonly newTerm: number
  /** From the kill until a surviving node says that it leads a later term, or acknowledges in it. */
  readonly electionMs: number
  /** From the kill until the first acknowledgement of a transaction that a later term ordered. */
  readonly unavailableMs: number
  readonly acked: number
  /** Acknowledged, and not certified at that height on a node that runs. */
  readonly ackedLost: number
}

/** Clients that each have one transaction under way. */
const clients = 16
/** Load before the kill, and after a new leader serves. */
const calmMs = 1_500
/** How long a new leader may take before the run counts as failed. */
const electionDeadlineMs = 30_000
/** How long the nodes that run may take to know every acknowledged transaction. */
const readBackDeadlineMs = 30_000
const pollMs = 5
const submitTimeoutMs = 30_000

interface Leader {
  readonly name: string
  readonly term: number
}

export interface KillLeaderOptions {
  readonly access: ChainAccess
  /** What happens while it happens, one line at a time. */
  readonly note?: (text: string) => void
  readonly signal: AbortSignal
}

/** Runs the whole measurement. Throws `no-leader` where no majority would be left, or none elects a leader in time. */
export async function killLeader({ access, note, signal }: KillLeaderOptions): Promise<KillLeaderReport> {
  const nodes = fullNodesOf(access.description)
  const load = new Load(access, await operatorKeys(access))
  const ticker = note && setInterval(() => note(load.line()), 1_000)
  try {
    load.start()
    const old = await waitForLeader(nodes, () => true)
    await pause(calmMs)
    if (load.acknowledged.length === 0) throw load.failure()
    await requireMajorityWithout(nodes, old.name)
    note?.(`killing ${old.name}, leader of term ${old.term}, after ${load.acknowledged.length} acknowledged`)
    const { controlSocket } = access.description
    const killedAtMs = nowMs()
    await askControl(controlSocket, { command: 'signal', node: old.name, signal: 'SIGKILL' }, signal)
    const alive = nodes.filter(({ name }) => name !== old.name)
    const next = await waitForLeader(alive, leader => leader.term > old.term)
    const seenMs = Math.round(nowMs() - killedAtMs)
    note?.(`${next.name} leads in term ${next.term} after ${seenMs} ms`)
    const servedAtMs = await load.untilAcknowledgedAfterTerm(old.term)
    const unavailableMs = Math.round(servedAtMs - killedAtMs)
    await pause(calmMs)
    await load.stop()
    const names = alive.map(({ name }) => name).join(', ')
    note?.(`reading ${load.acknowledged.length} acknowledged transactions back from ${names}`)
    const lost = await readBack(alive, load.acknowledged)
    return {
      oldLeader: old.name,
      newLeader: next.name,
      oldTerm: old.term,
      newTerm: next.term,
      electionMs: Math.min(seenMs, unavailableMs),
      unavailableMs,
      acked: load.acknowledged.length,
      ackedLost: lost.size,
    }
  } finally {
    clearInterval(ticker)
    await load.stop()
  }
}

/** The first node that says it leads and that suits. Throws `no-leader` at the deadline. */
async function waitForLeader(
  nodes: readonly FullNode[],
  suits: (leader: Leader) => boolean,
): Promise<Leader> {
  const deadline = new Deadline(electionDeadlineMs)
  let found: Leader | undefined
  const watch = async (node: FullNode): Promise<void> => {
    while (!found && !deadline.isOver) {
      const status = await nodeStatusOf(node)
      const leader = status?.role === 'leader' ? { name: node.name, term: status.term } : undefined
      if (leader && suits(leader)) found ??= leader
      else await pause(pollMs)
    }
  }
  const watching = nodes.map(watch)
  while (!found && !deadline.isOver) await Promise.race([Promise.all(watching), pause(pollMs)])
  if (found) return found
  throw new MoteError('no-leader', `no full node leads after ${electionDeadlineMs / 1_000} s`)
}

/** Throws `no-leader` if too few of the others answer to elect a new one. */
async function requireMajorityWithout(nodes: readonly FullNode[], leader: string): Promise<void> {
  const others = nodes.filter(({ name }) => name !== leader)
  const answers = await Promise.all(others.map(nodeStatusOf))
  const silent = others.flatMap(({ name }, i) => (answers[i] ? [] : [name]))
  if (others.length - silent.length > nodes.length / 2) return
  throw new MoteError(
    'no-leader',
    `not killed: without ${leader}, ${others.length - silent.length} of ${nodes.length} full nodes would be left, and no majority;` +
      ` ${silent.length === 0 ? 'it takes 3 full nodes' : `\`mote chaos restart\` ${silent.join(', ')} first`}`,
  )
}

/** When the first transaction of a term after `term` was acknowledged. */
export function firstAcknowledgedAfterTerm(
  acknowledged: readonly { readonly term: number; readonly atMs: number }[],
  term: number,
): number | undefined {
  const times = acknowledged.filter(entry => entry.term > term).map(({ atMs }) => atMs)
  return times.length === 0 ? undefined : Math.min(...times)
}

/** Ids that a running node does not have certified at the acknowledged height, however long it is given. */
async function readBack(
  nodes: readonly FullNode[],
  acknowledged: readonly AcknowledgedWrite[],
): Promise<ReadonlySet<TransactionId>> {
  const lost = new Set<TransactionId>()
  const deadline = new Deadline(readBackDeadlineMs)
  for (const { source } of nodes) {
    const missing = [...acknowledged]
    const worker = async (): Promise<void> => {
      for (let next = missing.pop(); next; next = missing.pop())
        if (!(await isCertified(source, next, deadline))) lost.add(next.id)
    }
    await Promise.all(Array.from({ length: clients }, worker))
  }
  return lost
}

async function isCertified(
  source: ChainSource,
  { id, height }: AcknowledgedWrite,
  deadline: Deadline,
): Promise<boolean> {
  do {
    try {
      const status = await source.transactionStatus(id)
      if (status.status === 'certified') return status.height === height
    } catch {
      // A node that is busy is asked again.
    }
    await pause(20)
  } while (!deadline.isOver)
  return false
}

/** Clients that send one transaction after another: grants of a token nobody holds, which harm nobody. */
class Load {
  readonly acknowledged: AcknowledgedWrite[] = []
  readonly #access: ChainAccess
  readonly #operator: IdentityKeys
  readonly #stopping = new AbortController()
  #workers: Promise<unknown> = Promise.resolve()
  #lastError: unknown
  #shown = 0

  constructor(access: ChainAccess, operator: IdentityKeys) {
    this.#access = access
    this.#operator = operator
  }

  start(): void {
    this.#workers = Promise.all(Array.from({ length: clients }, () => this.#run()))
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#workers
  }

  failure(): MoteError {
    const error = this.#lastError
    return error instanceof MoteError
      ? error
      : new MoteError('unreachable', `no acknowledgement (${String(error)})`)
  }

  /** How many were acknowledged since the last call. */
  line(): string {
    const since = this.acknowledged.length - this.#shown
    this.#shown = this.acknowledged.length
    return `${since} acknowledged in the last second, ${this.#shown} in all`
  }

  /** Resolves to the time of the first acknowledgement out of a term after `term`. Throws why there is none. */
  async untilAcknowledgedAfterTerm(term: number): Promise<number> {
    const ask = () => firstAcknowledgedAfterTerm(this.acknowledged, term)
    const atMs = await new Deadline(submitTimeoutMs).until(ask, pollMs)
    if (atMs === undefined) throw this.failure()
    return atMs
  }

  async #run(): Promise<void> {
    const { client } = this.#access
    while (!this.#stopping.signal.aborted) {
      const bytes = this.#transaction()
      try {
        const final = await client.submit(bytes, { timeoutMs: submitTimeoutMs })
        const { id, height, status } = final
        this.acknowledged.push({ id, height, term: status.term ?? Term(0), atMs: nowMs() })
      } catch (error) {
        this.#lastError = error
        await pause(pollMs)
      }
    }
  }

  #transaction(): Uint8Array {
    const { client } = this.#access
    const time = Date.now() as Milliseconds
    const tokenKey = signerFromSeed('ed25519', Uint8Array.from(randomBytes(32))).publicKey
    const expiry = (time + 60_000) as Milliseconds
    const body = { type: 'identity.grant', tokenKey, quota: 1, expiry, highestLabel: 'lightweight' } as const
    return signedBody({ chainId: client.chainId, body, keys: this.#operator, time })
  }
}
