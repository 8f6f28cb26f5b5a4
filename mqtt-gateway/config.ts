/**
 * The configuration file of a gateway: versioned JSON, checked before anything starts. An error names the field.
 * Relative paths are relative to the file. Secrets are not in it: `key` names the key file.
 */
import { dirname, resolve } from 'node:path'
import { type Static, Type } from 'typebox'
import { ChainId } from '../chain/brands.ts'
import { MoteError } from '../chain/result.ts'
import { isPlainFilter } from '../chain/rights.ts'
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
import { maxMappedFilters, noPlainTopics, overlapOf, type PlainTopics } from './protocol/plain-topics.ts'
import { allShards, parseShards, type Shard } from './protocol/sharded-topics.ts'
import { type QueueConfig, queueConfigOf, queueSchema } from './records/queue-config.ts'
import type { TlsFiles } from './server/tls-identity.ts'

const limit = (minimum: number, maximum: number) => Type.Optional(Type.Integer({ minimum, maximum }))

const mappedFilters = Type.Optional(Type.Array(Type.String(), { maxItems: maxMappedFilters }))

const schema = Type.Object(
  {
    version: Type.Literal(1),
    /** For people, in logs and status. */
    name: Type.String({ pattern: '^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$' }),
    chainId: Type.String({ pattern: '^[0-9a-f]{64}$' }),
    genesis: pathSchema,
    /** Key file of the gateway's own identity. */
    key: pathSchema,
    /** HTTP APIs of nodes to read the chain from, the preferred one first. */
    fullNodes: Type.Array(Type.String({ pattern: '^https?://[^\\s/]+/?$' }), { minItems: 1, maxItems: 64 }),
    /** Where the embedded broker listens. This or `broker`. */
    mqtt: Type.Optional(listenSchema),
    /** The broker that this gateway stands beside, in place of its own. */
    broker: Type.Optional(
      Type.Object(
        {
          host: Type.String({ minLength: 1 }),
          port: Type.Integer({ minimum: 1, maximum: 65535 }),
          /** PEM of the authorities that the broker's certificate may have: the gateway connects by TLS. Without it, it does not. */
          ca: Type.Optional(pathSchema),
          /** First digits of the ids of the devices whose messages this gateway takes, `0-7,c` say. Default: all. */
          shards: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
          /** Who makes the devices' accounts: Mosquitto's plugin at this gateway's word, or the broker's operator. */
          accounts: Type.Optional(Type.Enum(['mosquitto', 'operator'])),
        },
        closed,
      ),
    ),
    /** MQTT over TLS beside it; off unless given. */
    mqtts: Type.Optional(
      Type.Object(
        {
          ...listenSchema.properties,
          /** PEM: the server's certificate, then those that lead to an authority. */
          certificate: pathSchema,
          /** PEM, mode 0600. Both files are read again when they change. */
          key: pathSchema,
        },
        closed,
      ),
    ),
    /** Topics of plain clients (protocol/plain-topics.ts). */
    plain: Type.Optional(
      Type.Object(
        {
          /** What a device publishes there is recorded. With the gateway's own broker only, as `out`. */
          in: mappedFilters,
          /** Decisions go there. */
          out: mappedFilters,
          /** Every active device may report on any topic, and receive decisions. Default: what rights say. */
          open: Type.Optional(Type.Boolean()),
        },
        closed,
      ),
    ),
    /** Liveness, readiness and status by HTTP; off unless given. */
    api: Type.Optional(listenSchema),
    decisions: Type.Optional(
      Type.Object(
        {
          /** What contracts decided longer ago is not published any more: after an absence, or when another gateway takes over. */
          expiryMs: Type.Optional(Type.Integer({ minimum: 1_000, maximum: 86_400_000 })),
        },
        closed,
      ),
    ),
    /** Where records wait for the chain. Default: on this machine's disk. */
    queue: Type.Optional(queueSchema),
    /** Trust data older than this refuses every message. */
    trustTtlMs: Type.Integer({ minimum: 100, maximum: 86_400_000 }),
    /** Directory for the decision log, the sealed boxes and the checkpoint. */
    data: pathSchema,
    limits: Type.Optional(
      Type.Object(
        {
          connections: limit(1, 100_000),
          subscriptionsPerClient: limit(4, 1000),
          queuedPerClient: limit(1, 10_000),
          unproven: limit(1, 10_000),
          unprovenPerAddress: limit(1, 10_000),
          messagesPerSecond: limit(1, 1_000_000),
          bytesPerSecond: limit(262_144, 2 ** 40),
        },
        closed,
      ),
    ),
    log: Type.Optional(logSchema),
  },
  closed,
)

/** What the file says, before defaults. */
export type GatewayConfigFile = Static<typeof schema>

/** Where devices come to: the gateway's own broker, or one that others wrote. */
export type GatewayEdge =
  | {
      readonly type: 'embedded'
      readonly mqtt: ListenAddress
      readonly mqtts: (ListenAddress & TlsFiles) | undefined
    }
  | ({ readonly type: 'attached' } & AttachedEdge)

