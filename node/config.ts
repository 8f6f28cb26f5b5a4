/**
 * The configuration file of a node: versioned JSON, checked before anything starts. An error names the field and
 * what was expected. Relative paths are relative to the file, so that a directory can be moved as a whole.
 *
 * Secrets are not in it: `key` names the key file.
 */
import { isIP } from 'node:net'
import { dirname, resolve } from 'node:path'
import { type Static, Type } from 'typebox'
import { ChainId, DeviceId } from '../chain/brands.ts'
import { MoteError } from '../chain/result.ts'
import { writeFileAtomic } from '../client/atomic-file.ts'
import {
  closed,
  configurationParser,
  type ListenAddress,
  listenSchema,
  logSchema,
  pathSchema,
  readConfigurationFile,
} from '../client/configuration-file.ts'
import { configProblems, defaultConfig } from '../consensus/config.ts'
import { maxAppendBytes } from './network/wire.ts'
import { defaultRaftTiming } from './timing.ts'

const digest = Type.String({ pattern: '^[0-9a-f]{64}$', description: '64 lowercase hexadecimal characters' })
const url = Type.String({
  pattern: '^https?://[^\\s/]+/?$',
  description: 'a URL such as http://127.0.0.1:4100',
})
const multiaddr = Type.String({
  pattern: '^/(ip4|ip6|dns|dns4|dns6)/[^/\\s]+/tcp/[0-9]{1,5}(/p2p/[1-9A-HJ-NP-Za-km-z]+)?$',
  description: 'a multiaddr such as /ip4/127.0.0.1/tcp/4001',
})
const limit = Type.Optional(Type.Integer({ minimum: 1, maximum: 2 ** 30 }))
/** `api` is for people who read the file: a node does not look at it. */
const peer = Type.Object({ id: digest, address: multiaddr, api: Type.Optional(url) }, closed)

const schema = Type.Object(
  {
    version: Type.Literal(1),
    /** For people, in logs and status. */
    name: Type.String({
      pattern: '^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$',
      description: 'a name of 1 to 64 characters',
    }),
    label: Type.Enum(['full', 'coordination', 'lightweight']),
    chainId: digest,
    genesis: pathSchema,
    data: pathSchema,
    key: pathSchema,
    api: listenSchema,
    /** Lightweight nodes may do without. */
    p2p: Type.Optional(listenSchema),
    /** Full nodes to stay connected to. */
    peers: Type.Array(peer, { maxItems: 64 }),
    coordination: Type.Array(peer, { maxItems: 16 }),
    /** Quiet time after which this node, as leader, cuts an empty block. The chain's parameter unless given. */
    heartbeatMs: Type.Optional(Type.Integer({ minimum: 100, maximum: 86_400_000 })),
    /** `none`: this device has no wall clock, or none to go by; it goes by steady time alone. Not for full nodes. */
    clock: Type.Optional(Type.Enum(['wall', 'none'])),
    /** Answers older than this are not trusted: lightweight and coordination nodes. */
    trustTtlMs: Type.Optional(Type.Integer({ minimum: 100, maximum: 86_400_000 })),
    raft: Type.Optional(
      Type.Object(
        {
          tickMs: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000 })),
          electionTimeoutTicks: Type.Optional(Type.Integer({ minimum: 2, maximum: 1000 })),
          heartbeatTicks: Type.Optional(Type.Integer({ minimum: 1, maximum: 500 })),
          maxEntriesPerAppend: limit,
          maxBytesPerAppend: limit,
          maxAppendsInFlight: limit,
          maxBytesInFlight: limit,
        },
        closed,
      ),
    ),
    /** What a leader puts into one block, and how many blocks it lets wait. */
    producer: Type.Optional(
      Type.Object(
        {
          transactionsPerBlock: limit,
          bytesPerBlock: limit,
          blocksInFlight: limit,
          pipelinedTransactions: limit,
        },
        closed,
      ),
    ),
    /** How much of the log is kept; who is further behind gets a snapshot. */
    compaction: Type.Optional(
      Type.Object(
        {
          entriesKept: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000_000 })),
          bytesKept: Type.Optional(Type.Integer({ minimum: 1, maximum: 2 ** 40 })),
        },
        closed,
      ),
    ),
    /** How many certified blocks are kept whole, and how long at least: older ones are reduced to their leaf hashes. */
    retention: Type.Optional(
      Type.Object(
        {
          blocks: Type.Integer({ minimum: 1, maximum: 2 ** 40 }),
          ageMs: Type.Optional(Type.Integer({ minimum: 0, maximum: 2 ** 40 })),
        },
        closed,
      ),
    ),
    /** What one lightweight node, and one share of addresses over HTTP, may ask for each second, in units of half a record. */
    network: Type.Optional(
      Type.Object(
        {
          lightPerSecond: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000 })),
          httpPerSecond: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000 })),
        },
        closed,
      ),
    ),
    log: Type.Optional(logSchema),
  },
  closed,
)

