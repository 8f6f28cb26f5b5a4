/** Names of contracts on this machine: the name of each contract that was deployed from here, for its newest version. */
import { join } from 'node:path'
import { ContractAddress, isDigest } from '../chain/brands.ts'
import { MoteError } from '../chain/result.ts'
import { readFileIfThere, writeFileAtomic } from '../client/atomic-file.ts'

const namesFile = (directory: string): string => join(directory, 'contracts.json')

async function readContractNames(directory: string): Promise<Record<string, string>> {
  const content = await readFileIfThere(namesFile(directory))
  return content ? (JSON.parse(Buffer.from(content).toString('utf8')) as Record<string, string>) : {}
}

export async function rememberContract(
  directory: string,
  name: string,
  address: ContractAddress,
): Promise<void> {
  const names = { ...(await readContractNames(directory)), [name]: address }
  await writeFileAtomic(namesFile(directory), `${JSON.stringify(names, undefined, 2)}\n`)
}

/** The address of a contract that was deployed from here, or is written out. Throws `not-found`. */
export async function requireContract(directory: string, nameOrAddress: string): Promise<ContractAddress> {
  if (isDigest(nameOrAddress)) return ContractAddress(nameOrAddress)
  const known = new Map(Object.entries(await readContractNames(directory))).get(nameOrAddress)
  if (known !== undefined) return ContractAddress(known)
  throw new MoteError(
    'not-found',
    `contract: '${nameOrAddress}' is no name here and no address of 64 hexadecimal characters`,
  )
}
