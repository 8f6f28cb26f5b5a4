/**
 * The error table is the one source of codes: its document equals it, and its numbers are ones that the protocols know.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type ErrorCode, errorTable, exitCodes } from '../../chain/errors.ts'
import { errorsDocument } from '../../docs/make-errors.ts'
import { repositoryRoot } from '../support/source-files.ts'

const codes = Object.keys(errorTable) as ErrorCode[]

test('errors: docs/ERRORS.md equals the table (npm run docs:errors writes it)', () => {
  expect(readFileSync(join(repositoryRoot, 'docs/ERRORS.md'), 'utf8')).toBe(errorsDocument())
})

test('errors: codes are kebab-case, sentences end with a full stop', () => {
  for (const code of codes) {
    expect(code).toMatch(/^[a-z]+(-[a-z]+)*$/)
    expect(errorTable[code].sentence, code).toMatch(/^[A-Z].*\.$/)
  }
})

test('errors: HTTP statuses are errors, MQTT reason codes are failures (MQTT 5, 2.4), exit codes are known', () => {
  const exits: readonly number[] = Object.values(exitCodes)
  for (const code of codes) {
    const { http, mqtt, exit } = errorTable[code]
    expect(http, code).toBeGreaterThanOrEqual(400)
    expect(http, code).toBeLessThan(600)
    expect(mqtt, code).toBeGreaterThanOrEqual(0x80)
    expect(mqtt, code).toBeLessThanOrEqual(0xa2)
    expect(exits, code).toContain(exit)
    expect(exit, code).not.toBe(0)
  }
})
