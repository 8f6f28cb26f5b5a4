/**
 * `mote chaos kill-leader`: what the loss of a leader costs, measured from outside.
 *
 * A load of signed transactions runs before, during and after the kill. Each one counts as acknowledged when a node
 * has said that it is certified, and afterwards every acknowledged one is asked for again on every node that runs: on
 * each it must be certified, at the height that was acknowledged.
 *
 * `measures` says what the times mean. Each surviving node is asked for its role by a loop of its own, so that a slow
 * answer of one does not hide the other's; an acknowledgement out of a later term proves an election just as well.
 */
import { randomBytes } from 'node:crypto'
import type { Milliseconds, TransactionId } from '../chain/brands.ts'
import { exitCodes } from '../chain/errors.ts'
import { signerFromSeed } from '../chain/noble-crypto.ts'
import { MoteError } from '../chain/result.ts'
import type { ChainSource, NodeStatus } from '../client/chain-source.ts'
import { httpSource } from '../client/http-source.ts'
import type { IdentityKeys } from '../client/key-directory.ts'
import { signedBody } from '../client/submission.ts'
import { askControl } from '../devnet/control.ts'
import { apiUrl, type DevnetDescription } from '../devnet/layout.ts'
import { type ChainAccess, openChain, operatorKeys } from './chain-access.ts'
import type { Context } from './context.ts'
import { durationText } from './output.ts'

export interface KillLeaderReport {
  readonly oldLeader: string
  readonly newLeader: string
  readonly oldTerm: number
  readonly newTerm: number
  readonly electionMs: number
  readonly unavailableMs: number
  readonly acked: number
  readonly ackedLost: number
}

/** Text for `--help`. */
export const measures = [
  'electionMs     from the kill until a surviving node says that it leads a later term, or acknowledges in it',
  'unavailableMs  from the kill until the first acknowledgement of a transaction that a later term ordered',
  'acked          transactions acknowledged as certified before, during and after the kill',
  'ackedLost      those of them that a running node does not have, certified, at the acknowledged height',
].join('\n')

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

interface Acknowledged {
  readonly id: TransactionId
  readonly height: number
  readonly term: number
  readonly atMs: number
}

interface Leader {
  readonly name: string
  readonly term: number
}

export async function killLeader(
  context: Context,
  _args: readonly string[],
  { watch = false }: { readonly watch?: boolean },
): Promise<number> {
  const access = await openChain(context)
  const note = (text: string): void => {
    if (watch) context.output.note(text)
  }
  const nodes = fullNodes(access.description)
  const load = new Load(access, await operatorKeys(access))
  const ticker = watch ? setInterval(() => note(load.line()), 1_000) : undefined
  try {
    load.start()
    const old = await waitForLeader(nodes, () => true)
    await pause(calmMs)
    if (load.acknowledged.length === 0) throw load.failure()
    await requireMajorityWithout(nodes, old.name)
    note(`killing ${old.name}, leader of term ${old.term}, after ${load.acknowledged.length} acknowledged`)
    const { controlSocket } = access.description
    const killedAtMs = performance.now()
    await askControl(controlSocket, { command: 'signal', node: old.name, signal: 'SIGKILL' }, context.signal)
    const alive = new Map([...nodes].filter(([name]) => name !== old.name))
    const next = await waitForLeader(alive, leader => leader.term > old.term)
    const seenMs = performance.now() - killedAtMs
    note(`${next.name} leads in term ${next.term} after ${durationText(seenMs)}`)
    const servedAtMs = await load.untilAcknowledgedAfterTerm(old.term)
    const unavailableMs = Math.round(servedAtMs - killedAtMs)
    await pause(calmMs)
    await load.stop()
    note(
      `reading ${load.acknowledged.length} acknowledged transactions back from ${[...alive.keys()].join(', ')}`,
    )
    const lost = await readBack(alive, load.acknowledged)
    return report(context, {
      oldLeader: old.name,
      newLeader: next.name,
      oldTerm: old.term,
      newTerm: next.term,
      electionMs: Math.min(Math.round(seenMs), unavailableMs),
      unavailableMs,
      acked: load.acknowledged.length,
      ackedLost: lost.size,
    })
  } finally {
    clearInterval(ticker)
    await load.stop()
  }
}

