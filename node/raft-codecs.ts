/** Values of consensus/ that both travel and are stored. */
import { type Codec, list, struct, text, uint } from '../chain/codec.ts'
import type { Configuration, SnapshotMeta } from '../consensus/types.ts'

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
