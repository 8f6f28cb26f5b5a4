import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { hexToBytes } from '@noble/hashes/utils.js'
import { describe, expect, test } from 'vitest'
import { DeviceId } from '../../../chain/brands.ts'
import { decode, encode } from '../../../chain/codec.ts'
import { checkContract } from '../../../chain/contracts/check.ts'
import { contractCodec } from '../../../chain/contracts/contract.ts'
import { casesOfDocument, runCase } from '../../../chain/contracts/contract-cases.ts'
import { contractOfDocument, documentOfContract } from '../../../chain/contracts/document.ts'
import { type ContractValue, decisionText, evaluateContract } from '../../../chain/contracts/evaluate.ts'
import { type Expression, expressionCodec } from '../../../chain/contracts/expression.ts'
import { parseExpression, printExpression } from '../../../chain/contracts/expression-text.ts'
import { unwrap } from '../../../chain/result.ts'
import { SeededRandom } from '../../simulation/random.ts'
import { RandomContracts } from '../../support/random-contracts.ts'
import { sampleContract, sampleDocument } from '../../support/sample-contract.ts'
import { importsOf, readSourceFiles, repositoryRoot, resolveImport } from '../../support/source-files.ts'
import { contractFiles, contractVectors } from '../../vectors/make-contracts.ts'

const examples = join(repositoryRoot, 'examples')
const standIn = () => DeviceId('ab'.repeat(32))
const load = (file: string): unknown => JSON.parse(readFileSync(join(examples, file), 'utf8'))

/** What an expression comes to in a contract of its own: its value, or why there is none. */
function computed(source: string, arithmetic: 'binary64' | 'int64' = 'binary64'): ContractValue | string {
  const outcome = evaluateContract(sampleContract({ arithmetic, let: [`x = ${source}`], values: ['x'] }), {
    inputs: new Map(),
    reading: () => undefined,
    state: [],
    now: 1000,
  })
  return outcome.type === 'decided' ? outcome.values[0]!.value : decisionText(outcome)
}

describe('examples', () => {
  const files = contractFiles()

  test('examples: each comes with cases, and every one of them holds', () => {
    expect(files.length).toBeGreaterThanOrEqual(4)
    for (const file of files) {
      const contract = unwrap(contractOfDocument(load(file), standIn))
      const cases = unwrap(casesOfDocument(load(file), contract))
      expect(cases.length, file).toBeGreaterThan(3)
      for (const each of cases)
        expect(runCase(contract, each).differences, `${file}: ${each.name}`).toEqual([])
    }
  })

  test('examples: a case that is wrong is told apart', () => {
    const file = {
      ...sampleDocument({ let: ['x = 1'], values: ['x'] }),
      cases: [{ decision: 'other', values: { x: 2 } }],
    }
    const contract = unwrap(contractOfDocument(file))
    const [only] = unwrap(casesOfDocument(file, contract))
    expect(runCase(contract, only!).differences).toEqual([
      'decision: expected other, got done',
      'values.x: expected 2, got 1',
    ])
  })
})

