/**
 * How the command speaks: data on standard output, messages on standard error; a table for people, one JSON value
 * per line for programs. Colour and anything that moves only on a terminal, and never with `NO_COLOR`.
 */
import { errorTable } from '../chain/errors.ts'
import type { MoteError } from '../chain/result.ts'

export interface Streams {
  readonly stdout: NodeJS.WritableStream & { readonly isTTY?: boolean }
  readonly stderr: NodeJS.WritableStream & { readonly isTTY?: boolean }
}

export interface OutputOptions {
  readonly streams: Streams
  readonly json: boolean
  readonly environment: NodeJS.ProcessEnv
}

export type Cell = string | number | boolean | null | undefined

/** Columns of a table, each with the text of one row. */
export type Columns<Row> = Readonly<Record<string, (row: Row) => Cell>>

const codes = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33 } as const

export class Output {
  readonly json: boolean
  readonly #streams: Streams
  readonly #colour: boolean

  constructor({ streams, json, environment }: OutputOptions) {
    this.#streams = streams
    this.json = json
    const plain = environment['NO_COLOR'] !== undefined && environment['NO_COLOR'] !== ''
    this.#colour = !plain && !json && streams.stdout.isTTY === true
  }

  /** The answer of a command: `value` as JSON, or `text` for people. */
  data(value: unknown, text: () => string): void {
    const line = this.json ? printable(JSON.stringify(value)) : text()
    if (line !== '') this.#streams.stdout.write(`${line}\n`)
  }

  /** Data of another form than a table or JSON: lines as they are. */
  lines(lines: readonly string[]): void {
    for (const line of lines) this.#streams.stdout.write(`${line}\n`)
  }

  /** A message for people, on standard error. */
  note(text: string): void {
    this.#streams.stderr.write(`${text}\n`)
  }

  /** A failure on standard error: `mote: code: detail`, or `{"error":…}` for programs. */
  failure({ code, detail }: MoteError): void {
    const { sentence, retry } = errorTable[code]
    this.#streams.stderr.write(
      this.json
        ? `${JSON.stringify({ error: { code, detail, sentence, retry } })}\n`
        : `mote: ${code}: ${detail}\n${detail === sentence ? '' : `${sentence}\n`}`,
    )
  }

  paint(style: keyof typeof codes, text: string): string {
    return this.#colour ? `\u001b[${codes[style]}m${text}\u001b[0m` : text
  }

  /** Rows under headings, columns two spaces apart. */
  table<Row>(rows: readonly Row[], columns: Columns<Row>): string {
    const names = Object.keys(columns)
    const cells = rows.map(row => names.map(name => cellText(columns[name]?.(row))))
    const widths = names.map((name, i) => Math.max(name.length, ...cells.map(row => (row[i] ?? '').length)))
    const format = (row: readonly string[]): string =>
      row
        .map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i] ?? 0)))
        .join('  ')
        .trimEnd()
    return [this.paint('bold', format(names)), ...cells.map(format)].join('\n')
  }

  /** Names and values, one pair a line. */
  fields(pairs: Readonly<Record<string, Cell>>): string {
    const shown = Object.entries(pairs).filter(([, value]) => value !== undefined)
    const width = Math.max(...shown.map(([name]) => name.length))
    return shown
      .map(([name, value]) => `${this.paint('dim', name.padEnd(width))}  ${cellText(value)}`)
      .join('\n')
  }
}

function cellText(cell: Cell): string {
  return cell === undefined || cell === null ? '-' : String(cell)
}

/** A duration as people say it: `12 ms`, `3.4 s`, `5 min`. */
export function durationText(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`
  if (ms < 120_000) return `${(ms / 1_000).toFixed(1)} s`
  return `${Math.round(ms / 60_000)} min`
}

/** The header that an answer holds at, and how old it is. */
export interface AsOf {
  readonly height: number
  readonly term: number
  readonly ageMs: number
}

/** The last line of every read: at which height the answer holds and how old that is. */
export function provenance(answer: AsOf): string {
  const { height, term, ageMs } = answer
  // Infinite for a header from the future (client/freshness.ts).
  const age = Number.isFinite(ageMs) ? `${durationText(ageMs)} old` : "ahead of this machine's clock"
  return `at height ${height}, term ${term}, ${age}`
}

/** First characters of an id: enough to tell one from another at a glance, never enough to use. */
export function shortId(id: string): string {
  return `${id.slice(0, 12)}…`
}

/**
 * Text of somebody else as a terminal only prints it: line breaks, other control characters and those of direction are escaped as in
 * JSON, so that it stays on its line and gives no commands.
 */
export function printable(text: string): string {
  return text.replace(
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
    /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
    control =>
      control === '\n'
        ? '\\n'
        : control === '\t'
          ? '\\t'
          : `\\u${control.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}
