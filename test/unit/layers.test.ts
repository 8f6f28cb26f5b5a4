/**
 * The arrows between the folders (docs/ARCHITECTURE.md), checked on the imports as they are written: types count,
 * dynamic imports count. A file seen in no list, or too few files seen, fails: a check that looks away is none.
 */
import { describe, expect, test } from 'vitest'
import { importsOf, readSourceFiles, resolveImport } from '../support/source-files.ts'

/**
 * Which folders a folder may import from, besides itself. A room that is named here has arrows of its own: the fault
 * laboratory stands above the devnet, which does not know of it. Nothing imports the command but its launcher.
 */
const arrows: Readonly<Record<string, readonly string[]>> = {
  consensus: [],
  chain: [],
  client: ['chain'],
  node: ['client', 'chain', 'consensus'],
  'mqtt-gateway': ['client', 'chain'],
  devnet: ['client', 'chain'],
  'devnet/chaos': [
    'devnet',
    'mqtt-gateway/device',
    'mqtt-gateway/protocol',
    'node/network',
    'node/ports.ts',
    'consensus',
    'client',
    'chain',
  ],
  cli: ['devnet', 'devnet/chaos', 'mqtt-gateway', 'node', 'client', 'chain', 'consensus'],
  bin: ['cli'],
  docs: ['chain'],
  bench: ['devnet', 'devnet/chaos', 'mqtt-gateway', 'node', 'client', 'chain', 'consensus', 'test'],
  test: [
    'bench',
    'bin',
    'cli',
    'devnet',
    'devnet/chaos',
    'docs',
    'mqtt-gateway',
    'node',
    'client',
    'chain',
    'consensus',
  ],
}

/** Which rooms of its house a room may import from, besides itself and what all of them share (`shared`). */
const rooms: Readonly<Record<string, readonly string[]>> = {
  'node/storage': [],
  'node/network': [],
  'node/ledger': ['node/storage', 'node/network'],
  'node/replica': ['node/ledger', 'node/network'],
  'node/service': ['node/replica', 'node/ledger', 'node/network'],
  'node/registry': ['node/network'],
  'node/light': ['node/network'],
  'mqtt-gateway/protocol': [],
  'mqtt-gateway/device': ['mqtt-gateway/protocol'],
  'mqtt-gateway/agent': ['mqtt-gateway/protocol', 'mqtt-gateway/device'],
  'mqtt-gateway/records': ['mqtt-gateway/protocol'],
  'mqtt-gateway/server': ['mqtt-gateway/protocol', 'mqtt-gateway/records'],
}

/** Ports and values that every room of node/ speaks in. */
const shared = ['node/ports.ts']

/** What else of its house a room may import; the composition roots stand above the rooms. */
const roomExceptions: Readonly<Record<string, readonly string[]>> = {
  'node/light': ['node/config.ts', 'node/effective-configuration.ts'],
  'mqtt-gateway/records': ['mqtt-gateway/config.ts'],
  'mqtt-gateway/server': ['mqtt-gateway/config.ts'],
}

/** A devnet writes the configuration files of the programs that it starts, so it shares their formats. */
const exceptions: Readonly<Record<string, readonly string[]>> = {
  devnet: ['node/config.ts', 'mqtt-gateway/config.ts'],
}

/** Packages that the pure folders may use. Everything else there is their own code. */
const purePackages: Readonly<Record<string, RegExp>> = {
  consensus: /^$/,
  chain: /^(@noble\/(curves|hashes|ciphers)(\/|$)|msgpackr\/pack$)/,
}

/** The fewest files each folder must show, so that a check that sees nothing fails. */
const atLeast: Readonly<Record<string, number>> = {
  consensus: 20,
  chain: 35,
  client: 30,
  node: 60,
  'mqtt-gateway': 30,
  devnet: 25,
  cli: 25,
  bin: 1,
  test: 150,
}

