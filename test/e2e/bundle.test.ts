/**
 * The launcher and the bundle it runs, in a checkout of its own with a program of two lines: what is edited is what runs
 * next, and where no bundle can be made the sources run. That the whole program can be bundled, every test shows that
 * starts it.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { repositoryRoot } from '../support/source-files.ts'

let checkout: string
let modules: string
let cache: string

beforeAll(() => {
  checkout = mkdtempSync(join(tmpdir(), 'mote-bundle-'))
  for (const name of ['bin', 'package.json', 'tsconfig.json'])
    cpSync(join(repositoryRoot, name), join(checkout, name), { recursive: true })
  mkdirSync(join(checkout, 'cli'))
  writeFileSync(
    join(checkout, 'cli/main.ts'),
    `import { print } from './program.ts'\nprint(process.argv[2])\n`,
  )
  edit('first')
  modules = join(checkout, 'node_modules')
  cache = join(modules, '.cache', 'mote')
  mkdirSync(modules)
  const installed = join(repositoryRoot, 'node_modules')
  for (const name of readdirSync(installed))
    if (name !== '.cache' && name !== '.package-lock.json')
      symlinkSync(join(installed, name), join(modules, name))
  cpSync(join(installed, '.package-lock.json'), join(modules, '.package-lock.json'))
})
afterAll(() => rmSync(checkout, { recursive: true, force: true }))

/** What the program prints: the text of its last edit, and its argument. */
function run(environment: NodeJS.ProcessEnv = {}): string {
  return execFileSync(process.execPath, [join(checkout, 'bin/mote.js'), 'argument'], {
    encoding: 'utf8',
    env: { ...process.env, ...environment },
  }).trim()
}

function edit(text: string): void {
  const source = `export const print = (given?: string): void => console.log('${text}', given)\n`
  writeFileSync(join(checkout, 'cli/program.ts'), source)
}

const bundles = () => readdirSync(cache).filter(name => name.startsWith('bundle-'))

test('bundle: the first run makes one, the second uses it, and an edited source is what runs next', () => {
  expect(run()).toBe('first argument')
  expect(bundles()).toHaveLength(1)
  const [made = ''] = bundles()
  const compiled = join(cache, made, 'main.js')
  writeFileSync(compiled, readFileSync(compiled, 'utf8').replace('first', 'bundled'))
  expect(run(), 'the bundle runs, not the sources').toBe('bundled argument')
  expect(bundles()).toHaveLength(1)
  edit('second')
  expect(run()).toBe('second argument')
  expect(bundles()).toHaveLength(2)
})

test('bundle: what was installed anew is bundled anew', () => {
  const before = bundles()
  const lockfile = join(modules, '.package-lock.json')
  writeFileSync(lockfile, `${readFileSync(lockfile, 'utf8')}\n`)
  expect(run()).toBe('second argument')
  expect(bundles().length).toBe(before.length + 1)
})

test('bundle: sources run as they are with MOTE_BUNDLE=off, and where none can be made', () => {
  const before = bundles()
  edit('third')
  expect(run({ MOTE_BUNDLE: 'off' })).toBe('third argument')
  rmSync(join(modules, 'rolldown'))
  const { status, stderr } = spawnSync(process.execPath, [join(checkout, 'bin/bundle.js')], {
    encoding: 'utf8',
  })
  expect(status).toBe(0)
  expect(stderr).toMatch(/no bundle was made/)
  expect(run()).toBe('third argument')
  edit('fourth')
  expect(run()).toBe('fourth argument')
  expect(bundles()).toEqual(before)
})

test('bundle: nothing unfinished is left behind', () => {
  expect(readdirSync(cache).filter(name => name.startsWith('unfinished') || /\.json\./.test(name))).toEqual(
    [],
  )
  expect(existsSync(join(cache, 'current.json'))).toBe(true)
})
