/**
 * `mote tx status ID`: what a full node says. `mote tx show ID` and `mote block HEIGHT|latest`: proven from the genesis on.
 */
import type { Command } from 'commander'
import { type Block, blockCodec, transactionViews } from '../chain/block.ts'
import { Height, isDigest, TransactionId } from '../chain/brands.ts'
import { decode } from '../chain/codec.ts'
import { exitCodes } from '../chain/errors.ts'
import { headerHash } from '../chain/header.ts'
import { bytesToHex } from '../chain/hex.ts'
import { MoteError } from '../chain/result.ts'
import { parseTransaction } from '../chain/transaction.ts'
import { type ProvenBlock, proveBlock } from '../client/block-proof.ts'
import { exchange } from '../client/http-source.ts'
import { nativeVerifier } from '../client/native-crypto.ts'
import type { ChainAccess } from '../devnet/access.ts'
import { deviceNameOf, openChain } from './chain-access.ts'
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
    parent: family,
    usage: 'show <id>',
    description: 'what a transaction says and how it ended, proven under its certified block',
    action: showTransaction,
  })
  add({
    parent: program,
    usage: 'block <height>',
    description: "a block by its height, or 'latest', and its transactions, proven under its certificate",
    action: showBlock,
  })
}

function transactionIdOf(text: string): TransactionId {
  if (isDigest(text)) return TransactionId(text)
  throw new MoteError('usage', `id: expected 64 hexadecimal characters, got '${text}'`)
}

async function transactionStatus(context: Context, [text = '']: readonly string[]): Promise<number> {
  const id = transactionIdOf(text)
  const access = await openChain(context)
  const { client } = access
  const status = await client.pool.attempt(source => source.transactionStatus(id))
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

/** Longest wait for one block; it may be of some megabytes. */
const blockTimeoutMs = 10_000
/** What a block may take on the wire; a larger answer is not read (client/http-source.ts). */
const maxBlockAnswerBytes = 8 * 1024 * 1024

/** A block with the proof that a quorum certified it, from the first full node that has one. */
function provenBlock({ client, checkpoint }: ChainAccess, height: Height): Promise<ProvenBlock> {
  return client.pool.attempt(async source => {
    const path = `/v1/blocks/${height}/content`
    const { body } = await exchange(source.name, {
      path,
      timeoutMs: blockTimeoutMs,
      signal: undefined,
    }).catch((error: unknown) => {
      // After a snapshot a node lacks the blocks that it skipped: another one has them.
      if (error instanceof MoteError && error.code === 'not-found')
        throw new MoteError('height-not-available', `${source.name}: ${error.detail}`)
      throw error
    })
    const block = decode(blockCodec, body, maxBlockAnswerBytes)
    if (!block.ok || block.value.header.height !== height)
      throw new MoteError('bad-proof', `${source.name}: expected block ${height}`)
    return proveBlock(source, { checkpoint, verifier: nativeVerifier }, block.value)
  })
}

async function showBlock(context: Context, [text = '']: readonly string[]): Promise<number> {
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
  const asOf = { height: head.height, term: head.term, ageMs: access.client.records.ageMs() }
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
  const { client } = access
  const block = await provenBlock(access, await heightOf(access, id))
  const { height } = block.header
  const index = indexOf(block, id)
  const parsed = parseTransaction(block.transactions[index] ?? new Uint8Array(0))
  const receipt = block.receipts[index]
  if (!parsed.ok || !receipt)
    throw new MoteError('not-found', `transaction ${id}: not in block ${height}, whatever its status says`)
  const { body, signer, nonce, expiry, chainId } = parsed.value.unsigned
  const head = client.follower.head.header
  const asOf = { height: head.height, term: head.term, ageMs: client.records.ageMs() }
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

/** The block of a transaction, by the first full node that knows one: after a snapshot some do not. Throws `not-found`. */
async function heightOf({ client }: ChainAccess, id: TransactionId): Promise<Height> {
  try {
    return await client.pool.attempt(async source => {
      const { height, status } = await source.transactionStatus(id)
      if (height !== undefined) return height
      throw new MoteError('height-not-available', `transaction ${id}: ${status}, in no block`)
    })
  } catch (error) {
    if (error instanceof MoteError && error.code === 'height-not-available')
      throw new MoteError('not-found', error.detail)
    throw error
  }
}

/** Where the transaction stands; if it stands there twice, the second receipt only says that it had been executed. */
function indexOf({ receipts }: Block, id: TransactionId): number {
  const first = receipts.findIndex(receipt => receipt.id === id && receipt.code !== 'duplicate')
  return first >= 0 ? first : receipts.findIndex(receipt => receipt.id === id)
}

/** The same value with octets in hexadecimal, for JSON. */
function readable(value: unknown): unknown {
  if (value instanceof Uint8Array) return bytesToHex(value)
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
