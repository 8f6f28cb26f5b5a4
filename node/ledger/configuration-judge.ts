/**
 * A configuration is judged, not believed (docs/CONSENSUS.md, "Who is heard"): a leader that lies could otherwise put one with
 * voters of its own into every log, and nobody else would ever be elected.
 *
 * What the members may be, the chain's state says: the voters are the present consenters; in joint consensus the outgoing
 * ones are, and the incoming ones are those that were decided on, once that decision is certified here: else nobody could
 * prove to who missed it that they may lead. (Where the entry is committed, a majority had the certificate; a node that comes
 * back may never get that one.) Learners get the log and decide nothing, so their number is bounded
 * (consensus/message-check.ts) and that is all.
 *
 * An append is cut before its first configuration that this node's durable state, after exactly the entry before it, does
 * not bear out, and before one whose time of judgement has not come: what is left is taken, executed, and the rest comes
 * again. No honest leader waits for ever: it proposes a configuration only when its whole log is applied, so everything
 * before the entry is committed, and whoever holds the entry knows that.
 *
 * Entries that are applied, and those found in the log at a start, were judged before.
 */
import type { ConsenterSet } from '../../chain/consenters.ts'
import { isJoint } from '../../consensus/configuration.ts'
import type { Configuration, Message } from '../../consensus/types.ts'
import type { LiveChain } from './live-chain.ts'

type Append = Extract<Message, { type: 'append-entries' }>

/** Raft indexes that are executed here, and of those the ones on disk. */
export interface Applied {
  readonly applied: number
  readonly durable: number
}

/** The append up to its first configuration that is not to be taken, and whether entries were taken off its end. */
export function withholdUnproven(
  append: Append,
  done: Applied,
  chain: Pick<LiveChain, 'ledger' | 'certified'>,
): { readonly message: Append; readonly withheld: boolean } {
  const first = append.entries.findIndex(
    ({ index, configuration }) =>
      configuration !== undefined &&
      index > done.applied &&
      !(isAfter(done, index - 1) && isBorneOut(configuration, chain, index <= append.leaderCommit)),
  )
  if (first < 0) return { message: append, withheld: false }
  return { message: { ...append, entries: append.entries.slice(0, first) }, withheld: true }
}

function isAfter({ applied, durable }: Applied, index: number): boolean {
  return applied === index && durable === index
}

/** True if the state allows these members. */
function isBorneOut(
  configuration: Configuration,
  { ledger, certified }: Pick<LiveChain, 'ledger' | 'certified'>,
  isCommitted: boolean,
): boolean {
  const { consenters, nextConsenters } = ledger.parameters
  if (!isJoint(configuration)) return isSetOf(configuration.voters, consenters)
  return (
    isSetOf(configuration.votersOutgoing, consenters) &&
    isSetOf(configuration.voters, nextConsenters) &&
    (isCommitted || isSetOf(configuration.voters, certified.parameters.nextConsenters))
  )
}

/** True if this can be the configuration at the place of a block whose state has these consenters: they are one of its halves. */
export function isAtPlaceOf({ voters, votersOutgoing }: Configuration, consenters: ConsenterSet): boolean {
  return isSetOf(voters, consenters) || isSetOf(votersOutgoing, consenters)
}

/** True if these are the ids of this set. */
function isSetOf(ids: readonly string[], set: ConsenterSet | undefined): boolean {
  if (set?.consenters.length !== ids.length) return false
  return set.consenters.every(({ id }) => ids.includes(id))
}
