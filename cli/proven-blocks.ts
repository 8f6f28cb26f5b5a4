/** Blocks and the places of transactions in them, proven from the genesis on, from the first full node that has them. */
import { type Block, blockCodec } from '../chain/block.ts'
import { type Height, isDigest, TransactionId } from '../chain/brands.ts'
import { type Codec, decode } from '../chain/codec.ts'
import { MoteError } from '../chain/result.ts'
import { type ProvenBlock, type ProvenBlockLeaves, proveBlock, proveLeaves } from '../client/block-proof.ts'
import type { ChainSource } from '../client/chain-source.ts'
import { exchange } from '../client/http-source.ts'
import { nativeVerifier } from '../client/native-crypto.ts'
import type { ChainAccess } from '../devnet/access.ts'

/** Throws `usage`. */
export function transactionIdOf(text: string): TransactionId {
  if (isDigest(text)) return TransactionId(text)
  throw new MoteError('usage', `id: expected 64 hexadecimal characters, got '${text}'`)
}

/** Longest wait for one block; it may be of some megabytes. */
const blockTimeoutMs = 10_000
/** What a block may take on the wire; a larger answer is not read (client/http-source.ts). */
const maxBlockAnswerBytes = 8 * 1024 * 1024

/** A block with the proof that a quorum certified it, from the first full node that has one. */
export function provenBlock({ client, checkpoint }: ChainAccess, height: Height): Promise<ProvenBlock> {
  return client.pool.attempt(async source => {
    const block = await askBlock(source, `/v1/blocks/${height}/content`, blockCodec)
    if (block?.header.height !== height)
      throw new MoteError('bad-proof', `${source.name}: expected block ${height}`)
    return proveBlock(source, { checkpoint, verifier: nativeVerifier }, block)
  })
}

/** The leaf hashes of a block, proven, from the first full node that has them: also where the block itself is forgotten. */
export function provenLeaves(
  { client, checkpoint }: ChainAccess,
  height: Height,
): Promise<ProvenBlockLeaves> {
  return client.pool.attempt(async source => {
    const leaves = await source.blockLeaves?.(height)
    if (!leaves) throw new MoteError('height-not-available', `${source.name}: passes no leaf hashes on`)
    return proveLeaves(source, { checkpoint, verifier: nativeVerifier }, { height, leaves })
  })
}

/** Undefined for an answer of another form. Throws `height-not-available`, and `forgotten` where the node has forgotten the block. */
async function askBlock<T>({ name }: ChainSource, path: string, codec: Codec<T>): Promise<T | undefined> {
  const { body } = await exchange(name, { path, timeoutMs: blockTimeoutMs, signal: undefined }).catch(
    (error: unknown) => {
      // After a snapshot a node lacks the blocks that it skipped: another one has them.
      if (error instanceof MoteError && error.code === 'not-found')
        throw new MoteError('height-not-available', `${name}: ${error.detail}`)
      throw error
    },
  )
  const read = decode(codec, body, maxBlockAnswerBytes)
  return read.ok ? read.value : undefined
}

/** The block of a transaction, by the first full node that knows one: after a snapshot some do not. Throws `not-found`. */
export async function heightOf({ client }: ChainAccess, id: TransactionId): Promise<Height> {
  try {
    return await client.pool.attempt(async source => {
      const { height, status } = await source.transactionStatus(id)
      if (height !== undefined) return height
      throw new MoteError('height-not-available', `transaction ${id}: ${status}, in no block`)
    })
  } catch (error) {
    if (error instanceof MoteError && error.code === 'height-not-available')
      throw new MoteError('not-found', error.detail)
    throw error
  }
}

/** Where the transaction stands; if it stands there twice, the second receipt only says that it had been executed. */
export function indexOf({ receipts }: Block, id: TransactionId): number {
  const first = receipts.findIndex(receipt => receipt.id === id && receipt.code !== 'duplicate')
  return first >= 0 ? first : receipts.findIndex(receipt => receipt.id === id)
}
