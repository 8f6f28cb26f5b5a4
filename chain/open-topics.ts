/**
 * What makes a group an open topic (Hsu-Lu B4; docs/FORMATS.md, "Open topics"): who may publish, and the public key of its epoch.
 */
import type { GroupId } from './brands.ts'
import { bytes, type Codec, digest, optional, struct } from './codec.ts'
import type { EncryptionKey } from './keys.ts'

/** As a topic is made. */
export interface TopicOpening {
  /** The group whose members may publish; undefined: every active device. */
  readonly publishers: GroupId | undefined
}

/** As a group's record has it. */
export interface TopicRecord extends TopicOpening {
  /** X25519, 32 bytes, of the current epoch; undefined before there is one. */
  readonly key: Uint8Array | undefined
}

const publishers = optional(digest<GroupId>())
export const topicKeyCodec: Codec<Uint8Array> = bytes(32)
export const topicOpeningCodec: Codec<TopicOpening> = struct<TopicOpening>({ publishers })
export const topicRecordCodec: Codec<TopicRecord> = struct<TopicRecord>({
  publishers,
  key: optional(topicKeyCodec),
})

/** The key that messages to an open topic are sealed to now; undefined for a group, and for a topic that has none yet. */
export function topicKeyOf({
  topic,
}: {
  readonly topic: TopicRecord | undefined
}): EncryptionKey | undefined {
  return topic?.key && { suite: 'x25519', bytes: topic.key }
}
