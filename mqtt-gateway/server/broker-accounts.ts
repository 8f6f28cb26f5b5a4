/** The port to the accounts of a broker that others wrote. Mosquitto's dynamic-security plugin is one adapter (mosquitto-accounts.ts). */
import type { DeviceId } from '../../chain/brands.ts'

/** The account of a device: it may publish to its own topics and receive its own, which the broker's rules say for all accounts. */
export interface BrokerAccount {
  readonly device: DeviceId
  /** Undefined: none is taken, and a client certificate alone opens it. */
  readonly password: string | undefined
  /** Filters of what else it may receive, by its rights. */
  readonly receives: readonly string[]
  /** Changes with anything of the account; at most 128 characters, and no secret. */
  readonly note: string
}

export interface BrokerAccounts {
  /** Calls `onOpen` each time that the broker can be asked. Resolves at the first time. Rejects with `interrupted` when it is closed first. */
  open(onOpen: () => void): Promise<void>
  /** The accounts of devices that there are, each with its note. Throws `unreachable`. */
  list(): Promise<ReadonlyMap<DeviceId, string>>
  /** Makes or replaces accounts, and ends the connections of those that it replaces. Throws `unreachable`. */
  put(accounts: readonly BrokerAccount[]): Promise<void>
  /** Removes accounts, and ends their connections. Nothing happens for one that is not there. Throws `unreachable`. */
  remove(devices: readonly DeviceId[]): Promise<void>
  /** Ends the connections of an account, which stays. Throws `unreachable`. */
  cut(device: DeviceId): Promise<void>
  close(): Promise<void>
}
