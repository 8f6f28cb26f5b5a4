/**
 * `mote record list`: the history of a device on the chain, as a table, a drawing of one value, CSV or JSON Lines.
 *
 * Each row is proven. That none is missing is the word of the full node that was asked for the device's history.
 */

import type { Command } from 'commander'
import type { Height } from '../chain/brands.ts'
import { valuesJson } from '../chain/contracts/document.ts'
import { exitCodes } from '../chain/errors.ts'
import { reportKinds } from '../chain/record-bodies.ts'
import { MoteError } from '../chain/result.ts'
import type { ProvenBlock } from '../client/block-proof.ts'
import { historyOf } from '../client/device-history.ts'
import { type PlacedRecord, recordIdText } from '../client/record-proof.ts'
import type { ChainAccess } from '../devnet/access.ts'
import { deviceNames, newestHead, openChain, requireDevice } from './chain-access.ts'
import type { AddCommand } from './command.ts'
import { type Context, parseCount } from './context.ts'
import { printable, provenance, shortId } from './output.ts'
import {
  claimedLatencyMs,
  latencyText,
  quoted,
  recordJson,
  recordsAt,
  valuesText,
  vouchedText,
} from './placed-records.ts'
import { plotText } from './plot.ts'
import { indexOf, provenBlock } from './proven-blocks.ts'

interface RecordListOptions {
  readonly device: string
  readonly topic?: string
  readonly from?: number
  readonly to?: number
  readonly limit: number
  readonly plot?: string
  readonly csv?: boolean
  readonly jsonl?: boolean
}

/** Rows that are listed unless told otherwise, and at most. */
const defaultRecordRows = 100
const maxRecordRows = 10_000
const recordKinds: ReadonlySet<string> = new Set(reportKinds)

function parseTime(text: string): number {
  const time = /^\d{10,16}$/.test(text) ? Number(text) : Date.parse(text)
  if (Number.isFinite(time)) return time
  throw new MoteError(
    'usage',
    `expected a time as 2026-11-29T12:00:00Z, or milliseconds since 1970, got '${text}'`,
  )
}

export function recordListCommand(family: Command, add: AddCommand): void {
  add<RecordListOptions>({
    parent: family,
    usage: 'list',
    description: 'the records of a device, the newest last, each proven',
    options: [
      { flags: '--device <device>', description: 'whose', required: true },
      { flags: '--topic <topic>', description: 'on this topic only' },
      { flags: '--from <time>', description: 'recorded at or after this block time', read: parseTime },
      { flags: '--to <time>', description: 'recorded before this block time', read: parseTime },
      {
        flags: '--limit <n>',
        description: 'so many of the newest',
        read: parseCount('limit', 1, maxRecordRows),
        default: defaultRecordRows,
      },
      { flags: '--plot <value>', description: 'draw this value of each record' },
      { flags: '--csv', description: 'comma-separated values' },
      { flags: '--jsonl', description: 'one JSON object for each record' },
    ],
    notes:
      'Each row is proven from the genesis on. That no row is missing is the word of the full node that was asked, since a proof shows what is there and not that nothing else is.',
    action: list,
  })
}

async function list(context: Context, _args: readonly string[], options: RecordListOptions): Promise<number> {
  if ([options.plot, options.csv, options.jsonl].filter(Boolean).length > 1)
    throw new MoteError('usage', 'expected at most one of --plot, --csv and --jsonl')
  const access = await openChain(context)
  const { records, forgotten } = await recordsOfDevice(access, options)
  const { output } = context
  const asOf = newestHead(access)
  if (forgotten > 0)
    output.note(
      `${forgotten} older transactions stand in blocks that every full node has forgotten which answered; who kept a record proves it with \`mote record proof --from\``,
    )
  if (options.csv && !output.json) {
    output.lines(csvLines(records))
    return exitCodes.ok
  }
  const nameOf = await deviceNames(access)
  if (options.jsonl) {
    output.lines(records.map(each => quoted(recordJson(each, nameOf))))
    return exitCodes.ok
  }
  const rows = records.map(each => recordJson(each, nameOf))
  output.data({ records: rows, verified: true, complete: false, forgotten, asOf }, () =>
    [
      options.plot === undefined ? tableText(context, records) : plotText(points(records, options.plot)),
      `verified ${provenance(asOf)}; that none is missing is one node's word`,
    ].join('\n'),
  )
  return exitCodes.ok
}

