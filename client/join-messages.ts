/**
 * What a newcomer and a coordination node say to each other: the same bytes over libp2p (`/mote/join/1`) and as the
 * body of `POST /v1/join` (docs/FORMATS.md, section Join messages). A refusal is not a message here: libp2p and HTTP
 * each have a form of their own for it.
 *
 * None of it is secret and none of it admits anybody: that is what the register transaction does, which the newcomer
 * signs, whose grant it proves with the token key, and which the full nodes execute.
 */
import type { ChainId, DeviceId, Height, Milliseconds } from '../chain/brands.ts'
import {
  bytes,
  type Codec,
  constant,
  digest,
  list,
  optional,
  struct,
  text,
  uint,
  union,
} from '../chain/codec.ts'
import { maxTransactionBytes } from '../chain/limits.ts'

/** Largest join message, either way. */
export const maxJoinMessageBytes = 32 * 1024

/** Where a full node is reached. Advice: what it answers is verified. */
export interface NodeAddress {
  readonly id: DeviceId
  /** Base URL of its HTTP API; may be empty. */
  readonly api: string
  /** Multiaddrs. */
  readonly addresses: readonly string[]
  /** The same, signed by the node itself (coordination-address.ts); who dials it unasked goes by this alone. */
  readonly signed?: Uint8Array | undefined
}

/** Which full node serves a lightweight node, and who takes over, in order (Qiu A3, A4). */
export interface Assignment {
  readonly fullNode: NodeAddress
  readonly backups: readonly NodeAddress[]
}

export type JoinRequest =
  /** Asks for a challenge. */
  | { readonly type: 'challenge'; readonly chainId: ChainId; readonly device: DeviceId }
  /** One signed `identity.register` transaction that carries the challenge. */
  | { readonly type: 'register'; readonly transaction: Uint8Array }
  /** Asks which full node serves an active device. */
  | { readonly type: 'assignment'; readonly device: DeviceId }

export type JoinReply =
  | {
      readonly type: 'challenge'
      readonly coordinator: DeviceId
      /** 16 bytes. */
      readonly nonce: Uint8Array
      /** Time of the newest certified header the coordination node knows, so that a newcomer needs no clock. */
      readonly issuedAt: Milliseconds
      /** Milliseconds for which the challenge is good, once. */
      readonly lifetimeMs: number
    }
  | { readonly type: 'registered'; readonly height: Height; readonly assignment: Assignment }
  | { readonly type: 'assignment'; readonly assignment: Assignment }

const version = constant(1)

/** Every message begins with its format version. */
function versioned<T>(message: Codec<T>): Codec<T> {
  const codec = struct<{ version: 1; message: T }>({ version, message })
  return {
    toWire: value => codec.toWire({ version: 1, message: value }),
    fromWire: (wire, path) => codec.fromWire(wire, path).message,
  }
}

/** One signed address. */
export const maxAddressBytes = 4 * 1024
const maxAddresses = 8
const maxBackups = 7

const nodeAddressCodec: Codec<NodeAddress> = struct<NodeAddress>({
  id: digest<DeviceId>(),
  api: text(256, /^(https?:\/\/[!-~]*)?$/),
  addresses: list(text(256, /^[!-~]*$/), maxAddresses),
  signed: optional(bytes(1, maxAddressBytes)),
})

export const assignmentCodec: Codec<Assignment> = struct<Assignment>({
  fullNode: nodeAddressCodec,
  backups: list(nodeAddressCodec, maxBackups),
})

export const joinRequestCodec: Codec<JoinRequest> = versioned(
  union<JoinRequest>({
    challenge: [1, struct({ chainId: digest<ChainId>(), device: digest<DeviceId>() })],
    register: [2, struct({ transaction: bytes(1, maxTransactionBytes) })],
    assignment: [3, struct({ device: digest<DeviceId>() })],
  }),
)

export const joinReplyCodec: Codec<JoinReply> = versioned(
  union<JoinReply>({
    challenge: [
      1,
      struct({
        coordinator: digest<DeviceId>(),
        nonce: bytes(16),
        issuedAt: uint<Milliseconds>(),
        lifetimeMs: uint(0xffff_ffff),
      }),
    ],
    registered: [2, struct({ height: uint<Height>(), assignment: assignmentCodec })],
    assignment: [3, struct({ assignment: assignmentCodec })],
  }),
)