describe('fire index (Altaş D5)', () => {
  const run = (file: string, values: readonly number[]) => {
    const contract = unwrap(contractOfDocument(load(file)))
    const inputs = new Map(['CS', 'P', 'H0', 'H1', 'H2', 'H3', 'H4'].map((name, i) => [name, values[i]!]))
    const state = contract.state.map(({ initial }) => initial as ContractValue)
    const outcome = evaluateContract(contract, { inputs, reading: () => undefined, state, now: 0 })
    return outcome.type === 'decided'
      ? [outcome.decision, outcome.values[0]!.value]
      : [decisionText(outcome), undefined]
  }

  /** CS, P, H0 to H4; class and index by the formula in binary64; the paper's integer listing. */
  const rows: readonly (readonly [readonly number[], string, number, bigint])[] = [
    [[500, 20, 40, 45, 50, 55, 60], 'low', 29.037075, 29n],
    [[50, 20, 60, 60, 60, 60, 60], 'high', 62.65617, 62n],
    [[30, 10, 70, 70, 70, 70, 70], 'extreme', 81.16993166666667, 81n],
    [[1000, 0, 0, 0, 0, 0, 0], 'low', 8.64494, 8n],
    [[10, 0, 0, 0, 0, 0, 0], 'extreme, out of scale', 184.364, 184n],
  ]

  test.each(rows)('fire index: %j is %s', (inputs, decision, index, integer) => {
    const hundredths = inputs.map(value => value * 100)
    expect(run('fire-index.json', inputs)).toEqual([decision, index])
    expect(run('fire-index-integer.json', hundredths)).toEqual([decision, integer])
  })

  test('fire index: the two arithmetics differ where truncation crosses a border', () => {
    const inputs = [32, 12, 80, 80, 80, 80, 80]
    expect(run('fire-index.json', inputs)).toEqual(['extreme', 80.000035])
    expect(
      run(
        'fire-index-integer.json',
        inputs.map(value => value * 100),
      ),
    ).toEqual(['high', 79n])
  })

  test('fire index: without radiation it fails', () => {
    expect(run('fire-index.json', [0, 20, 40, 45, 50, 55, 60])[0]).toBe('failed: division-by-zero in DI')
  })
})

describe('arithmetic', () => {
  test.each([
    ['0.1 + 0.2', 0.30000000000000004],
    ['7 / 2', 3.5],
    ['sqrt(2)', Math.SQRT2],
    ['1e308 * 10', 'failed: not-finite in x'],
    ['-1e308 - 1e308', 'failed: not-finite in x'],
    ['1 / 0', 'failed: division-by-zero in x'],
    ['0 / 0', 'failed: division-by-zero in x'],
    ['sqrt(-1)', 'failed: negative-root in x'],
    ['5e-324 / 2', 0],
    ['1 - 2 * 3 - 4', -9],
    ['-(2) - -2', 0],
    ['min(2, -3)', -3],
    ['max(2, -3)', 2],
    ['abs(-2.5)', 2.5],
    ['now', 1000],
  ])('binary64: %s is %s', (source, expected) => {
    expect(computed(source)).toBe(expected)
  })

  test.each(['0 * -1', '-(0)', '-0', '0 / -5', 'abs(0 * -1)', '-5e-324 / 2', 'min(0, 0 * -1)'])(
    'binary64: %s is zero without a sign',
    source => {
      expect(Object.is(computed(source), 0)).toBe(true)
    },
  )

  test.each([
    ['7 / 2', 3n],
    ['-7 / 2', -3n],
    ['7 / -2', -3n],
    ['sqrt(0)', 0n],
    ['sqrt(15)', 3n],
    ['sqrt(16)', 4n],
    ['sqrt(9223372030926249000)', 3037000498n],
    ['sqrt(9223372030926249001)', 3037000499n],
    ['sqrt(4503599761588225)', 67108865n],
    ['sqrt(4503599761588224)', 67108864n],
    ['sqrt(9223372036854775807)', 3037000499n],
    ['sqrt(-1)', 'failed: negative-root in x'],
    ['9223372036854775807 + 1', 'failed: overflow in x'],
    ['-9223372036854775808 - 1', 'failed: overflow in x'],
    ['-9223372036854775808 / -1', 'failed: overflow in x'],
    ['-(-9223372036854775808)', 'failed: overflow in x'],
    ['abs(-9223372036854775808)', 'failed: overflow in x'],
    ['3037000500 * 3037000500', 'failed: overflow in x'],
    ['1 / 0', 'failed: division-by-zero in x'],
  ])('int64: %s is %s', (source, expected) => {
    expect(computed(source, 'int64')).toBe(expected)
  })

  test.each([
    ['if(true, 1, 1 / 0)', 1],
    ['if(1 < 2 and 2 < 3, 1, 2)', 1],
    ['if(false and 1 / 0 > 1, 1, 2)', 2],
    ['if(true or 1 / 0 > 1, 1, 2)', 1],
    ['if(not 1 == 2, 1, 2)', 1],
    ['if(1 != 2, 1, 2)', 1],
    ['if(2 <= 1 or 1 >= 2, 1, 2)', 2],
    ['1 / 0 + sqrt(-1)', 'failed: division-by-zero in x'],
    ['sqrt(-1) + 1 / 0', 'failed: negative-root in x'],
  ])('order: %s is %s', (source, expected) => {
    expect(computed(source)).toBe(expected)
  })
})

