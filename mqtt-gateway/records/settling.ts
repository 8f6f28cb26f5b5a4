/**
 * From signed bytes to a final outcome, which this gateway can prove or which enough nodes agree on.
 *
 * - Executed: the transaction stands in a block under a certified header, and its receipt says how it ended. A node that claims a place at
 *   which it does not stand has lied, and another one is asked. Of a block that a node has forgotten the leaf hashes may tell it (executions.ts).
 * - Forgotten: it was executed, and no node that was asked knows how it ended. Sent again it would be a duplicate: so it is refused for good.
 * - Refused: two nodes refuse it for good with one code (one, where only one is known), and none that answers has it in a block.
 * - Expired: refused in that way, once this gateway's certified head is past the expiry and the nodes have that head too. No later block can
 *   hold it then. A node goes by the voters' clocks, and after a restart its log may hold what it has not executed yet. Only what has expired
 *   may be signed anew.
 * - Put off: a node would take it later, as when its signer has used up its quota, and another one that is asked then too. It gives way to what
 *   waits behind it (`putOffMs`), and so does, asked for by itself, what a node calls pending for too long (`unconfirmedMs`): each of the nodes is asked then.
 * - What nobody answers is tried again and again: sending the same bytes is always safe.
 *
 * Several transactions are sent together, in their order, in one request.
 */
import type { Height, TransactionId } from '../../chain/brands.ts'
import { maxExpiryAheadMs } from '../../chain/limits.ts'
import { MoteError, type Refusal } from '../../chain/result.ts'
import type { ParsedTransaction } from '../../chain/transaction.ts'
import { certifiedHeaderAt, proveLeaves } from '../../client/block-proof.ts'
import type { CertifiedBlocks } from '../../client/certified-blocks.ts'
import type { ChainClient } from '../../client/chain-client.ts'
import type { ChainSource, TransactionStatus } from '../../client/chain-source.ts'
import { type Clock, waitingClock } from '../../client/clock.ts'
import { pause } from '../../client/deadline.ts'
import type { PathTrust } from '../../client/header-path.ts'
import { inTurn, Refusals, refusesTransaction } from '../../client/submission.ts'
import { type Executed, executionIn, executionInLeaves } from './executions.ts'

export type Settlement =
  | ({ readonly type: 'executed' } & Executed)
  | ({ readonly type: 'refused' } & Refusal)
  /**
   * It is refused by one node alone, or as executed nobody knows where, or not for good, and nothing else was said within `unconfirmedMs`, or
   * `putOffMs` for what is put off.
   */
  | { readonly type: 'unconfirmed'; readonly detail: string }

export interface SettlerParts {
  readonly client: Pick<ChainClient, 'pool' | 'follower'>
  readonly blocks: Pick<CertifiedBlocks, 'recent' | 'receiptsFrom'>
  /** Where the trust of the client started: for blocks that are not recent. */
  readonly trust: PathTrust
  /** Fires when the gateway stops. */
  readonly signal: AbortSignal
  /** Told of what is tried again. */
  readonly onError: (error: unknown) => void
  /** The machine's unless given. */
  readonly clock?: Clock | undefined
}

/** How long one refusal waits for a second node before it holds nobody else up. */
const unconfirmedMs = 10_000
/** How long what nodes put off holds up the others of its shard. */
const putOffMs = 1_000
const retryDelayMsMin = 50
const retryDelayMsMax = 2_000

type Settled = (transaction: ParsedTransaction, settlement: Settlement | Promise<Settlement>) => void
/**
 * Executed, or not final yet: put off by a node, pending at one, or nobody has answered. Undefined: refused, or executed in a block that is not
 * to be had.
 */
type Submitted = readonly [ParsedTransaction, Executed | 'put off' | 'pending' | 'unanswered' | undefined]

export class Settler {
  readonly #parts: SettlerParts
  readonly #running = new Map<TransactionId, Promise<Settlement>>()

  constructor(parts: SettlerParts) {
    this.#parts = parts
  }

