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
import { MoteError } from '../../chain/result.ts'
import type { ChainSource } from '../../client/chain-source.ts'
import { Deadline, pause } from '../../client/deadline.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { nativeSignerFromSeed } from '../../client/native-crypto.ts'
import { sideBySide } from '../../client/side-by-side.ts'
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
  /** For the whole: the load, the election, and reading back. */
  readonly timeoutMs: number
}

/**
 * Runs the whole measurement. Throws `no-leader` before it does anything where no majority would be left, or when none has
 * elected a leader in time; `timeout` when not everything could be read back in time.
 */
export async function killLeader(options: KillLeaderOptions): Promise<KillLeaderReport> {
  const { access, note, signal, timeoutMs } = options
  const deadline = new Deadline(timeoutMs, { signal })
  const nodes = fullNodesOf(access.description)
  await requireMajorityWithoutOne(nodes)
  const load = new Load(access, await operatorKeys(access))
  const ticker = note && setInterval(() => note(load.line()), 1_000)
  try {
    load.start()
    const old = await waitForLeader(nodes, () => true, deadline)
    await deadline.pause(calmMs)
    if (load.acknowledged.length === 0) throw load.failure()
    await requireMajorityWithoutOne(nodes)
    note?.(`killing ${old.name}, leader of term ${old.term}, after ${load.acknowledged.length} acknowledged`)
    const { controlSocket } = access.description
    const killedAtMs = nowMs()
    await askControl(controlSocket, { command: 'signal', node: old.name, signal: 'SIGKILL' }, signal)
    const alive = nodes.filter(({ name }) => name !== old.name)
    const next = await waitForLeader(alive, leader => leader.term > old.term, deadline)
    const seenMs = Math.round(nowMs() - killedAtMs)
    note?.(`${next.name} leads in term ${next.term} after ${seenMs} ms`)
    const servedAtMs = await load.untilAcknowledgedAfterTerm(old.term, deadline)
    const unavailableMs = Math.round(servedAtMs - killedAtMs)
    await deadline.pause(calmMs)
    await load.stop()
    const names = alive.map(({ name }) => name).join(', ')
    note?.(`reading ${load.acknowledged.length} acknowledged transactions back from ${names}`)
    const lost = await readBack(alive, load.acknowledged, deadline)
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
  deadline: Deadline,
): Promise<Leader> {
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
  throw new MoteError('no-leader', `no full node leads after ${deadline.timeoutMs / 1_000} s`)
}

/** Throws `no-leader` if too few full nodes answer to elect a leader when one of them is gone. */
async function requireMajorityWithoutOne(nodes: readonly FullNode[]): Promise<void> {
  const answers = await Promise.all(nodes.map(nodeStatusOf))
  const silent = nodes.flatMap(({ name }, i) => (answers[i] ? [] : [name]))
  const left = Math.max(0, nodes.length - silent.length - 1)
  if (left > nodes.length / 2) return
  throw new MoteError(
    'no-leader',
    `not killed: without the leader, ${left} of ${nodes.length} full nodes would be left, and no majority;` +
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

/** Ids that a running node does not have certified at the acknowledged height, however often it is asked. */
async function readBack(
  nodes: readonly FullNode[],
  acknowledged: readonly AcknowledgedWrite[],
  deadline: Deadline,
): Promise<ReadonlySet<TransactionId>> {
  const lost = new Set<TransactionId>()
  let unread = 0
  for (const { source } of nodes) {
    await sideBySide([...acknowledged], clients, async next => {
      const answer = await answerOf(source, next, deadline)
      if (answer === 'lost') lost.add(next.id)
      else if (answer === 'unread') unread++
    })
  }
  if (lost.size === 0 && unread > 0)
    throw new MoteError(
      'timeout',
      `${unread} of ${nodes.length * acknowledged.length} answers of acknowledged transactions were not read back within ${deadline.timeoutMs / 1_000} s; \`--timeout\` gives more`,
    )
  return lost
}

/** `unread`: the node did not answer, or time was over before it was asked. */
async function answerOf(
  source: ChainSource,
  { id, height }: AcknowledgedWrite,
  deadline: Deadline,
): Promise<'certified' | 'lost' | 'unread'> {
  let answer: 'lost' | 'unread' = 'unread'
  while (!deadline.isOver) {
    try {
      const status = await source.transactionStatus(id)
      if (status.status === 'certified') return status.height === height ? 'certified' : 'lost'
      answer = 'lost'
    } catch {
      // A node that is busy is asked again.
    }
    await deadline.pause(20)
  }
  return answer
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
  async untilAcknowledgedAfterTerm(term: number, deadline: Deadline): Promise<number> {
    const ask = () => firstAcknowledgedAfterTerm(this.acknowledged, term)
    const atMs = await deadline.until(ask, pollMs)
    if (atMs === undefined) throw this.failure()
    return atMs
  }

  async #run(): Promise<void> {
    const { client } = this.#access
    while (!this.#stopping.signal.aborted) {
      const bytes = this.#transaction()
      try {
        const { signal } = this.#stopping
        const final = await client.submit(bytes, { timeoutMs: submitTimeoutMs, signal })
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
    const tokenKey = nativeSignerFromSeed('ed25519', Uint8Array.from(randomBytes(32))).publicKey
    const expiry = (time + 60_000) as Milliseconds
    const body = { type: 'identity.grant', tokenKey, quota: 1, expiry, highestLabel: 'lightweight' } as const
    return signedBody({ chainId: client.chainId, body, keys: this.#operator, time })
  }
}
