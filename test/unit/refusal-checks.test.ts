/** The rows of test/checks/refusals.ts fit the sources as they are: a check that has moved is noticed here, and not only in a long run. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { refusalChecks } from '../checks/refusals.ts'
import { mutated } from '../simulation/mutation.ts'
import { repositoryRoot } from '../support/source-files.ts'

test.each(refusalChecks.map(row => [row.refusal, row] as const))(
  'refusals: %s still fits the sources',
  (_refusal, row) => {
    const changed = mutated(readFileSync(join(repositoryRoot, row.file), 'utf8'), row)
    expect(changed).toContain(row.replace)
    expect(existsSync(join(repositoryRoot, row.test)), row.test).toBe(true)
  },
)
