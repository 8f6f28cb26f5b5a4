/**
 * What a node needs from the world: storage, a network, a clock. Production adapters are LevelDB
 * (level-storage.ts), libp2p (libp2p-network.ts) and the system clock (client/clock.ts); a simulator implements
 * the same three, and the replica driver above them runs unchanged.
 *
 * Storage speaks bytes: what a header or a receipt is, the caller knows. It knows order and durability:
 * writes are carried out one after another in the order of the calls; a write whose promise has resolved and
 * which is documented as durable survives a crash of the machine, together with every write called before it.
 *
 * The environment's failures are thrown as `MoteError`: `storage-failed` (the disk refused; nothing after it is
 * written either), `storage-corrupt` (a record fails its checksum or is missing), `unreachable`, `timeout`.
 */
import type { DeviceId, Hash, Height, Milliseconds, StateKey, Term, TransactionId } from '../chain/brands.ts'
import { type Codec, list, struct, text, uint } from '../chain/codec.ts'
import type { Configuration, Entry, HardState, Message, SnapshotMeta } from '../consensus/types.ts'

export type { Clock } from '../client/clock.ts'

/* ---------------------------------------------------------------- storage */

/** The state after one block, verified against its certificate, as it is stored. */
export interface SnapshotState {
  readonly height: Height
  readonly header: Uint8Array
  /** The sorted state keys the block wrote, encoded. */
  readonly changes: Uint8Array
  readonly certificate: Uint8Array
  readonly leaves: Iterable<readonly [StateKey, Uint8Array]>
  /** Ids in order of execution; each slot once. */
  readonly replay: Iterable<{ readonly slot: number; readonly ids: Uint8Array }>
  readonly history: Uint8Array
  /** Changes of the consenters up to here that were not stored yet. */
  readonly handovers: readonly HandoverRow[]
}

export interface SnapshotWrite {
  readonly meta: SnapshotMeta
  readonly state: SnapshotState
}

/** One persist effect of Raft. Atomic and durable: snapshot, cut, append, hard state. */
export interface LogWrite {
  /** Takes the place of the state and of the whole log, before anything else of this write. */
  readonly snapshot?: SnapshotWrite
  /** Cut every entry above this index before appending. */
  readonly truncateAfter?: number
  /** Contiguous, and contiguous with what remains of the log. */
  readonly entries: readonly Entry[]
  readonly hardState?: HardState
}

/** A transaction as the two indexes see it. */
export interface TransactionRow {
  readonly id: TransactionId
  /** Place in the block. Duplicates and transactions that nobody signed have no row, so places may be missing. */
  readonly index: number
  /** Kind number of its body. */
  readonly kind: number
  /** Devices whose history lists it: the signer and whom it is about. */
  readonly devices: readonly DeviceId[]
}

/** What a consenter has promised with a signature: this hash and no other at this height of this incarnation. */
export interface SignedHeader {
  readonly incarnation: number
  readonly height: Height
  readonly headerHash: Hash
}

/** The signature of such a promise, which whoever holds the key can judge. */
export interface HeaderSignature extends SignedHeader {
  readonly signature: Uint8Array
}

/** A follower's word that its log is on disk up to `index`, given in `term`: only the follower can judge `mac`, 32 bytes. */
export interface Acknowledgement {
  readonly term: number
  readonly index: number
  readonly mac: Uint8Array
}

type AppendResponse = Extract<Message, { type: 'append-response' }>
/** A Raft message as it travels: an answer to an append may carry its sender's word (acknowledgements.ts). */
export type RaftMessage =
  | Exclude<Message, AppendResponse>
  | (AppendResponse & { readonly mac: Uint8Array | undefined })

/**
 * What a block took the place of: with it the state below can be had again, as long as the block has no certificate. A
 * node that starts again with such blocks could otherwise offer its state to nobody (chain-recovery.ts).
 */
export interface BlockUndo {
  /** In force at the block's place in the log, which its header names. A node may start with entries behind it that made no block. */
  readonly configuration: Configuration
  /** In force at the place of the block below. */
  readonly configurationBelow: Configuration
  /** Earlier values of the leaves that the block wrote; undefined where there was none. */
  readonly leaves: readonly { readonly key: StateKey; readonly value: Uint8Array | undefined }[]
  /** Frontier of the history tree before this block. */
  readonly history: Uint8Array
}

