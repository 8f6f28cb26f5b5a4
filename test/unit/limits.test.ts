/**
 * docs/LIMITS.md is the code's own list of limits: every row has the value that is written in its file, and every number
 * of the code that is called a limit has a row.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { quantityText } from '../../client/quantity-text.ts'
import { standardSettingsOf } from '../../node/effective-configuration.ts'
import { protocols } from '../../node/network/protocols.ts'
import { readSourceFiles, repositoryRoot } from '../support/source-files.ts'

interface Row {
  readonly name: string
  readonly value: string
  readonly file: string
}

const folders = ['chain', 'client', 'consensus', 'node', 'mqtt-gateway', 'devnet', 'cli']
const files = new Map(
  readSourceFiles()
    .filter(({ folder }) => folders.includes(folder))
    .map(({ path, text }) => [path, text]),
)

const sourceOfSettings = files.get('node/effective-configuration.ts') ?? ''

/** Numbers that a machine word sets, and an inner step of a loop: bounds of nothing. */
const noLimits = ['chain/codec.ts uint32Max', 'chain/hex.ts maxCodes', 'chain/scalars.ts int64Max']

const formats = readFileSync(join(repositoryRoot, 'docs/FORMATS.md'), 'utf8')
const rows: readonly Row[] = readFileSync(join(repositoryRoot, 'docs/LIMITS.md'), 'utf8')
  .split('\n')
  .flatMap(line => {
    const [, name, value, , , file] = line.split('|').map(cell => cell.trim().replaceAll('`', ''))
    return name && value && file?.endsWith('.ts') ? [{ name, value, file }] : []
  })

/** What a constant, or a field of an object or of what a function returns, is set to in this text. */
function expressionOf(text: string, name: string): string | undefined {
  const [object = '', field] = name.split('.')
  if (field === undefined)
    return new RegExp(`^(?:export )?const ${object}\\b[^=\\n]*= (.+)$`, 'm').exec(text)?.[1]
  const from = text.search(new RegExp(`^(?:export )?(?:const|function) ${object}\\b`, 'm'))
  return from < 0 ? undefined : new RegExp(`\\b${field}: ([^,}\\n]+)`).exec(text.slice(from))?.[1]
}

/** The text that declares a constant which `text` names: this one, or that of the one file that exports it. */
function declaring(text: string, name: string): string {
  if (expressionOf(text, name) !== undefined) return text
  const [other, ...more] = [...files.values()].filter(each => each.includes(`export const ${name} = `))
  if (other === undefined || more.length > 0)
    throw new Error(`${name}: no constant of this file or of one other`)
  return other
}

/** Products and sums of numbers and of other constants. */
function evaluate(text: string, expression: string): number {
  return expression.split('+').reduce((sum, product) => sum + evaluateProduct(text, product), 0)
}

function evaluateProduct(text: string, product: string): number {
  const factors = product
    .replaceAll('**', '^')
    .split('*')
    .map(factor => {
      const [base = '', power] = factor.split('^').map(part => part.trim().replaceAll('_', ''))
      if (/^\d+$/.test(base)) return power === undefined ? Number(base) : Number(base) ** Number(power)
      const source = declaring(text, base)
      return evaluate(source, expressionOf(source, base)!)
    })
  return factors.reduce((all, factor) => all * factor, 1)
}

/** Settings of a node: what takes effect unless file or chain say otherwise. */
const settings = new Map<string, unknown>(
  (['full', 'lightweight'] as const).flatMap(standardSettingsOf).map(({ name, value }) => [name, value]),
)

function valueIn({ name, file }: Row): number {
  const [object, protocol = '', field = ''] = name.split('.')
  if (object === 'protocols') return protocols[protocol as keyof typeof protocols][field as 'maxFrameBytes']
  const setting = settings.get(name)
  const text = files.get(file)
  if (typeof setting === 'number' && text?.includes(name.split('.').at(-1) ?? name)) return setting
  const expression = text && expressionOf(text, name)
  if (!text || !expression) throw new Error(`${name}: not in ${file}`)
  return evaluate(text, expression)
}

