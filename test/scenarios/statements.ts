/**
 * A scenario as data: what `language.ts` reads and `runner.ts` carries out. One variant per kind of line; the
 * meaning of each stands in the grammar at the top of `language.ts`.
 */
import type { Config, Message, NodeId, RefusalReason, Role } from '../../consensus/types.ts'

export interface Scenario {
  readonly file: string
  /** The first line of the opening comment. */
  readonly title: string
  /** What stands after `Source:` in the opening comment. */
  readonly source: string
  readonly lines: readonly ScenarioLine[]
}

export interface ScenarioLine {
  readonly place: string
  readonly text: string
  readonly statement: Statement
}

export type MessageType = Message['type']

/** Which messages on their way are meant. Missing parts mean any. */
export interface Selector {
  readonly from: NodeId | undefined
  readonly to: NodeId | undefined
  readonly type: MessageType | undefined
  /** A field of the message and its value as text; `entries` compares the number of entries. */
  readonly fields: readonly (readonly [string, string])[]
  readonly position: 'all' | 'first' | 'last'
}

export type Settings = Partial<Omit<Config, 'id'>>

/** What a log should be: `covered` entries stand in the snapshot, then one entry per term. */
export interface LogShape {
  readonly covered: number
  readonly terms: readonly number[]
}

export interface MemberLists {
  readonly voters: readonly NodeId[]
  readonly outgoing: readonly NodeId[]
  readonly learners: readonly NodeId[]
}

export type Fact =
  | { readonly fact: 'role'; readonly role: Role | 'stopped' | 'failed' }
  | { readonly fact: 'follows'; readonly leader: NodeId | null }
  | { readonly fact: 'vote'; readonly votedFor: NodeId | null }
  | { readonly fact: 'term' | 'commit' | 'applied' | 'persisted'; readonly value: number }
  | { readonly fact: 'log' | 'disk'; readonly shape: LogShape }
  | { readonly fact: 'commands'; readonly commands: readonly string[] }
  | { readonly fact: 'match' | 'next' | 'in-flight'; readonly peer: NodeId; readonly value: number }
  | {
      readonly fact: 'progress'
      readonly peer: NodeId
      readonly state: 'probe' | 'replicate' | 'snapshot' | 'full'
    }
  | { readonly fact: 'configuration'; readonly members: MemberLists }
  | { readonly fact: 'transfer'; readonly to: NodeId | null }
  | { readonly fact: 'ahead-of'; readonly peer: NodeId }

export type Expectation =
  | { readonly about: 'nodes'; readonly nodes: readonly NodeId[]; readonly facts: readonly Fact[] }
  | { readonly about: 'no-leader' }
  | { readonly about: 'agreement' }
  | { readonly about: 'message'; readonly selector: Selector; readonly present: boolean }
  | { readonly about: 'accepted' }
  | { readonly about: 'refused'; readonly reason: RefusalReason; readonly detail: string | undefined }
  | { readonly about: 'read'; readonly name: string; readonly answer: 'waiting' | 'refused' | number }

export type Statement =
  | {
      readonly verb: 'cluster'
      readonly voters: readonly NodeId[]
      readonly learners: readonly NodeId[]
      readonly settings: Settings
    }
  | { readonly verb: 'spare'; readonly nodes: readonly NodeId[] }
  | {
      readonly verb: 'disk'
      readonly node: NodeId
      readonly terms: readonly number[]
      readonly term: number | undefined
      readonly votedFor: NodeId | null
    }
  | { readonly verb: 'tick'; readonly nodes: readonly NodeId[]; readonly count: number }
  | { readonly verb: 'propose'; readonly node: NodeId; readonly commands: readonly string[] }
  | { readonly verb: 'settle' }
  | {
      readonly verb: 'deliver' | 'drop' | 'duplicate' | 'delay' | 'resume'
      readonly selector: Selector
    }
  | { readonly verb: 'withhold'; readonly count: number; readonly selector: Selector }
  | { readonly verb: 'partition'; readonly groups: readonly (readonly NodeId[])[] }
  | { readonly verb: 'cut'; readonly from: NodeId; readonly to: NodeId }
  | { readonly verb: 'heal' }
  | { readonly verb: 'crash'; readonly node: NodeId; readonly keeping: number }
  | {
      readonly verb: 'elect' | 'restart' | 'wipe' | 'compact' | 'leave-joint' | 'abandon-joint'
      readonly node: NodeId
    }
  | { readonly verb: 'hold' | 'release'; readonly node: NodeId; readonly what: 'disk' | 'applying' }
  | { readonly verb: 'persist'; readonly node: NodeId; readonly count: number }
  | { readonly verb: 'fail-disk'; readonly node: NodeId }
  | { readonly verb: 'transfer' | 'disconnect'; readonly node: NodeId; readonly peer: NodeId }
  | { readonly verb: 'know'; readonly node: NodeId; readonly voters: readonly NodeId[] }
  | {
      readonly verb: 'change'
      readonly node: NodeId
      readonly voters: readonly NodeId[]
      readonly learners: readonly NodeId[]
    }
  | { readonly verb: 'read'; readonly node: NodeId; readonly name: string }
  | { readonly verb: 'fetch'; readonly node: NodeId; readonly fails: boolean }
  | { readonly verb: 'violates'; readonly property: string; readonly statement: Statement }
  | { readonly verb: 'expect'; readonly expectation: Expectation }