describe('runs', () => {
  const contract = sampleContract({
    inputs: { level: 'number' },
    streams: { before: { topic: 'tank', field: 'level' } },
    state: { count: 0, alarm: false },
    rules: ['step = not has(before) or abs(level - before) <= 2'],
    let: ['next = count + 1'],
    decide: [{ when: 'level > 10', say: 'open' }, { say: 'shut' }],
    values: ['next', 'level'],
    set: ['count = next', 'alarm = level > 10'],
  })
  const run = (level: number | string | undefined, before?: number) =>
    evaluateContract(contract, {
      inputs: new Map(level === undefined ? [] : [['level', level]]),
      reading: () => (before === undefined ? undefined : { value: before, time: 5 }),
      state: [4, false],
      now: 10,
    })

  test('runs: rules, the first case that holds, values, the next state', () => {
    expect(run(11)).toEqual({
      type: 'decided',
      decision: 'open',
      values: [
        { name: 'next', value: 5 },
        { name: 'level', value: 11 },
      ],
      state: [5, true],
    })
    expect(run(9, 8)).toMatchObject({ decision: 'shut', state: [5, false] })
    expect(run(9, 6)).toEqual({ type: 'violated', rule: 'step' })
    expect(run(undefined)).toEqual({ type: 'failed', reason: 'missing-input', place: 'level' })
    expect(run('high')).toEqual({ type: 'failed', reason: 'wrong-input', place: 'level' })
  })

  test('runs: a stream without a usable reading is absent', () => {
    const asked = sampleContract({
      streams: { s: { topic: 't', field: 'f' } },
      let: ['there = has(s)', 'v = if(there, s, 0)', 'w = if(there, time(s), 0)'],
      values: ['there', 'v', 'w'],
      decide: [{ when: 'there', say: 'there' }, { when: 's > 1', say: 'never' }, { say: 'no' }],
    })
    const given = (reading: { value: number | string | undefined; time: number } | undefined) =>
      evaluateContract(asked, { inputs: new Map(), reading: () => reading, state: [], now: 0 })
    expect(given({ value: 3, time: 7 })).toMatchObject({
      decision: 'there',
      values: [{ value: true }, { value: 3 }, { value: 7 }],
    })
    for (const absent of [undefined, { value: undefined, time: 7 }, { value: 'text', time: 7 }])
      expect(given(absent)).toEqual({ type: 'failed', reason: 'no-reading', place: 'decision 2' })
  })

  test('runs: a stream is looked up once, however often it is used', () => {
    const asked = sampleContract({
      streams: { s: { topic: 't', field: 'f' }, unused: { topic: 't', field: 'g' } },
      let: ['a = if(has(s), s + s + time(s), 0)'],
      rules: ['r = s < a or not has(s)'],
      values: ['s'],
    })
    for (const reading of [undefined, { value: 3, time: 7 }]) {
      const looked: string[] = []
      evaluateContract(asked, {
        inputs: new Map(),
        reading: ({ name }) => {
          looked.push(name)
          return reading
        },
        state: [],
        now: 0,
      })
      expect(looked).toEqual(['s'])
    }
  })

  test('runs: numbers from outside become integers only if they are', () => {
    const whole = sampleContract({ arithmetic: 'int64', inputs: { a: 'number' }, values: ['a'] })
    const given = (a: number | bigint) =>
      evaluateContract(whole, { inputs: new Map([['a', a]]), reading: () => undefined, state: [], now: 0 })
    expect(given(3)).toMatchObject({ values: [{ value: 3n }] })
    expect(given(-(2 ** 53 - 1))).toMatchObject({ values: [{ value: 1n - 2n ** 53n }] })
    expect(given(2n ** 60n)).toMatchObject({ values: [{ value: 2n ** 60n }] })
    for (const bad of [0.5, 2 ** 53]) expect(given(bad)).toMatchObject({ reason: 'wrong-input', place: 'a' })
  })
})

