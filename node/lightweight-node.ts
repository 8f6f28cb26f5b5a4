/**
 * Composition root of a lightweight node (Qiu A2 to A4): keeps headers, verifies every answer, is served by one
 * full node and knows who takes over.
 *
 * Which full node, a coordination node says: when it is asked, and unasked when one has died. That is advice. The node
 * goes on with a backup by itself as soon as its full node is silent, slow or caught lying, and asks for a new
 * assignment then; without any coordination node it goes on with the full nodes of its configuration.
 */

import { join } from 'node:path'
import { checkpointFile } from '../client/checkpoint-file.ts'
import type { Logger } from '../client/log.ts'
import { grantOperatorAccess } from '../client/operator-access.ts'
import { relaySource } from '../client/relay-source.ts'
import type { LightConfiguration } from './effective-configuration.ts'
import type { RunningNode } from './full-node.ts'
import { LightChain } from './light/light-chain.ts'
import { ServingNodes } from './light/serving-nodes.ts'
import { registryReports } from './network/request-table.ts'
import { requestHandler } from './network/requests.ts'
import { adminRoutes, createApi, listenApi } from './service/api.ts'

/** Starts the lightweight node of a configuration. Throws the `MoteError` that says what is in its way. */
export async function startLightweightNode(config: LightConfiguration, log: Logger): Promise<RunningNode> {
  const chain = await LightChain.open(config, log)
  const service = await ServingNodes.open(chain, checkpointFile(join(config.data, 'assignment')), log)
  const { assignment } = registryReports
  const assigned = requestHandler(
    { assignment },
    { assignment: (assignment, { deviceId }) => service.reassigned(deviceId, assignment) },
  )
  chain.network.handle('registry', assigned)
  const token = await grantOperatorAccess(config.data)
  let api = ''
  const status = () => ({ ...chain.status(api), ...service.status() })
  const app = createApi({
    source: relaySource(chain.client, status),
    readiness: () => chain.readiness(),
    failure: () => undefined,
    httpPerSecond: config.network.httpPerSecond,
    extend: routes => adminRoutes(routes, { token, configuration: config }),
    onUnexpected: error => log.error({ error }, 'unexpected error in a request'),
  })
  await chain.start((peer, state) => service.peer(peer, state))
  chain.inBackground(
    'assignment',
    chain.coordinationMet.then(() => service.run()),
  )
  api = await listenApi(app, config.api).catch(async (error: unknown) => {
    await chain.stop()
    throw error
  })
  log.info({ api, height: chain.client.follower.head.header.height }, 'serving')
  const addresses = chain.network.addresses()
  return {
    ready: { name: config.name, id: chain.keys.id, label: config.label, api, addresses, pid: process.pid },
    ended: chain.ended,
    stop: async () => {
      await app.close()
      await chain.stop()
      log.info('stopped')
    },
  }
}
