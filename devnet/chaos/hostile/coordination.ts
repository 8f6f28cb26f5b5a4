/**
 * A hostile coordination node: it plays one that its victims are configured with, by its keys and on its ports. It refuses
 * newcomers or keeps them waiting, tells lightweight nodes without end to be served by a third party, and has full nodes give
 * out that third party's address as its own.
 */
import { createServer } from 'node:http'
import type { DeviceId, Milliseconds } from '../../../chain/brands.ts'
import { chainIdOf } from '../../../chain/genesis.ts'
import { MoteError } from '../../../chain/result.ts'
import { signAddress } from '../../../client/coordination-address.ts'
import { pause } from '../../../client/deadline.ts'
import type { Assignment, NodeAddress } from '../../../client/join-messages.ts'
import { problemHeaders, problemOf } from '../../../client/problem.ts'
import { joining, registryReports } from '../../../node/network/request-table.ts'
import { ask, requestHandler } from '../../../node/network/requests.ts'
import type { PeerAddress } from '../../../node/ports.ts'
import { type Address, apiUrl } from '../../layout.ts'
import type { Counts } from './counts.ts'
import { HostilePeer, type HostilePeerOptions } from './hostile-peer.ts'

export interface CoordinationOptions {
  readonly peer: HostilePeerOptions
  /** Where its HTTP API is expected. */
  readonly api: Address
  readonly fullNodes: readonly PeerAddress[]
  /** Who is to be dialled by everybody. */
  readonly thirdParty: Address
  /** Full nodes that lie, by their own signatures. */
  readonly accomplices?: () => readonly NodeAddress[]
}

const reportTimeoutMs = 2_000
const announceEveryMs = 1_000
const lifetimeMs = 60_000

/** Plays the node until it is over. */
export async function playCoordination(
  options: CoordinationOptions,
  counts: Counts,
  over: AbortSignal,
): Promise<void> {
  const hostile = new HostileCoordination(options, counts, over)
  await hostile.start()
  await Promise.all([hostile.misdirect(), hostile.announce()])
  await hostile.stop()
}

class HostileCoordination {
  readonly #options: CoordinationOptions
  readonly #counts: Counts
  readonly #over: AbortSignal
  readonly #peer: HostilePeer
  readonly #server = createServer()
  /** What full nodes signed of themselves, from their heartbeats. */
  readonly #signed = new Map<DeviceId, Uint8Array>()
  #asked = 0

  constructor(options: CoordinationOptions, counts: Counts, over: AbortSignal) {
    this.#options = options
    this.#counts = counts
    this.#over = over
    const { heartbeat } = registryReports
    const registry = requestHandler(
      { heartbeat },
      { heartbeat: ({ signed }, { deviceId }) => void this.#signed.set(deviceId, signed) },
    )
    const join = requestHandler(joining, { message: () => this.#refuse() })
    this.#peer = new HostilePeer({ ...options.peer, handlers: { registry, join } })
  }

  async start(): Promise<void> {
    const { api, fullNodes } = this.#options
    await this.#peer.start()
    for (const node of fullNodes) this.#peer.network.keep(node)
    this.#server.on('request', async (request, response) => {
      request.resume()
      await this.#refuse().catch(({ code, detail }: MoteError) => {
        const problem = problemOf(code, detail)
        response.writeHead(problem.status, problemHeaders(problem)).end(JSON.stringify(problem))
      })
    })
    await new Promise<void>(resolve => this.#server.listen(api.port, api.host, resolve))
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    this.#server.close()
    await this.#peer.stop()
  }

  /** Refuses every second one, and keeps the others waiting. */
  async #refuse(): Promise<never> {
    this.#asked += 1
    const isRefused = this.#asked % 2 === 1
    this.#counts.add(isRefused ? 'refused' : 'kept waiting')
    if (!isRefused) await pause(lifetimeMs, this.#over)
    throw new MoteError('not-authorised', 'grant: nobody is let in here')
  }

  /** Tells every peer that is no full node who is to serve it, as fast as it answers. */
  async misdirect(): Promise<void> {
    const { network } = this.#peer
    const full = new Set(this.#options.fullNodes.map(({ id }) => id))
    for (let i = 0; !this.#over.aborted; i++) {
      const victims = network.peers().filter(({ id, state }) => state === 'connected' && !full.has(id))
      await Promise.all(
        victims.map(({ id }) =>
          ask(network, id, registryReports.assignment, this.#assignment(i), reportTimeoutMs).then(
            () => this.#counts.add('assignments taken'),
            () => this.#counts.add('assignments refused'),
          ),
        ),
      )
      await pause(1, this.#over)
    }
  }

  /** Nobody; full nodes at the third party; and those who lie. */
  #assignment(round: number): Assignment {
    const { thirdParty, accomplices = () => [], fullNodes } = this.#options
    const elsewhere = { api: apiUrl(thirdParty), addresses: [multiaddrOf(thirdParty)] }
    const moved = fullNodes.map(({ id }) => ({ id, ...elsewhere, signed: this.#signed.get(id) }))
    const made: NodeAddress = { id: this.#peer.id, ...elsewhere, signed: this.#announcement() }
    const kinds = [[made, ...moved], moved, [...accomplices(), ...moved]]
    const [fullNode = made, ...backups] = kinds[round % kinds.length] ?? []
    return { fullNode, backups: backups.slice(0, 7) }
  }

  /** Has full nodes say that it is at the third party. */
  async announce(): Promise<void> {
    const { network } = this.#peer
    while (!this.#over.aborted) {
      await Promise.all(
        this.#options.fullNodes.map(({ id }) =>
          ask(network, id, registryReports.address, this.#announcement(), reportTimeoutMs).then(
            () => this.#counts.add('false addresses'),
            () => {},
          ),
        ),
      )
      await pause(announceEveryMs, this.#over)
    }
  }

  #announcement(): Uint8Array {
    const { thirdParty, peer } = this.#options
    const expiry = (Date.now() + lifetimeMs) as Milliseconds
    const where = { api: apiUrl(thirdParty), addresses: [multiaddrOf(thirdParty)], expiry }
    return signAddress(peer.keys, { chainId: chainIdOf(peer.genesis), ...where })
  }
}

export function multiaddrOf({ host, port }: Address): string {
  return `/ip4/${host}/tcp/${port}`
}
