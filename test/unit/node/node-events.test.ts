/** The stream of what happens in a full node, and that the node is built in dependency order around it. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { NodeEvents } from '../../../node/ledger/node-events.ts'
import { readSourceFiles, repositoryRoot } from '../../support/source-files.ts'

test('node events: every listener hears an event, in the order in which they subscribed, before the emitter goes on', () => {
  const events = new NodeEvents()
  const heard: string[] = []
  const applied = (name: string) => ({ applied: (index: number) => heard.push(`${name} ${index}`) })
  events.subscribe(applied('chain'), { leadershipChanged: () => heard.push('wrong') }, applied('submission'))
  events.subscribe(applied('replica'))
  events.applied(7)
  expect(heard).toEqual(['chain 7', 'submission 7', 'replica 7'])
})

test('node events: who is last may cause another one, which all hear after the first', () => {
  const events = new NodeEvents()
  const heard: string[] = []
  events.subscribe(
    { applied: index => heard.push(`applied ${index}`), installed: () => heard.push('installed') },
    { applied: () => events.installed() },
  )
  events.applied(1)
  expect(heard).toEqual(['applied 1', 'installed'])
})

/** Names that a part of a text mentions before it declares them, and fields that it reads inside a function made there. */
function early(text: string): string[] {
  const code = text.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '').replace(/'[^'\n]*'|`[^`]*`/g, "''")
  const found: string[] = []
  for (const declared of code.matchAll(/^ *(?:const|let) (?:(\w+)|\{ ([^}]+) \})/gm)) {
    const names = (declared[1] ?? declared[2] ?? '')
      .split(',')
      .map(name => name.split(':').pop()?.trim() ?? '')
    for (const name of names) {
      const before = code.slice(0, declared.index)
      if (new RegExp(`(?<![.\\w#])${name}(?=[.,()\\s])(?!\\s*:)`).test(before)) found.push(name)
    }
  }
  for (const [, body = ''] of code.matchAll(/=>(.*)/g)) if (body.includes('this.')) found.push(body.trim())
  return found
}

/** The text of a file between two marks. */
function part(file: string, from: string, to: string): string {
  const text = readFileSync(join(repositoryRoot, file), 'utf8')
  const start = text.indexOf(from)
  const end = text.indexOf(to, start)
  if (start < 0 || end < 0) throw new Error(`${file}: ${from} … ${to}: not found`)
  return text.slice(start + from.length, end)
}

describe('a full node is built in dependency order', () => {
  test.each([
    ['node/ledger-node.ts', 'constructor(parts: LedgerNodeParts) {', '\n  }\n'],
    ['node/full-node.ts', 'async function startOver(', '\n  await network.start('],
  ])('%s: nothing refers to a part that is made later', (file, from, to) => {
    const text = part(file, from, to)
    expect(text.split('\n').length).toBeGreaterThan(20)
    expect(early(text)).toEqual([])
  })

  test('the check itself sees a part that is made later, and a field inside a function', () => {
    expect(early('const a = new A(() => b.height)\nconst b = new B(a)\n')).toEqual(['b'])
    expect(early('const a = new A({ height: () => this.chain.height })\n')).toHaveLength(1)
    expect(early('const b = new B()\nconst a = new A(() => b.height)\n')).toEqual([])
  })
})

describe('the table of events in ARCHITECTURE', () => {
  const eventNames = Object.getOwnPropertyNames(NodeEvents.prototype).filter(
    name => !['constructor', 'subscribe'].includes(name),
  )
  /** What the page calls a class that listens. */
  const pageName: Readonly<Record<string, string>> = {
    Announcements: 'announcements',
    Members: 'members',
    FullMembers: 'full members',
    HandoverProofs: 'handovers',
    FullNodeStatus: 'status',
    KnownVoters: 'known voters',
    MemberServer: 'member server',
    Admission: 'admission',
    Submission: 'submission',
    LinearizableReads: 'linearizable reads',
    NodeService: 'service',
    PeerRechecks: 'rechecks',
    Retention: 'retention',
    Replica: 'replica',
  }

  /** Listeners by event, as the sources have them: the methods of classes, and those written out where they subscribe. */
  function listeners(): Map<string, string[]> {
    const found = new Map(eventNames.map(name => [name, [] as string[]]))
    for (const { text } of readSourceFiles().filter(({ folder }) => folder === 'node')) {
      for (const [, name = '', body = ''] of text.matchAll(
        /^export class (\w+) implements [^{]*\bNodeListener\b[^{>]*\{([\s\S]*?)^\}/gm,
      ))
        for (const event of eventNames)
          if (new RegExp(`^  ${event}\\(`, 'm').test(body)) found.get(event)!.push(pageName[name] ?? name)
    }
    const inline = part('node/ledger-node.ts', 'events.subscribe(', '\n    )')
    for (const [, event = '', body = ''] of inline.matchAll(/\b(\w+): \w+ =>\s*([\w.#]+)/g))
      found
        .get(event)!
        .push({ 'chain.adopt': 'chain', 'storage.putCertificate': 'storage' }[body] ?? 'program')
    return found
  }

  test('it names every event, and everybody who listens to it', () => {
    const rows = new Map(
      part('docs/ARCHITECTURE.md', '| event | whose | who listens |', '\n\n')
        .split('\n')
        .map(line => line.split('|').map(cell => cell.trim()))
        .flatMap(([, events = '', , who = '']) =>
          [...events.matchAll(/`(\w+)`/g)].map(([, event = '']) => [event, who] as const),
        ),
    )
    expect([...rows.keys()].sort()).toEqual([...eventNames].sort())
    const all = listeners()
    expect([...all.values()].flat().length).toBeGreaterThan(30)
    const missing = [...all].flatMap(([event, names]) =>
      names
        .filter(name => !new RegExp(`\\b${name}\\b`).test(rows.get(event)!))
        .map(name => `${event}: ${name}`),
    )
    expect(missing).toEqual([])
  })
})