describe('check', () => {
  const chain = (length: number) => Array.from({ length }, () => '1').join(' + ')

  test.each([
    [
      'a name twice',
      { inputs: { a: 'number' }, let: ['a = 1'] },
      'let.a: expected a name that is not given yet',
    ],
    ['a name before it is given', { let: ['a = b', 'b = 1'] }, 'let.a: expected a name given before, got b'],
    ['itself', { let: ['a = a'] }, 'let.a: expected a name given before'],
    ['a boolean in a sum', { let: ['a = 1 + true'] }, 'let.a: +: expected a number, got a boolean'],
    [
      'branches of two types',
      { let: ['a = if(true, 1, false)'] },
      'let.a: if: expected a number, got a boolean',
    ],
    ['a rule that is a number', { rules: ['r = 1'] }, 'rules.r: expected a boolean'],
    ['a rule twice', { rules: ['r = true', 'r = true'] }, 'rules.r: expected each rule once'],
    [
      'a condition that is a number',
      { decide: [{ when: '1', say: 'x' }, { say: 'y' }] },
      'decide[1]: expected a boolean',
    ],
    [
      'no last case',
      { decide: [{ when: 'true', say: 'x' }] },
      'decide[1]: expected a condition in each case but the last',
    ],
    ['a case after the last', { decide: [{ say: 'x' }, { say: 'y' }] }, 'decide[1]: expected a condition'],
    [
      'a decision like a failure',
      { decide: [{ say: 'failed: not really' }] },
      'decide[1]: expected a decision that does not',
    ],
    ['a value without a name', { values: ['a'] }, 'values.a: expected a name of the contract'],
    ['a value twice', { let: ['a = 1'], values: ['a', 'a'] }, 'values.a: expected each name once'],
    ['a next value of nothing', { let: ['a = 1'], set: ['a = 2'] }, 'set.a: expected a state variable'],
    [
      'a next value twice',
      { state: { a: 1 }, set: ['a = 2', 'a = 3'] },
      'set.a: expected each variable once',
    ],
    [
      'a next value of another type',
      { state: { a: 1 }, set: ['a = true'] },
      'set.a: expected a number, got a boolean',
    ],
    [
      'the time of what is no stream',
      { inputs: { a: 'number' }, let: ['t = time(a)'] },
      'let.t: time: expected a stream',
    ],
    [
      'too many steps',
      { let: Array.from({ length: 64 }, (_, i) => `a${i} = ${chain(9)}`) },
      'expected at most 1024 steps',
    ],
    ['too deep', { let: [`a = ${chain(17)}`] }, 'let.a: expected at most 16 nested operations'],
  ])('check: refuses %s', (_what, more, detail) => {
    const refused = contractOfDocument(sampleDocument(more))
    expect(refused).toMatchObject({ ok: false, error: { code: 'contract-invalid' } })
    expect(refused).toMatchObject({ error: { detail: expect.stringContaining(detail) } })
  })

  test('check: a run has a price, and so has a stream; each node and declaration adds one step', () => {
    const steps = (more: object) => unwrap(checkContract(sampleContract(more))).steps
    expect(steps({})).toBe(32)
    expect(steps({ streams: { s: { topic: 't', field: 'f' } }, let: ['a = has(s)'], values: ['a'] })).toBe(
      32 + 32 + 1 + 1 + 1,
    )
    expect(steps({ inputs: { a: 'number' }, decide: [{ when: 'a > 1', say: 'x' }, { say: 'y' }] })).toBe(
      32 + 1 + 3,
    )
  })

  test('check: refuses numbers of the other arithmetic, which a file cannot even write', () => {
    const sound = sampleContract({ arithmetic: 'int64', state: { a: 1 } })
    expect(checkContract(sound)).toMatchObject({ ok: true, value: { steps: 33 } })
    expect(checkContract({ ...sound, state: [{ name: 'a', initial: 1 }] })).toMatchObject({
      error: { detail: 'state.a: expected a number of int64' },
    })
    const text: Expression = { type: 'constant', value: 'text' }
    expect(checkContract({ ...sound, expressions: [{ name: 'b', expression: text }] })).toMatchObject({
      error: { detail: 'let.b: expected a number of int64' },
    })
  })
})

