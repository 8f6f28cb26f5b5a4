/**
 * The genesis document: what a chain begins with, and what its id is the hash of (docs/FORMATS.md, section Genesis).
 *
 * Whoever holds the document holds a checkpoint: the first consenters and the genesis header follow from it.
 */
import {
  type ChainId,
  type DeviceId,
  type Hash,
  Height,
  LogIndex,
  type Milliseconds,
  type StateKey,
  Term,
} from './brands.ts'
import { type Codec, constant, digest, encode, list, optional, struct, text, uint } from './codec.ts'
import {
  type Consenter,
  type ConsenterSet,
  checkConsenterSet,
  maxConsenters,
  type QuorumPolicy,
  quorumPolicyCodec,
  signersHash,
} from './consenters.ts'
import { allowedSuitesCodec, builtSuites, checkAllowedSuites, type EnvelopeSuite } from './envelope-suites.ts'
import { hashHex } from './hashing.ts'
import { changesHash, type Header, headerHash, noHash } from './header.ts'
import { deviceIdOf, type EncryptionKey, encryptionKeyCodec, type PublicKey, publicKeyCodec } from './keys.ts'
import { executionVersion, type Ledger } from './ledger.ts'
import { checkpointOf, type TrustedHead } from './light-client.ts'
import { maxAuthorities, maxTransactionBytes, maxTransactionChanges } from './limits.ts'
import { emptyMerkleRoot, HistoryTree } from './merkle.ts'
import {
  type Authority,
  authoritiesCodec,
  authoritiesHash,
  type ChainLimits,
  type ChainParameters,
  type IdentityRecord,
  identityCodec,
  type KeyEntry,
  limitBounds,
  limitsCodec,
  parametersCodec,
  stateKeyOf,
} from './records.ts'
import { ReplaySlots } from './replay.ts'
import { ok, type Result, refuse, unwrap } from './result.ts'
import { emptyTree, rootOf, update } from './state-tree.ts'
import { type Label, labelCodec, transportKeyCodec } from './transaction.ts'
import { keyFlaw, sharingFlaw } from './usable-keys.ts'

/** An identity that is active from the first block on. Its id is the digest of the inception key. */
export interface GenesisIdentity {
  readonly inceptionKey: PublicKey
  readonly label: Label
  readonly encryptionKey: EncryptionKey | undefined
  /** 32 bytes; nodes have one. */
  readonly transportKey: Uint8Array | undefined
  readonly metadataHash: Hash | undefined
}

export interface GenesisParameters {
  readonly limits: ChainLimits
  readonly heartbeatMs: number
  readonly epochGraceMs: number
  readonly challengeAgeMs: number
  /** How messages may be sealed, by ascending number. */
  readonly envelopeSuites: readonly EnvelopeSuite[]
  readonly executionVersion: number
}

export interface GenesisDocument {
  readonly version: 1
  /** For people; lower-case letters, digits and hyphens. */
  readonly name: string
  readonly createdAt: Milliseconds
  /** Sorted by id. */
  readonly consenters: readonly Consenter[]
  readonly quorumPolicy: QuorumPolicy
  /** The operators, sorted by id. */
  readonly authorities: readonly Authority[]
  readonly threshold: number
  readonly parameters: GenesisParameters
  /** Sorted by id. Consenters and authorities are among them. */
  readonly identities: readonly GenesisIdentity[]
}

/** What a chain has unless its makers decide otherwise. */
export const defaultGenesisParameters: GenesisParameters = {
  limits: {
    blockTransactions: 2000,
    blockBytes: 1024 * 1024,
    blockChanges: 65_536,
    unexpiredTransactions: 1_000_000,
    groupMembers: 256,
    groupsPerIdentity: 32,
    grantQuota: 10_000,
  },
  heartbeatMs: 60_000,
  epochGraceMs: 60_000,
  challengeAgeMs: 600_000,
  envelopeSuites: builtSuites,
  executionVersion,
}

/** Identities that one genesis may hold; further ones join. */
export const maxGenesisIdentities = 10_000

const duration = uint(0xffff_ffff)
export const genesisCodec: Codec<GenesisDocument> = struct<GenesisDocument>({
  version: constant(1),
  name: text(32, /^[a-z0-9-]{1,32}$/),
  createdAt: uint<Milliseconds>(),
  consenters: list(struct<Consenter>({ id: digest<DeviceId>(), key: publicKeyCodec }), maxConsenters, 1),
  quorumPolicy: quorumPolicyCodec,
  authorities: authoritiesCodec,
  threshold: uint(maxAuthorities),
  parameters: struct<GenesisParameters>({
    limits: limitsCodec,
    heartbeatMs: duration,
    epochGraceMs: duration,
    challengeAgeMs: duration,
    envelopeSuites: allowedSuitesCodec,
    executionVersion: uint(0xffff_ffff),
  }),
  identities: list(
    struct<GenesisIdentity>({
      inceptionKey: publicKeyCodec,
      label: labelCodec,
      encryptionKey: optional(encryptionKeyCodec),
      transportKey: optional(transportKeyCodec),
      metadataHash: optional(digest<Hash>()),
    }),
    maxGenesisIdentities,
    1,
  ),
})

