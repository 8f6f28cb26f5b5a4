/** A run of vitest with failing tests, and what it ends with. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { repositoryRoot } from '../support/source-files.ts'

/** The exit code, and the last lines of what is printed. */
function runTests(files: Readonly<Record<string, string>>): { code: number | null; lines: string[] } {
  const root = mkdtempSync(join(tmpdir(), 'mote-reporter-'))
  try {
    symlinkSync(join(repositoryRoot, 'node_modules'), join(root, 'node_modules'))
    for (const [name, text] of Object.entries(files))
      writeFileSync(join(root, name), `import { expect, test } from 'vitest'\n${text}\n`)
    const vitest = join(repositoryRoot, 'node_modules/vitest/vitest.mjs')
    const reporters = ['default', join(repositoryRoot, 'test/reporter.ts')].map(name => `--reporter=${name}`)
    const inOneWorker = ['--pool=threads', '--maxWorkers=1', '--no-isolate']
    const args = [vitest, 'run', '--root', root, ...inOneWorker, ...reporters]
    const { status, stdout } = spawnSync(process.execPath, args, {
      encoding: 'utf8',
      env: { ...process.env, NO_COLOR: '1' },
    })
    return { code: status, lines: stdout.trimEnd().split('\n') }
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
}

test('reporter: a failing run ends with the names of the failed tests, with their files', () => {
  const { code, lines } = runTests({
    'first.test.ts': `test('holds', () => {})\ntest('is red', () => expect(1).toBe(2))`,
    'second.test.ts': `test('is red too', () => { throw new Error('no') })\ntest.skip('waits, needs a printer')`,
    'third.test.ts': `throw new Error('does not load')`,
  })
  expect(code).toBe(1)
  expect(lines.slice(-5).sort()).toEqual([
    '1 passed, 3 failed, 1 skipped',
    'failed while it loads or in a hook: third.test.ts: does not load',
    'failed: first.test.ts > is red',
    'failed: second.test.ts > is red too',
    'skipped: waits, needs a printer: see its name',
  ])
  expect(lines.at(-1)).toBe('1 passed, 3 failed, 1 skipped')
})

test('reporter: a skipped test without a reason fails the run', () => {
  const { code, lines } = runTests({ 'only.test.ts': `test('holds', () => {})\ntest.skip('is left out')` })
  expect(code).toBe(1)
  expect(lines.slice(-2)).toEqual([
    'skipped: is left out: NO REASON GIVEN, which is an error',
    '1 passed, 0 failed, 1 skipped',
  ])
})
