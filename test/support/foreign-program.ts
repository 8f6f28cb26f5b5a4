/** A program that is not ours, as a process of a test, with its output kept. */
import { spawn, spawnSync } from 'node:child_process'

export interface ForeignOutput {
  readonly stdout: string
  readonly stderr: string
}

export interface ForeignProgram extends ForeignOutput {
  readonly ended: Promise<ForeignOutput & { readonly code: number | null }>
  readonly hasEnded: boolean
  /** By SIGTERM unless said otherwise. */
  stop(signal?: NodeJS.Signals): void
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
  let hasEnded = false
  const ended = promise
    .then(code => ({ code, ...output }))
    .finally(() => {
      hasEnded = true
    })
  return {
    get stdout() {
      return output.stdout
    },
    get stderr() {
      return output.stderr
    },
    get hasEnded() {
      return hasEnded
    },
    ended,
    stop: signal => child.kill(signal),
  }
}

/** A Python 3 that has these modules: Debian's, which sees Debian's packages; on other systems the one of the path. */
export function findPython(modules: string): string | undefined {
  return ['/usr/bin/python3', 'python3'].find(
    path => spawnSync(path, ['-c', `import ${modules}`]).status === 0,
  )
}
