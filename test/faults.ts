/**
 * `npm run test:faults [-- --seed TEXT --duration SECONDS --scenario NAME]`: a devnet of its own, two minutes of faults
 * on its processes and links under load, and the checks. Exit 1 if one of them fails; the logs are kept then.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { repositoryRoot } from './support/source-files.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: Date.now().toString(36) },
    duration: { type: 'string', default: '120' },
    scenario: { type: 'string', default: 'storm' },
  },
})

const directory = mkdtempSync(join(tmpdir(), 'mote-faults-'))

/** Runs the command in the foreground; resolves to its exit code. */
function mote(...args: string[]): Promise<number> {
  const child = spawn(process.execPath, [join(repositoryRoot, 'bin/mote.js'), ...args], {
    stdio: 'inherit',
    env: { ...process.env, MOTE_DIR: join(directory, 'net') },
  })
  // The terminal has sent Ctrl-C to the command too; it ends in order, and then this does.
  process.on('SIGINT', () => {})
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', code => resolve(code ?? 1))
  })
}

let code = await mote('devnet', 'up', '--detach', '--seed', 'faults', '--lightweight', '1', '--timeout', '90')
if (code === 0) {
  code = await mote('chaos', 'run', values.scenario, '--seed', values.seed, '--duration', values.duration)
  await mote('devnet', 'down')
}
if (code === 0) rmSync(directory, { recursive: true, force: true })
else process.stderr.write(`failed; logs and data are kept in ${directory}\n`)
process.exitCode = code