/** Prints the report and returns the exit code: 1 if anything acknowledged was lost. */
export function report({ output }: Pick<Context, 'output'>, result: KillLeaderReport): number {
  const lost = result.ackedLost > 0
  output.data(result, () =>
    output.fields({
      'old leader': `${result.oldLeader}, term ${result.oldTerm}`,
      'new leader': `${result.newLeader}, term ${result.newTerm}`,
      election: durationText(result.electionMs),
      unavailable: durationText(result.unavailableMs),
      acknowledged: result.acked,
      'of these lost': output.paint(lost ? 'red' : 'green', String(result.ackedLost)),
    }),
  )
  if (!lost) output.note(`\`mote chaos restart ${result.oldLeader}\` brings the killed node back`)
  return lost ? exitCodes.failure : exitCodes.ok
}

function fullNodes({ nodes }: DevnetDescription): Map<string, ChainSource> {
  return new Map(
    nodes.filter(node => node.label === 'full').map(node => [node.name, httpSource(apiUrl(node.api))]),
  )
}

async function statusOrNothing(source: ChainSource): Promise<NodeStatus | undefined> {
  try {
    return await source.status({ signal: AbortSignal.timeout(1_000) })
  } catch {
    return undefined
  }
}

/** The first node that says it leads and that suits. Throws `no-leader` at the deadline. */
async function waitForLeader(
  nodes: ReadonlyMap<string, ChainSource>,
  suits: (leader: Leader) => boolean,
): Promise<Leader> {
  const deadline = performance.now() + electionDeadlineMs
  let found: Leader | undefined
  const watch = async (name: string, source: ChainSource): Promise<void> => {
    while (!found && performance.now() < deadline) {
      const status = await statusOrNothing(source)
      const leader = status?.role === 'leader' ? { name, term: status.term } : undefined
      if (leader && suits(leader)) found ??= leader
      else await pause(pollMs)
    }
  }
  const watching = [...nodes].map(([name, source]) => watch(name, source))
  while (!found && performance.now() < deadline) await Promise.race([Promise.all(watching), pause(pollMs)])
  if (found) return found
  throw new MoteError('no-leader', `no full node leads after ${electionDeadlineMs / 1_000} s`)
}

/** Throws `no-leader` if too few of the others answer to elect a new one. */
async function requireMajorityWithout(
  nodes: ReadonlyMap<string, ChainSource>,
  leader: string,
): Promise<void> {
  const others = [...nodes].filter(([name]) => name !== leader)
  const answers = await Promise.all(others.map(([, source]) => statusOrNothing(source)))
  const silent = others.flatMap(([name], i) => (answers[i] ? [] : [name]))
  if (others.length - silent.length > nodes.size / 2) return
  throw new MoteError(
    'no-leader',
    `not killed: without ${leader}, ${others.length - silent.length} of ${nodes.size} full nodes would be left, and no majority;` +
      ` ${silent.length === 0 ? 'it takes 3 full nodes' : `\`mote chaos restart\` ${silent.join(', ')} first`}`,
  )
}

/** When the first transaction of a term after `term` was acknowledged. */
export function firstAcknowledgedAfterTerm(
  acknowledged: readonly Pick<Acknowledged, 'term' | 'atMs'>[],
  term: number,
): number | undefined {
  const times = acknowledged.filter(entry => entry.term > term).map(({ atMs }) => atMs)
  return times.length === 0 ? undefined : Math.min(...times)
}

/** Ids that a running node does not have certified at the acknowledged height, however long it is given. */
async function readBack(
  nodes: ReadonlyMap<string, ChainSource>,
  acknowledged: readonly Acknowledged[],
): Promise<ReadonlySet<TransactionId>> {
  const lost = new Set<TransactionId>()
  const deadline = performance.now() + readBackDeadlineMs
  for (const source of nodes.values()) {
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
  { id, height }: Acknowledged,
  deadline: number,
): Promise<boolean> {
  do {
    try {
      const status = await source.transactionStatus(id)
      if (status.status === 'certified') return status.height === height
    } catch {
      // A node that is busy is asked again.
    }
    await pause(20)
  } while (performance.now() < deadline)
  return false
}

/** Clients that send one transaction after another: grants of a token nobody holds, which harm nobody. */
class Load {
  readonly acknowledged: Acknowledged[] = []
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
    const deadline = performance.now() + submitTimeoutMs
    for (;;) {
      const atMs = firstAcknowledgedAfterTerm(this.acknowledged, term)
      if (atMs !== undefined) return atMs
      if (performance.now() > deadline) throw this.failure()
      await pause(pollMs)
    }
  }

  async #run(): Promise<void> {
    const { client } = this.#access
    while (!this.#stopping.signal.aborted) {
      const bytes = this.#transaction()
      try {
        const final = await client.submit(bytes, { timeoutMs: submitTimeoutMs })
        const { id, height, status } = final
        this.acknowledged.push({ id, height, term: status.term ?? 0, atMs: performance.now() })
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

function pause(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
