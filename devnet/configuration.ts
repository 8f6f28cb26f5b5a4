/**
 * The configuration files of a devnet's programs: the same that an operator would write. Paths in them are relative,
 * so that the directory can be moved as a whole. Full and coordination nodes and the gateway reach one another through
 * the supervisor's links, which is how a devnet has network faults.
 */
import { writeGatewayConfig } from '../mqtt-gateway/config.ts'
import { type NodeConfigFile, writeNodeConfig } from '../node/config.ts'
import { type Address, apiUrl, type DevnetDescription, type DevnetNode, layout } from './layout.ts'
import { loopback } from './ports.ts'

const genesis = '../../genesis.json'
const key = 'key.json'
const data = 'data'
/** In the gateway's directory. */
export const serverFiles = { certificate: 'server.crt', key: 'server.key' } as const

/** The key file of a node, as its configuration names it: one that joined keeps its keys where it made them. */
function keyOf({ name, joined }: DevnetNode): string {
  return joined ? `../../keys/${name}.json` : key
}

/** Where `from` dials `to`: the link between them, where there is one; else `to` itself. */
function dialled({ links }: DevnetDescription, from: string, to: string, direct: Address): Address {
  const link = links.find(candidate => candidate.from === from && candidate.to === to)
  return link ? { host: loopback, port: link.port } : direct
}

/** How `from` knows a peer. Interfaces are named directly: a lightweight node may ask them, and people do. */
function peerOf(description: DevnetDescription, from: string) {
  return ({ id, name, api, p2p }: DevnetNode): NodeConfigFile['peers'][number] => {
    const { host, port } = dialled(description, from, name, p2p)
    return { id, address: `/ip4/${host}/tcp/${port}`, api: apiUrl(api) }
  }
}

export async function writeNodeConfiguration(
  directory: string,
  description: DevnetDescription,
  node: DevnetNode,
): Promise<void> {
  const { name, id, label, api, p2p } = node
  const { chainId, nodes, trustTtlMs } = description
  const peer = peerOf(description, name)
  const others = nodes.filter(other => other.id !== id)
  await writeNodeConfig(layout.nodeConfig(directory, name), {
    version: 1,
    name,
    label,
    chainId,
    genesis,
    data,
    key: keyOf(node),
    api,
    p2p,
    peers: others.filter(other => other.label === 'full').map(peer),
    coordination: others.filter(other => other.label === 'coordination').map(peer),
    trustTtlMs,
  })
}

function edgeOf({ host, port, brokerOf }: DevnetDescription['gateway']['mqtt']) {
  const address = { host, port }
  return brokerOf === undefined
    ? { mqtt: address }
    : { broker: { ...address, accounts: 'mosquitto' as const } }
}

export async function writeGatewayConfiguration(
  directory: string,
  description: DevnetDescription,
): Promise<void> {
  const { chainId, gateway, nodes, trustTtlMs } = description
  const full = nodes.filter(node => node.label === 'full')
  await writeGatewayConfig(layout.nodeConfig(directory, gateway.name), {
    version: 1,
    name: gateway.name,
    chainId,
    genesis,
    data,
    key,
    fullNodes: full.map(({ name, api }) => apiUrl(dialled(description, gateway.name, name, api))),
    ...edgeOf(gateway.mqtt),
    ...(gateway.mqtts && { mqtts: { ...gateway.mqtts, ...serverFiles } }),
    // A devnet's devices are all its owner's.
    plain: { in: [...(gateway.plain?.in ?? [])], out: [...(gateway.plain?.out ?? [])], open: true },
    trustTtlMs,
  })
}
