/**
 * The verified way to the chain of a devnet: its description names the nodes, the genesis is where trust starts, and
 * every answer is verified from there.
 */

import { checkpointFromGenesis } from '../chain/genesis.ts'
import type { TrustedHead } from '../chain/light-client.ts'
import { MoteError } from '../chain/result.ts'
import { ChainClient } from '../client/chain-client.ts'
import type { ChainSource } from '../client/chain-source.ts'
import { steadyClock, systemClock } from '../client/clock.ts'
import { readGenesisFile } from '../client/genesis-file.ts'
import { httpSource } from '../client/http-source.ts'
import { type IdentityKeys, KeyDirectory } from '../client/key-directory.ts'
import { apiUrl, type DevnetDescription, layout } from './layout.ts'

/** A read asks each full node in turn; nodes that hang cost this much together, if there are not too many. */
const readPatienceMs = 5_000
const requestTimeoutMsMin = 500

export interface ChainAccess {
  readonly directory: string
  readonly description: DevnetDescription
  readonly client: ChainClient
  /** Where trust starts: the genesis. */
  readonly checkpoint: TrustedHead
  /** Keys and names of devices. */
  readonly keys: KeyDirectory
}

export interface OpenOptions {
  /** False: this machine has no wall clock to go by. */
  readonly clock?: boolean
}

/** Opens the chain without asking any node yet. Throws `wrong-chain` for a genesis that is not the description's. */
export async function openDevnetChain(
  directory: string,
  description: DevnetDescription,
  { clock = true }: OpenOptions = {},
): Promise<ChainAccess> {
  const genesis = await readGenesisFile(layout.genesis(directory))
  const checkpoint = checkpointFromGenesis(genesis)
  const client = await ChainClient.open({
    sources: fullNodeSources(description),
    // From the genesis each time: a header with its certificate, and each handover, skip the whole way; nothing is left behind.
    checkpoint,
    clock: clock ? systemClock : steadyClock,
  })
  if (client.chainId !== description.chainId)
    throw new MoteError('wrong-chain', `${layout.genesis(directory)}: not the genesis of this devnet`)
  return { directory, description, client, checkpoint, keys: await KeyDirectory.open(directory) }
}

/** The full nodes of a devnet, to be asked in this order. */
export function fullNodeSources({ nodes }: DevnetDescription): ChainSource[] {
  const full = nodes.filter(node => node.label === 'full')
  const requestTimeoutMs = Math.max(requestTimeoutMsMin, Math.floor(readPatienceMs / full.length))
  return full.map(node => httpSource(apiUrl(node.api), { requestTimeoutMs }))
}

/** The keys of an operator, which lie apart from those of the devices. Throws `key-not-found`. */
export async function operatorKeys({ directory }: ChainAccess, name = 'operator'): Promise<IdentityKeys> {
  return (await KeyDirectory.open(layout.operator(directory))).load(name)
}
