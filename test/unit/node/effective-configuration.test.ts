/**
 * The configuration that takes effect, against what says what it is: the file's fields, the chain's parameters,
 * and docs/OPERATIONS.md (docs/LIMITS.md: limits.test.ts); and that no part of a node has settings from anywhere else.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { defaultGenesisParameters } from '../../../chain/genesis.ts'
import { parseGatewayConfig } from '../../../mqtt-gateway/config.ts'
import { parseShards } from '../../../mqtt-gateway/protocol/sharded-topics.ts'
import { type NodeConfigFile, parseNodeConfig } from '../../../node/config.ts'
import {
  type ChainSettings,
  configurationLine,
  fullConfiguration,
  lightConfiguration,
  type NodeEnvironment,
  settingsOf,
  settingText,
} from '../../../node/effective-configuration.ts'
import { maxAppendBytes } from '../../../node/network/wire.ts'
import { readSourceFiles, repositoryRoot } from '../../support/source-files.ts'

const id = 'ab'.repeat(32)
const minimal: NodeConfigFile = {
  version: 1,
  name: 'n',
  label: 'full',
  chainId: id,
  genesis: 'genesis.json',
  data: 'data',
  key: 'key.json',
  api: { host: '127.0.0.1', port: 4100 },
  p2p: { host: '127.0.0.1', port: 0 },
  peers: [],
  coordination: [],
}
const alone: NodeEnvironment = { supervised: false, logFile: undefined }
const parse = (change: Partial<NodeConfigFile>) =>
  parseNodeConfig(JSON.stringify({ ...minimal, ...change }), '/n/config.json')
const full = (
  change: Partial<NodeConfigFile> = {},
  chain: Partial<ChainSettings> = {},
  environment = alone,
) => fullConfiguration(parse(change), { ...defaultGenesisParameters, ...chain }, environment)
const light = (label: 'coordination' | 'lightweight', change: Partial<NodeConfigFile> = {}) =>
  lightConfiguration(parse({ ...change, label }), alone)

describe('effective configuration', () => {
  /** A value that is no default, for every setting that a file may hold. */
  const chosen = {
    heartbeatMs: 1_234,
    raft: {
      tickMs: 7,
      electionTimeoutTicks: 21,
      heartbeatTicks: 3,
      maxEntriesPerAppend: 11,
      maxBytesPerAppend: 12_000,
      maxAppendsInFlight: 13,
      maxBytesInFlight: 14_000,
    },
    producer: {
      transactionsPerBlock: 15,
      bytesPerBlock: 16_000,
      blocksInFlight: 17,
      pipelinedTransactions: 18,
    },
    compaction: { entriesKept: 19, bytesKept: 20_000 },
    retention: { blocks: 23, ageMs: 24_000 },
    network: { lightPerSecond: 21, httpPerSecond: 22 },
    log: { level: 'error' as const, file: 'x.log' },
  }

  test('what a file sets is what takes effect', () => {
    const { heartbeatMs, log, producer, ...same } = chosen
    expect(full(chosen)).toMatchObject({
      ...same,
      producer: { ...producer, heartbeatMs },
      log: { level: 'error', file: '/n/x.log' },
    })
    const set = settingsOf(full(chosen)).filter(({ value, standard }) => value !== standard)
    expect(set.map(({ name }) => name)).toHaveLength(
      1 + Object.keys(chosen.raft).length + Object.keys(producer).length + 2 + 2 + 2 + 2,
    )
    expect(light('lightweight', { clock: 'none', trustTtlMs: 500 })).toMatchObject({
      clock: 'none',
      trustTtlMs: 500,
    })
  })

  test('what a file leaves open, the chain and the environment say', () => {
    const limits = { ...defaultGenesisParameters.limits, blockTransactions: 100, blockBytes: 1_000 }
    const environment = { supervised: true, logFile: '/y.log' }
    expect(full({}, { limits, heartbeatMs: 5_000 }, environment)).toMatchObject({
      supervised: true,
      log: { level: 'info', file: '/y.log' },
      raft: { maxBytesPerAppend: 2_000 },
      producer: { transactionsPerBlock: 100, bytesPerBlock: 1_000, heartbeatMs: 5_000 },
    })
    const large = { ...limits, blockBytes: 2 ** 21 }
    expect(full({}, { limits: large }).raft.maxBytesPerAppend).toBe(maxAppendBytes)
  })

  test('a file sets no block that the chain has no room for', () => {
    const limits = { ...defaultGenesisParameters.limits, blockTransactions: 100, blockBytes: 1_000 }
    const producer = { transactionsPerBlock: 101, bytesPerBlock: 1_001 }
    expect(full({ producer }, { limits }).producer).toMatchObject({
      transactionsPerBlock: 100,
      bytesPerBlock: 1_000,
    })
  })

  test('is frozen to the last field', () => {
    const mutable = full(chosen) as unknown as { raft: { tickMs: number }; peers: unknown[] }
    expect(() => mutable.peers.push(1)).toThrow(TypeError)
    expect(() => {
      mutable.raft.tickMs = 1
    }).toThrow(TypeError)
  })

  test('the line above a figure names what is set, and which settings are as by default', () => {
    expect(configurationLine(full({ raft: { tickMs: 7 } }))).toBe(
      'settings (defaults): raft.tickMs 7 ms (50 ms); as by default: clock, supervised, log, network, the rest of raft, ' +
        'producer, mempool, submission, recent, compaction, retention, snapshotFetch',
    )
    expect(configurationLine(full())).toContain('settings (defaults): none;')
    expect(configurationLine(full({}, {}, { ...alone, supervised: true }))).toContain(
      'supervised true (false); as by default: clock, log,',
    )
  })

  test('nothing else of node/ reads a default: a part has no settings of its own', () => {
    const names = /\bdefault\w*(?:Limits|Timing|Config|TrustTtlMs)\b/g
    const reads = readSourceFiles()
      .filter(({ path }) => path.startsWith('node/') && path !== 'node/effective-configuration.ts')
      .flatMap(({ path, text }) =>
        [...text.matchAll(names)]
          .filter(({ index }) => !/export const $/.test(text.slice(0, index)))
          .map(([name]) => `${path} ${name}`),
      )
    // Before it takes effect, a file is checked as the core will check it.
    expect([...new Set(reads)]).toEqual(['node/config.ts defaultConfig', 'node/config.ts defaultRaftTiming'])
  })
})

