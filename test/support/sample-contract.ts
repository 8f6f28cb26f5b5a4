/** Contracts of tests, from their documents. */
import { type Contract, encodedContract } from '../../chain/contracts/contract.ts'
import { contractOfDocument } from '../../chain/contracts/document.ts'
import { unwrap } from '../../chain/result.ts'

/** The smallest contract as a document, with what a test adds. */
export function sampleDocument(more: object = {}): object {
  return { name: 'sample', version: 1, decide: [{ say: 'done' }], ...more }
}

export function sampleContract(more: object = {}): Contract {
  return unwrap(contractOfDocument(sampleDocument(more)))
}

/** A contract as it is deployed, and the address that it has then. */
export function deployable(document: object): ReturnType<typeof encodedContract> {
  return encodedContract(sampleContract(document))
}