/** A change of the consenters at a height, encoded (handovers.ts). */
export interface HandoverRow {
  readonly height: Height
  readonly record: Uint8Array
}

/** Everything one executed block leaves behind. */
export interface BlockWrite {
  readonly height: Height
  readonly headerHash: Hash
  readonly header: Uint8Array
  /** The sorted state keys the block wrote, encoded (`changesHash` covers them). */
  readonly changes: Uint8Array
  /** The proposal with its transactions. */
  readonly block: Uint8Array
  readonly receipts: Uint8Array
  /** In execution order. */
  readonly transactions: readonly TransactionRow[]
  /** New values of state leaves; null removes. */
  readonly leaves: ReadonlyMap<StateKey, Uint8Array | null>
  /** Ids executed, by expiry slot (seconds), in execution order: bytes the ledger restores its replay slots from. */
  readonly replay: ReadonlyMap<number, Uint8Array>
  /** Slots below this one are over and may be forgotten. */
  readonly replayFloor: number
  /** Frontier of the history tree after this block. */
  readonly history: Uint8Array
  /** Of a handover block: the set that signs what follows, encoded. */
  readonly handover?: Uint8Array
  /** Recorded in the same durable write when this node will sign the header. */
  readonly signed?: SignedHeader
  /** Kept until it is below `undoFloor` of a later block. */
  readonly undo?: BlockUndo
  readonly undoFloor?: Height
}

/** Blocks executed from committed entries, written atomically with the Raft index they brought the node to. */
export interface ApplyWrite {
  /** Raft index applied after this write; entries without a block (no-op, configuration) move it too. */
  readonly applied: number
  /** The configuration in force at `applied`, when it changed. */
  readonly configuration?: Configuration
  readonly blocks: readonly BlockWrite[]
}

/** What a node starts from. Entries are all those after `applied`; `before` is the index and term of `applied`. */
export interface RecoveredNode {
  readonly hardState: HardState
  readonly snapshot: SnapshotMeta
  readonly configuration: Configuration
  readonly applied: number
  readonly before: { readonly index: number; readonly term: number }
  readonly entries: readonly Entry[]
  /** Height of the last executed block (0: genesis alone). */
  readonly height: Height
  readonly history: Uint8Array
}

/** What a directory that was emptied after damage still promises (rebuild.ts). */
export interface Rebuilding {
  /** The node may have acknowledged its log up to here: it votes for nobody before it has applied that. */
  readonly upTo: number
  readonly hardState: HardState
}

/** Where a transaction was executed. */
export interface TransactionPlace {
  readonly height: Height
  readonly index: number
}

export interface DeviceTransactionRow extends TransactionPlace {
  readonly id: TransactionId
  readonly kind: number
}

export type EntriesRead =
  | {
      readonly type: 'entries'
      readonly before: { readonly index: number; readonly term: number }
      readonly entries: readonly Entry[]
    }
  /** The range starts at or below the snapshot's last index. */
  | { readonly type: 'compacted'; readonly snapshot: SnapshotMeta }

export interface Storage {
  /** What was durable, checked; undefined in a fresh directory. Call once, before any write. */
  recover(): Promise<RecoveredNode | undefined>
  /** Whether, and up to where, the log of this directory is being fetched again from peers. */
  rebuilding(): Promise<Rebuilding | undefined>
  /** First write of a fresh directory: bootstrap configuration and the genesis block (height 0). Durable. */
  initialise(genesis: { readonly configuration: Configuration; readonly block: BlockWrite }): Promise<void>

  /** One Raft persist. Durable and atomic. */
  persist(write: LogWrite): Promise<void>
  /**
   * Entries `from`..`to` (inclusive), cut so that their data stays within `maxBytes` (always at least one), and
   * the index and term ahead of them.
   */
  readEntries(range: {
    readonly from: number
    readonly to: number
    readonly maxBytes: number
  }): Promise<EntriesRead>
  /** Forget log entries up to the snapshot's last index, if they are there. Only what is applied may be forgotten. Durable. */
  compact(snapshot: SnapshotMeta): Promise<void>

