/** What a program has kept on a disk, read again. */
import { type Codec, decode } from '../chain/codec.ts'
import { MoteError } from '../chain/result.ts'

/**
 * The value in bytes that this program, or an earlier run of it, has written. Throws `storage-corrupt`.
 * @param name what it is, for whoever has to find it
 * @param maxBytes where more than a message of the wire may have been written (chain/codec.ts)
 */
export function decodeStored<T>(codec: Codec<T>, bytes: Uint8Array, name: string, maxBytes?: number): T {
  const read = decode(codec, bytes, maxBytes)
  if (read.ok) return read.value
  throw new MoteError('storage-corrupt', `${name}: ${read.error.detail}`)
}
