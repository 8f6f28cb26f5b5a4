/**
 * What an operator may ask of a node over HTTP, on the machine itself only: `GET /v1/configuration` is the configuration
 * that takes effect, and `POST /v1/transfer` transfers a full node's leadership. A request from
 * elsewhere is refused before its body is read.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { DeviceId, isDigest } from '../../chain/brands.ts'
import { MoteError } from '../../chain/result.ts'
import type { TransferReport } from '../replica/leader-transfer.ts'

export interface AdminServices {
  /** No secret is in it. */
  readonly configuration: object
  /** To the node that is named, or to the one that is furthest. Throws `no-leader`, `unreachable` or `timeout`. */
  readonly transfer?: (to: DeviceId | undefined) => Promise<TransferReport>
}

const bodyLimit = 1024

export function adminRoutes(app: FastifyInstance, { configuration, transfer }: AdminServices): void {
  app.register(async routes => {
    routes.addHook('onRequest', async request => mustBeLocal(request))
    routes.addContentTypeParser(
      'application/json',
      { parseAs: 'string', bodyLimit },
      routes.getDefaultJsonParser('error', 'error'),
    )
    routes.get('/v1/configuration', async () => configuration)
    if (transfer)
      routes.post('/v1/transfer', { bodyLimit }, async request => transfer(targetOf(request.body)))
  })
}

function mustBeLocal({ socket }: FastifyRequest): void {
  const address = (socket.remoteAddress ?? '').replace(/^::ffff:/, '')
  if (address === '::1' || address.startsWith('127.')) return
  throw new MoteError('not-authorised', 'administration: on this machine only, by its loopback address')
}

/** `{"to": device id}`, `{}`, or nothing. */
function targetOf(body: unknown): DeviceId | undefined {
  const to = typeof body === 'object' && body !== null && 'to' in body ? body.to : undefined
  if (to === undefined) return undefined
  if (typeof to === 'string' && isDigest(to)) return DeviceId(to)
  throw new MoteError('malformed', `to: expected a device id, got ${JSON.stringify(to)}`)
}
