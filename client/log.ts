/**
 * Logs of nodes and gateways: JSON lines by pino, to standard error or to files that rotate by size. Secrets never reach a
 * line: seeds print as `[secret]` by themselves (key-directory.ts), and fields of these names are struck out.
 */
import pino, { type Logger } from 'pino'

export type { Logger } from 'pino'

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent'

const secretNames = ['seed', 'secret', 'password', 'privateKey', 'token']
/** Struck out at the top of a line and one level below. */
const redactedPaths = secretNames.flatMap(name => [name, `*.${name}`])

const rotationSize = '10m'
const keptFiles = 5

export interface LogOptions {
  readonly level: LogLevel
  /** Path of the log file; `node.log` becomes `node.1.log`, `node.2.log` … Standard error unless given. */
  readonly file?: string | undefined
  /** In every line. */
  readonly name: string
}

export interface OpenLog {
  readonly log: Logger
  /** Writes out what is buffered. */
  close(): void
}

/** Opens the log of a node or gateway. Throws if the file cannot be created. */
export async function openLog({ level, file, name }: LogOptions): Promise<OpenLog> {
  const stream = file === undefined ? pino.destination({ dest: 2, sync: true }) : await rotatingFile(file)
  const log = pino(
    {
      level,
      base: { name },
      timestamp: pino.stdTimeFunctions.isoTime,
      messageKey: 'message',
      formatters: { level: label => ({ level: label }) },
      redact: { paths: redactedPaths, censor: '[secret]' },
    },
    stream,
  )
  return { log, close: () => ('end' in stream && file !== undefined ? stream.end() : undefined) }
}

async function rotatingFile(file: string) {
  // It brings a whole library of dates, and most nodes write to standard error.
  const { default: roll } = await import('pino-roll')
  const extension = /\.[a-z]+$/.exec(file)?.[0] ?? ''
  return roll({
    file: file.slice(0, file.length - extension.length),
    extension: extension || '.log',
    size: rotationSize,
    limit: { count: keptFiles },
    mkdir: true,
    sync: true,
  })
}
