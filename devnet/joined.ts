/**
 * A device that joined a running devnet, as a node of it: `DIR/nodes/<name>/` gets a configuration on ports that are
 * free now, and the key file stays where `mote device join` made it. The configuration names the other nodes' own
 * addresses: the supervisor's links are between the programs that a devnet began with.
 */
import type { DeviceId } from '../chain/brands.ts'
import { stateKeyOf } from '../chain/records.ts'
import { MoteError } from '../chain/result.ts'
import type { Label } from '../chain/transaction-bodies.ts'
import { privateDirectory, readFileIfThere } from '../client/atomic-file.ts'
import { httpSource } from '../client/http-source.ts'
import { KeyDirectory } from '../client/key-directory.ts'
import { readNodeConfig } from '../node/config.ts'
import { writeNodeConfiguration } from './configuration.ts'
import { apiUrl, type DevnetDescription, type DevnetNode, layout } from './layout.ts'
import { choosePorts, loopback } from './ports.ts'

const readyTimeoutMs = 2_000

export interface JoinedIdentity {
  readonly name: string
  readonly id: DeviceId
  readonly label: Label
}

export interface InitialisedNode {
  readonly node: DevnetNode
  /** Path of its configuration. */
  readonly config: string
  /** The configuration was there already and is as it was. */
  readonly kept: boolean
}

/**
 * Writes the configuration of an identity that joined; one that is there is kept, unless `fresh`: then it is written
 * anew, with the nodes that the devnet has now and other ports. Throws `config-invalid` if the one there is another's.
 */
export async function initialiseNode(
  directory: string,
  description: DevnetDescription,
  { name, id, label }: JoinedIdentity,
  { fresh = false }: { readonly fresh?: boolean } = {},
): Promise<InitialisedNode> {
  const config = layout.nodeConfig(directory, name)
  if (description.nodes.some(node => node.name === name && !node.joined))
    throw new MoteError('already-exists', `${name}: a node of this devnet from its beginning`)
  if (!fresh && (await readFileIfThere(config))) {
    const node = await joinedNode(directory, name)
    const { chainId } = await readNodeConfig(config)
    if (chainId !== description.chainId || node.id !== id || node.label !== label)
      throw new MoteError(
        'config-invalid',
        `${config}: belongs to another chain, identity or label; \`mote node init ${name} --force\` writes it anew`,
      )
    return { node, config, kept: true }
  }
  const [api = 0, p2p = 0] = await choosePorts(2, 'auto')
  const at = (port: number) => ({ host: loopback, port })
  const node: DevnetNode = { name, id, label, api: at(api), p2p: at(p2p), joined: true }
  await privateDirectory(layout.node(directory, name))
  await writeNodeConfiguration(directory, description, node)
  return { node, config, kept: false }
}

/**
 * Resolves if a node that joined is up: it has answered with its own record, which full nodes have proven to it, and says
 * that it is ready, so it follows the chain. Throws why not yet.
 */
export async function requireUp({ id, api }: DevnetNode): Promise<void> {
  const url = apiUrl(api)
  await httpSource(url).state(stateKeyOf.identity(id))
  const response = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(readyTimeoutMs) })
  if (response.ok) return
  const { detail } = (await response.json()) as { detail?: unknown }
  throw new MoteError('not-ready', String(detail))
}

/** What the configuration of an identity that joined says. Throws `not-found` if there is none. */
export async function joinedNode(directory: string, name: string): Promise<DevnetNode> {
  const id = await (await KeyDirectory.open(directory)).resolve(name)
  if (!id) throw new MoteError('not-found', `${name}: no identity of this name in ${directory}`)
  const config = layout.nodeConfig(directory, name)
  const { label, api, p2p } = await readNodeConfig(config)
  if (!p2p) throw new MoteError('config-invalid', `${config}: p2p: expected an address to listen on`)
  return { name, id, label, api, p2p, joined: true }
}
