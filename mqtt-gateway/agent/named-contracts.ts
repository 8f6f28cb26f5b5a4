/**
 * The contracts that an agent's configuration names, by file or by address. A file is read once, when the agent starts. What is named by an address is
 * fetched with its proof when it is needed first, and kept for the life of the process: an address is the hash of a contract, which never changes.
 */
import type { ContractAddress, DeviceId } from '../../chain/brands.ts'
import { type Contract, encodedContract } from '../../chain/contracts/contract.ts'
import { contractOfDocument } from '../../chain/contracts/document.ts'
import { MoteError, type Result } from '../../chain/result.ts'
import { readContractFile } from '../../client/contract-file.ts'
import type { AgentChain } from '../device/agent-chain.ts'

export type ContractName =
  | { readonly type: 'file'; readonly path: string }
  | { readonly type: 'address'; readonly address: ContractAddress }

export interface NamedContractsOptions {
  readonly chain: Pick<AgentChain, 'contract'>
  /** Names of devices on this machine. */
  readonly names: { device(nameOrId: string): Promise<DeviceId | undefined> }
}

export interface AddressedContract {
  readonly address: ContractAddress
  readonly contract: Contract
}

export class NamedContracts {
  readonly #options: NamedContractsOptions
  readonly #known = new Map<string, AddressedContract>()

  private constructor(options: NamedContractsOptions) {
    this.#options = options
  }

  /** Reads the files among these. Throws `not-found`, `too-large`, `contract-invalid` with the file. */
  static async open(names: readonly ContractName[], options: NamedContractsOptions): Promise<NamedContracts> {
    const contracts = new NamedContracts(options)
    for (const name of names) if (name.type === 'file') await contracts.get(name)
    return contracts
  }

  /** Throws `unknown-contract` for an address at which there is none, or a retired one; `unreachable` and `stale` when that cannot be known now. */
  async get(name: ContractName): Promise<AddressedContract> {
    const key = name.type === 'file' ? name.path : name.address
    const known = this.#known.get(key)
    if (known) return known
    const contract = name.type === 'file' ? await this.#read(name.path) : await this.#fetch(name.address)
    const found = { address: encodedContract(contract).address, contract }
    this.#known.set(key, found)
    return found
  }

  async #read(path: string): Promise<Contract> {
    const read = await this.#contractOf(await readContractFile(path))
    if (read.ok) return read.value
    throw new MoteError(read.error.code, `${path}: ${read.error.detail}`)
  }

  /** The names of devices in a file, at most as many as a contract has places for, are looked up as they are met. */
  async #contractOf(document: unknown): Promise<Result<Contract>> {
    const known = new Map<string, DeviceId | undefined>()
    for (;;) {
      let met: string | undefined
      const contract = contractOfDocument(document, name => {
        if (!known.has(name)) met = name
        return known.get(name)
      })
      if (met === undefined) return contract
      known.set(met, await this.#options.names.device(met))
    }
  }

  async #fetch(address: ContractAddress): Promise<Contract> {
    const { value } = await this.#options.chain.contract(address)
    if (value && value.retiredAt === undefined) return value.contract
    throw new MoteError('unknown-contract', `contract ${address}: ${value ? 'retired' : 'not on the chain'}`)
  }
}
