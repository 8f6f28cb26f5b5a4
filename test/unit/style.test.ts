/**
 * Habits that a machine can check (after TigerBeetle's `tidy.zig`): length of files, an opening comment, no words
 * that belong to one machine, no vague file names, no exported name with two meanings, no unfinished work.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { projectFiles, readSourceFiles, repositoryRoot } from '../support/source-files.ts'

const maxLines = 400
/** A test file may hold the whole story of one subject. */
const maxTestLines = 600

/** Files that may be longer, each with its reason. */
const longFiles: Readonly<Record<string, string>> = {
  'chain/errors.ts': 'one table: every refusal of the project in one place',
}

/** What must not be in any committed file: paths of one machine, registries, unfinished work. */
const forbidden: readonly (readonly [RegExp, string])[] = [
  [/(?<![\w.$}-])\/(?:work|root|home\/\w+|Users\/\w+)\//, 'a path of one machine'],
  [/registry\.(?:npmjs|yarnpkg)\.(?:org|com)/, 'a registry host'],
  [/\b(?:TODO|FIXME|XXX|HACK)\b/, 'unfinished work'],
  [/\b(?:lorem ipsum|not implemented)\b/i, 'a stand-in'],
]

/** Pictures in names of files and exports; docs/GLOSSARY.md has the field's words: server, identity provider, signature set. */
const pictures =
  /(?<![A-Za-z])(?:desk|book|told|tally|witness|face)(?![a-z])|(?<=[a-z])(?:Desk|Book|Told|Tally|Witness|Face)(?![a-z])|^(?:Desk|Book|Told|Tally|Witness|Face)(?![a-z])/

/** Names that several files export, and in how many: consensus/ imports nothing from chain/, nor chain/ from it. */
const sharedNames: Readonly<Record<string, number>> = { assert: 2, assertNever: 2 }

/** What a file declares and exports; a re-export declares nothing. */
function exportedNames(text: string): readonly string[] {
  const declaration =
    /^export (?:declare |abstract |async )*(?:type|interface|class|function\*?|const|let) +(\w+)/gm
  return [...text.matchAll(declaration)].map(([, name]) => name as string)
}

const vagueNames = /(?:^|[-/])(?:utils?|helpers?|common|manager|misc)(?:[-.]|$)/

const sources = readSourceFiles()

/** Text files that a tool wrote, or somebody else. */
const foreignFiles = ['package-lock.json', 'LICENSE']

