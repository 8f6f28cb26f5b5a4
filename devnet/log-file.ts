/**
 * The log of one child: everything it prints, appended to a file that is rotated at a size (`log`, `log.1`, `log.2`).
 * Writes are synchronous: a log that is lost in a crash of the supervisor would be lost when it is needed.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, renameSync, statSync } from 'node:fs'
import { dirname } from 'node:path'

const maxLogBytes = 8 * 1024 * 1024
const keptLogs = 2

export class LogFile {
  readonly path: string
  #size: number

  constructor(path: string) {
    this.path = path
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    this.#size = existsSync(path) ? statSync(path).size : 0
  }

  append(chunk: Uint8Array | string): void {
    const bytes = typeof chunk === 'string' ? Buffer.from(chunk) : chunk
    if (this.#size + bytes.length > maxLogBytes) this.#rotate()
    appendFileSync(this.path, bytes, { mode: 0o600 })
    this.#size += bytes.length
  }

  /** The last lines, oldest first. */
  tail(lines: number): string[] {
    if (!existsSync(this.path)) return []
    const all = readFileSync(this.path, 'utf8').split('\n')
    if (all.at(-1) === '') all.pop()
    return all.slice(-lines)
  }

  #rotate(): void {
    for (let i = keptLogs; i > 0; i--) {
      const older = i === 1 ? this.path : `${this.path}.${i - 1}`
      if (existsSync(older)) renameSync(older, `${this.path}.${i}`)
    }
    this.#size = 0
  }
}
