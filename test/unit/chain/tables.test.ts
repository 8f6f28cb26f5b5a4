/** The tables in the documents are the tables in the code. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { receiptNumbers } from '../../../chain/block.ts'
import * as limits from '../../../chain/limits.ts'
import { permissions } from '../../../chain/permissions.ts'
import { bodies, reservedKinds } from '../../../chain/transaction.ts'
import { repositoryRoot } from '../../support/source-files.ts'

/** Rows below the heading line `| a | b …` of a document, as first cell (a name in backticks) to second cell. */
function tableOf(document: string, heading: RegExp): Record<string, string> {
  const lines = readFileSync(join(repositoryRoot, 'docs', document), 'utf8').split('\n')
  const start = lines.findIndex(line => heading.test(line))
  expect(start, `${document}: ${heading}`).toBeGreaterThan(0)
  const length = lines.slice(start + 2).findIndex(line => !line.startsWith('|'))
  const rows = lines.slice(start + 2, length < 0 ? undefined : start + 2 + length)
  return Object.fromEntries(
    rows.map(row => {
      const [, name = '', value = ''] = row.split('|').map(cell => cell.trim())
      return [name.replaceAll('`', ''), value]
    }),
  )
}

describe('documents', () => {
  test('documents: docs/ARCHITECTURE.md has the permission table', () => {
    expect(tableOf('ARCHITECTURE.md', /^\| transaction +\| who/)).toEqual(permissions)
  })

  test('documents: docs/FORMATS.md has the kinds of transactions and their numbers', () => {
    const executed = Object.entries(bodies).map(([type, [kind]]) => [type, kind] as const)
    const kinds = Object.fromEntries([...executed, ...Object.entries(reservedKinds)])
    const table = tableOf('FORMATS.md', /^\| Kind \| Number/)
    expect(table).toEqual(
      Object.fromEntries(Object.entries(kinds).map(([type, kind]) => [type, String(kind)])),
    )
  })

  test('documents: docs/FORMATS.md has the receipt codes and their numbers', () => {
    const numbers = Object.entries(receiptNumbers).map(([code, number]) => [code, String(number)])
    expect(tableOf('FORMATS.md', /^\| Code \| Number/)).toEqual(Object.fromEntries(numbers))
  })

  test('documents: docs/FORMATS.md has the limits', () => {
    const values = Object.entries(limits).map(([name, value]) => [name, value.toLocaleString('en-US')])
    expect(tableOf('FORMATS.md', /^\| Limit \| Value/)).toEqual(Object.fromEntries(values))
  })
})
