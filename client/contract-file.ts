/** Reads a contract's file: JSON of at most 256 KiB (chain/contracts/document.ts). */
import { readFile } from 'node:fs/promises'
import { maxContractFileBytes } from '../chain/contracts/contract-limits.ts'
import { MoteError } from '../chain/result.ts'
import { statFile } from './given-file.ts'
import { nameTwice } from './json-members.ts'

/** What the file holds. Throws `not-found`, `too-large`, `contract-invalid` for what is no JSON, or has a name twice in one object. */
export async function readContractFile(file: string): Promise<unknown> {
  const found = await statFile(file, maxContractFileBytes)
  if (!found.isFile()) throw new MoteError('not-found', `${file}: expected a file`)
  const text = await readFile(file, 'utf8')
  const document = parsed(file, text)
  const twice = nameTwice(text)
  if (twice !== undefined)
    throw new MoteError(
      'contract-invalid',
      `${file}: expected each name once in an object, got '${twice.slice(0, 64).replace(/[^ -~]/g, '?')}' twice`,
    )
  return document
}

function parsed(file: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new MoteError('contract-invalid', `${file}: expected JSON, got ${String(cause)}`, { cause })
  }
}