  /** The outcome of each, as soon as it is there. One that is being settled already is not sent twice. They reject with `interrupted`. */
  settle(transactions: readonly ParsedTransaction[]): readonly Promise<Settlement>[] {
    const fresh = new Map(
      transactions.filter(({ id }) => !this.#running.has(id)).map(each => [each.id, each]),
    )
    const ends = new Map([...fresh.keys()].map(id => [id, Promise.withResolvers<Settlement>()]))
    for (const [id, { promise }] of ends) {
      this.#running.set(id, promise)
      promise.catch(() => {}).finally(() => this.#running.delete(id))
    }
    const settled: Settled = ({ id }, settlement) => ends.get(id)?.resolve(settlement)
    const all = transactions.map(({ id }) => this.#running.get(id) as Promise<Settlement>)
    this.#settleTogether([...fresh.values()], settled).catch(error => {
      for (const { reject } of ends.values()) reject(error)
    })
    return all
  }

  /** Rounds of one request for all that are open; those of which something else was said go on by themselves. */
  async #settleTogether(transactions: readonly ParsedTransaction[], settled: Settled): Promise<void> {
    const { signal, clock = waitingClock } = this.#parts
    const since = clock.steady()
    let open = transactions
    for (let delayMs = retryDelayMsMin; open.length > 0; delayMs = Math.min(2 * delayMs, retryDelayMsMax)) {
      this.#mustRun()
      const again: ParsedTransaction[] = []
      for (const [transaction, said] of await this.#submitAll(open)) {
        if (typeof said === 'object') settled(transaction, { type: 'executed', ...said })
        else {
          const next = nextAfter(said, clock.steady() - since)
          if (next === 'together') again.push(transaction)
          else if (next === 'alone') settled(transaction, this.#settleAlone(transaction))
          else settled(transaction, { type: 'unconfirmed', detail: `transaction ${transaction.id}: put off` })
        }
      }
      open = again
      if (open.length > 0) await pause(delayMs, signal, clock)
    }
  }

  async #submitAll(transactions: readonly ParsedTransaction[]): Promise<readonly Submitted[]> {
    const { client, onError } = this.#parts
    try {
      return await client.pool.attempt(async source => {
        const said = await this.#submitAllTo(source, transactions)
        const putOff = said.flatMap(([transaction, word]) => (word === 'put off' ? [transaction] : []))
        if (putOff.length === 0) return said
        // A pool stays with who answers: by its word alone they would be put off for ever.
        const second = new Map(await client.pool.compare(source, other => this.#submitAllTo(other, putOff)))
        return said.map(submitted => {
          const [transaction] = submitted
          return second.has(transaction) ? [transaction, second.get(transaction)] : submitted
        })
      })
    } catch (error) {
      this.#mustRun()
      onError(error)
      return transactions.map(each => [each, isMissing(error) ? undefined : 'unanswered'])
    }
  }

  async #submitAllTo(
    source: ChainSource,
    transactions: readonly ParsedTransaction[],
  ): Promise<readonly Submitted[]> {
    const { client, signal, clock } = this.#parts
    const submit = (until: AbortSignal) => submitTo(source, transactions, until)
    const statuses = await (client.pool.size === 1
      ? submit(signal)
      : inTurn(source, submit, { signal, clock }))
    const executionAt = this.#reading(source)
    return Promise.all(
      transactions.map(async (each, i): Promise<Submitted> => {
        const said = await judge(source, each, statuses[i] as TransactionStatus, executionAt)
        if ('receipt' in said) return [each, said]
        if (isRefusal(said)) return [each, undefined]
        return [each, said.status === 'refused' ? 'put off' : 'pending']
      }),
    )
  }

  /** What certified blocks say, as this source has them; of a height it is asked once. */
  #reading(source: ChainSource): ExecutionAt {
    const { blocks, client, trust } = this.#parts
    const receiptsAt = oncePerHeight(async height => {
      // Its certificate may be on its way here.
      await client.follower.reach(height)
      const block = blocks.recent(height) ?? (await certifiedHeaderAt(source, trust, height))
      return blocks.receiptsFrom(source, block)
    })
    const leavesAt = oncePerHeight(async height => {
      const leaves = await source.blockLeaves?.(height).catch(absent)
      return leaves && (await proveLeaves(source, trust, { height, leaves })).leaves
    })
    return async (transaction, height) => {
      try {
        return executionIn(await receiptsAt(height), transaction, height)
      } catch (error) {
        if (!(error instanceof MoteError && error.code === 'forgotten')) throw error
        const leaves = await leavesAt(height)
        const execution = leaves && executionInLeaves(transaction, leaves, height)
        if (!execution) throw error
        if (execution.receipt) return execution
        const place = `stands in block ${height} at ${execution.index}`
        throw new MoteError(
          'forgotten',
          `transaction ${transaction.id}: ${place}, and how it ended is forgotten`,
        )
      }
    }
  }

