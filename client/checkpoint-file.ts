/** The head of a follower as it outlives the program: its bytes, and a store in one file, written atomically (client/atomic-file.ts). */
import type { Height } from '../chain/brands.ts'
import { type Codec, encode, optional, struct, uint } from '../chain/codec.ts'
import { type ConsenterSet, consenterSetCodec } from '../chain/consenters.ts'
import { type Header, headerCodec } from '../chain/header.ts'
import { checkpointOf, type TrustedHead } from '../chain/light-client.ts'
import { MoteError, unwrap } from '../chain/result.ts'
import { readFileIfThere, writeFileAtomic } from './atomic-file.ts'
import { decodeStored } from './stored-value.ts'

/** Where the head outlives the program. */
export interface CheckpointStore {
  load(): Promise<Uint8Array | undefined>
  save(checkpoint: Uint8Array): Promise<void>
}

export function checkpointFile(path: string): CheckpointStore {
  return {
    load: () => readFileIfThere(path),
    save: checkpoint => writeFileAtomic(path, checkpoint),
  }
}

interface StoredCheckpoint {
  readonly header: Header
  readonly consenters: ConsenterSet
  /** Without it, what other consenters certified below the newest handover would be judged by the set of now. */
  readonly handoverHeight: Height | undefined
}

const storedCheckpointCodec: Codec<StoredCheckpoint> = struct({
  header: headerCodec,
  consenters: consenterSetCodec,
  handoverHeight: optional(uint<Height>()),
})

/** What a store keeps of a head. */
export function bytesOfCheckpoint({ header, consenters, handoverHeight }: TrustedHead): Uint8Array {
  return encode(storedCheckpointCodec, { header, consenters, handoverHeight })
}

/** The stored head, or the given one if that is higher. Throws `storage-corrupt`, `wrong-chain`. */
export function restored(bytes: Uint8Array, given: TrustedHead): TrustedHead {
  const { header, consenters, handoverHeight } = decodeStored(storedCheckpointCodec, bytes, 'checkpoint')
  const head = unwrap(checkpointOf(header, consenters, handoverHeight))
  if (head.chainId !== given.chainId)
    throw new MoteError('wrong-chain', `checkpoint: expected chain ${given.chainId}, got ${head.chainId}`)
  return head.header.height > given.header.height ? head : given
}