/** What the file says, before defaults. */
export type NodeConfigFile = Static<typeof schema>

export interface ConfiguredPeer {
  readonly id: DeviceId
  /** Multiaddr. */
  readonly address: string
}

/** A checked file with absolute paths. What it leaves open, effective-configuration.ts fills in. */
export interface NodeConfig {
  readonly name: string
  readonly label: NodeConfigFile['label']
  readonly chainId: ChainId
  readonly genesis: string
  readonly data: string
  readonly key: string
  readonly api: ListenAddress
  readonly p2p: ListenAddress | undefined
  readonly peers: readonly ConfiguredPeer[]
  readonly coordination: readonly ConfiguredPeer[]
  readonly heartbeatMs: number | undefined
  readonly clock: NodeConfigFile['clock']
  readonly trustTtlMs: number | undefined
  readonly raft: NonNullable<NodeConfigFile['raft']>
  readonly producer: NonNullable<NodeConfigFile['producer']>
  readonly compaction: NonNullable<NodeConfigFile['compaction']>
  readonly retention: NodeConfigFile['retention']
  readonly network: NonNullable<NodeConfigFile['network']>
  readonly log: NonNullable<NodeConfigFile['log']>
}

const parse = configurationParser(schema)

/** The configuration in a file. Throws `config-invalid` with the field, or `not-found`. */
export async function readNodeConfig(file: string): Promise<NodeConfig> {
  return parseNodeConfig(await readConfigurationFile(file), file)
}

/** The same of a full node. Throws `config-invalid` for another one. */
export async function readFullNodeConfig(file: string): Promise<NodeConfig> {
  const config = await readNodeConfig(file)
  if (config.label === 'full') return config
  throw new MoteError('config-invalid', `${file}: label: expected full, got ${config.label}`)
}

/** The configuration in `content`, which was read from `file`. Throws `config-invalid`. */
export function parseNodeConfig(content: string, file: string): NodeConfig {
  const value = parse(content, file)
  checkTogether(value, file)
  return withPaths(value, dirname(resolve(file)))
}

/** Writes a configuration that `readNodeConfig` accepts. Throws `config-invalid` for one that it would not. */
export async function writeNodeConfig(file: string, config: NodeConfigFile): Promise<void> {
  const content = `${JSON.stringify(config, undefined, 2)}\n`
  parseNodeConfig(content, file)
  await writeFileAtomic(file, content)
}

/** What no single field shows. */
function checkTogether(config: NodeConfigFile, file: string): void {
  const invalid = (detail: string) => new MoteError('config-invalid', `${file}: ${detail}`)
  if (config.label !== 'lightweight' && !config.p2p)
    throw invalid(`p2p: expected an address to listen on for a ${config.label} node, got nothing`)
  if (config.p2p && isIP(config.p2p.host) === 0)
    throw invalid(`p2p.host: expected an IP address, got ${config.p2p.host}`)
  if (config.label === 'full' && config.clock === 'none')
    throw invalid('clock: expected wall for a full node, which shows its clock to the others, got none')
  // The core's own rules, so that it never meets a configuration that it would have to assert against.
  const { tickMs: _, ...raft } = { ...defaultRaftTiming, ...config.raft }
  const [problem] = configProblems({ ...defaultConfig(config.name), ...raft })
  if (problem !== undefined) throw invalid(`raft.${problem}`)
  if ((raft.maxBytesPerAppend ?? 0) > maxAppendBytes)
    throw invalid(`raft.maxBytesPerAppend: expected at most ${maxAppendBytes}, got ${raft.maxBytesPerAppend}`)
}

function withPaths(config: NodeConfigFile, base: string): NodeConfig {
  const peers = (list: NodeConfigFile['peers']): readonly ConfiguredPeer[] =>
    list.map(({ id, address }) => ({ id: DeviceId(id), address }))
  return {
    name: config.name,
    label: config.label,
    chainId: ChainId(config.chainId),
    genesis: resolve(base, config.genesis),
    data: resolve(base, config.data),
    key: resolve(base, config.key),
    api: config.api,
    p2p: config.p2p,
    peers: peers(config.peers),
    coordination: peers(config.coordination),
    heartbeatMs: config.heartbeatMs,
    clock: config.clock,
    trustTtlMs: config.trustTtlMs,
    raft: { ...config.raft },
    producer: { ...config.producer },
    compaction: { ...config.compaction },
    retention: config.retention && { ...config.retention },
    network: { ...config.network },
    log: { ...config.log, ...(config.log?.file !== undefined && { file: resolve(base, config.log.file) }) },
  }
}
