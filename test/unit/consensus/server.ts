/**
 * One server under test, with a driver that does nothing by itself: a test steps inputs and looks at effects. Only
 * `durable` makes writes durable, so that a test can stand between a write and its completion.
 */
import { defaultConfig } from '../../../consensus/config.ts'
import { Raft } from '../../../consensus/raft.ts'
import type {
  Config,
  Configuration,
  Effect,
  Entry,
  HardState,
  Input,
  Message,
  NodeId,
  Random,
  Recovered,
} from '../../../consensus/types.ts'

export const electionTimeoutTicks = 10

export function simple(...voters: NodeId[]): Configuration {
  return { voters, votersOutgoing: [], learners: [] }
}

export function command(index: number, term: number, text = `${index}@${term}`): Entry {
  return { index, term, type: 'command', data: new TextEncoder().encode(text) }
}

/** Entries from index 1 with these terms. */
export function logOf(...terms: number[]): Entry[] {
  return terms.map((term, offset) => command(offset + 1, term))
}

interface ServerOptions {
  readonly configuration?: Configuration
  readonly hardState?: HardState
  readonly entries?: readonly Entry[]
  readonly recovered?: Partial<Recovered>
  readonly config?: Partial<Config>
  readonly random?: Random
}

type MessageBody<T extends Message['type']> = Partial<Omit<Extract<Message, { type: T }>, 'type' | 'from'>>

export class Server {
  readonly raft: Raft
  #token = 0

  constructor(options: ServerOptions = {}) {
    const { configuration = simple('a', 'b', 'c'), entries = [] } = options
    const currentTerm = entries.at(-1)?.term ?? 0
    this.raft = new Raft(
      { ...defaultConfig('a'), electionTimeoutTicks, ...options.config },
      {
        hardState: options.hardState ?? { currentTerm, votedFor: null },
        snapshot: { lastIncludedIndex: 0, lastIncludedTerm: 0, configuration },
        entries,
        before: { index: 0, term: 0 },
        configuration,
        applied: 0,
        ...options.recovered,
      },
      options.random ?? (() => 0),
    )
  }

  get status() {
    return this.raft.status
  }

  step(input: Input): Effect[] {
    const effects = this.raft.step(input)
    for (const effect of effects) if (effect.type === 'persist') this.#token = effect.token
    return effects
  }

  ticks(count: number): Effect[] {
    return Array.from({ length: count }, () => this.step({ type: 'tick' })).flat()
  }

  /** Makes every write so far durable. */
  durable(): Effect[] {
    return this.step({ type: 'persisted', token: this.#token })
  }

  propose(...texts: string[]): Effect[] {
    return this.step({ type: 'propose', data: texts.map(text => new TextEncoder().encode(text)), context: 1 })
  }

  requestVote(from: NodeId, body: MessageBody<'request-vote'>): Effect[] {
    return this.receive({
      type: 'request-vote',
      from,
      term: 1,
      lastLogIndex: 0,
      lastLogTerm: 0,
      preVote: false,
      leadershipTransfer: false,
      ...body,
    })
  }

  vote(from: NodeId, body: MessageBody<'vote'> = {}): Effect[] {
    const term = this.status.currentTerm
    return this.receive({ type: 'vote', from, term, voteGranted: true, preVote: false, ...body })
  }

  append(from: NodeId, body: MessageBody<'append-entries'>): Effect[] {
    return this.receive({
      type: 'append-entries',
      from,
      term: this.status.currentTerm,
      prevLogIndex: 0,
      prevLogTerm: 0,
      entries: [],
      leaderCommit: 0,
      readContext: 0,
      ...body,
    })
  }

  /** An answer to an append: a success up to `matchIndex` unless the body says otherwise. */
  answer(from: NodeId, body: MessageBody<'append-response'>): Effect[] {
    return this.receive({
      type: 'append-response',
      from,
      term: this.status.currentTerm,
      success: true,
      prevLogIndex: body.matchIndex ?? 0,
      matchIndex: 0,
      conflictIndex: 0,
      conflictTerm: 0,
      readContext: 0,
      full: false,
      ...body,
    })
  }

  receive(message: Message): Effect[] {
    return this.step({ type: 'message', message })
  }

  /** Times out and wins the election with the votes of everybody else; the no-op is durable here, nowhere else. */
  becomeLeader(): Effect[] {
    this.ticks(electionTimeoutTicks)
    const { voters, votersOutgoing } = this.status.configuration
    const others = new Set([...voters, ...votersOutgoing])
    for (const id of others) {
      if (this.status.role === 'precandidate') {
        this.vote(id, { preVote: true, term: this.status.currentTerm + 1 })
      }
    }
    const effects = this.durable()
    for (const id of others) {
      if (this.status.role === 'candidate' && id !== 'a') effects.push(...this.vote(id))
    }
    if (this.status.role !== 'leader') throw new Error(`expected a leader, got ${this.status.role}`)
    return [...effects, ...this.durable()]
  }
}

type EffectOf<T extends Effect['type']> = Extract<Effect, { type: T }>

/** The effects of one type. */
export function effectsOf<T extends Effect['type']>(effects: readonly Effect[], type: T): EffectOf<T>[] {
  return effects.filter((effect): effect is EffectOf<T> => effect.type === type)
}

/** The `send` effects of one type of message. */
export function sendsOf<T extends Message['type']>(
  effects: readonly Effect[],
  type: T,
): (EffectOf<'send'> & { readonly message: Extract<Message, { type: T }> })[] {
  return effectsOf(effects, 'send').filter(
    (effect): effect is EffectOf<'send'> & { readonly message: Extract<Message, { type: T }> } =>
      effect.message.type === type,
  )
}
