/** Reads a contract's file: JSON of at most 256 KiB (chain/contracts/document.ts). */
import { readFile } from 'node:fs/promises'
import { maxContractFileBytes } from '../chain/contracts/contract-limits.ts'
import { MoteError } from '../chain/result.ts'
import { statFile } from './given-file.ts'

/** What the file holds. Throws `not-found`, `too-large`, `contract-invalid` for what is no JSON. */
export async function readContractFile(file: string): Promise<unknown> {
  const found = await statFile(file, maxContractFileBytes)
  if (!found.isFile()) throw new MoteError('not-found', `${file}: expected a file`)
  try {
    return JSON.parse(await readFile(file, 'utf8'))
  } catch (cause) {
    throw new MoteError('contract-invalid', `${file}: expected JSON, got ${String(cause)}`, { cause })
  }
}
