/**
 * The last word of a test run: every skipped test with its reason, every failed one with its file, then one line
 * `N passed, N failed, N skipped`.
 *
 * A skipped test says why in `context.skip('reason')`, or in its own name. A test file that does not even load, an
 * error outside every test, and a skip without a reason count as failures, so that the line never flatters.
 */
import type { Reporter, TestCase, TestModule } from 'vitest/node'

/** True when the name of a skipped test explains it: `name (skipped: reason)`, or `name, needs X`. */
const reasonInName = /\(skipped: .+\)|needs /

function* testsOf(modules: readonly TestModule[]): Generator<TestCase> {
  for (const module of modules) yield* module.children.allTests()
}

function firstLine(error: unknown): string {
  const { message } = error as { readonly message?: unknown }
  return String(message ?? error).split('\n')[0] ?? ''
}

export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const count = { passed: 0, failed: unhandledErrors.length, skipped: 0 }
    const lines: string[] = []
    for (const error of unhandledErrors) lines.push(`failed outside of every test: ${firstLine(error)}`)
    for (const test of testsOf(modules)) {
      const result = test.result()
      if (result.state === 'passed') count.passed += 1
      else if (result.state === 'skipped') {
        count.skipped += 1
        const reason = result.note ?? (reasonInName.test(test.fullName) ? 'see its name' : undefined)
        if (reason === undefined) process.exitCode = 1
        lines.push(`skipped: ${test.fullName}: ${reason ?? 'NO REASON GIVEN, which is an error'}`)
      } else {
        count.failed += 1
        lines.push(`failed: ${test.module.relativeModuleId} > ${test.fullName}`)
      }
    }
    for (const module of modules)
      for (const suite of [module, ...module.children.allSuites()]) {
        const [error] = suite.errors()
        if (error === undefined) continue
        count.failed += 1
        const name = 'fullName' in suite ? ` > ${suite.fullName}` : ''
        lines.push(
          `failed while it loads or in a hook: ${module.relativeModuleId}${name}: ${firstLine(error)}`,
        )
      }
    if (count.passed === 0 && count.failed === 0) process.exitCode = 1
    lines.push(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`)
    process.stdout.write(`${lines.join('\n')}\n`)
  }
}