test('limits: every row of docs/LIMITS.md has the value of its file', () => {
  expect(rows.length).toBeGreaterThan(140)
  for (const row of rows)
    expect(row.value, `${row.name} in ${row.file}`).toBe(quantityText(row.name, valueIn(row)))
})

test('limits: no name is there twice for one file', () => {
  const names = rows.map(({ name, file }) => `${file} ${name}`)
  expect(new Set(names).size).toBe(names.length)
})

test('limits: every constant called a maximum, every default limit, and every setting that is a number has a row', () => {
  const listed = new Set(rows.map(({ name, file }) => `${file} ${name}`))
  const found = [...files].flatMap(([path, text]) => namesIn(text).map(name => `${path} ${name}`))
  expect(found.length).toBeGreaterThan(70)
  expect(found.filter(name => !listed.has(name) && !noLimits.includes(name))).toEqual([])
  const names = new Set(rows.map(({ name }) => name))
  const numbers = [...settings].filter(([, value]) => typeof value === 'number').map(([name]) => name)
  expect(numbers.length).toBeGreaterThan(45)
  expect(numbers.filter(name => !names.has(name))).toEqual([])
})

/** What docs/FORMATS.md says of lists, as one piece of text around the number, and the limit that it repeats. */
const statements: readonly (readonly [string, string])[] = [
  ["for one's own identity (at most N bytes)", 'node/network/hello.ts maxAnswerBytes'],
  ['and the latest handovers, at most N ·', 'node/network/hello.ts maxHelloHandovers'],
  [
    '`[state answer, [certified handover header …]]`, the latest at most N |',
    'node/network/hello.ts maxHelloHandovers',
  ],
  [
    'the changes of the consenters, at most N, the newest last',
    'node/ledger/snapshot-stream.ts maxHandovers',
  ],
  ['`from, limit` (at most N)', 'client/chain-source.ts maxHeadersPerAnswer'],
  ['below that place, the newest first, at most N |', 'client/chain-source.ts maxHistoryPage'],
  ['`samples`: at most N of `id`', 'node/network/wire.ts maxClockSamples'],
]

test.each(statements)('limits: docs/FORMATS.md says "%s" with the number of %s', (statement, limit) => {
  const [before = '', after = ''] = statement.split('N')
  const said = formats
    .split(before)
    .slice(1)
    .map(rest => /^\d+(?:,\d{3})*/.exec(rest)?.[0] ?? '')
    .filter(number => formats.includes(`${before}${number}${after}`))
  const row = rows.find(({ name, file }) => `${file} ${name}` === limit)
  expect(said.map(number => Number(number.replaceAll(',', '')))).toEqual([valueIn(row!)])
})

/** `max…`, `…Max`, and the numbers in objects called `default…Limits`, `…Timing` or `…Parameters` that are no node's settings. */
function namesIn(text: string): readonly string[] {
  const constants = [...text.matchAll(/^(?:export )?const (\w+)(?:: \w+)? = \d/gm)]
    .map(match => match[1]!)
    .filter(name => /^max[A-Z]|Max$/.test(name))
  const objects = [
    ...text.matchAll(
      /^(?:export )?const (default\w*(?:Limits|Timing|Parameters))(?:: \w+)? = \{(.*?)(?:^\}| \} as const$| \}$)/gms,
    ),
  ]
  const others = objects.filter(
    ([, object = '']) =>
      !sourceOfSettings.includes(`...${object}`) && !sourceOfSettings.includes(`: ${object},`),
  )
  const fields = others.flatMap(([, object, body]) =>
    [...body!.matchAll(/(\w+): \d/g)].map(match => `${object}.${match[1]}`),
  )
  return [...constants, ...fields]
}