  /** Atomic and durable. A `signed` record that contradicts an earlier one rejects the whole write with `execution-diverged`. */
  apply(write: ApplyWrite): Promise<void>
  /** Durable before the signature leaves. Another hash at that height and incarnation: `execution-diverged`. */
  recordSigned(signed: SignedHeader): Promise<void>
  signedHeader(at: Pick<SignedHeader, 'incarnation' | 'height'>): Promise<SignedHeader | undefined>
  /**
   * Readable at once, on disk with the next write or at the end: a lost certificate is fetched or collected again, and what
   * counts on it (`compact`) is a later write. A disk that refuses says so to that write.
   */
  putCertificate(height: Height, certificate: Uint8Array): void
  /** The same for a handover whose header has both certificates. */
  putHandover(handover: HandoverRow): Promise<void>

  /** Puts what is kept in place of blocks and receipts, and `reclaims` the room. Atomic; a crash may undo the last ones. */
  forget(blocks: readonly (readonly [Height, kept: Uint8Array])[], reclaims: boolean): Promise<void>
  header(height: Height): Promise<Uint8Array | undefined>
  changes(height: Height): Promise<Uint8Array | undefined>
  block(height: Height): Promise<Uint8Array | undefined>
  receipts(height: Height): Promise<Uint8Array | undefined>
  /** What was kept of a block that was forgotten. */
  forgotten(height: Height): Promise<Uint8Array | undefined>
  /** The lowest height from `height` on whose block is here. */
  blockAtOrAbove(height: Height): Promise<Height | undefined>
  certificate(height: Height): Promise<Uint8Array | undefined>
  undo(height: Height): Promise<BlockUndo | undefined>
  /** The highest one. */
  latestCertificate(): Promise<{ readonly height: Height; readonly certificate: Uint8Array } | undefined>
  /** Every change of the consenters, by height. */
  handovers(): AsyncIterable<HandoverRow>
  transaction(id: TransactionId): Promise<TransactionPlace | undefined>
  /** Newest first, below `before` if given. */
  deviceTransactions(
    id: DeviceId,
    limit: number,
    before?: TransactionPlace,
  ): Promise<readonly DeviceTransactionRow[]>
  /** Every state leaf, in key order. */
  leaves(): AsyncIterable<readonly [StateKey, Uint8Array]>
  /** Replay records from slot `from` on, by slot, then by height. */
  replay(
    from: number,
  ): AsyncIterable<{ readonly slot: number; readonly height: Height; readonly ids: Uint8Array }>

  /** Finishes queued writes, then releases the directory. Later calls reject with `not-ready`. */
  close(): Promise<void>
}

/* ---------------------------------------------------------------- values of consensus/ that travel and are stored */

export const nodeId = text(64)
const members = list(nodeId, 128)

export const configurationCodec: Codec<Configuration> = struct({
  voters: members,
  votersOutgoing: members,
  learners: members,
})
export const snapshotCodec: Codec<SnapshotMeta> = struct({
  lastIncludedIndex: uint(),
  lastIncludedTerm: uint(),
  configuration: configurationCodec,
})

/* ---------------------------------------------------------------- network */

/** One consenter's signature over a header; `from` is the peer it came from. */
export interface SignatureMessage {
  readonly incarnation: number
  readonly height: Height
  readonly term: Term
  readonly headerHash: Hash
  readonly signature: Uint8Array
}

/** A clock, as it is shown to the other members. */
export interface ClockSample {
  readonly id: DeviceId
  /** What it showed. */
  readonly wall: Milliseconds
  /** How long ago that was; 0 for the sender's own. */
  readonly ageMs: number
}

/** What travels on long-lived streams: fire and forget, in order per peer and kind. */
export type PeerMessage =
  /** The transport fills in `from` on arrival; on the wire it does not exist. */
  | { readonly type: 'raft'; readonly message: RaftMessage }
  | { readonly type: 'signatures'; readonly signatures: readonly SignatureMessage[] }
  /** Clocks: the sender's own, and what it has heard of other voters'. */
  | { readonly type: 'clocks'; readonly samples: readonly ClockSample[] }
  /** Signed transactions that a full node took in, to the leader. */
  | { readonly type: 'transactions'; readonly transactions: readonly Uint8Array[] }
  /** The leader's answer for those of them that it did not take. */
  | { readonly type: 'refusals'; readonly refusals: readonly TransactionRefusal[] }