/** Brings lists into their order, so that the same members make the same chain. */
export function genesisDocument(parts: Omit<GenesisDocument, 'version'>): GenesisDocument {
  const byId = <T extends { readonly id: string }>(a: T, b: T) => (a.id < b.id ? -1 : 1)
  const document: GenesisDocument = {
    ...parts,
    version: 1,
    consenters: [...parts.consenters].sort(byId),
    authorities: [...parts.authorities].sort(byId),
    identities: [...parts.identities].sort((a, b) =>
      deviceIdOf(a.inceptionKey) < deviceIdOf(b.inceptionKey) ? -1 : 1,
    ),
  }
  unwrap(checkGenesis(document))
  return document
}

/** Documents whose keys were found usable: a point costs 0.13 ms, and a program makes the ledger of its genesis several times. */
const withUsableKeys = new WeakSet<GenesisDocument>()

/** Refuses `key-not-usable`. */
function checkKeys(document: GenesisDocument): Result<void> {
  if (withUsableKeys.has(document)) return ok(undefined)
  for (const [field, key] of keysOf(document)) {
    const flaw = keyFlaw(key)
    if (flaw !== undefined) return refuse('key-not-usable', `${field}: ${flaw}`)
  }
  for (const [i, { inceptionKey, encryptionKey }] of document.identities.entries()) {
    const sharing = encryptionKey && sharingFlaw(inceptionKey, encryptionKey)
    if (sharing !== undefined) return refuse('key-not-usable', `identities[${i}].encryptionKey: ${sharing}`)
  }
  withUsableKeys.add(document)
  return ok(undefined)
}

function* keysOf(document: GenesisDocument): Generator<readonly [string, PublicKey | EncryptionKey]> {
  for (const [i, { key }] of document.consenters.entries()) yield [`consenters[${i}].key`, key]
  for (const [i, { key }] of document.authorities.entries()) yield [`authorities[${i}].key`, key]
  for (const [i, { inceptionKey, encryptionKey, transportKey }] of document.identities.entries()) {
    yield [`identities[${i}].inceptionKey`, inceptionKey]
    if (encryptionKey) yield [`identities[${i}].encryptionKey`, encryptionKey]
    if (transportKey) yield [`identities[${i}].transportKey`, { suite: 'ed25519', bytes: transportKey }]
  }
}

/** Refuses, as `malformed`, a document whose parts do not fit together, and `key-not-usable`. */
export function checkGenesis(document: GenesisDocument): Result<void> {
  const { authorities, threshold, identities, parameters } = document
  const set = consentersOf(document)
  const consenters = checkConsenterSet(set)
  if (!consenters.ok) return consenters
  const ids = identities.map(identity => deviceIdOf(identity.inceptionKey))
  if (!areSortedAndDistinct(ids)) return refuse('malformed', 'identities: expected sorted and distinct ids')
  if (!areSortedAndDistinct(authorities.map(authority => authority.id)))
    return refuse('malformed', 'authorities: expected sorted and distinct ids')
  const labels = new Map(ids.map((id, i) => [id, identities[i]?.label]))
  for (const { id } of set.consenters)
    if (labels.get(id) !== 'full')
      return refuse('malformed', `consenters: expected ${id} to be a full node among the identities`)
  for (const { id } of authorities)
    if (!labels.has(id)) return refuse('malformed', `authorities: expected ${id} among the identities`)
  if (threshold < 1 || threshold > authorities.length)
    return refuse('malformed', `threshold: expected 1 to ${authorities.length}, got ${threshold}`)
  const limits = checkLimits(parameters.limits)
  if (!limits.ok) return limits
  const suites = checkAllowedSuites(parameters.envelopeSuites)
  if (!suites.ok) return suites
  if (parameters.executionVersion !== executionVersion)
    return refuse(
      'unknown-version',
      `executionVersion: expected ${executionVersion}, got ${parameters.executionVersion}`,
    )
  return checkKeys(document)
}

