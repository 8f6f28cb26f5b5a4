/**
 * The configuration files of a devnet's programs: the same that an operator would write. Paths in them are relative,
 * so that the directory can be moved as a whole.
 */
import { writeGatewayConfig } from '../mqtt-gateway/config.ts'
import { type NodeConfigFile, writeNodeConfig } from '../node/config.ts'
import { apiUrl, type DevnetDescription, type DevnetNode, layout } from './layout.ts'

const genesis = '../../genesis.json'
const key = 'key.json'
const data = 'data'

function peer({ id, api, p2p }: DevnetNode): NodeConfigFile['peers'][number] {
  return { id, address: `/ip4/${p2p.host}/tcp/${p2p.port}`, api: apiUrl(api) }
}

export async function writeNodeConfiguration(
  directory: string,
  { chainId, nodes, trustTtlMs }: DevnetDescription,
  { name, id, label, api, p2p }: DevnetNode,
): Promise<void> {
  const others = nodes.filter(node => node.id !== id)
  await writeNodeConfig(layout.nodeConfig(directory, name), {
    version: 1,
    name,
    label,
    chainId,
    genesis,
    data,
    key,
    api,
    p2p,
    peers: others.filter(node => node.label === 'full').map(peer),
    coordination: others.filter(node => node.label === 'coordination').map(peer),
    trustTtlMs,
  })
}

export async function writeGatewayConfiguration(
  directory: string,
  { chainId, gateway, nodes, trustTtlMs }: DevnetDescription,
): Promise<void> {
  await writeGatewayConfig(layout.nodeConfig(directory, gateway.name), {
    version: 1,
    name: gateway.name,
    chainId,
    genesis,
    data,
    key,
    fullNodes: nodes.filter(node => node.label === 'full').map(node => apiUrl(node.api)),
    mqtt: gateway.mqtt,
    trustTtlMs,
  })
}
