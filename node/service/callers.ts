/**
 * Who may ask what over the HTTP API of a node, and how much. A browser on this machine reaches the loopback address for every page that
 * it shows, and so does every user of the machine: the first are told by what a browser sends, the others by a token. All others are
 * limited by their addresses (`limitRate`).
 */
import { isIP } from 'node:net'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { MoteError } from '../../chain/result.ts'
import { shareOf } from '../../client/address-shares.ts'
import { maxHeadersPerAnswer } from '../../client/chain-source.ts'
import { systemClock } from '../../client/clock.ts'
import { hasToken } from '../../client/operator-access.ts'
import { RateLimits } from '../network/rate-limit.ts'
import { costOfHeaders, joining, queries } from '../network/request-table.ts'

export const octets = 'application/octet-stream'
export const json = 'application/json'

/** Methods that change nothing, whoever asks. */
const safeMethods = new Set(['GET', 'HEAD'])

/**
 * What changes something is not for a web page that a browser on this machine shows. One cannot leave out `Origin`, nor send
 * these types without asking first, which no route answers; and one that rebinds its own name to this machine still
 * gives that name as `Host`.
 */
export function mustBeNoPage({ method, headers, socket }: FastifyRequest): void {
  if (safeMethods.has(method)) return
  if (headers.origin !== undefined)
    throw new MoteError('not-authorised', `origin: expected none, got ${headers.origin.slice(0, 200)}`)
  if (isLocal(socket)) mustNameThisMachine(headers.host)
  const [type = ''] = (headers['content-type'] ?? '').split(';')
  if (![octets, json].includes(type.trim().toLowerCase()))
    throw new MoteError(
      'malformed',
      `content-type: expected ${octets} or ${json}, got ${type.slice(0, 200) || 'nothing'}`,
    )
}

/** By an address or as `localhost`, with or without a port: whoever has a name for it had it from elsewhere. */
function mustNameThisMachine(host = ''): void {
  const name = host.replace(/:[0-9]+$/, '').replace(/^\[(.*)\]$/, '$1')
  if (isIP(name) !== 0 || name.toLowerCase() === 'localhost') return
  throw new MoteError('not-authorised', `host: expected an address or localhost, got ${host.slice(0, 200)}`)
}

function isLocal({ remoteAddress = '' }: FastifyRequest['socket']): boolean {
  const address = remoteAddress.replace(/^::ffff:/, '')
  return address === '::1' || address.startsWith('127.')
}

/** Throws `not-authorised` unless the request comes from this machine and has the token. */
export function mustBeOperator({ socket, headers }: FastifyRequest, token: string): void {
  if (!isLocal(socket))
    throw new MoteError('not-authorised', 'administration: on this machine only, by its loopback address')
  if (!hasToken(headers.authorization, token))
    throw new MoteError('not-authorised', "administration: expected the token of the node's operator.json")
}

/*
 * How much one share of addresses may ask over the HTTP API, where nobody is known: the same units as over libp2p, what an
 * answer costs (request-table.ts). A request over the rate is refused with its first line, before its body is read.
 *
 * Programs that come from 127.0.0.1 or ::1 are this machine's own, a proxy among them, and are not counted: they
 * have its processors anyway. Other loopback addresses are counted like any.
 */

/** What a share may ask for at once: what its rate gives in so many seconds. */
const httpBurstSeconds = 5
/** No transaction is shorter: three ids, a nonce and a signature. */
const leastTransactionBytes = 176

const { head, header, history, state, group, submit, headers, records } = queries

/** What is not named here costs as much as the head. */
const costs: Readonly<Record<string, (request: FastifyRequest) => number>> = {
  '/v1/headers': ({ query }) => {
    const { limit = maxHeadersPerAnswer } = query as { readonly limit?: unknown }
    return costOfHeaders(Math.min(Number(limit) || 0, maxHeadersPerAnswer))
  },
  '/v1/headers/:height': () => header.cost,
  '/v1/blocks/:height': () => headers.cost,
  '/v1/blocks/:height/content': () => headers.cost,
  '/v1/blocks/:height/leaves': () => headers.cost,
  '/v1/state/:key': () => state.cost,
  '/v1/devices/:id': () => state.cost,
  '/v1/devices/:id/transactions': () => history.cost,
  '/v1/groups/:id': () => group.cost,
  '/v1/records/:type': () => records.cost,
  '/v1/transactions': () => submit.cost,
  '/v1/transactions/batch': ({ headers }) =>
    submit.cost *
    Math.ceil(Number(headers['content-length'] ?? Number.POSITIVE_INFINITY) / leastTransactionBytes),
  '/v1/join': () => joining.message.cost,
}

/** Refuses with `rate-limited` and the time to wait what one share asks beyond `perSecond`. */
export function limitRate(app: FastifyInstance, perSecond: number): void {
  const burst = httpBurstSeconds * perSecond
  const rates = new RateLimits<string>({ burst, perSecond }, systemClock)
  app.addHook('onRequest', async (request, reply) => {
    if (isThisMachine(request.ip)) return
    const price = costOf(request)
    // What costs more than there can be costs all of it, and so does what is no number.
    const cost = Number.isFinite(price) ? Math.min(price, burst) : burst
    const rate = rates.of(shareOf(request.ip))
    if (rate.take(cost)) return
    const waitMs = rate.waitMs(cost)
    reply.header('retry-after', String(Math.ceil(waitMs / 1_000)))
    throw new MoteError('rate-limited', `requests: again in ${waitMs} ms`)
  })
}

function costOf(request: FastifyRequest): number {
  return costs[request.routeOptions.url ?? '']?.(request) ?? head.cost
}

function isThisMachine(ip: string): boolean {
  return ip === '::1' || shareOf(ip) === '127.0.0.1'
}
