/**
 * The launcher and the bundle it runs, in a checkout of its own: what is edited is what runs next, and where no bundle
 * can be made the sources run.
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

const folders = ['bin', 'chain', 'cli', 'client', 'consensus', 'devnet', 'mqtt-gateway', 'node']

let checkout: string
let modules: string
let cache: string

beforeAll(() => {
  checkout = mkdtempSync(join(tmpdir(), 'mote-bundle-'))
  for (const name of [...folders, 'package.json', 'tsconfig.json'])
    cpSync(join(repositoryRoot, name), join(checkout, name), { recursive: true })
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

function version(environment: NodeJS.ProcessEnv = {}): string {
  return execFileSync(process.execPath, [join(checkout, 'bin/mote.js'), '--version'], {
    encoding: 'utf8',
    env: { ...process.env, ...environment },
  }).trim()
}

function edit(text: string): void {
  const path = join(checkout, 'cli/program.ts')
  writeFileSync(path, readFileSync(path, 'utf8').replace(/\.version\('[^']*'\)/, `.version('${text}')`))
}

const bundles = () => readdirSync(cache).filter(name => name.startsWith('bundle-'))

test('bundle: the first run makes one, the second uses it, and an edited source is what runs next', () => {
  expect(version()).toBe('0.1.0')
  expect(bundles()).toHaveLength(1)
  expect(version()).toBe('0.1.0')
  expect(bundles()).toHaveLength(1)
  edit('0.1.1')
  expect(version()).toBe('0.1.1')
  expect(bundles()).toHaveLength(2)
})

test('bundle: what was installed anew is bundled anew', () => {
  const before = bundles()
  const lockfile = join(modules, '.package-lock.json')
  writeFileSync(lockfile, `${readFileSync(lockfile, 'utf8')}\n`)
  version()
  expect(bundles().length).toBe(before.length + 1)
})

test('bundle: sources run as they are with MOTE_BUNDLE=off, and where none can be made', () => {
  edit('0.1.2')
  expect(version({ MOTE_BUNDLE: 'off' })).toBe('0.1.2')
  rmSync(join(modules, 'rolldown'))
  const { status, stderr } = spawnSync(process.execPath, [join(checkout, 'bin/bundle.js')], {
    encoding: 'utf8',
  })
  expect(status).toBe(0)
  expect(stderr).toMatch(/no bundle was made/)
  expect(version()).toBe('0.1.2')
  edit('broken')
  expect(version()).toBe('broken')
})

test('bundle: nothing unfinished is left behind', () => {
  expect(readdirSync(cache).filter(name => name.startsWith('unfinished') || /\.json\./.test(name))).toEqual(
    [],
  )
  expect(existsSync(join(cache, 'current.json'))).toBe(true)
})
