/**
 * Ports of a devnet on loopback: counted up from a base, or free ones that the system names.
 *
 * A free port is asked for by listening on port 0 and closing again; nobody holds it until its program starts, so
 * all are asked for at once (the system does not name a port twice while the others are held).
 */
import { createServer, type Server } from 'node:net'
import { MoteError } from '../chain/result.ts'

export const loopback = '127.0.0.1'

function listen(port: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', cause => reject(new MoteError('in-use', `port ${port}: cannot be used`, { cause })))
    server.listen({ host: loopback, port, exclusive: true }, () => resolve(server))
  })
}

function portOf(server: Server): number {
  const address = server.address()
  if (address === null || typeof address === 'string') throw new MoteError('internal', 'port: no address')
  return address.port
}

/** `count` different ports, free a moment ago. `base`: base, base + 1, …; throws `in-use` if one is taken. */
export async function choosePorts(count: number, base: number | 'auto'): Promise<number[]> {
  const held: Server[] = []
  try {
    for (let i = 0; i < count; i++) held.push(await listen(base === 'auto' ? 0 : base + i))
    return held.map(portOf)
  } finally {
    await Promise.all(held.map(server => new Promise(resolve => server.close(resolve))))
  }
}
