/** `mote contract test`: a contract's own cases, without a network. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { beginInProcess } from '../../support/command-in-process.ts'
import { repositoryRoot } from '../../support/source-files.ts'

const directory = mkdtempSync(join(tmpdir(), 'mote-contract-'))
afterAll(() => rmSync(directory, { recursive: true }))

const mote = (...args: readonly string[]) => beginInProcess(['contract', 'test', ...args], {}).ended

async function testing(text: string) {
  const file = join(directory, 'contract.json')
  writeFileSync(file, text)
  return mote(file)
}

test('contract test: runs the cases of an example', async () => {
  const { code, stdout } = await mote(join(repositoryRoot, 'examples/fire-index.json'), '--json')
  expect(code).toBe(0)
  expect(JSON.parse(stdout)).toMatchObject({
    name: 'fire-index',
    failed: 0,
    cases: [{ decision: 'low', values: { DI: 29.037075 }, differences: [] }, {}, {}, {}, {}, {}, {}, {}],
  })
})

test('contract test: a case that comes out another way says how, and ends with 5', async () => {
  const cases = [{ name: 'wrong', decision: 'no' }]
  const { code, stdout } = await testing(
    JSON.stringify({ name: 'a', version: 1, decide: [{ say: 'yes' }], cases }),
  )
  expect(code).toBe(5)
  expect(stdout).toContain('FAIL  wrong: yes\n      decision: expected no, got yes\n')
  expect(stdout).toContain('a 1: 0 of 1 cases hold')
})

test('contract test: what is no contract is refused with the place', async () => {
  for (const [text, exit, said] of [
    ['{', 2, 'contract-invalid'],
    ['[]', 2, 'contract-invalid: contract: expected an object'],
    [
      '{"name":"a","version":1,"decide":[{"say":"x"}],"let":["b = 1 +"]}',
      2,
      'contract-invalid: let.b: column 5: expected a number',
    ],
    [
      '{"name":"a","version":1,"decide":[{"say":"x"}],"cases":[{"values":{"a":1,"\\u0061":2}}]}',
      2,
      `contract-invalid: ${join(directory, 'contract.json')}: expected each name once in an object, got 'a' twice`,
    ],
    [`"${' '.repeat(256 * 1024)}"`, 1, 'too-large'],
  ] as const) {
    const { code, stderr } = await testing(text)
    expect(stderr).toContain(`mote: ${said}`)
    expect(code, text.slice(0, 70)).toBe(exit)
  }
  expect((await mote(join(directory, 'nowhere.json'))).code).toBe(3)
  expect((await mote(directory)).code).toBe(3)
})
