/**
 * Ports of a devnet on loopback: counted up from a base, or free ones.
 *
 * A free port is tried by listening on it and closing again; nobody holds it until its program starts. So ports are tried
 * at random below those that the system gives to outgoing connections, one of which would take it meanwhile.
 */
import { randomInt } from 'node:crypto'
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

const [lowestPort, highestPort] = [15_000, 32_000]
const attempts = 100

/** A port that is free now. */
async function listenAnywhere(): Promise<Server> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await listen(randomInt(lowestPort, highestPort))
    } catch (error) {
      if (attempt >= attempts) throw error
    }
  }
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
    for (let i = 0; i < count; i++) held.push(await (base === 'auto' ? listenAnywhere() : listen(base + i)))
    return held.map(portOf)
  } finally {
    await Promise.all(held.map(server => new Promise(resolve => server.close(resolve))))
  }
}