export interface AttachedEdge {
  readonly address: ListenAddress
  /** A file. */
  readonly ca: string | undefined
  readonly shards: readonly Shard[]
  readonly accounts: 'mosquitto' | 'operator'
}

/** A checked configuration with defaults filled in and absolute paths. */
export interface GatewayConfig {
  readonly name: string
  readonly chainId: ChainId
  readonly genesis: string
  readonly key: string
  readonly fullNodes: readonly string[]
  readonly edge: GatewayEdge
  readonly plain: PlainTopics
  readonly api: ListenAddress | undefined
  readonly queue: QueueConfig
  readonly trustTtlMs: number
  readonly decisions: { readonly expiryMs: number }
  readonly data: string
  readonly limits: {
    readonly connections: number
    readonly subscriptionsPerClient: number
    readonly queuedPerClient: number
    readonly unproven: number
    readonly unprovenPerAddress: number
    readonly messagesPerSecond: number
    readonly bytesPerSecond: number
  }
  readonly log: {
    readonly level: NonNullable<NonNullable<GatewayConfigFile['log']>['level']>
    readonly file: string | undefined
  }
}

const defaultLimits = {
  connections: 10_000,
  subscriptionsPerClient: 32,
  queuedPerClient: 1000,
  unproven: 1024,
  unprovenPerAddress: 256,
  messagesPerSecond: 1000,
  bytesPerSecond: 8 * 1024 * 1024,
} as const
/** A quarter of an hour: an actuator does not act on what was decided before that. */
const defaultDecisionExpiryMs = 900_000
const parse = configurationParser(schema)

/** The configuration in a file. Throws `config-invalid` with the field. */
export async function readGatewayConfig(file: string): Promise<GatewayConfig> {
  return parseGatewayConfig(await readConfigurationFile(file), file)
}

/** The configuration in `content`, which was read from `file`. Throws `config-invalid`. */
export function parseGatewayConfig(content: string, file: string): GatewayConfig {
  const value = parse(content, file)
  const base = dirname(resolve(file))
  return {
    name: value.name,
    chainId: ChainId(value.chainId),
    genesis: resolve(base, value.genesis),
    key: resolve(base, value.key),
    fullNodes: value.fullNodes.map(url => url.replace(/\/$/, '')),
    edge: edgeOf(value, file),
    plain: plainOf(value, file),
    api: value.api,
    queue: queueConfigOf(value.queue, { file, place: path => resolve(base, path) }),
    trustTtlMs: value.trustTtlMs,
    decisions: { expiryMs: value.decisions?.expiryMs ?? defaultDecisionExpiryMs },
    data: resolve(base, value.data),
    limits: { ...defaultLimits, ...value.limits },
    log: {
      level: value.log?.level ?? 'info',
      file: value.log?.file === undefined ? undefined : resolve(base, value.log.file),
    },
  }
}

function edgeOf({ mqtt, mqtts, broker }: GatewayConfigFile, file: string): GatewayEdge {
  const place = (path: string) => resolve(dirname(resolve(file)), path)
  if (mqtt && !broker) {
    const secure = mqtts && { ...mqtts, certificate: place(mqtts.certificate), key: place(mqtts.key) }
    return { type: 'embedded', mqtt, mqtts: secure }
  }
  if (!broker || mqtt)
    throw new MoteError('config-invalid', `${file}: expected mqtt or broker, got ${mqtt ? 'both' : 'none'}`)
  if (mqtts)
    throw new MoteError('config-invalid', `${file}: mqtts: expected with mqtt only; a broker has its own`)
  const { host, port, ca, shards: text, accounts = 'mosquitto' } = broker
  const shards = text === undefined ? allShards : parseShards(text)
  if (!shards)
    throw new MoteError('config-invalid', `${file}: broker.shards: expected digits and ranges, got '${text}'`)
  return { type: 'attached', address: { host, port }, ca: ca && place(ca), shards, accounts }
}

function plainOf({ plain, broker }: GatewayConfigFile, file: string): PlainTopics {
  const topics = { ...noPlainTopics, ...plain }
  const invalid = (what: string) => new MoteError('config-invalid', `${file}: plain${what}`)
  for (const kind of ['in', 'out'] as const) {
    if (broker && topics[kind].length > 0)
      throw invalid(`.${kind}: expected with mqtt only; beside a broker devices publish to mote/1/report/`)
    const wrong = topics[kind].find(filter => !isPlainFilter(filter))
    if (wrong !== undefined)
      throw invalid(`.${kind}: expected topic filters outside mote/ and $, got '${wrong}'`)
  }
  const both = overlapOf(topics)
  if (both) throw invalid(`: expected no topic that comes in and goes out, got '${both[0]}' and '${both[1]}'`)
  return topics
}

/** Writes a configuration that `readGatewayConfig` accepts. Throws `config-invalid` for one that it would not. */
export async function writeGatewayConfig(file: string, config: GatewayConfigFile): Promise<void> {
  const content = `${JSON.stringify(config, undefined, 2)}\n`
  parseGatewayConfig(content, file)
  await writeFileAtomic(file, content)
}
