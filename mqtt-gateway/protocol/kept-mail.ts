/**
 * What a device publishes to `mote/1/got/<device>` about a message that was kept for it: that it has accepted it durably, or will never
 * take it (docs/FORMATS.md, "Kept messages"). The gateway forgets the message for this device then, and not before.
 */
import type { Hash } from '../../chain/brands.ts'
import { constant, decode, digest, encode, struct } from '../../chain/codec.ts'
import type { Result } from '../../chain/result.ts'

const formatVersion = 1 as const
/** Largest encoded acknowledgement, in bytes. */
const maxAcknowledgementBytes = 64

const acknowledgementCodec = struct<{ version: typeof formatVersion; messageId: Hash }>({
  version: constant(formatVersion),
  messageId: digest<Hash>(),
})

/** The acknowledgement of one message. */
export function encodeAcknowledgement(messageId: Hash): Uint8Array {
  return encode(acknowledgementCodec, { version: formatVersion, messageId })
}

/** Which message is acknowledged. Refuses `too-large`, `malformed`. */
export function parseAcknowledgement(wire: Uint8Array): Result<{ readonly messageId: Hash }> {
  return decode(acknowledgementCodec, wire, maxAcknowledgementBytes)
}