  /** One that a node refuses: until it is final, or the time is over in which one node alone, or nobody for good, has said so. */
  async #settleAlone(transaction: ParsedTransaction): Promise<Settlement> {
    const { signal, onError, clock = waitingClock } = this.#parts
    const since = clock.steady()
    let refusals = new Refusals()
    for (let delayMs = retryDelayMsMin; ; delayMs = Math.min(2 * delayMs, retryDelayMsMax)) {
      this.#mustRun()
      try {
        const said = await this.#submitOne(transaction, refusals)
        if ('receipt' in said) return { type: 'executed', ...said }
        if (!isRefusal(said))
          throw new MoteError('unconfirmed', `transaction ${transaction.id}: ${said.code ?? said.status}`)
        refusals = new Refusals()
        return await this.#judgeRefusal(transaction, said)
      } catch (error) {
        this.#mustRun()
        onError(error)
        if (isForOneAlone(error) && clock.steady() - since > unconfirmedMs)
          return { type: 'unconfirmed', detail: error.detail }
      }
      await pause(delayMs, signal, clock)
    }
  }

  /** What the nodes say together; a refusal is that of enough of them. */
  async #submitOne(
    transaction: ParsedTransaction,
    refusals: Refusals,
  ): Promise<Executed | TransactionStatus> {
    const { client, signal, clock } = this.#parts
    const { id, bytes } = transaction
    let execution: Executed | undefined
    const confirm = async (source: ChainSource, status: TransactionStatus): Promise<TransactionStatus> => {
      const judged = await judge(source, transaction, status, this.#reading(source))
      if (!('receipt' in judged)) {
        if (judged.code === 'transaction-expired') await this.#mustBeOver(transaction, source)
        return judged
      }
      execution = judged
      return { ...status, status: 'certified' }
    }
    try {
      const status = await refusals.send(client.pool, bytes, 'certified', { signal, clock, confirm })
      return execution ?? status
    } catch (error) {
      if (!(error instanceof MoteError && refusesTransaction(error.code))) throw error
      return { id, status: 'refused', code: error.code, detail: error.detail }
    }
  }

  /** Throws `unconfirmed` while a block may come, or is one that this node lacks, in which the transaction is in time. */
  async #mustBeOver({ id, unsigned }: ParsedTransaction, source?: ChainSource): Promise<void> {
    const { header } = this.#parts.client.follower.head
    if (header.time < unsigned.expiry)
      throw new MoteError('unconfirmed', `transaction ${id}: expired, but not by certified time`)
    if (source && (await source.status()).certifiedHeight < header.height)
      throw new MoteError('unconfirmed', `transaction ${id}: ${source.name} is behind block ${header.height}`)
  }

  /** Enough nodes refuse it; one that has it in a block, and proves it, says more. Throws `unconfirmed` if they may say otherwise later. */
  async #judgeRefusal(
    transaction: ParsedTransaction,
    { code = 'internal', detail = code }: TransactionStatus,
  ): Promise<Settlement> {
    const { client, onError } = this.#parts
    const { id, unsigned } = transaction
    // Nodes may have thrown it.
    if (code === 'transaction-expired') await this.#mustBeOver(transaction)
    const found = client.pool.attempt(async source => {
      const status = await source.transactionStatus(id)
      const judged = await judge(source, transaction, status, this.#reading(source))
      if ('receipt' in judged) return judged
      throw new MoteError('height-not-available', `transaction ${id}: ${judged.status}`)
    })
    const execution = await found.catch((error: unknown) => {
      if (!(error instanceof MoteError)) throw error
      if (error.code !== 'height-not-available') onError(error)
      return undefined
    })
    if (execution) return { type: 'executed', ...execution }
    // It was executed, and those who say so do not know any more where.
    const isUnproven = code === 'duplicate'
    // By certified time: nodes that have just started know less.
    const { time } = client.follower.head.header
    const willBeInTime = code === 'expiry-too-far' && unsigned.expiry <= time + maxExpiryAheadMs
    if (isUnproven || willBeInTime) throw new MoteError('unconfirmed', `transaction ${id}: ${detail}`)
    return { type: 'refused', code, detail }
  }

  #mustRun(): void {
    if (this.#parts.signal.aborted) throw new MoteError('interrupted', 'records: the gateway stops')
  }
}