/** What there is one way for already. A clock's own file, and the deadline's, are that way. */
const secondWays: readonly (readonly [RegExp, string])[] = [
  [/new Promise[^\n]*setTimeout|timers\/promises/, 'pause in client/deadline.ts'],
  [/AbortSignal\.any\([^\n]*AbortSignal\.timeout/, 'Deadline in client/deadline.ts'],
  [/performance\.now\(\) [<>+]|[<>]=? performance\.now\(\)/, 'Deadline in client/deadline.ts'],
  [/= *(?:this\.)?[#\w.]*(?:turn|queue|previous|saving)\.then\(/i, 'OrderedQueue in client/ordered-queue.ts'],
  [/const \[oldest\] = [#\w.]+\.keys\(\)|for \(const oldest of/, 'RecentMap in chain/recent-map.ts'],
]
const elsewhere: Readonly<Record<string, string>> = {
  'client/clock.ts': 'the machine itself',
  'client/deadline.ts': 'the way',
  'cli/main.ts': 'counts signals; nothing is bounded by it',
  'devnet/link-proxy.ts': 'a slow link is what it makes',
  'node/ledger/snapshots.ts': 'a stream is large: no more are kept than there may be receivers',
}

test('style: deadlines, queues and bounded maps are the one there is', () => {
  const found = sources
    .filter(({ path, folder }) => folder !== 'test' && folder !== 'docs' && !(path in elsewhere))
    .flatMap(({ path, text }) =>
      secondWays.filter(([way]) => way.test(text)).map(([, use]) => `${path}: ${use}`),
    )
  expect(found).toEqual([])
})

test('style: enough files were seen', () => {
  expect(sources.length).toBeGreaterThan(60)
})

test(`style: no file is longer than ${maxLines} lines (tests: ${maxTestLines}), save the named ones`, () => {
  const tooLong = sources
    .map(file => ({ path: file.path, lines: file.text.split('\n').length - 1 }))
    .filter(
      ({ path, lines }) =>
        lines > (path.startsWith('test/') ? maxTestLines : maxLines) && !(path in longFiles),
    )
  expect(tooLong).toEqual([])
})

test('style: every source file opens with a comment that says what it is', () => {
  const opening = /^(?:#!.*\n)?\/\*\*\s+(?:\* )?\S/
  const bare = sources.filter(file => !file.path.endsWith('.test.ts') && !opening.test(file.text))
  expect(bare.map(file => file.path)).toEqual([])
})

test('style: consensus and chain are pure: no clock, chance, timer or promise', () => {
  const impure =
    /\bMath\.random\b|\bDate\.|\bnew Date\b|\bperformance\.|\bset(?:Timeout|Interval)\b|\basync\b|\bawait\b/
  const pure = sources.filter(file => file.folder === 'consensus' || file.folder === 'chain')
  const code = (text: string): string => text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/\/\/.*$/gm, '')
  expect(pure.length).toBeGreaterThan(20)
  expect(pure.filter(file => impure.test(code(file.text))).map(file => file.path)).toEqual([])
  expect(impure.test('const x = Math.random()')).toBe(true)
})

test('style: no file has a vague name', () => {
  expect(sources.map(file => file.path).filter(path => vagueNames.test(path))).toEqual([])
})

test('style: one exported name means one thing in the whole tree', () => {
  const places = new Map<string, string[]>()
  for (const { path, text } of sources)
    for (const name of new Set(exportedNames(text))) places.set(name, [...(places.get(name) ?? []), path])
  expect(places.size).toBeGreaterThan(1000)
  expect([...places].filter(([name, paths]) => paths.length > 1 && !(name in sharedNames))).toEqual([])
  for (const [name, paths] of Object.entries(sharedNames)) expect(places.get(name), name).toHaveLength(paths)
})

test('style: names are the words of the field', () => {
  const found = sources.flatMap(({ path, text }) =>
    [path, ...exportedNames(text)].filter(name => pictures.test(name)).map(name => `${path}: ${name}`),
  )
  expect(found).toEqual([])
  for (const name of ['HandoverDesk', 'node/light/light-book.ts', 'maxTold', 'SignatureTally', 'witnessOf'])
    expect(pictures.test(name), name).toBe(true)
  for (const name of ['NotebookReader', 'interfaceOf', 'Surface'])
    expect(pictures.test(name), name).toBe(false)
})

test('style: no committed file holds a path of one machine, a registry host or unfinished work', () => {
  const found: string[] = []
  for (const path of projectFiles()) {
    if (path === 'test/unit/style.test.ts' || foreignFiles.includes(path)) continue
    const text = readFileSync(join(repositoryRoot, path), 'utf8')
    for (const [pattern, what] of forbidden) {
      const match = pattern.exec(text)
      if (match) found.push(`${path}: ${what} (${match[0]})`)
    }
  }
  expect(found).toEqual([])
})

test('style: the check itself sees what it forbids', () => {
  for (const text of ['read /home/ann/plan', 'x = "/root/a"', '// TODO later', 'registry.npmjs.org'])
    expect(
      forbidden.some(([pattern]) => pattern.test(text)),
      text,
    ).toBe(true)
  expect(vagueNames.test('node/utils.ts')).toBe(true)
  expect(vagueNames.test('client/http-helpers.ts')).toBe(true)
  expect(vagueNames.test('node/command.ts')).toBe(false)
  expect(exportedNames('export async function a() {}\nexport const b = 1\nexport { c } from d')).toEqual([
    'a',
    'b',
  ])
})
