/** Contracts of tests, from their documents. */
import { encodedContract } from '../../chain/contracts/contract.ts'
import { contractOfDocument } from '../../chain/contracts/document.ts'
import { unwrap } from '../../chain/result.ts'

/** A contract as it is deployed, and the address that it has then. */
export function deployable(document: object): ReturnType<typeof encodedContract> {
  return encodedContract(unwrap(contractOfDocument({ version: 1, ...document })))
}