describe('files', () => {
  test.each([
    ['an unknown field', { deside: [] }, 'contract.deside: expected one of name, version'],
    ['a name that is none', { name: 'Fire!' }, 'value.name: expected 1 to 32 of a-z, 0-9 and -'],
    ['no version', { version: 'one' }, 'version: expected a natural number'],
    ['an unknown arithmetic', { arithmetic: 'decimal' }, 'arithmetic: expected binary64 or int64'],
    ['an unknown type', { inputs: { a: 'text' } }, 'inputs.a: expected number or boolean'],
    [
      'a word of the language as a name',
      { inputs: { now: 'number' } },
      'value.inputs[0].name: expected a name',
    ],
    [
      'a stream with a wildcard',
      { streams: { s: { topic: 'a/#', field: 'f' } } },
      'value.streams[0].topic: expected a topic without',
    ],
    ['an unknown device', { callers: ['nobody'] }, 'callers[1]: expected the id of a device, got "nobody"'],
    ['a filter in mote/', { publish: ['mote/#'] }, 'value.publish[0]: expected a topic filter outside mote/'],
    ['a line without a name', { let: ['1 + 1'] }, 'let[1]: expected a name, =, and an expression'],
    [
      'a fraction in int64',
      { arithmetic: 'int64', let: ['a = 1.5'] },
      'let.a: column 2: expected a number of int64',
    ],
    [
      'a number out of range',
      { arithmetic: 'int64', let: ['a = 9223372036854775808'] },
      'let.a: column 2: expected a number of int64',
    ],
    ['an infinite number', { let: ['a = 1e999'] }, 'let.a: column 2: expected a number of binary64'],
    ['a missing parenthesis', { let: ['a = (1 + 2'] }, 'let.a: column 8: expected ), got the end'],
    ['an operand too few', { let: ['a = min(1)'] }, 'let.a: column 7: expected ,, got )'],
    ['comparisons in a chain', { rules: ['a = 1 < 2 < 3'] }, 'rules.a: column 8: expected the end, got <'],
    [
      'a sign that is none',
      { let: ['a = 1 ? 2'] },
      'let.a: column 3: expected a number, a name or an operator',
    ],
    ['parentheses without end', { let: [`a = ${'('.repeat(500)}`] }, 'nested parentheses'],
    ['a long line', { let: [`a = ${'1 '.repeat(600)}`] }, 'expected at most 1024 characters'],
    [
      'too many inputs',
      { inputs: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`i${i}`, 'number'])) },
      'inputs: expected at most 64',
    ],
    [
      'too many cases',
      { cases: Array.from({ length: 257 }, () => ({ decision: 'done' })) },
      'cases: expected a list of at most 256',
    ],
    ['no decision', { decide: [] }, 'decide: expected at least one case'],
  ])('files: refuses %s', (_what, more, detail) => {
    const read = contractOfDocument(sampleDocument(more))
    const refused = read.ok ? casesOfDocument(sampleDocument(more), read.value) : read
    expect(refused).toMatchObject({ ok: false, error: { code: 'contract-invalid' } })
    expect(refused).toMatchObject({ error: { detail: expect.stringContaining(detail) } })
  })

  test('files: nothing that executes reads one; the chain parses no JSON and no expression', () => {
    const sources = new Map(readSourceFiles().map(({ path, text }) => [path, text]))
    const reached = new Set<string>()
    const walk = (path: string): void => {
      if (reached.has(path)) return
      reached.add(path)
      for (const specifier of importsOf(sources.get(path) ?? ''))
        if (specifier.startsWith('.')) walk(resolveImport(path, specifier))
    }
    walk('chain/execution.ts')
    expect(reached.size).toBeGreaterThan(25)
    const code = [...reached].map(path => sources.get(path) ?? '').join('\n')
    expect([...reached].filter(path => /document|expression-text/.test(path))).toEqual([])
    expect(code).not.toMatch(/JSON\.parse/)
  })
})

