/** `npm run test:faults` with a command in place of `mote` that does nothing, and the folders that are left. */
import { spawn } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { repositoryRoot } from '../support/source-files.ts'

/** Makes the devnet's directory, and ends with the code that the environment gives for this command; `wait` never ends. */
const mote = `
const { mkdirSync } = require('node:fs')
mkdirSync(process.env.MOTE_DIR, { recursive: true })
const end = process.env['END_OF_' + process.argv.slice(2, 4).join('_')] ?? '0'
if (end !== 'wait') process.exit(Number(end))
process.on('SIGTERM', () => process.exit(130))
setInterval(() => {}, 1_000)
process.stdout.write('waiting')
`

interface Ended {
  readonly code: number | null
  readonly stderr: string
  /** In its temporary directory. */
  readonly left: readonly string[]
}

/** The program in a tree of its own, where its `mote` is ours; compiled once for all runs. */
let tree: string

beforeAll(() => {
  tree = mkdtempSync(join(tmpdir(), 'mote-tree-'))
  for (const name of ['node_modules', 'bench', 'chain', 'devnet', 'package.json'])
    symlinkSync(join(repositoryRoot, name), join(tree, name))
  for (const name of ['test/faults.ts', 'test/support/source-files.ts']) {
    mkdirSync(dirname(join(tree, name)), { recursive: true })
    cpSync(join(repositoryRoot, name), join(tree, name))
  }
  mkdirSync(join(tree, 'bin'))
  writeFileSync(join(tree, 'bin/package.json'), '{ "type": "commonjs" }')
  writeFileSync(join(tree, 'bin/mote.js'), mote)
})
afterAll(() => rmSync(tree, { recursive: true, force: true }))

async function runFaults(args: readonly string[], ends: Readonly<Record<string, string>>): Promise<Ended> {
  const temporary = mkdtempSync(join(tree, 'tmp-'))
  const child = spawn(process.execPath, [join(tree, 'test/faults.ts'), ...args], {
    env: { ...process.env, ...ends, TMPDIR: temporary, NODE_COMPILE_CACHE: join(tree, 'compiled') },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stderr = ''
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString('utf8')
  })
  child.stdout.on('data', (chunk: Buffer) => {
    if (chunk.includes('waiting')) child.kill('SIGTERM')
  })
  const code = await new Promise<number | null>(resolve => child.once('close', resolve))
  const left = readdirSync(temporary, { recursive: true }) as string[]
  return { code, stderr, left }
}

test.each([
  ['passes', [], {}, 0],
  ['is asked for a scenario that is not there', ['--scenario', 'none'], {}, 2],
  ['is asked for what the command refuses', [], { END_OF_devnet_up: '2' }, 2],
  ['is interrupted', [], { END_OF_chaos_run: 'wait' }, 130],
])('faults: a run that %s leaves no folder behind', async (_, args, ends, code) => {
  const run = await runFaults(args, ends)
  expect(run, run.stderr).toMatchObject({ code, left: [] })
})

test.each([
  ['a check fails', { END_OF_chaos_run: '1' }],
  ['the devnet does not come up', { END_OF_devnet_up: '1' }],
  ['the devnet does not end', { END_OF_devnet_down: '1' }],
])('faults: when %s, its folder is kept, and the last line says where', async (_, ends) => {
  const { code, stderr, left } = await runFaults([], ends)
  expect(code).toBe(1)
  expect(left).toEqual([left[0], `${left[0]}/net`])
  expect(stderr.trimEnd().split('\n').at(-1)).toMatch(
    new RegExp(`^failed; logs and data are kept in .*/${left[0]}$`),
  )
})