interface FoundRecords {
  readonly records: readonly PlacedRecord[]
  /** Transactions of the device that may have recorded more, in blocks that nobody who was asked has any more. */
  readonly forgotten: number
}

/**
 * The newest records that fit, oldest first. Blocks are looked at from the newest down, until one is too old, or forgotten as all below
 * it are, or enough are found.
 */
async function recordsOfDevice(
  access: ChainAccess,
  { device, topic, from = 0, to = Number.POSITIVE_INFINITY, limit }: RecordListOptions,
): Promise<FoundRecords> {
  const id = await requireDevice(access, device)
  const history = (await historyOf(access.client.pool, id)).filter(({ kind }) => recordKinds.has(kind))
  const found: PlacedRecord[] = []
  let block: ProvenBlock | undefined
  let forgotten = 0
  for (const [i, row] of history.entries()) {
    if (block?.header.height !== row.height) block = await blockUnlessForgotten(access, row.height)
    if (!block) {
      forgotten = history.length - i
      break
    }
    if (block.header.time < from) break
    if (block.header.time >= to) continue
    const index = indexOf(block, row.id)
    if (index !== row.index)
      throw new MoteError(
        'bad-proof',
        `history: transaction ${row.id} does not stand at height ${row.height}`,
      )
    const fitting = recordsAt(block, index).filter(
      each => each.device === id && (topic === undefined || each.record.topic === topic),
    )
    found.push(...[...fitting].reverse())
    if (found.length >= limit) break
  }
  return { records: found.slice(0, limit).reverse(), forgotten }
}

async function blockUnlessForgotten(access: ChainAccess, height: Height): Promise<ProvenBlock | undefined> {
  try {
    return await provenBlock(access, height)
  } catch (error) {
    if (error instanceof MoteError && error.code === 'forgotten') return undefined
    throw error
  }
}

function tableText({ output }: Context, records: readonly PlacedRecord[]): string {
  return output.table(records, {
    recorded: row => new Date(row.time).toISOString(),
    latency: row => latencyText(latencyOf(row)),
    height: row => row.height,
    record: row => shortId(row.transaction) + (row.item === 0 ? '' : `.${row.item}`),
    vouched: vouchedText,
    topic: row => row.record.topic,
    values: row => valuesText(row.record.values),
    decision: row => row.decided?.decision,
  })
}

function latencyOf({ record, time }: PlacedRecord): number | undefined {
  return claimedLatencyMs({ claimedTime: record.claimedTime, time })
}

function points(records: readonly PlacedRecord[], name: string) {
  return records.flatMap(({ time, record }) => {
    const value = record.values.find(each => each.name === name)?.value
    return typeof value === 'number' || typeof value === 'bigint' ? [{ time, value: Number(value) }] : []
  })
}

/** RFC 4180: a heading, then a row for each record; each name of a value that occurs has a column, `value.NAME`, whatever else is named so. */
function csvLines(records: readonly PlacedRecord[]): readonly string[] {
  const names = [...new Set(records.flatMap(({ record }) => record.values.map(({ name }) => name)))].sort()
  const ofValues = names.map(name => `value.${name}`)
  const heading = ['time', 'latencyMs', 'height', 'id', 'device', 'vouched', 'topic', ...ofValues, 'decision']
  const rows = records.map(each => {
    const values = valuesJson(each.record.values)
    return [
      new Date(each.time).toISOString(),
      latencyOf(each) ?? '',
      each.height,
      recordIdText(each),
      each.device,
      vouchedText(each),
      each.record.topic,
      ...names.map(name => values[name] ?? ''),
      each.decided?.decision ?? '',
    ]
  })
  return [heading, ...rows].map(row => row.map(csvCell).join(','))
}

/**
 * A text that a spreadsheet would take for a formula is quoted by an apostrophe. Control characters, which RFC 4180 does not have in a text,
 * are escaped.
 */
function csvCell(cell: string | number | boolean): string {
  const shown = printable(String(cell))
  const text = typeof cell === 'string' && /^[=+\-@]/.test(shown) ? `'${shown}` : shown
  return /[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}
