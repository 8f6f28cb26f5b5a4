/**
 * A hostile full node that is no consenter: it says what only voters say, forwards what is no transaction, and gives whoever
 * asks it an old head, nonsense, a refusal, or nothing for long.
 */
import { randomBytes } from 'node:crypto'
import type { Milliseconds } from '../../../chain/brands.ts'
import { encode } from '../../../chain/codec.ts'
import { chainIdOf } from '../../../chain/genesis.ts'
import { certifiedHeaderCodec } from '../../../chain/light-client.ts'
import { MoteError } from '../../../chain/result.ts'
import { signAddress } from '../../../client/coordination-address.ts'
import { pause } from '../../../client/deadline.ts'
import type { NodeAddress } from '../../../client/join-messages.ts'
import { queries } from '../../../node/network/request-table.ts'
import { ask } from '../../../node/network/requests.ts'
import type { PeerAddress } from '../../../node/ports.ts'
import type { Counts } from './counts.ts'
import { HostilePeer, type HostilePeerOptions } from './hostile-peer.ts'
import { type DeceivedNode, lieTo } from './raft-lies.ts'

const headTimeoutMs = 5_000
/** As long as a light node waits in one request. */
const hangMs = 3_000
const forwardedAtOnce = 50
const addressLifetimeMs = 5 * 60_000
const retryMs = 50

export class LyingFullNode {
  readonly #options: HostilePeerOptions
  readonly #counts: Counts
  readonly #over: AbortSignal
  readonly #peer: HostilePeer
  #oldHead = new Uint8Array()
  #asked = 0

  private constructor(options: HostilePeerOptions, counts: Counts, over: AbortSignal) {
    this.#options = options
    this.#counts = counts
    this.#over = over
    this.#peer = new HostilePeer({ ...options, handlers: { query: () => this.#lie() } })
  }

  /** Is connected to these nodes, and known to them for what it is. */
  static async start(
    options: HostilePeerOptions,
    nodes: readonly PeerAddress[],
    counts: Counts,
    over: AbortSignal,
  ): Promise<LyingFullNode> {
    const node = new LyingFullNode(options, counts, over)
    await node.#peer.start()
    await node.#peer.connect(nodes)
    const [first] = nodes
    if (first) {
      const head = await ask(node.#peer.network, first.id, queries.head, {}, headTimeoutMs)
      node.#oldHead = Uint8Array.from(encode(certifiedHeaderCodec, head))
    }
    return node
  }

  /** Where it is reached, by its own signature: who is sent there finds an active full node. */
  get address(): NodeAddress {
    const { keys, genesis } = this.#options
    const where = { api: '', addresses: this.#peer.network.addresses() }
    const expiry = (Date.now() + addressLifetimeMs) as Milliseconds
    return {
      id: keys.id,
      ...where,
      signed: signAddress(keys, { chainId: chainIdOf(genesis), ...where, expiry }),
    }
  }

  /** Lies until it is over. */
  async run(nodes: readonly DeceivedNode[]): Promise<void> {
    while (!this.#over.aborted)
      try {
        this.#counts.add('Raft messages', await lieTo(nodes, this.#peer))
        const transactions = Array.from({ length: forwardedAtOnce }, () => Uint8Array.from(randomBytes(200)))
        for (const { id } of nodes) this.#peer.network.send(id, { type: 'transactions', transactions })
        this.#counts.add('forwarded', forwardedAtOnce * nodes.length)
      } catch {
        // It was cut off; it comes back.
        await pause(retryMs, this.#over)
      }
    await this.#peer.stop()
  }

  async #lie(): Promise<Uint8Array> {
    this.#counts.add('lies in answers')
    this.#asked += 1
    switch (this.#asked % 4) {
      case 0:
        return this.#oldHead
      case 1:
        return Uint8Array.from(randomBytes(64))
      case 2:
        throw new MoteError('not-found', 'there is nothing here')
      default:
        await pause(hangMs, this.#over)
        throw new MoteError('unknown-subject', 'there is nobody here')
    }
  }
}
