/**
 * `npm run test:faults [-- --seed TEXT --duration SECONDS --scenario NAME]`: a devnet of its own, two minutes of faults
 * on its processes and links under load, and the checks. Exit 1 if one of them fails: only then are logs and data kept,
 * and the last line says where. A run that passes, is interrupted or was asked for wrongly leaves nothing behind.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BenchUsageError, type BenchValues, runWithOptions } from '../bench/arguments.ts'
import { exitCodes } from '../chain/errors.ts'
import { parseChaosScenario, scenarioNames } from '../devnet/chaos/scenarios.ts'
import { repositoryRoot } from './support/source-files.ts'

const options = {
  seed: { default: Date.now().toString(36), meaning: 'the schedule of the faults follows from it' },
  duration: { default: 120, meaning: 'seconds of faults' },
  scenario: { default: 'storm', meaning: scenarioNames.join(', ') },
}

type Faults = BenchValues<typeof options>

function requireScenario(name: string): void {
  try {
    parseChaosScenario(name)
  } catch (error) {
    throw new BenchUsageError((error as Error).message)
  }
}

let running: ChildProcess | undefined
let interrupted = false
// The terminal has sent Ctrl-C to the command too, and it ends in order; other signals come to this process alone.
process.on('SIGINT', () => {
  interrupted = true
})
for (const signal of ['SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => {
    interrupted = true
    running?.kill('SIGTERM')
  })

/** Runs the command in the foreground; resolves to its exit code. */
function mote(directory: string, ...args: string[]): Promise<number> {
  const child = spawn(process.execPath, [join(repositoryRoot, 'bin/mote.js'), ...args], {
    stdio: 'inherit',
    env: { ...process.env, MOTE_DIR: directory },
  })
  running = child
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', code => resolve(code ?? exitCodes.failure))
  })
}

async function runFaults(directory: string, { seed, duration, scenario }: Faults): Promise<number> {
  const size = ['--seed', 'faults', '--lightweight', '1', '--timeout', '90']
  const up = await mote(directory, 'devnet', 'up', '--detach', ...size)
  if (up !== exitCodes.ok) return up
  const args = [scenario, '--seed', seed, '--duration', `${duration}`]
  const code = interrupted ? exitCodes.interrupted : await mote(directory, 'chaos', 'run', ...args)
  const down = await mote(directory, 'devnet', 'down')
  return code === exitCodes.ok ? down : code
}

process.exitCode = await runWithOptions(process.argv.slice(2), {
  command: 'npm run test:faults --',
  meaning: 'faults on real processes, and the checks',
  options,
  run: async faults => {
    requireScenario(faults.scenario)
    const root = mkdtempSync(join(tmpdir(), 'mote-faults-'))
    const code = await runFaults(join(root, 'net'), faults)
    const isOver = code === exitCodes.ok || code === exitCodes.usage || interrupted
    if (isOver) rmSync(root, { recursive: true, force: true })
    else process.stderr.write(`failed; logs and data are kept in ${root}\n`)
    return code
  },
})
