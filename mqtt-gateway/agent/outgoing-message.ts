/**
 * A message that an application has handed over, as the outbox keeps it: what it is, whom it is for, and what counts as delivered. Whatever
 * can be refused without asking anybody is refused here, before anything is kept.
 */
import type { Hash, Milliseconds } from '../../chain/brands.ts'
import { bytes, constant, digest, encode, oneOf, optional, struct, uint } from '../../chain/codec.ts'
import { MoteError, type Refusal } from '../../chain/result.ts'
import { type Recipient, recipientCodec } from '../device/message-sealing.ts'
import { maxChunks, maxTransferBytes, transferIdBytes } from '../protocol/content.ts'
import { channelCodec, type EncodedEnvelope, maxEnvelopeBytes, maxKeepMs } from '../protocol/envelope.ts'
import { askingChannel, isReservedChannel } from './confirmations.ts'

/** Shortest time to keep a message: an envelope is good for as long in any case. */
export const minKeepMs = 60_000

/** What counts as delivered. */
export type Delivery = 'relayed' | 'received'

export interface OutboxMessage {
  readonly to: Recipient
  readonly content: Uint8Array
  readonly channel: string
  readonly delivery: Delivery
  /** How long the gateway keeps it for who is away, once it has it; at most `maxKeepMs`. Not kept by default. */
  readonly keepMs?: number | undefined
}

export interface SealedBytes extends EncodedEnvelope {
  readonly expiry: Milliseconds
}

export const formatVersion = 3 as const

export interface StoredMessage extends Required<OutboxMessage> {
  readonly version: typeof formatVersion
}

export const messageCodec = struct<StoredMessage>({
  version: constant(formatVersion),
  to: recipientCodec,
  content: bytes(0, maxTransferBytes),
  channel: channelCodec,
  delivery: oneOf<Delivery>({ relayed: 1, received: 2 }),
  keepMs: optional(uint(maxKeepMs)),
})

/** How far a message has come that is relayed, beside it on the disk: the same bytes are sent again until there is a verdict on them. */
export interface SendingProgress {
  readonly version: typeof formatVersion
  /** The name of its transfer, if it goes in chunks, and which of them these bytes are. */
  readonly transfer: Uint8Array
  readonly index: number
  readonly sealed: SealedBytes
}

export const sendingProgressCodec = struct<SendingProgress>({
  version: constant(formatVersion),
  transfer: bytes(transferIdBytes),
  index: uint(maxChunks - 1),
  sealed: struct<SealedBytes>({
    bytes: bytes(1, maxEnvelopeBytes),
    messageId: digest<Hash>(),
    expiry: uint<Milliseconds>(),
  }),
})
/** A progress and its sealed bytes. */
export const maxProgressBytes = 1026 * 1024

/** What no outbox takes. `malformed`, `too-large`. */
export function flawOf({ to, content, channel, delivery, keepMs }: OutboxMessage): Refusal | undefined {
  if (content.length > maxTransferBytes)
    return {
      code: 'too-large',
      detail: `content: expected at most ${maxTransferBytes} bytes, got ${content.length}`,
    }
  if (isReservedChannel(channel)) return { code: 'malformed', detail: `channel: '${channel}' is reserved` }
  if (delivery === 'received' && to.type !== 'device')
    return { code: 'malformed', detail: `delivery: expected relayed for a ${to.type}, got received` }
  if (keepMs !== undefined && delivery === 'received')
    return {
      code: 'malformed',
      detail: 'keep: expected relayed with it: one that waits for its recipient to confirm waits here',
    }
  if (keepMs !== undefined && (keepMs < minKeepMs || keepMs > maxKeepMs))
    return { code: 'malformed', detail: `keep: expected ${minKeepMs} to ${maxKeepMs} ms, got ${keepMs}` }
  try {
    encode(
      channelCodec,
      delivery === 'received' ? askingChannel({ stream: '00000000', sequence: 0 }, channel) : channel,
    )
    return undefined
  } catch (error) {
    return error instanceof MoteError
      ? error
      : {
          code: 'malformed',
          detail: 'channel: expected levels of letters, digits, . _ or -, 64 characters at most',
        }
  }
}
