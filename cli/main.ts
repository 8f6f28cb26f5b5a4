/**
 * The `mote` command: the process around `run`. Started by bin/mote.js, by `npm start`, and by a devnet for each of
 * its nodes.
 *
 * The first Ctrl-C or SIGTERM asks the command to end in order, the second ends it at once. A launcher or npm may pass
 * on a signal that the terminal has delivered too, so what follows within half a second counts as the same one.
 */
import { exitCodes } from '../chain/errors.ts'
import { run } from './program.ts'

const sameSignalMs = 500

const interrupted = new AbortController()
let firstSignalAt: number | undefined

function onSignal(): void {
  if (firstSignalAt === undefined) {
    firstSignalAt = performance.now()
    interrupted.abort()
  } else if (performance.now() - firstSignalAt > sameSignalMs) process.exit(exitCodes.interrupted)
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal)
// A reader that has seen enough (`mote devnet logs | head`) closes the pipe: that is no failure.
process.stdout.on('error', () => process.exit(exitCodes.ok))

const code = await run(process.argv.slice(2), {
  variables: process.env,
  streams: { stdout: process.stdout, stderr: process.stderr },
  interrupted: interrupted.signal,
})
// Connections that are kept alive would hold the process open; all that matters has been written by now.
process.exitCode = code
process.stdout.write('', () => process.stderr.write('', () => process.exit(code)))
