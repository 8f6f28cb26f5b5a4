/**
 * `mote tx status ID` and `mote block HEIGHT|latest`: what a full node says, and whether a quorum certified it.
 */
import type { Command } from 'commander'
import { Height, isDigest, TransactionId } from '../chain/brands.ts'
import { exitCodes } from '../chain/errors.ts'
import { MoteError } from '../chain/result.ts'
import { apiUrl } from '../devnet/layout.ts'
import { type ChainAccess, openChain } from './chain-access.ts'
import type { AddCommand } from './command.ts'
import type { Context } from './context.ts'
import { type Cell, provenance } from './output.ts'

export function transactionCommands(program: Command, family: Command, add: AddCommand): void {
  add({
    parent: family,
    usage: 'status <id>',
    description: 'where a transaction is: unknown, pending, committed, certified, invalid or refused',
    action: transactionStatus,
  })
  add({
    parent: program,
    usage: 'block <height>',
    description: "a block by its height, or 'latest'",
    action: showBlock,
  })
}

async function transactionStatus(context: Context, [text = '']: readonly string[]): Promise<number> {
  if (!isDigest(text)) throw new MoteError('usage', `id: expected 64 hexadecimal characters, got '${text}'`)
  const access = await openChain(context)
  const { client } = access
  const status = await client.pool.attempt(source => source.transactionStatus(TransactionId(text)))
  const { height, term } = client.follower.head.header
  const asOf = { height, term, ageMs: client.records.ageMs() }
  context.output.data({ ...status, asOf }, () =>
    [
      context.output.fields({
        id: status.id,
        status: status.status,
        height: status.height,
        term: status.term,
        index: status.index,
        code: status.code,
        detail: status.detail,
        time: status.time === undefined ? undefined : new Date(status.time).toISOString(),
      }),
      provenance(asOf),
    ].join('\n'),
  )
  return status.status === 'unknown' ? exitCodes.notFound : exitCodes.ok
}

/** The answer of the first full node that has one. Throws its refusal, or `unreachable`. */
async function fetchBlock(access: ChainAccess, height: Height): Promise<Record<string, unknown>> {
  let last: MoteError | undefined
  for (const node of access.description.nodes.filter(candidate => candidate.label === 'full')) {
    try {
      const response = await fetch(`${apiUrl(node.api)}/v1/blocks/${height}`, {
        signal: AbortSignal.timeout(5_000),
      })
      if (response.ok) return (await response.json()) as Record<string, unknown>
      last = new MoteError(
        response.status === 404 ? 'not-found' : 'unreachable',
        `block ${height}: not there`,
      )
    } catch (cause) {
      last ??= new MoteError('unreachable', `${node.name}: no answer`, { cause })
    }
  }
  throw last ?? new MoteError('unreachable', 'no full node')
}

async function showBlock(context: Context, [text = '']: readonly string[]): Promise<number> {
  const access = await openChain(context)
  const head = access.client.follower.head.header
  const number = text === 'latest' ? head.height : Number(text)
  if (!Number.isSafeInteger(number) || number < 0)
    throw new MoteError('usage', `height: expected a natural number or 'latest', got '${text}'`)
  const block = await fetchBlock(access, Height(number))
  const asOf = { height: head.height, term: head.term, ageMs: access.client.records.ageMs() }
  context.output.data({ ...block, asOf }, () =>
    [context.output.fields(flat(block)), provenance(asOf)].join('\n'),
  )
  return exitCodes.ok
}

/** Nested objects as `outer.inner`, lists as their JSON. */
function flat(value: Record<string, unknown>, prefix = ''): Record<string, Cell> {
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, inner]): [string, Cell][] => {
      if (typeof inner === 'object' && inner !== null && !Array.isArray(inner))
        return Object.entries(flat(inner as Record<string, unknown>, `${prefix}${name}.`))
      const cell = Array.isArray(inner) ? JSON.stringify(inner) : (inner as Cell)
      return [[`${prefix}${name}`, cell]]
    }),
  )
}