/** Each limit is within its bound, and a block has room for a transaction. */
function checkLimits(limits: ChainLimits): Result<void> {
  const least: Readonly<Record<keyof ChainLimits, number>> = {
    blockTransactions: 1,
    blockBytes: maxTransactionBytes,
    blockChanges: maxTransactionChanges,
    unexpiredTransactions: 1,
    groupMembers: 1,
    groupsPerIdentity: 1,
    grantQuota: 1,
  }
  for (const name of Object.keys(least) as (keyof ChainLimits)[])
    if (limits[name] < least[name] || limits[name] > limitBounds[name])
      return refuse(
        'malformed',
        `limits.${name}: expected ${least[name]} to ${limitBounds[name]}, got ${limits[name]}`,
      )
  return ok(undefined)
}

function areSortedAndDistinct(ids: readonly string[]): boolean {
  return ids.every((id, i) => i === 0 || (ids[i - 1] as string) < id)
}

/** The id of the chain: hash of the document's canonical bytes. */
export function chainIdOf(document: GenesisDocument): ChainId {
  return hashHex('mote/genesis/1', encode(genesisCodec, document)) as string as ChainId
}

/** The consenters that certify the first block. */
export function consentersOf({ consenters, quorumPolicy }: GenesisDocument): ConsenterSet {
  return { consenters, policy: quorumPolicy }
}

/** The leaves of the state at height 0. */
export function genesisState(document: GenesisDocument): Map<StateKey, Uint8Array> {
  const leaves = new Map<StateKey, Uint8Array>([
    [stateKeyOf.parameters(), encode(parametersCodec, parametersOf(document))],
  ])
  for (const identity of document.identities) {
    const record = recordOf(identity)
    leaves.set(stateKeyOf.identity(record.id), encode(identityCodec, record))
  }
  return new Map([...leaves].sort(([a], [b]) => (a < b ? -1 : 1)))
}

function parametersOf(document: GenesisDocument): ChainParameters {
  return {
    ...document.parameters,
    version: 1,
    consenters: consentersOf(document),
    nextConsenters: undefined,
    authorities: document.authorities,
    threshold: document.threshold,
    nextExecution: undefined,
  }
}

function recordOf(identity: GenesisIdentity): IdentityRecord {
  // Valid from time 0, so that no clock is needed to judge what the genesis itself says.
  const lifetime = { notBefore: 0 as Milliseconds, notAfter: undefined, revokedAt: undefined }
  const keys: KeyEntry[] = [{ purpose: 'sign', key: identity.inceptionKey, ...lifetime }]
  if (identity.encryptionKey) keys.push({ purpose: 'encrypt', key: identity.encryptionKey, ...lifetime })
  return {
    id: deviceIdOf(identity.inceptionKey),
    version: 1,
    label: identity.label,
    status: 'active',
    trustLevel: 3,
    keys,
    admittedBy: undefined,
    credential: undefined,
    metadataHash: identity.metadataHash,
    transportKey: identity.transportKey,
    incidents: 0,
    incidentsHash: undefined,
    registeredAt: Height(0),
    updatedAt: Height(0),
  }
}

/** The ledger at height 0. Throws `malformed` for a document that `checkGenesis` refuses. */
export function genesisLedger(document: GenesisDocument): Ledger {
  unwrap(checkGenesis(document))
  const parameters = parametersOf(document)
  const state = genesisState(document)
  const tree = update(emptyTree, state)
  const signers = signersHash(parameters.consenters)
  const header: Header = {
    version: 1,
    chainId: chainIdOf(document),
    incarnation: 0,
    height: Height(0),
    term: Term(0),
    index: LogIndex(0),
    time: document.createdAt,
    previousHash: noHash,
    transactionsRoot: emptyMerkleRoot,
    receiptsRoot: emptyMerkleRoot,
    stateRoot: rootOf(tree),
    replayRoot: ReplaySlots.empty.root,
    changesHash: changesHash([...state.keys()]),
    historyRoot: HistoryTree.empty.root(),
    signersHash: signers,
    nextSignersHash: signers,
    authoritiesHash: authoritiesHash(parameters),
    executionVersion: document.parameters.executionVersion,
  }
  return {
    header,
    headerHash: headerHash(header),
    tree,
    replay: ReplaySlots.empty,
    history: HistoryTree.empty,
    parameters,
  }
}

/** The header of height 0: where a light client's trust begins. */
export function genesisHeader(document: GenesisDocument): Header {
  return genesisLedger(document).header
}

/** What a light client trusts before it has seen any block: the genesis header and the first consenters. */
export function checkpointFromGenesis(document: GenesisDocument): TrustedHead {
  return unwrap(checkpointOf(genesisHeader(document), consentersOf(document)))
}