/** The most files of a folder that is to be read as a house: what is cut only to be short hides one idea in several files. */
const atMost: Readonly<Record<string, number>> = { node: 68 }

const files = readSourceFiles()

interface Arrow {
  readonly from: string
  readonly specifier: string
  /** Path from the root, or undefined for a package or a built-in. */
  readonly to: string | undefined
}

const imports: Arrow[] = files.flatMap(file =>
  importsOf(file.text).map(specifier => ({
    from: file.path,
    specifier,
    to: specifier.startsWith('.') ? resolveImport(file.path, specifier) : undefined,
  })),
)

const roomPath = (path: string): string => path.split('/').slice(0, 2).join('/')

/** The folder of a file, or its room if that has arrows of its own. */
const folderOf = (path: string): string =>
  roomPath(path) in arrows ? roomPath(path) : (path.split('/')[0] ?? '')

/** Why an import is wrong, or undefined. */
function violation({ from, specifier, to }: Arrow): string | undefined {
  const folder = folderOf(from)
  if (to === undefined) {
    const allowed = purePackages[folder]
    return allowed && !allowed.test(specifier) ? `${from}: ${folder} is pure, got ${specifier}` : undefined
  }
  const target = folderOf(to)
  const room = roomViolation(from, to)
  if (room !== undefined) return room
  const arrowsOut = arrows[folder] ?? []
  if (target === folder || arrowsOut.includes(target) || arrowsOut.includes(roomPath(to))) return undefined
  if (exceptions[folder]?.includes(to)) return undefined
  if (!to.includes('/')) return folder === 'test' ? undefined : `${from}: imports ${to} from the root`
  return `${from}: ${folder} may not import ${to}`
}

const roomOf = (path: string): string | undefined => /^(?:node|mqtt-gateway)\/[\w-]+(?=\/)/.exec(path)?.[0]

/** Why an arrow between the rooms of a house is wrong, or undefined. A file outside the rooms may look into all of them. */
function roomViolation(from: string, to: string): string | undefined {
  const [room, target] = [roomOf(from), roomOf(to)]
  if (room === undefined || folderOf(to) !== folderOf(from) || target === room) return undefined
  const isAllowed = target
    ? rooms[room]?.includes(target)
    : shared.includes(to) || roomExceptions[room]?.includes(to)
  return isAllowed ? undefined : `${from}: the room ${room} may not import ${to}`
}

