/**
 * The one configuration that takes effect: defaults, the chain's parameters, the file and the environment, resolved into one
 * frozen object. Every part of a node gets its settings from it, `mote node status` prints it, and the tests of LIMITS and
 * OPERATIONS compare with it.
 *
 * The file goes before the chain's parameters, and these before the defaults, which stand beside the parts that they are
 * for: only this file puts them together. No secret is in it: `key` is a path.
 */
import type { ChainId } from '../chain/brands.ts'
import type { ChainParameters } from '../chain/chain-parameters.ts'
import { defaultGenesisParameters } from '../chain/genesis.ts'
import type { ListenAddress } from '../client/configuration-file.ts'
import type { LogLevel } from '../client/log.ts'
import { quantityText } from '../client/quantity-text.ts'
import { defaultConfig } from '../consensus/config.ts'
import type { Config as RaftConfig } from '../consensus/types.ts'
import type { ConfiguredPeer, NodeConfig } from './config.ts'
import { type CompactionLimits, defaultCompactionLimits } from './ledger/compaction.ts'
import { defaultLiveChainLimits, type LiveChainLimits } from './ledger/live-chain.ts'
import { defaultRetentionLimits, type RetentionLimits } from './ledger/retention.ts'
import { defaultSnapshotFetchLimits, type SnapshotFetchLimits } from './ledger/snapshot-fetch.ts'
import { defaultNetworkLimits, type NetworkLimits } from './network/protocols.ts'
import { maxAppendBytes } from './network/wire.ts'
import { defaultMempoolLimits, type MempoolLimits } from './replica/mempool.ts'
import { defaultProducerLimits, type ProducerLimits } from './replica/producer.ts'
import { defaultSubmissionLimits, type SubmissionLimits } from './service/submission.ts'
import { defaultRaftTiming, defaultTrustTtlMs } from './timing.ts'

/** What the process around a node decides. */
export interface NodeEnvironment {
  /** `MOTE_SUPERVISED=1`: it ends when its standard input does, which may shift its wall clock. */
  readonly supervised: boolean
  /** Where it logs if its file names no place; standard error unless given. */
  readonly logFile: string | undefined
}

/** What of a chain's parameters sets something of a node. */
export type ChainSettings = Pick<ChainParameters, 'limits' | 'heartbeatMs'>

/** Settings of the inside of a full node (ledger-node.ts). */
export interface LedgerSettings {
  readonly raft: { readonly tickMs: number } & Omit<RaftConfig, 'id'>
  readonly producer: ProducerLimits
  readonly mempool: MempoolLimits
  readonly submission: SubmissionLimits
  /** What of the newest blocks is kept in memory. */
  readonly recent: LiveChainLimits
  readonly compaction: CompactionLimits
  readonly retention: RetentionLimits
  readonly snapshotFetch: SnapshotFetchLimits
}

interface CommonConfiguration {
  readonly name: string
  readonly chainId: ChainId
  readonly genesis: string
  readonly data: string
  readonly key: string
  readonly api: ListenAddress
  readonly peers: readonly ConfiguredPeer[]
  readonly coordination: readonly ConfiguredPeer[]
  /** `none`: it goes by steady time alone. A full node always shows the others its wall clock. */
  readonly clock: 'wall' | 'none'
  readonly supervised: boolean
  readonly log: { readonly level: LogLevel; readonly file: string | undefined }
  readonly network: NetworkLimits
}

export interface FullConfiguration extends CommonConfiguration, LedgerSettings {
  readonly label: 'full'
  readonly p2p: ListenAddress | undefined
}

export interface LightConfiguration extends CommonConfiguration {
  readonly label: 'coordination' | 'lightweight'
  readonly p2p: ListenAddress
  readonly trustTtlMs: number
}

export type EffectiveConfiguration = FullConfiguration | LightConfiguration

/** Of a full node. `parameters` are those of the chain as the node has recovered it. */
export function fullConfiguration(
  file: NodeConfig,
  parameters: ChainSettings,
  environment: NodeEnvironment,
): FullConfiguration {
  const { p2p } = file
  return frozen({
    ...common(file, environment),
    label: 'full',
    p2p,
    ...ledgerSettings(file, parameters),
  })
}

/** Of a lightweight or a coordination node: no parameter of the chain sets anything of it. */
export function lightConfiguration(file: NodeConfig, environment: NodeEnvironment): LightConfiguration {
  const { label, p2p = { host: '127.0.0.1', port: 0 }, trustTtlMs = defaultTrustTtlMs } = file
  return frozen({
    ...common(file, environment),
    label: label === 'coordination' ? label : 'lightweight',
    p2p,
    trustTtlMs,
  })
}

/** The part that a log is opened by, before the chain is. */
export function logSettings(file: NodeConfig, environment: NodeEnvironment): CommonConfiguration['log'] {
  return { level: file.log.level ?? 'info', file: file.log.file ?? environment.logFile }
}

/** What may be set of the inside of a full node: by the configuration file, and more of it by a test or a simulation. */
export interface LedgerChoices {
  readonly heartbeatMs?: number | undefined
  readonly raft?: Partial<LedgerSettings['raft']>
  readonly producer?: Partial<Omit<ProducerLimits, 'heartbeatMs'>>
  readonly compaction?: Partial<CompactionLimits>
  readonly retention?: Partial<RetentionLimits> | undefined
}

