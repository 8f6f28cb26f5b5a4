/**
 * `npm run test:checks [TEXT]`: takes out the checks of refusals.ts one at a time, in a copy of the tree, and expects
 * the named test to go red each time. A check that can be missing without a red test is a defect of the tests.
 *
 * Takes some minutes, which is why `npm test` does not do it. With TEXT only the refusals that contain it.
 * Exit codes: 0 every test went red, 1 otherwise, 2 usage.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { RefusalCheck } from './refusal-check.ts'
import { refusalChecks } from './refusals.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const notCopied = new Set(['node_modules', '.git'])

/** Without its check a test may wait for what never comes. */
const hangsAfterMs = 20_000

interface TestRun {
  readonly passed: number
  readonly failed: number
  readonly loaded: boolean
  readonly output: string
}

function copyTree(): string {
  const tree = mkdtempSync(join(tmpdir(), 'mote-checks-'))
  for (const name of readdirSync(root))
    if (!notCopied.has(name)) cpSync(join(root, name), join(tree, name), { recursive: true })
  symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'))
  return tree
}

function runTest(tree: string, { test, only }: Pick<RefusalCheck, 'test' | 'only'>): TestRun {
  const project = test.startsWith('test/e2e/') ? 'e2e' : 'unit'
  const args = [
    'run',
    '--project',
    project,
    `--testTimeout=${hangsAfterMs}`,
    test,
    ...(only === undefined ? [] : ['-t', only]),
  ]
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [join(tree, 'node_modules/vitest/vitest.mjs'), ...args],
    {
      cwd: tree,
      encoding: 'utf8',
      env: { ...process.env, NO_COLOR: '1' },
      timeout: 180_000,
    },
  )
  const [, passed, failed] = /(\d+) passed, (\d+) failed, \d+ skipped/.exec(stdout) ?? []
  return {
    passed: Number(passed ?? 0),
    failed: Number(failed ?? 0),
    loaded: passed !== undefined && !stdout.includes('failed to load'),
    output: stdout + stderr,
  }
}

/** Why a check does not count as shown; undefined if its test went red. */
function judge(tree: string, check: RefusalCheck): string | undefined {
  const path = join(tree, check.file)
  const source = readFileSync(path, 'utf8')
  if (source.split(check.find).length !== 2)
    return `${check.file}: expected once: ${check.find.trim().split('\n')[0]}`
  writeFileSync(
    path,
    source.replace(check.find, () => check.replace),
  )
  try {
    const run = runTest(tree, check)
    if (!run.loaded) return `${check.test} did not run:\n${run.output.slice(-2_000)}`
    return run.failed > 0 ? undefined : `${check.test} stays green (${run.passed} passed)`
  } finally {
    writeFileSync(path, source)
  }
}

function main(filter: string): number {
  const checks = refusalChecks.filter(({ refusal }) => refusal.includes(filter))
  const tree = copyTree()
  let bad = 0
  try {
    for (const check of checks) {
      const problem = judge(tree, check)
      if (problem !== undefined) bad += 1
      process.stdout.write(`${problem === undefined ? 'red  ' : 'GREEN'}  ${check.refusal}\n`)
      if (problem !== undefined) process.stdout.write(`       ${problem}\n`)
    }
    const soundTests = new Map(checks.map(({ test, only }) => [`${test} ${only ?? ''}`, { test, only }]))
    for (const { test, only } of soundTests.values()) {
      const run = runTest(tree, only === undefined ? { test } : { test, only })
      if (run.loaded && run.failed === 0 && run.passed > 0) continue
      bad += 1
      process.stdout.write(`RED    ${test}, nothing taken out\n${run.output.slice(-2_000)}\n`)
    }
  } finally {
    rmSync(tree, { recursive: true, force: true })
  }
  process.stdout.write(`${checks.length} checks taken out, ${bad} without a red test\n`)
  return checks.length > 0 && bad === 0 ? 0 : 1
}

const [filter = ''] = process.argv.slice(2)
if (filter.startsWith('-')) {
  const isHelp = filter === '--help' || filter === '-h'
  process[isHelp ? 'stdout' : 'stderr'].write(
    'usage: npm run test:checks [-- TEXT]   only the refusals that contain it\n',
  )
  process.exitCode = isHelp ? 0 : 2
} else process.exitCode = main(filter)
