/**
 * `mote tx status ID`: what a full node says. `mote tx show ID` and `mote block HEIGHT|latest`: proven from the genesis on.
 */
import type { Command } from 'commander'
import { transactionViews } from '../chain/block.ts'
import { Height } from '../chain/brands.ts'
import { scalarJson } from '../chain/contracts/document.ts'
import { exitCodes } from '../chain/errors.ts'
import { headerHash } from '../chain/header.ts'
import { bytesToHex } from '../chain/hex.ts'
import { MoteError } from '../chain/result.ts'
import { parseTransaction } from '../chain/transaction.ts'
import { deviceNameOf, newestHead, openChain } from './chain-access.ts'
import type { AddCommand } from './command.ts'
import type { Context } from './context.ts'
import { type Cell, provenance } from './output.ts'
import { heightOf, indexOf, provenBlock, transactionIdOf } from './proven-blocks.ts'

export function transactionCommands(family: Command, add: AddCommand): void {
  add({
    parent: family,
    usage: 'status <id>',
    description: 'where a transaction is: unknown, pending, committed, certified, invalid or refused',
    action: transactionStatus,
  })
  add({
    parent: family,
    usage: 'show <id>',
    description: 'what a transaction says and how it ended, proven under its certified block',
    action: showTransaction,
  })
}

async function transactionStatus(context: Context, [text = '']: readonly string[]): Promise<number> {
  const id = transactionIdOf(text)
  const access = await openChain(context)
  const status = await access.client.pool.attempt(source => source.transactionStatus(id))
  const asOf = newestHead(access)
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

export async function showBlock(context: Context, [text = '']: readonly string[]): Promise<number> {
  const access = await openChain(context)
  const head = access.client.follower.head.header
  const number = text === 'latest' ? head.height : /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
  if (!Number.isSafeInteger(number))
    throw new MoteError('usage', `height: expected a natural number or 'latest', got '${text}'`)
  if (number > head.height)
    throw new MoteError('not-found', `block ${number}: the newest certified one is ${head.height}`)
  const block = await provenBlock(access, Height(number))
  const { term, time, previousHash, stateRoot, height } = block.header
  const transactions = transactionViews(block).map(row => ({ ...row, signer: row.signer ?? null }))
  const asOf = newestHead(access)
  const shown = {
    height,
    headerHash: headerHash(block.header),
    term,
    time: new Date(time).toISOString(),
    previousHash,
    stateRoot,
  }
  const { output } = context
  output.data({ ...shown, transactions, verified: block.verified, asOf }, () =>
    [
      output.fields({ ...shown, transactions: transactions.length }),
      ...(transactions.length === 0
        ? []
        : [
            '',
            output.table(transactions, {
              '#': row => row.index,
              transaction: row => row.id,
              kind: row => row.kind,
              signer: row => row.signer,
              outcome: row => row.code,
            }),
          ]),
      '',
      `verified ${provenance(asOf)}`,
    ].join('\n'),
  )
  return exitCodes.ok
}

async function showTransaction(context: Context, [text = '']: readonly string[]): Promise<number> {
  const id = transactionIdOf(text)
  const access = await openChain(context)
  const block = await provenBlock(access, await heightOf(access, id))
  const { height } = block.header
  const index = indexOf(block, id)
  const parsed = parseTransaction(block.transactions[index] ?? new Uint8Array(0))
  const receipt = block.receipts[index]
  if (!parsed.ok || !receipt)
    throw new MoteError('not-found', `transaction ${id}: not in block ${height}, whatever its status says`)
  const { body, signer, nonce, expiry, chainId } = parsed.value.unsigned
  const asOf = newestHead(access)
  const shown = {
    id,
    height,
    index,
    time: new Date(block.header.time).toISOString(),
    signer: { name: await deviceNameOf(access, signer.deviceId), ...signer },
    chainId,
    nonce: bytesToHex(nonce),
    expiry: new Date(expiry).toISOString(),
    body: readable(body) as Record<string, unknown>,
    code: receipt.code,
    events: readable(receipt.events) as Record<string, unknown>[],
  }
  const { output } = context
  output.data({ ...shown, verified: block.verified, asOf }, () =>
    [
      output.fields({
        ...flat({ id, height, index, time: shown.time }),
        ...flat({ signer: shown.signer, nonce: shown.nonce, expiry: shown.expiry }),
        outcome: shown.code,
        ...flat(shown.body, 'body.'),
        ...flat(Object.fromEntries(shown.events.map((event, i) => [`event ${i}`, event]))),
      }),
      `verified ${provenance(asOf)}`,
    ].join('\n'),
  )
  return exitCodes.ok
}

/** The same value with octets in hexadecimal, for JSON. */
function readable(value: unknown): unknown {
  if (value instanceof Uint8Array) return bytesToHex(value)
  if (typeof value === 'bigint') return scalarJson(value)
  if (Array.isArray(value)) return value.map(readable)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, readable(inner)]))
}

/** Nested objects as `outer.inner`, lists as their JSON. */
function flat(value: object, prefix = ''): Record<string, Cell> {
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, inner]): [string, Cell][] => {
      if (typeof inner === 'object' && inner !== null && !Array.isArray(inner))
        return Object.entries(flat(inner as object, `${prefix}${name}.`))
      const cell = Array.isArray(inner) ? JSON.stringify(inner) : (inner as Cell)
      return [[`${prefix}${name}`, cell]]
    }),
  )
}
