import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { mutantVariable, type SeedReport } from '../simulation/worker-messages.ts'
import { Worker } from '../simulation/worker-pool.ts'
import { repositoryRoot } from '../support/source-files.ts'

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** The simulator runs from its sources: what they become is kept from one start to the next, and away from everybody else. */
const compiled = join(repositoryRoot, 'node_modules', '.cache', 'simulation')

class Simulation {
  readonly process: ChildProcess
  readonly ended: Promise<Ended>
  #stderr = ''

  constructor(args: string, environment: NodeJS.ProcessEnv = {}) {
    const file = join(repositoryRoot, 'test/simulation/main.ts')
    this.process = spawn(process.execPath, [file, ...args.split(' ').filter(Boolean)], {
      cwd: repositoryRoot,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NODE_COMPILE_CACHE: compiled, ...environment },
    })
    let stdout = ''
    this.process.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    this.process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text
    })
    this.ended = new Promise((resolve, reject) => {
      this.process.once('error', reject)
      this.process.once('close', code => resolve({ code, stdout, stderr: this.#stderr }))
    })
  }

  /** Resolves when standard error says this. */
  says(text: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = () => this.#stderr.includes(text) && resolve()
      this.process.stderr?.on('data', look)
      void this.ended.then(() => reject(new Error(`ended without saying ${text}: ${this.#stderr}`)))
      look()
    })
  }
}

function sim(args: string, environment: NodeJS.ProcessEnv = {}): Promise<Ended> {
  return new Simulation(args, environment).ended
}

test('sim: seeds on two processes, counted; exit code 0', async () => {
  const { code, stdout } = await sim('--seeds 6 --from 11 --events 50 --jobs 2')
  expect(stdout).toMatch(/^seeds 11 to 16 at [0-9a-f]{12}.*: \d+ events in [\d.]+ s, [\d.]+ seeds\/s$/m)
  expect(stdout).toContain('6 passed, 0 failed')
  expect(code).toBe(0)
})

test('sim: one seed in two processes gives the same trace to the byte', async () => {
  const run = () => sim('--seed 23 --events 300 --trace')
  const [first, second] = await Promise.all([run(), run()])
  expect(first.code).toBe(0)
  expect(first.stdout.split('\n').length).toBeGreaterThan(600)
  expect(second.stdout === first.stdout, 'standard output of both').toBe(true)
})

test('sim: a failing run prints seed, commit and the one command that shows it again', async () => {
  const environment = { [mutantVariable]: 'acknowledge-before-durable' }
  const failed = await sim('--seeds 2 --jobs 1', environment)
  expect(failed.code).toBe(1)
  expect(failed.stdout).toContain('0 passed, 2 failed')
  const [, seed, command] =
    /^seed (\d+) at [0-9a-f]{12}.*: acknowledged entries are durable.*\n {2}again: npm run sim -- (.+)$/m.exec(
      failed.stdout,
    ) ?? []
  expect(command).toBe(`--seed ${seed} --mutant acknowledge-before-durable --trace`)

  const again = await sim(command ?? '')
  expect(again.code).toBe(1)
  expect(again.stdout).toContain('VIOLATION acknowledged entries are durable')
  expect(again.stdout).toContain('0 passed, 1 failed')
})

test('sim: known bugs are caught, and each line says by how many seeds', async () => {
  const names = ['applied-twice-after-restart', 'sign-before-execution']
  const { code, stdout } = await sim(`--mutant ${names.join(',')} --seeds 40 --events 1000 --jobs 2`)
  for (const name of names) expect(stdout).toMatch(new RegExp(`^caught +${name} \\(.+\\): \\d+ seeds`, 'm'))
  expect(stdout).toMatch(/: 2 caught, 0 uncaught, 0 broken/)
  expect(code).toBe(0)
})

test('sim: an uncaught bug fails', async () => {
  const { code, stdout } = await sim('--mutant vote-for-older-log-term --seeds 1 --events 10')
  expect(stdout).toMatch(/^UNCAUGHT vote-for-older-log-term \(.+\): 1 seeds$/m)
  expect(code).toBe(1)
})

test('sim: arguments that make no sense are told from failures', async () => {
  const wrong = await sim('--seeds none')
  expect(wrong.code).toBe(2)
  expect(wrong.stderr).toContain('--seeds: expected a whole number from 1 to 2147483647, got none')
  const unknown = await sim('--mutant no-such-bug')
  expect(unknown.code).toBe(2)
  expect(unknown.stderr).toContain('got no-such-bug')
  const { code, stdout } = await sim('--help')
  expect(code).toBe(0)
  expect(stdout).toContain('--events M')
})

test('sim: Ctrl-C ends the run and its processes with what was done so far', async () => {
  const simulation = new Simulation('--seeds 100000 --jobs 2')
  await simulation.says('2 processes')
  simulation.process.kill('SIGINT')
  const { code, stdout } = await simulation.ended
  expect(stdout).toMatch(/interrupted after \d+ of 100000 seeds/)
  expect(stdout).toMatch(/\d+ passed, 0 failed/)
  expect(code).toBe(130)
})

const breakingWorker = fileURLToPath(new URL('../support/breaking-worker.ts', import.meta.url))

async function reportsOf(worker: Worker, seeds: readonly number[]): Promise<string[]> {
  const reports: SeedReport[] = []
  await worker.run({ seeds }, report => reports.push(report))
  worker.end()
  return reports.map(({ seed, violation }) => `${seed} ${violation?.message ?? 'passed'}`)
}

test('sim: a worker that ends or hangs has failed its seed, and the others still run', async () => {
  const worker = new Worker({ file: breakingWorker, silenceMsMax: 8_000 })
  expect(await reportsOf(worker, [1, 3, 2, 4, 5])).toEqual([
    '1 passed',
    '3 a run comes to its end: it ended with 7',
    '2 passed',
    '4 a run comes to its end: no answer for 8 s',
    '5 passed',
  ])
})

test('sim: code that does not load is no failed seed, but an error', async () => {
  const worker = new Worker({ mutant: 'no-such-bug' })
  await expect(reportsOf(worker, [1])).rejects.toThrow('a worker could not start')
})