/** Why a forwarded transaction was not taken. `code` is the peer's text until it is looked up. */
export interface TransactionRefusal {
  readonly id: TransactionId
  readonly code: string
  readonly detail: string
}

/** Protocols of one request and one answer each. */
export type RequestProtocol = 'query' | 'join' | 'registry' | 'member'

/** Who asks. Before its hello has passed, a peer is a bare address. */
export interface Caller {
  /** Proven by hello, and its record is known to stand; undefined before. */
  readonly deviceId: DeviceId | undefined
  /** An identity was proven, and whether its record still stands is not known yet. */
  readonly isProven: boolean
  readonly remoteAddress: string
  /** Takes this much out of what the caller may ask (request-table.ts). Throws `rate-limited`. */
  charge(cost: number): void
}

/** A request on its way; requests.ts makes it from its row. */
export interface OutgoingRequest {
  readonly protocol: RequestProtocol
  readonly body: Uint8Array
  /** Whether the answer may be taken of a peer whose record is not known to stand: `not-ready` otherwise. */
  readonly of: 'anyone' | 'confirmed'
}

/**
 * Answers one request. A thrown `MoteError` travels to the asker as a typed refusal; anything else becomes `internal`.
 * Who may ask what, requests.ts decides.
 */
export type RequestHandler = (caller: Caller, body: Uint8Array) => Promise<Uint8Array>

export interface NetworkEvents {
  /** Called synchronously in order of arrival, from proven peers only. Must not throw. */
  message(from: DeviceId, message: PeerMessage): void
  /**
   * Messages to this peer were dropped: no connection, a lost stream, a full queue. At most once per loss; Raft
   * is to probe again.
   */
  unreachable(peer: DeviceId): void
  /** The first proven connection came, or the last one went. */
  peer(peer: DeviceId, state: 'connected' | 'disconnected'): void
  /** False of a voter, whose messages and member requests have no quota: Raft itself limits them. True of all others. */
  isCounted(peer: DeviceId): boolean
}

/** A peer one wants to be connected to; the network dials it again and again until it is forgotten. */
export interface PeerAddress {
  readonly id: DeviceId
  /** Multiaddr, `/ip4/127.0.0.1/tcp/4001`, with or without `/p2p/…`. */
  readonly address: string
}

export interface PeerStatus {
  readonly id: DeviceId
  readonly state: 'connected' | 'disconnected'
  readonly address: string | undefined
}

export interface Network {
  start(events: NetworkEvents): Promise<void>
  /**
   * Leaves at the end of this turn of the event loop. Never blocks, never throws. What cannot be queued is dropped and reported
   * as `unreachable`. What leaves `soon` waits a moment for another message to the same peer, and travels with it.
   */
  send(to: DeviceId, message: PeerMessage, leaves?: 'now' | 'soon'): void
  /** What was sent leaves at once: for who goes on to compute while others wait for it. */
  flush(): void
  /**
   * One request to a connected or configured peer.
   * Throws `unreachable`, `timeout`, or the refusal the peer answered with.
   */
  request(to: DeviceId, request: OutgoingRequest, timeoutMs: number): Promise<Uint8Array>
  /** Set once per protocol, before `start`. */
  handle(protocol: RequestProtocol, handler: RequestHandler): void
  /** Keep connected to this peer (an address already kept for the id is replaced). */
  keep(peer: PeerAddress): void
  forget(id: DeviceId): void
  /** The record of this device may have changed: judge its open connections again, close what no longer passes. */
  recheck(id: DeviceId): void
  peers(): readonly PeerStatus[]
  /** Where this node listens, with its peer id. */
  addresses(): readonly string[]
  stop(): Promise<void>
}

/* ---------------------------------------------------------------- log */

/** What the node tells whoever runs it. The shape of a pino logger. */
export interface NodeLog {
  info(detail: object, message: string): void
  error(detail: object, message: string): void
}