describe('layers', () => {
  test('every folder is known, and enough files were seen', () => {
    for (const file of files) expect(Object.keys(arrows)).toContain(file.folder)
    for (const [folder, count] of Object.entries(atLeast)) {
      const seen = files.filter(file => file.folder === folder).length
      expect(seen, `source files in ${folder}/`).toBeGreaterThanOrEqual(count)
      expect(seen, `source files in ${folder}/`).toBeLessThanOrEqual(atMost[folder] ?? seen)
    }
    expect(imports.length).toBeGreaterThan(files.length)
  })

  test('imports follow the arrows; consensus and chain use no Node built-in and no other package', () => {
    expect(imports.map(violation).filter(text => text !== undefined)).toEqual([])
  })

  test('the rooms are the ones that are listed', () => {
    const seen = new Set(files.map(({ path }) => roomOf(path)).filter(room => room !== undefined))
    expect([...seen].sort()).toEqual(Object.keys(rooms).sort())
  })

  test('no import cycle', () => {
    const next = Map.groupBy(
      imports.filter(arrow => arrow.to !== undefined),
      arrow => arrow.from,
    )
    const done = new Set<string>()
    const cycles: string[] = []
    const walk = (path: string, trail: readonly string[]): void => {
      if (trail.includes(path)) {
        cycles.push([...trail.slice(trail.indexOf(path)), path].join(' → '))
        return
      }
      if (done.has(path)) return
      for (const { to } of next.get(path) ?? []) if (to !== undefined) walk(to, [...trail, path])
      done.add(path)
    }
    for (const file of files) walk(file.path, [])
    expect(cycles).toEqual([])
  })

  test('the check itself sees a wrong arrow, a built-in, a dynamic import and a re-export', () => {
    const arrow = (from: string, specifier: string): Arrow => ({
      from,
      specifier,
      to: specifier.startsWith('.') ? resolveImport(from, specifier) : undefined,
    })
    expect(violation(arrow('chain/a.ts', '../consensus/types.ts'))).toContain('may not')
    expect(violation(arrow('node/a.ts', '../mqtt-gateway/envelope.ts'))).toContain('may not')
    expect(violation(arrow('node/storage/a.ts', '../replica/replica.ts'))).toContain('may not')
    expect(violation(arrow('node/replica/a.ts', '../ledger-node.ts'))).toContain('may not')
    expect(violation(arrow('node/replica/a.ts', '../ports.ts'))).toBeUndefined()
    expect(violation(arrow('node/service/a.ts', '../replica/mempool.ts'))).toBeUndefined()
    expect(violation(arrow('mqtt-gateway/device/a.ts', '../server/gateway.ts'))).toContain('may not')
    expect(violation(arrow('mqtt-gateway/server/a.ts', '../device/agent.ts'))).toContain('may not')
    expect(violation(arrow('mqtt-gateway/protocol/a.ts', '../device/agent.ts'))).toContain('may not')
    expect(violation(arrow('mqtt-gateway/device/a.ts', '../agent/outbox.ts'))).toContain('may not')
    expect(violation(arrow('mqtt-gateway/agent/a.ts', '../device/agent.ts'))).toBeUndefined()
    expect(violation(arrow('mqtt-gateway/agent/a.ts', '../server/gateway.ts'))).toContain('may not')
    expect(violation(arrow('mqtt-gateway/device/a.ts', '../protocol/envelope.ts'))).toBeUndefined()
    expect(violation(arrow('devnet/a.ts', '../node/replica/mempool.ts'))).toContain('may not')
    expect(violation(arrow('devnet/a.ts', '../node/config.ts'))).toBeUndefined()
    expect(violation(arrow('devnet/a.ts', './chaos/load.ts'))).toContain('may not')
    expect(violation(arrow('devnet/chaos/a.ts', '../control.ts'))).toBeUndefined()
    expect(violation(arrow('devnet/chaos/a.ts', '../../mqtt-gateway/device/agent.ts'))).toBeUndefined()
    expect(violation(arrow('devnet/chaos/a.ts', '../../mqtt-gateway/server/gateway.ts'))).toContain('may not')
    expect(violation(arrow('devnet/chaos/a.ts', '../../cli/output.ts'))).toContain('may not')
    expect(violation(arrow('devnet/chaos/hostile/a.ts', '../../../node/network/hello.ts'))).toBeUndefined()
    expect(violation(arrow('devnet/chaos/a.ts', '../../node/replica/mempool.ts'))).toContain('may not')
    expect(violation(arrow('devnet/chaos/a.ts', '../../test/hostile/siege.ts'))).toContain('may not')
    expect(violation(arrow('bench/a.ts', '../cli/output.ts'))).toContain('may not')
    expect(violation(arrow('client/a.ts', '../cli/main.ts'))).toContain('may not')
    expect(violation(arrow('chain/a.ts', 'node:crypto'))).toContain('pure')
    expect(violation(arrow('consensus/a.ts', 'msgpackr'))).toContain('pure')
    expect(
      importsOf("import type { A } from './a.ts'\nexport * from './b.ts'\nconst c = await import('./c.ts')"),
    ).toEqual(['./a.ts', './b.ts', './c.ts'])
    expect(
      importsOf(
        "import {\n  type A,\n  b as c,\n} from './a.ts'\nimport './side.ts'\nimport d, { e } from 'x'",
      ),
    ).toEqual(['./a.ts', './side.ts', 'x'])
  })
})
