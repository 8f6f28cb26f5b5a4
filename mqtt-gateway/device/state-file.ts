/** One JSON file of what a device remembers: version 1 and objects, written whole (0600). */
import { MoteError } from '../../chain/result.ts'
import { readFileIfThere, writeFileAtomic } from '../../client/atomic-file.ts'

/** A file of a device has no copy elsewhere. */
const wayOut = 'put a good copy back; without the file this device starts afresh'

/** What is in the file; `empty` if there is none. Throws `storage-corrupt`, with the path. */
export async function readStateFile<File extends object>(path: string, empty: File): Promise<File> {
  const content = await readFileIfThere(path)
  if (!content) return empty
  try {
    const file = JSON.parse(Buffer.from(content).toString('utf8')) as File & { version?: unknown }
    if (file?.version === 1 && hasFieldsOf(file, empty)) return file
  } catch (cause) {
    throw new MoteError('storage-corrupt', `${path}: expected JSON; ${wayOut}`, { cause })
  }
  const fields = Object.keys(empty).join(', ')
  throw new MoteError('storage-corrupt', `${path}: expected version 1 and ${fields}; ${wayOut}`)
}

/** Durable when it resolves. Throws `storage-failed`. */
export async function writeStateFile(path: string, file: object): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify({ version: 1, ...file })}\n`)
}

/** Whether each field of `empty`, all of which are objects, is an object in what was read. */
function hasFieldsOf(file: object, empty: object): boolean {
  const fields = new Map<string, unknown>(Object.entries(file))
  return Object.keys(empty).every(name => {
    const value = fields.get(name)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
  })
}
