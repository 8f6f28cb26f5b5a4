/**
 * `mote device send --vote`: the answers of everybody who was asked for the copy of a key (Hsu-Lu B2), as a map from names to
 * `Check` or `Error`, and with the copies where they differ.
 */
import { isDigest } from '../chain/brands.ts'
import type { ChainAccess } from '../devnet/access.ts'
import type { Context } from './context.ts'
import { shortId } from './output.ts'

type VoteOutcome = import('../mqtt-gateway/device/vote.ts').VoteOutcome
type Answer = VoteOutcome['rows'][number]['check']

/** `vote` in the JSON of `mote device send`. */
export interface VoteAnswer {
  /** By name, by id where there is no name here. */
  readonly answers: Readonly<Record<string, Answer>>
  /** Of each who did not answer `Check`: key ids, null for no copy. */
  readonly objections: readonly {
    readonly name: string
    readonly answer: Answer
    readonly inEnvelope: string | null
    readonly inCopy: string | null
  }[]
}

/** What was answered, by the names of this machine. A device whose name here is that of another row goes by its id. */
export async function voteAnswer({ keys }: ChainAccess, { rows }: VoteOutcome): Promise<VoteAnswer> {
  const reserved = ['gateway', 'sender']
  const names = new Map(
    (await keys.names())
      .filter(({ name }) => !reserved.includes(name))
      .map(({ id, name }) => [id as string, name]),
  )
  const named = rows.map(row => ({ ...row, name: names.get(row.voter) ?? row.voter }))
  return {
    answers: Object.fromEntries(named.map(({ name, check }) => [name, check])),
    objections: named
      .filter(({ check }) => check !== 'Check')
      .map(({ name, check, inEnvelope, inCopy }) => ({
        name,
        answer: check,
        inEnvelope: inEnvelope ?? null,
        inCopy: inCopy ?? null,
      })),
  }
}

/** One line for each who was asked. */
export function voteTable({ output }: Context, { answers, objections }: VoteAnswer): string {
  const byName = new Map(objections.map(objection => [objection.name, objection]))
  const shownKey = (id: string | null): string => (id === null ? 'none' : shortId(id))
  return output.table(Object.entries(answers), {
    'asked of': ([name]) => (isDigest(name) ? shortId(name) : name),
    answer: ([, answer]) => answer,
    "sender's copy": ([name]) => {
      const objection = byName.get(name)
      return objection ? shownKey(objection.inEnvelope) : ''
    },
    'own copy': ([name]) => {
      const objection = byName.get(name)
      return objection && objection.answer !== 'Silent' ? shownKey(objection.inCopy) : ''
    },
  })
}