/** Throws `forgotten` if neither receipts nor leaf hashes tell it: with its place if they prove that. */
type ExecutionAt = (transaction: ParsedTransaction, height: Height) => Promise<Executed | undefined>

/** What is executed and certified is looked up and proven. Throws `bad-proof`, and what reading throws. */
async function judge(
  source: ChainSource,
  transaction: ParsedTransaction,
  status: TransactionStatus,
  executionAt: ExecutionAt,
): Promise<Executed | TransactionStatus> {
  const { id } = transaction
  if (status.id !== id) throw new MoteError('bad-proof', `${source.name}: answered about ${status.id}`)
  const { height } = status
  if (height === undefined || status.status === 'committed') return status
  const execution = await executionAt(transaction, height)
  if (execution) return execution
  throw new MoteError('bad-proof', `${source.name}: block ${height} does not hold transaction ${id}`)
}

function submitTo(
  source: ChainSource,
  transactions: readonly ParsedTransaction[],
  signal: AbortSignal,
): Promise<readonly TransactionStatus[]> {
  const wires = transactions.map(({ bytes }) => bytes)
  return source.submitAll
    ? source.submitAll(wires, 'certified', { signal })
    : Promise.all(wires.map(bytes => source.submit(bytes, 'certified', { signal })))
}

function oncePerHeight<T>(ask: (height: Height) => Promise<T>): (height: Height) => Promise<T> {
  const known = new Map<Height, Promise<T>>()
  return height => {
    const asked = known.get(height) ?? ask(height)
    known.set(height, asked)
    return asked
  }
}

/** A source that does not have them, or not at all. */
function absent(error: unknown): undefined {
  if (!(error instanceof MoteError && error.code === 'height-not-available')) throw error
}

/** How it goes on with what is not executed, as far as is known. */
function nextAfter(
  said: Exclude<Submitted[1], Executed>,
  waitedMs: number,
): 'together' | 'alone' | 'behind others' {
  switch (said) {
    case 'unanswered':
      return 'together'
    case 'put off':
      return waitedMs > putOffMs ? 'behind others' : 'together'
    case 'pending':
      return waitedMs > unconfirmedMs ? 'alone' : 'together'
    case undefined:
      return 'alone'
  }
}

/** The block of a transaction is not kept: one such must not hold up those that were sent with it. */
function isMissing(error: unknown): error is MoteError {
  return error instanceof MoteError && ['forgotten', 'height-not-available'].includes(error.code)
}

function isForOneAlone(error: unknown): error is MoteError {
  return isMissing(error) || (error instanceof MoteError && error.code === 'unconfirmed')
}

/** Whether these words mean that the same bytes will not be executed. */
function isRefusal({ status, code = 'internal' }: TransactionStatus): boolean {
  return status === 'invalid' || (status === 'refused' && refusesTransaction(code))
}
