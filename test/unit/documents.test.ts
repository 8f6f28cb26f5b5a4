/**
 * What documents and comments point to is there: files, headings, rows of docs/PAPERS.md, npm scripts, commands of `mote`,
 * tests by name, the checks that `npm run test:checks` takes out. And no table says two things under one name.
 */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Writable } from 'node:stream'
import { beforeAll, describe, expect, test } from 'vitest'
import { run } from '../../cli/program.ts'
import { refusalChecks } from '../checks/refusals.ts'
import { projectFiles, repositoryRoot } from '../support/source-files.ts'

interface Text {
  readonly path: string
  /** The whole document, or the comments of a source. */
  readonly text: string
}

const files = projectFiles()
const fileNames = new Set(files.map(path => path.split('/').at(-1)!))
const topFolders = [...new Set(files.filter(path => path.includes('/')).map(path => path.split('/')[0]!))]

const read = (path: string): string => readFileSync(join(repositoryRoot, path), 'utf8')
const documents: readonly Text[] = files
  .filter(path => path.endsWith('.md'))
  .map(path => ({ path, text: read(path) }))
const sources: readonly Text[] = files
  .filter(path => /\.(ts|js)$/.test(path))
  .map(path => ({ path, text: read(path) }))
const comments: readonly Text[] = sources.map(({ path, text }) => ({ path, text: commentsOf(text) }))

