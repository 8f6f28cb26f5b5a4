/** The `mote` command in the process of a test, with its output kept: the program without the process around it (cli/main.ts). */
import { Writable } from 'node:stream'
import { run } from '../../cli/program.ts'

class CapturedText extends Writable {
  text = ''
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString('utf8')
    done()
  }
}

export interface CommandOutput {
  readonly stdout: string
  readonly stderr: string
}

/** A command that runs; what it has printed so far. */
export interface CommandInProcess extends CommandOutput {
  readonly ended: Promise<CommandOutput & { readonly code: number }>
}

export function beginInProcess(
  args: readonly string[],
  variables: NodeJS.ProcessEnv,
  interrupted: AbortSignal = new AbortController().signal,
): CommandInProcess {
  const streams = { stdout: new CapturedText(), stderr: new CapturedText() }
  const printed = (): CommandOutput => ({ stdout: streams.stdout.text, stderr: streams.stderr.text })
  return {
    get stdout() {
      return streams.stdout.text
    },
    get stderr() {
      return streams.stderr.text
    },
    ended: run(args, { variables, streams, interrupted }).then(code => ({ code, ...printed() })),
  }
}
