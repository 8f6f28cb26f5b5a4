/**
 * Who may ask what over the HTTP API of a node. A browser on this machine reaches the loopback address for every page that it
 * shows, and so does every user of the machine: the first are told by what a browser sends, the others by a token.
 */
import { isIP } from 'node:net'
import type { FastifyRequest } from 'fastify'
import { MoteError } from '../../chain/result.ts'
import { hasToken } from './operator-access.ts'

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
