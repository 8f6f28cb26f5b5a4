/**
 * How an operator on this machine is told from anybody else who can reach the loopback address, a web page in a browser say:
 * by a secret in `DATA/operator.json`, a file of mode 0600 in the node's directory, made anew at each start. Beside it is
 * which process made it, so that a command stops that one, and never a process that an answer over HTTP named.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { join } from 'node:path'
import { MoteError } from '../chain/result.ts'
import { readFileIfThere, writeFileAtomic } from './atomic-file.ts'
import { isRunning, startOfProcess } from './running-process.ts'

interface OperatorAccess {
  readonly pid: number
  /** `startOfProcess`; null where the system does not say. */
  readonly start: string | null
  /** 64 hexadecimal characters, sent as `authorization: Bearer …`. */
  readonly token: string
}

const fileOf = (data: string): string => join(data, 'operator.json')

/** Writes the file for this process and returns its token. The directory must be this process's own by now. */
export async function grantOperatorAccess(data: string): Promise<string> {
  const access: OperatorAccess = {
    pid: process.pid,
    start: startOfProcess(process.pid) ?? null,
    token: randomBytes(32).toString('hex'),
  }
  await writeFileAtomic(fileOf(data), `${JSON.stringify(access)}\n`)
  return access.token
}

/** What the node that runs on this directory wrote. Throws `not-running` if the process that wrote it runs no more. */
export async function operatorAccess(data: string): Promise<OperatorAccess> {
  const path = fileOf(data)
  const content = await readFileIfThere(path)
  if (!content) throw new MoteError('not-running', `${path}: no such file; no node has started here`)
  const access = JSON.parse(Buffer.from(content).toString('utf8')) as OperatorAccess
  if (!isThatProcess(access)) throw new MoteError('not-running', `${path}: process ${access.pid} has ended`)
  return access
}

/** True while the process that wrote the file runs; a later one with its id is another. */
export function isThatProcess({ pid, start }: Pick<OperatorAccess, 'pid' | 'start'>): boolean {
  return isRunning(pid) && (startOfProcess(pid) ?? null) === start
}

/** Whether a request's `authorization` has the token, in the same time whatever it has. */
export function hasToken(authorization: string | undefined, token: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(authorization ?? ''), digest(`Bearer ${token}`))
}
