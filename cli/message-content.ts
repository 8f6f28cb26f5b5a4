/** What `mote device send` sends and where `listen` puts it: text on the command line, a file, standard input; up to 16 MiB. */
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { MoteError } from '../chain/result.ts'
import { privateDirectory, writeFileAtomic } from '../client/atomic-file.ts'
import { statFile } from '../client/given-file.ts'
import { maxContentBytes, maxTransferBytes } from '../mqtt-gateway/protocol/content.ts'
import type { Output } from './output.ts'

/** The bytes of a file, or of standard input for `-`. Throws `too-large`, `not-found`. */
export async function readContent(file: string): Promise<Uint8Array> {
  if (file === '-') return readStream(process.stdin)
  await statFile(file, maxTransferBytes)
  const handle = await open(file)
  try {
    // A pipe has no size: what comes is counted.
    return await readStream(handle.createReadStream({ autoClose: false }))
  } finally {
    await handle.close()
  }
}

async function readStream(stream: AsyncIterable<Buffer | string>): Promise<Uint8Array> {
  const read: Buffer[] = []
  let length = 0
  for await (const chunk of stream) {
    const bytes = Buffer.from(chunk)
    read.push(bytes)
    length += bytes.length
    if (length > maxTransferBytes)
      throw new MoteError('too-large', `content: expected at most ${maxTransferBytes} bytes, got more`)
  }
  return Uint8Array.from(Buffer.concat(read))
}

/** Says on standard error how far a message in chunks is; of one that is sent at once nothing. */
export function chunkProgress(output: Output, content: Uint8Array): ((bytes: number) => void) | undefined {
  if (content.length <= maxContentBytes) return undefined
  const mebibytes = (bytes: number) => (bytes / 2 ** 20).toFixed(1)
  return bytes => output.note(`relayed ${mebibytes(bytes)} of ${mebibytes(content.length)} MiB`)
}

/** Writes a message into a directory of files, under its id; the path. The directory is made if it is not there. */
export async function writeContent(
  directory: string,
  messageId: string,
  content: Uint8Array,
): Promise<string> {
  await privateDirectory(directory)
  const file = join(directory, messageId)
  await writeFileAtomic(file, content)
  return file
}
