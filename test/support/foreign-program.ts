/** A program that is not ours, as a process of a test, with its output kept. */
import { spawn } from 'node:child_process'

export interface ForeignOutput {
  readonly stdout: string
  readonly stderr: string
}

export interface ForeignProgram extends ForeignOutput {
  readonly ended: Promise<ForeignOutput & { readonly code: number | null }>
  stop(): void
}

export function startForeignProgram(command: string, args: readonly string[]): ForeignProgram {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (text: string) => {
      output[name] += text
    })
  const { promise, resolve, reject } = Promise.withResolvers<number | null>()
  child.once('error', reject)
  child.once('close', resolve)
  return {
    get stdout() {
      return output.stdout
    },
    get stderr() {
      return output.stderr
    },
    ended: promise.then(code => ({ code, ...output })),
    stop: () => child.kill('SIGTERM'),
  }
}
