/**
 * Composition root of a coordination node (Qiu A2 to A4): keeps headers and the registry of live full nodes,
 * receives newcomers, assigns full nodes to lightweight nodes, and moves them when a full node dies.
 *
 * It holds no power: it cannot admit anyone (execution checks the grant and the token key's signature over the device
 * id), and what it assigns is advice. It can delay or deny; then a newcomer asks another one.
 */

import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { DeviceId } from '../chain/brands.ts'
import { MoteError } from '../chain/result.ts'
import { systemClock } from '../client/clock.ts'
import type { NodeAddress } from '../client/join-messages.ts'
import type { Logger } from '../client/log.ts'
import { grantOperatorAccess } from '../client/operator-access.ts'
import { relaySource } from '../client/relay-source.ts'
import type { LightConfiguration } from './effective-configuration.ts'
import type { RunningNode } from './full-node.ts'
import { LightChain } from './light/light-chain.ts'
import { joining, registryReports } from './network/request-table.ts'
import { ask, requestHandler } from './network/requests.ts'
import { AddressAnnouncer } from './registry/coordination-addresses.ts'
import { JoinService } from './registry/join-service.ts'
import { heartbeatEveryMs, LiveNodes } from './registry/live-nodes.ts'
import { adminRoutes, bodyOf, createApi, listenApi } from './service/api.ts'

const moveTimeoutMs = 3_000

/** Starts the coordination node of a configuration. Throws the `MoteError` that says what is in its way. */
export async function startCoordinationNode(config: LightConfiguration, log: Logger): Promise<RunningNode> {
  const chain = await LightChain.open(config, log)
  const { client, network } = chain
  const live = new LiveNodes(systemClock)
  const joins = new JoinService({ client, live, clock: systemClock, coordinator: chain.keys.id, log })
  client.pool.replace(config.peers.map(({ id }) => chain.sourceOf(id)))

  const changed = (): void => chain.inBackground('moving lightweight nodes', move(chain, joins, log))
  const lost = (ids: readonly DeviceId[]): void => {
    for (const id of ids) log.warn({ fullNode: id }, 'a full node is gone')
    if (ids.length > 0) changed()
  }
  const { heartbeat } = registryReports
  const beaten = requestHandler(
    { heartbeat },
    {
      heartbeat: async (beat, { deviceId }) => {
        await mustBeFullNode(chain, deviceId)
        if (!live.beat(deviceId, beat)) return
        log.info({ fullNode: deviceId }, 'a full node lives')
        changed()
      },
    },
  )
  network.handle('registry', beaten)
  network.handle(
    'join',
    requestHandler(joining, { message: (body, caller) => joins.answer(caller.remoteAddress, body) }),
  )
  const token = await grantOperatorAccess(config.data)
  let api = ''
  const announcer = new AddressAnnouncer({
    keys: chain.keys,
    network,
    clock: systemClock,
    head: () => client.follower.head,
    api: () => api,
    fullNodes: () => [...config.peers, ...live.all()].map(({ id }) => id),
    onFailure: (fullNode, error) => log.debug({ fullNode, error: String(error) }, 'an address was not taken'),
  })
  const status = () => ({
    ...chain.status(api),
    fullNodes: live.all().map(({ id, api: url, addresses, at }) => {
      const silentMs = Math.round(systemClock.steady() - at)
      return { id, api: url, addresses, silentMs }
    }),
  })
  const app = createApi({
    source: relaySource(client, status),
    readiness: () =>
      chain.readiness() ??
      (live.all().length === 0 ? new MoteError('no-full-node', 'no full node is alive') : undefined),
    failure: () => undefined,
    httpPerSecond: config.network.httpPerSecond,
    onUnexpected: error => log.error({ error }, 'unexpected error in a request'),
    extend: routes => {
      joinRoutes(routes, joins)
      adminRoutes(routes, { token, configuration: config })
    },
  })
  await chain.start((peer, state) => {
    if (state === 'connected') announcer.announce()
    else if (live.remove(peer)) lost([peer])
  })
  const watch = setInterval(() => lost(live.expire()), heartbeatEveryMs / 2)
  api = await listenApi(app, config.api).catch(async (error: unknown) => {
    clearInterval(watch)
    await chain.stop()
    throw error
  })
  announcer.start()
  const addresses = network.addresses()
  log.info({ api, addresses }, 'serving')
  return {
    ready: { name: config.name, id: chain.keys.id, label: config.label, api, addresses, pid: process.pid },
    ended: chain.ended,
    stop: async () => {
      clearInterval(watch)
      announcer.stop()
      await app.close()
      await chain.stop()
      log.info('stopped')
    },
  }
}

function joinRoutes(routes: FastifyInstance, joins: JoinService): void {
  routes.post('/v1/join', async (request, reply) => {
    const answer = await joins.answer(request.ip, bodyOf(request.body))
    return reply.type('application/octet-stream').send(Buffer.from(answer))
  })
  const params = Type.Object({ id: Type.String({ pattern: '^[0-9a-f]{64}$' }) })
  routes.get<{ Params: { id: string } }>('/v1/assignment/:id', { schema: { params } }, async request => {
    const { fullNode, backups } = await joins.assignmentOf(DeviceId(request.params.id))
    const shown = ({ id, api, addresses }: NodeAddress) => ({ id, api, addresses })
    return { assignedFullNode: shown(fullNode), backups: backups.map(shown) }
  })
}

/** Only an identity that is proven active with label full is believed to beat. */
async function mustBeFullNode(chain: LightChain, id: DeviceId): Promise<void> {
  if (!(await chain.isFullNode(id)))
    throw new MoteError('not-authorised', 'registry: expected an active full node')
}

/** Tells connected lightweight nodes whose full node or backups are others now: one has died, or has come. */
async function move({ network }: LightChain, joins: JoinService, log: Logger): Promise<void> {
  const connected = network.peers().filter(peer => peer.state === 'connected')
  await Promise.all(
    connected.map(async ({ id }) => {
      if (!joins.isOutdated(id)) return
      const [from] = joins.knownAssignment(id) ?? []
      try {
        const assignment = await joins.assignmentOf(id)
        await ask(network, id, registryReports.assignment, assignment, moveTimeoutMs)
        const { fullNode, backups } = assignment
        log.info({ device: id, from, to: fullNode.id, backups: backups.length }, 'told a lightweight node')
      } catch (error) {
        log.warn({ device: id, error: String(error) }, 'a lightweight node was not told of its full nodes')
      }
    }),
  )
}
