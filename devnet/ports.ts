/**
 * Ports of a devnet on loopback: counted up from a base, or free ones.
 *
 * A free port is tried by listening on it and closing again; nobody holds it until its program starts, some seconds later. So ports are taken
 * in blocks which processes keep from each other, below those that the system gives to outgoing connections, one of which
 * would take it meanwhile.
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
/** Ports that a process takes for itself at once. */
const blockSize = 64
const attempts = 100

/** The first port of a block is listened on until this process ends: that is how others see whose it is. */
interface Block {
  readonly guard: Server
  next: number
}

let block: Block | undefined

/** Blocks in which anything listens are somebody's, be it a devnet one program of which is not running now. */
async function takeBlock(): Promise<Block> {
  for (let attempt = 1; ; attempt++) {
    const first = lowestPort + blockSize * randomInt(Math.floor((highestPort - lowestPort) / blockSize))
    const held: Server[] = []
    try {
      for (let port = first; port < first + blockSize; port++) held.push(await listen(port))
      const guard = held.shift() as Server
      guard.unref()
      return { guard, next: first + 1 }
    } catch (error) {
      if (attempt >= attempts) throw error
    } finally {
      await closeAll(held)
    }
  }
}

/** A port that no other process is given while this one runs, held. */
async function ownPort(): Promise<Server> {
  for (let attempt = 1; ; attempt++) {
    if (!block || (block.next - lowestPort) % blockSize === 0) block = await takeBlock()
    try {
      return await listen(block.next++)
    } catch (error) {
      if (attempt >= attempts) throw error
    }
  }
}

async function closeAll(servers: readonly Server[]): Promise<void> {
  await Promise.all(servers.map(server => new Promise(resolve => server.close(resolve))))
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
    for (let i = 0; i < count; i++) held.push(await (base === 'auto' ? ownPort() : listen(base + i)))
    return held.map(portOf)
  } finally {
    await closeAll(held)
  }
}