function commentsOf(source: string): string {
  const found = source.matchAll(/\/\*[\s\S]*?\*\/|(?:^|[^:'"`])\/\/.*$/gm)
  return [...found].map(([comment]) => comment).join('\n')
}

test('checks: what `npm run test:checks` takes out stands once in its file', () => {
  const amiss = refusalChecks.filter(({ file, find }) => read(file).split(find).length !== 2)
  expect(amiss.map(({ refusal, file }) => `${refusal}: ${file}`)).toEqual([])
  expect(refusalChecks.length).toBeGreaterThan(50)
})

describe('file references', () => {
  /** Names that look like a file's and are none. */
  const otherNames = ['mqtt.js', 'Node.js']
  const fileName = /(?<![\w.…@:/<>*-])(?:\.{0,2}\/)?(?:[\w.-]+\/)*[\w-][\w.-]*\.(?:ts|js|md)\b(?![\w/])/g
  const pathFromRoot = new RegExp(`(?<![\\w.…@:/<>*-])(?:${topFolders.join('|')})/[\\w./-]*`, 'g')

  /** References that lead nowhere: a path counts from the root or from the file's own folder, a bare name from anywhere. */
  function deadReferences({ path, text }: Text): readonly string[] {
    const references = [...text.matchAll(fileName), ...text.matchAll(pathFromRoot)]
    return references
      .map(([reference]) => reference.replace(/\.+$/, ''))
      .filter(reference => {
        const places = [join(repositoryRoot, reference), join(repositoryRoot, dirname(path), reference)]
        return !places.some(existsSync) && !fileNames.has(reference) && !otherNames.includes(reference)
      })
  }

  test('documents: every file that a comment or a document names exists', () => {
    expect(
      [...documents, ...comments].reduce((sum, { text }) => sum + [...text.matchAll(fileName)].length, 0),
    ).toBeGreaterThan(500)
    const dead = [...documents, ...comments].flatMap(each =>
      deadReferences(each).map(reference => `${each.path}: ${reference}`),
    )
    expect(dead).toEqual([])
  })

  test('documents: the check itself sees a planted wrong reference', () => {
    const inComment = (comment: string): readonly string[] =>
      deadReferences({
        path: 'node/network/wire.ts',
        text: commentsOf(`${comment}\nconst x = 'no-such.ts'\n`),
      })
    expect(inComment('// As in ledger.ts, chain/hex.ts and docs/LIMITS.md.')).toEqual([])
    for (const wrong of [
      'plan.md',
      'chain/no-such.ts',
      '../elsewhere/plan.md',
      'test/no-such/',
      'no-such.test.ts',
    ]) {
      expect(inComment(`/** See ${wrong}. */`), wrong).toContain(wrong)
      expect(inComment(`// See (${wrong})`), wrong).toContain(wrong)
      expect(deadReferences({ path: 'docs/LIMITS.md', text: `| \`${wrong}\` |` }), wrong).toContain(wrong)
    }
  })

  test('documents: a link into a document leads to one of its headings', () => {
    const headings = ({ text }: Text): readonly string[] =>
      [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
        heading!
          .toLowerCase()
          .replace(/[^\p{L}\p{N} -]/gu, '')
          .replaceAll(' ', '-'),
      )
    const links = documents.flatMap(({ path, text }) =>
      [...text.matchAll(/\]\(([\w./-]*)#([^)]+)\)/g)].map(([link, to, anchor]) => {
        const target = to === '' ? path : join(dirname(path), to!)
        const document = documents.find(each => each.path === target)
        return { link: `${path}: ${link}`, leads: document && headings(document).includes(anchor!) }
      }),
    )
    expect(links.length).toBeGreaterThan(5)
    expect(links.filter(({ leads }) => !leads)).toEqual([])
  })
})

describe('tables', () => {
  /** Tables, by their first heading, whose rows are told apart by more than their first cell. */
  const keyCells: Readonly<Record<string, number>> = {
    'heartbeat / election timeout': 2,
    transfer: 2,
    limits: 2,
    'seed, at commit': 2,
  }

  /** Keys that two rows of one table share. A row without a first cell goes on with the one above. */
  function repeatedKeys(text: string): readonly string[] {
    const repeated: string[] = []
    let keys: Set<string> | undefined
    let width = 1
    for (const line of text.split('\n')) {
      const [first, ...rest] = line
        .split(/(?<!\\)\|/)
        .slice(1, -1)
        .map(cell => cell.trim())
      if (!line.startsWith('|') || first === undefined) {
        keys = undefined
      } else if (keys === undefined) {
        keys = new Set()
        width = keyCells[first] ?? 1
      } else if (first !== '' && !/^:?-+:?$/.test(first)) {
        const key = [first, ...rest.slice(0, width - 1)].join(' | ')
        if (keys.has(key)) repeated.push(key)
        keys.add(key)
      }
    }
    return repeated
  }

  test('documents: no table has two rows with one key', () => {
    const repeated = documents.flatMap(({ path, text }) => repeatedKeys(text).map(key => `${path}: ${key}`))
    expect(repeated).toEqual([])
  })

  test('documents: the check itself sees two rows with one key', () => {
    const table = '| Limit | Value |\n| --- | --- |\n| `a` | 1 |\n| | 2 |\n| | 3 |\n'
    expect(repeatedKeys(`${table}\n${table}`)).toEqual([])
    expect(repeatedKeys(`${table}| \`a\` | 4 |`)).toEqual(['`a`'])
  })
})

describe('source papers', () => {
  const papers = documents.find(({ path }) => path === 'docs/PAPERS.md')!.text
  const rows = new Set(
    [...papers.matchAll(/^\| ((?:Qiu|Hsu-Lu|Hsu|Altaş) [^|]+?) \|/gm)].map(([, row]) => row),
  )

  /** `Qiu A3, A4`, `Qiu A2 to A4`: each row that such a citation names; one without a paper is named by itself. */
  function citedRows(text: string): readonly string[] {
    const list = /(?:\b(Qiu|Hsu-Lu|Hsu|Altaş) )?\b([A-D]\d[a-z]?(?:(?:, | to | and )[A-D]\d[a-z]?)*)\b/g
    return [...text.matchAll(list)].flatMap(([, paper, cited]) =>
      cited!.split(/, | to | and /).map(row => `${paper ?? '?'} ${row}`),
    )
  }

  test('papers: each row that a comment, a test name or a document cites is in docs/PAPERS.md', () => {
    const named = sources
      .filter(({ path }) => path.endsWith('.test.ts') && path !== 'test/unit/documents.test.ts')
      .map(({ path, text }) => ({
        path,
        text: [...text.matchAll(/^\s*(?:test|it|describe).*$/gm)].join('\n'),
      }))
    const others = [...comments, ...documents].filter(({ path }) => path !== 'test/unit/documents.test.ts')
    const cited = [...named, ...others].flatMap(({ path, text }) =>
      citedRows(text).map(row => ({ path, row })),
    )
    expect(cited.length).toBeGreaterThan(40)
    expect(cited.filter(({ row }) => !rows.has(row))).toEqual([])
    expect(citedRows('(Qiu A2 to A4; B1)')).toEqual(['Qiu A2', 'Qiu A4', '? B1'])
  })

  test('papers: each row names a command that shows what is here, or says that nothing is yet', () => {
    const cells = papers
      .split('\n')
      .map(line => line.split(' | '))
      .filter(([row]) => rows.has(row?.slice(2)))
    expect(cells.length).toBe(rows.size)
    expect(rows.size).toBeGreaterThan(30)
    const without = cells.filter(([, , here, shownBy]) =>
      shownBy === '- |' ? !here?.startsWith('*not yet*') : !/^`(npx|npm) /.test(shownBy ?? ''),
    )
    expect(without.map(([row]) => row)).toEqual([])
  })
})

describe('commands', () => {
  const scripts = Object.keys((JSON.parse(read('package.json')) as { scripts: object }).scripts)
  /** What a shell is given: in backticks and in code blocks. A bar between words separates commands of one family. */
  const commands = [...documents, ...comments].flatMap(({ path, text }) =>
    [...text.matchAll(/(?:^|[`$] |`)((?:npx )?(?:mote|npm run|npx vitest run) [^`\n#]+)/gm)].map(
      ([, command]) => ({
        path,
        command: command!.replaceAll('\\|', '|'),
      }),
    ),
  )
  const starting = (word: string): typeof commands =>
    commands.filter(({ command }) => command.startsWith(word))
  const subcommands = new Map<string, readonly string[]>()

  async function subcommandsOf(words: readonly string[]): Promise<readonly string[]> {
    const known = subcommands.get(words.join(' '))
    if (known) return known
    let text = ''
    const stdout = new Writable({
      write(chunk, _encoding, done) {
        text += String(chunk)
        done()
      },
    })
    const interrupted = new AbortController().signal
    await run([...words, '--help'], { variables: {}, streams: { stdout, stderr: stdout }, interrupted })
    const names = [...text.slice(text.indexOf('\nCommands:')).matchAll(/^ {2}([a-z-]+)/gm)].map(
      ([, name]) => name!,
    )
    const found = text.includes('\nCommands:') ? names : []
    subcommands.set(words.join(' '), found)
    return found
  }

  /** The first word of a command line that `mote` does not know. */
  async function unknownWord(words: readonly string[]): Promise<string | undefined> {
    for (const [depth, word] of words.entries()) {
      const names = await subcommandsOf(words.slice(0, depth))
      if (names.length === 0 || !/^[a-z|-]+$/.test(word) || word.startsWith('-')) return undefined
      const unknown = word.split('|').find(each => !names.includes(each))
      if (unknown !== undefined) return unknown
      if (word.includes('|')) return undefined
    }
    return undefined
  }

  beforeAll(async () => {
    expect(await subcommandsOf([])).toContain('device')
  })

  test('documents: every npm script that a document names is in package.json', () => {
    const named = starting('npm run ').map(({ path, command }) => ({
      path,
      script: /^npm run (?:--silent )?([\w:]+)/.exec(command)?.[1],
    }))
    expect(named.length).toBeGreaterThan(10)
    expect(named.filter(({ script }) => !scripts.includes(script ?? ''))).toEqual([])
  })

  test('documents: every command of mote that a document names is one', async () => {
    const named = commands.filter(({ command }) => /^(npx )?mote /.test(command))
    expect(named.length).toBeGreaterThan(40)
    const unknown = []
    for (const { path, command } of named) {
      const word = await unknownWord(command.replace(/^(npx )?mote /, '').split(/\s+/))
      if (word !== undefined) unknown.push(`${path}: ${command}: ${word}`)
    }
    expect(unknown).toEqual([])
    expect(await unknownWord(['device', 'vanish', 'x'])).toBe('vanish')
    expect(await unknownWord(['chain', 'consenters', 'set', 'A'])).toBe(undefined)
  })

  test('documents: every test that a document names is in its file', () => {
    const named = starting('npx vitest run ')
    expect(named.length).toBeGreaterThan(25)
    const missing = named.filter(({ command }) => {
      const [, file, title] =
        /^npx vitest run (?:--project \w+ )?(\S+)(?: -t "([^"]+)")?$/.exec(command) ?? []
      return file === undefined || !files.includes(file) || !read(file).includes(title ?? '')
    })
    expect(missing).toEqual([])
  })
})