interface Row {
  readonly name: string
  readonly text: string
}

/** The rows of the tables of a document whose first heading is `heading`, by the headings of the columns. */
function tableRows(document: string, heading: string): readonly Readonly<Record<string, string>>[] {
  const lines = readFileSync(join(repositoryRoot, 'docs', document), 'utf8').split('\n')
  return lines.flatMap((line, i) => {
    if (!line.startsWith(`| ${heading} |`)) return []
    const heads = cells(line)
    const end = lines.findIndex((other, j) => j > i && !other.startsWith('|'))
    return lines
      .slice(i + 2, end)
      .map(row => Object.fromEntries(cells(row).map((cell, j) => [heads[j] ?? '', cell])))
  })
}

function cells(line: string): readonly string[] {
  return line
    .split('|')
    .slice(1, -1)
    .map(cell => cell.trim())
}

/** `raft.tickMs`, `electionTimeoutTicks` with the defaults `50 ms, 10`: a name without a group has that of the name before it. */
function fieldDefaults(document: string, heading: string): readonly Row[] {
  return tableRows(document, heading).flatMap(row => {
    const names = [...(row[heading] ?? '').matchAll(/`([\w.]+)`/g)].map(([, name]) => name ?? '')
    const group = /^(.*\.)?/.exec(names[0] ?? '')?.[0] ?? ''
    const texts = (row['Default'] ?? '').split(/, (?=\S)/)
    if (texts[0] === '-') return []
    expect(texts, names.join()).toHaveLength(names.length)
    return names.map((name, i) => ({ name: name.includes('.') ? name : group + name, text: texts[i] ?? '' }))
  })
}

const textOf = (configuration: object, name: string): string => {
  const value = name.split('.').reduce<unknown>((inner, part) => (inner as never)?.[part], configuration)
  const isNone = value === undefined || (Array.isArray(value) && value.length === 0)
  return isNone ? 'none' : settingText(name, value as string)
}

describe('documents', () => {
  test('OPERATIONS: the default of every field of a node is what takes effect', () => {
    const defaults = fieldDefaults('OPERATIONS.md', 'Field of a node')
    const shown = new Set(defaults.map(({ name }) => name))
    for (const field of [
      'heartbeatMs',
      'clock',
      'trustTtlMs',
      'raft.maxBytesPerAppend',
      'compaction.bytesKept',
    ])
      expect(shown).toContain(field)
    const all = { ...light('lightweight'), ...full(), heartbeatMs: full().producer.heartbeatMs }
    for (const { name, text } of defaults) expect(text, name).toBe(textOf(all, name))
  })

  test('OPERATIONS: the default of every field of a gateway is what takes effect', () => {
    const file = { ...minimal, label: undefined, p2p: undefined, peers: undefined, coordination: undefined }
    const parsed = (broker: object) =>
      parseGatewayConfig(
        JSON.stringify({ ...file, fullNodes: ['http://a:1'], api: undefined, trustTtlMs: 500, ...broker }),
        '/g/config.json',
      )
    const gateway = parsed({ mqtt: minimal.api })
    const { edge } = parsed({ broker: { host: 'b', port: 1883 } })
    if (edge.type !== 'attached') throw new Error(edge.type)
    expect(edge.shards).toEqual(parseShards('0-f'))
    const attached = { broker: { ...edge, shards: '0-f' } }
    const shared = parsed({ mqtt: minimal.api, queue: { type: 'jetstream', servers: ['q:4222'] } })
    const shownBy = (name: string) => {
      if (name.startsWith('broker.')) return attached
      return name.startsWith('queue.') && name !== 'queue.type' ? shared : gateway
    }
    const defaults = fieldDefaults('OPERATIONS.md', 'Field of a gateway')
    expect(defaults.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['limits.connections', 'limits.queuedPerClient', 'log.level']),
    )
    for (const { name, text } of defaults) expect(text, name).toBe(textOf(shownBy(name), name))
  })
})
