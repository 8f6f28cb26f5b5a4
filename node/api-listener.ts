/** Where a node's interface listens. */
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { MoteError } from '../chain/result.ts'
import type { ListenAddress } from './config.ts'

/** Listens, and gives the base URL. Throws `start-failed`: with the reason, and with what to do where another program has the port. */
export async function listenApi(app: FastifyInstance, { host, port }: ListenAddress): Promise<string> {
  try {
    await app.listen({ host, port })
  } catch (cause) {
    const taken = (cause as NodeJS.ErrnoException).code === 'EADDRINUSE'
    const reason = taken
      ? 'another program uses it; set another one under `api`, or end that program'
      : String(cause)
    throw new MoteError('start-failed', `api: cannot listen on ${host} port ${port}: ${reason}`, { cause })
  }
  return `http://${host}:${(app.server.address() as AddressInfo).port}`
}
