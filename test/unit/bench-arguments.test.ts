import { spawnSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { BenchUsageError, benchArguments, benchUsage } from '../../bench/arguments.ts'
import { repositoryRoot } from '../support/source-files.ts'

const options = {
  clients: { default: 256, meaning: 'clients at the same time' },
  'warm-up': { default: 0, least: 0, meaning: 'transactions before' },
  wait: { default: 'certified', meaning: 'what a client waits for' },
  json: { default: false, meaning: 'JSON' },
} as const

describe('arguments of a benchmark', () => {
  test('defaults, and what was given in their place', () => {
    expect(benchArguments([], options)).toEqual({
      clients: 256,
      'warm-up': 0,
      wait: 'certified',
      json: false,
    })
    const given = ['--clients', '8', '--warm-up=0', '--wait', 'committed', '--json']
    expect(benchArguments(given, options)).toEqual({
      clients: 8,
      'warm-up': 0,
      wait: 'committed',
      json: true,
    })
  })

  test('a wrong word is a sentence that names it', () => {
    const wrong = [
      ['--bogus'],
      ['--clients', 'many'],
      ['--clients', '0'],
      ['--clients', '1.5'],
      ['stray'],
      ['--wait'],
    ]
    for (const args of wrong) {
      expect(() => benchArguments(args, options), args.join(' ')).toThrow(BenchUsageError)
      expect(() => benchArguments(args, options)).toThrow(args[0] === 'stray' ? 'stray' : args[0])
    }
  })

  test('npm run bench: --help of a benchmark is a text, and a wrong name a usage, never a stack', () => {
    const bench = (...words: string[]) =>
      spawnSync(process.execPath, ['bench/main.ts', ...words], { cwd: repositoryRoot, encoding: 'utf8' })
    const { status, stdout, stderr } = bench('cluster', '--help')
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toContain('npm run bench -- cluster')
    const unknown = bench('no-such')
    expect(unknown.status).toBe(2)
    expect(unknown.stderr).toMatch(/^usage/)
  })

  test('the help has a line for each option', () => {
    const text = benchUsage('npm run bench -- x', 'measures', options)
    for (const name of Object.keys(options)) expect(text).toMatch(new RegExp(`^  --${name}\\b.*\\S`, 'm'))
    expect(text).toContain('(256)')
  })
})