/** Frozen; what `chosen` leaves open the chain's parameters say, or the defaults. */
export function ledgerSettings(
  { heartbeatMs, raft, producer, compaction, retention }: LedgerChoices,
  parameters: ChainSettings,
): LedgerSettings {
  const { id: _, ...core } = defaultConfig('any')
  const { blockTransactions, blockBytes } = parameters.limits
  const limits = {
    ...defaultProducerLimits,
    transactionsPerBlock: blockTransactions,
    bytesPerBlock: blockBytes,
    ...producer,
  }
  return frozen({
    raft: {
      ...core,
      ...defaultRaftTiming,
      // Two whole blocks of the chain, if a frame takes them.
      maxBytesPerAppend: Math.min(2 * blockBytes, maxAppendBytes),
      ...raft,
    },
    producer: {
      ...limits,
      // What goes beyond the chain's own limits would be in the block for nothing.
      transactionsPerBlock: Math.min(limits.transactionsPerBlock, blockTransactions),
      bytesPerBlock: Math.min(limits.bytesPerBlock, blockBytes),
      heartbeatMs: heartbeatMs ?? parameters.heartbeatMs,
    },
    mempool: defaultMempoolLimits,
    submission: defaultSubmissionLimits,
    recent: defaultLiveChainLimits,
    compaction: { ...defaultCompactionLimits, ...compaction },
    retention: { ...defaultRetentionLimits, ...retention },
    snapshotFetch: defaultSnapshotFetchLimits,
  })
}

function common(file: NodeConfig, environment: NodeEnvironment): CommonConfiguration {
  const { name, chainId, genesis, data, key, api, peers, coordination, clock = 'wall' } = file
  return {
    name,
    chainId,
    genesis,
    data,
    key,
    api,
    peers,
    coordination,
    clock,
    supervised: environment.supervised,
    log: logSettings(file, environment),
    network: { ...defaultNetworkLimits, ...file.network },
  }
}

/** A copy that nobody changes, down to the last field. */
function frozen<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return Object.freeze(value.map(frozen)) as T
  return Object.freeze(
    Object.fromEntries(Object.entries(value).map(([name, each]) => [name, frozen(each)])),
  ) as T
}

/* ---------------------------------------------------------------- as people read it */

/** Who a node is and where; all else in a configuration is a setting. */
const identifying = new Set([
  'name',
  'label',
  'chainId',
  'genesis',
  'data',
  'key',
  'api',
  'p2p',
  'peers',
  'coordination',
])

export interface Setting {
  /** As in LIMITS, and as in the file where a file may set it: `raft.tickMs`. */
  readonly name: string
  readonly value: number | string | boolean
  /** Undefined where there is none, or where it is another program's version that answers. */
  readonly standard: Setting['value'] | undefined
}

/** The settings in a configuration, each with its default. */
export function settingsOf(configuration: EffectiveConfiguration): readonly Setting[] {
  const standards = new Map(standardSettingsOf(configuration.label).map(({ name, value }) => [name, value]))
  return settingLeaves(configuration).map(([name, value]) => ({ name, value, standard: standards.get(name) }))
}

/** The settings that take effect with an empty file, on a chain that sets nothing itself. */
export function standardSettingsOf(
  label: EffectiveConfiguration['label'],
): readonly Omit<Setting, 'standard'>[] {
  const environment = { supervised: false, logFile: undefined }
  const file = { ...emptyFile, label }
  const configuration =
    label === 'full'
      ? fullConfiguration(file, defaultGenesisParameters, environment)
      : lightConfiguration(file, environment)
  return settingLeaves(configuration).map(([name, value]) => ({ name, value }))
}

export function settingText(name: string, value: Setting['value']): string {
  return typeof value === 'number' ? quantityText(name, value) : String(value)
}

/** One line: what is not as by default, and which settings are. */
export function configurationLine(configuration: EffectiveConfiguration): string {
  const settings = settingsOf(configuration).filter(({ standard }) => standard !== undefined)
  const isSet = ({ value, standard }: Setting) => value !== standard
  const groupOf = ({ name }: Setting) => name.split('.')[0] ?? name
  const set = settings
    .filter(isSet)
    .map(
      ({ name, value, standard }) =>
        `${name} ${settingText(name, value)} (${settingText(name, standard ?? '')})`,
    )
  const groups = [...Map.groupBy(settings, groupOf)].filter(([, all]) => !all.every(isSet))
  const rest = groups.map(([group, all]) => (all.some(isSet) ? `the rest of ${group}` : group))
  return `settings (defaults): ${set.join(', ') || 'none'}; as by default: ${rest.join(', ')}`
}

const emptyFile: NodeConfig = {
  name: '',
  label: 'full',
  chainId: '' as ChainId,
  genesis: '',
  data: '',
  key: '',
  api: { host: '', port: 0 },
  p2p: undefined,
  peers: [],
  coordination: [],
  heartbeatMs: undefined,
  clock: undefined,
  trustTtlMs: undefined,
  raft: {},
  producer: {},
  compaction: {},
  retention: undefined,
  network: {},
  log: {},
}

function settingLeaves(configuration: EffectiveConfiguration): ReturnType<typeof leaves> {
  return leaves(configuration).filter(([name]) => !identifying.has(name.split('.')[0] ?? ''))
}

function leaves(value: object, path = ''): readonly (readonly [string, Setting['value']])[] {
  return Object.entries(value).flatMap(([name, each]) => {
    const at = path === '' ? name : `${path}.${name}`
    if (typeof each === 'object' && each !== null) return leaves(each, at)
    return each === undefined ? [] : [[at, each] as const]
  })
}