describe('vectors of test/vectors/contracts.json', () => {
  const vectors = JSON.parse(readFileSync(join(repositoryRoot, 'test/vectors/contracts.json'), 'utf8'))

  test('vectors: contracts, their addresses, runs and outcomes', () => {
    expect(contractVectors()).toEqual(vectors)
    expect(vectors.contracts.length).toBe(contractFiles().length)
  })

  test('vectors: what makes no sense is refused', () => {
    expect(vectors.refused.length).toBeGreaterThan(5)
    for (const { contract, why } of vectors.refused) {
      const read = unwrap(decode(contractCodec, hexToBytes(contract)))
      expect(checkContract(read), why).toMatchObject({ ok: false, error: { code: 'contract-invalid' } })
    }
  })
})

describe('by chance', () => {
  const contracts = (label: string) => new RandomContracts(new SeededRandom(11, label))

  test('by chance: what is printed parses to the same tree, and what is encoded decodes to it', () => {
    const random = contracts('expressions')
    const scope = {
      names: [
        { name: 'a', type: 'number' as const },
        { name: 'b', type: 'boolean' as const },
      ],
      streams: ['s'],
    }
    for (let i = 0; i < 400; i++) {
      const arithmetic = i % 2 ? 'int64' : 'binary64'
      const expression = random.expression(arithmetic, i % 3 ? 'number' : 'boolean', scope, 6)
      const printed = printExpression(expression)
      if (printed.length <= 1024)
        expect(parseExpression(printed, arithmetic), printed).toEqual({ ok: true, value: expression })
      expect(decode(expressionCodec, encode(expressionCodec, expression))).toEqual({
        ok: true,
        value: expression,
      })
    }
  })

  test('by chance: each contract passes the check, comes back from bytes and from its file, and ends', () => {
    const random = contracts('contracts')
    const seen = new Map<string, number>()
    for (let i = 0; i < 400; i++) {
      const contract = random.contract()
      expect(checkContract(contract).ok).toBe(true)
      const encoded = encode(contractCodec, contract)
      expect(decode(contractCodec, encoded)).toEqual({ ok: true, value: contract })
      expect(contractOfDocument(JSON.parse(JSON.stringify(documentOfContract(contract))))).toEqual({
        ok: true,
        value: contract,
      })
      const outcome = evaluateContract(contract, random.circumstances(contract))
      const kind = outcome.type === 'failed' ? outcome.reason : outcome.type
      seen.set(kind, (seen.get(kind) ?? 0) + 1)
    }
    expect([...seen.keys()].sort()).toEqual([
      'decided',
      'division-by-zero',
      'missing-input',
      'negative-root',
      'no-reading',
      'not-finite',
      'overflow',
      'violated',
      'wrong-input',
    ])
  })

  test('by chance: bytes that are changed anywhere are another contract or none', () => {
    const random = new SeededRandom(5, 'bytes')
    const encoded = encode(contractCodec, contracts('bytes').contract())
    for (let i = 0; i < 600; i++) {
      const changed = encoded.slice()
      changed[random.below(changed.length)]! ^= 1 << random.below(8)
      const read = decode(contractCodec, changed)
      if (read.ok) expect(encode(contractCodec, read.value)).toEqual(changed)
    }
  })
})
