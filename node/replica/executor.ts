/**
 * Executes committed entries and writes what they leave behind: all that was executed in one turn of the replica becomes
 * one atomic write, and what it holds is signed once that is on disk.
 *
 * Invariants: entries come in order; a block, its state and the applied index are one write; the record of what this node
 * will sign is part of it; the certifier hears of a block when it is on disk, so that whatever is certified here can be
 * read from there.
 */
import type { LogIndex, Term } from '../../chain/brands.ts'
import type { Configuration, Entry } from '../../consensus/types.ts'
import type { Certifier } from '../ledger/certifier.ts'
import type { Execution, LiveChain } from '../ledger/live-chain.ts'
import type { NodeEvents } from '../ledger/node-events.ts'
import type { Snapshots } from '../ledger/snapshots.ts'
import type { BlockWrite, Storage } from '../ports.ts'

export interface ExecutorParts {
  readonly chain: LiveChain
  readonly snapshots: Snapshots
  readonly certifier: Certifier
  readonly storage: Storage
  readonly events: NodeEvents
}

/** A write that is under way. */
export interface ExecutorWrite {
  /** Applied with it. */
  readonly index: number
  readonly executions: readonly Execution[]
  readonly done: Promise<void>
}

export class Executor {
  readonly #parts: ExecutorParts
  #applied: number
  #written: number
  #durable: number
  /** Executed since the last write. */
  #executions: Execution[] = []
  /** The latest applied one, while it waits to be written. */
  #configuration: Configuration | undefined

  /** @param applied what was recovered as applied */
  constructor(parts: ExecutorParts, applied: number) {
    this.#parts = parts
    this.#applied = applied
    this.#written = applied
    this.#durable = applied
  }

  /** Raft index executed so far; blocks are fewer (no-op and configuration entries make none). */
  get applied(): number {
    return this.#applied
  }

  /** The same of what was given to the disk. */
  get written(): number {
    return this.#written
  }

  /** The same of what is on disk. */
  get durable(): number {
    return this.#durable
  }

  /** True if the entry made a block. */
  execute(entry: Entry): boolean {
    this.#applied = entry.index
    if (entry.configuration) this.#configuration = entry.configuration
    const { chain, snapshots, events } = this.#parts
    const place = { term: entry.term as Term, index: entry.index as LogIndex }
    const execution = entry.type === 'command' ? chain.execute(entry.data, place) : undefined
    snapshots.applied(entry, execution?.block.height)
    if (!execution) return false
    this.#executions.push(execution)
    events.executed(execution)
    return true
  }

  /** Begins one atomic write for everything executed since the last one, if there is anything. */
  write(): ExecutorWrite | undefined {
    if (this.#applied === this.#written) return undefined
    const { storage, events } = this.#parts
    const executions = this.#executions
    const index = this.#applied
    const configuration = this.#configuration
    this.#executions = []
    this.#configuration = undefined
    this.#written = index
    const blocks = executions.map(execution => this.#stored(execution))
    const done = storage.apply({ applied: index, blocks, ...(configuration && { configuration }) })
    events.applied(index)
    return { index, executions, done }
  }

  /** The write is on disk: what it holds may be signed, and certified here. */
  wrote({ index, executions }: ExecutorWrite): void {
    this.#durable = index
    const { certifier } = this.#parts
    for (const { block } of executions) certifier.collect(block)
    certifier.sign(executions.map(execution => execution.block))
  }

  /** A snapshot took the place of everything up to here, on disk too. */
  skipTo(index: number): void {
    this.#applied = index
    this.#written = index
    this.#durable = index
  }

  /**
   * With what the block took the place of, and the record of what this node signs if it is, or becomes, a consenter: who is
   * one may change before the header is signed.
   */
  #stored({ block, write, replaced }: Execution): BlockWrite {
    const { chain, snapshots } = this.#parts
    const { incarnation } = chain.ledger.header
    const configuration = snapshots.configurationAt(block.height)
    const configurationBelow = snapshots.configurationAt(block.height - 1)
    return {
      ...write,
      ...(configuration &&
        configurationBelow && { undo: { ...replaced, configuration, configurationBelow } }),
      signed: { ...block, incarnation },
    }
  }
}
