/**
 * All links of a devnet, as the supervisor owns them, and their faults.
 *
 * Which links exist is written down in the description: from every full and coordination node to every full and
 * coordination node, and from the gateway to the full nodes' interfaces. A connection carries both directions, whoever
 * made it, so each direction is judged by its own link. Lightweight nodes, devices and the command line dial directly.
 */
import { MoteError } from '../chain/result.ts'
import type { DevnetDescription, DevnetNode } from './layout.ts'
import { type Link, type LinkChange, type LinkQuality, perfect, worse } from './link-faults.ts'
import { type LinkConditions, LinkProxy } from './link-proxy.ts'
import { loopback } from './ports.ts'

/** What is wrong with the network now. */
export interface LinkStatus {
  readonly blocked: readonly Link[]
  /** By node; only those that are not perfect. */
  readonly qualities: Readonly<Record<string, LinkQuality>>
}

/** The programs that links are between, as a description names them. */
export interface LinkedPrograms extends Pick<DevnetDescription, 'links'> {
  readonly nodes: readonly Pick<DevnetNode, 'name' | 'api' | 'p2p'>[]
  /** Its links lead to interfaces, all others to the nodes' ports for one another. */
  readonly gateway: { readonly name: string }
}

export class LinkNetwork implements LinkConditions {
  readonly random: () => number
  readonly #names: readonly string[]
  readonly #proxies: LinkProxy[] = []
  readonly #qualities = new Map<string, LinkQuality>()
  #blocked = new Map<string, Link>()

  private constructor(names: readonly string[], random: () => number) {
    this.#names = names
    this.random = random
  }

  /** Listens on every link's port. Throws `in-use`. */
  static async open(description: LinkedPrograms, random: () => number = Math.random): Promise<LinkNetwork> {
    const names = [...new Set(description.links.flatMap(({ from, to }) => [from, to]))]
    const network = new LinkNetwork(names, random)
    try {
      for (const { from, to, port } of description.links) {
        const node = description.nodes.find(({ name }) => name === to)
        if (!node) throw new MoteError('config-invalid', `links: ${to} is no node`)
        const target = from === description.gateway.name ? node.api : node.p2p
        const options = { link: { from, to }, host: loopback, port, target, conditions: network }
        network.#proxies.push(await LinkProxy.listen(options))
      }
    } catch (error) {
      network.close()
      throw error
    }
    return network
  }

  isBlocked({ from, to }: Link): boolean {
    return this.#blocked.has(`${from}>${to}`)
  }

  quality({ from, to }: Link): LinkQuality {
    return worse(this.#qualities.get(from) ?? perfect, this.#qualities.get(to) ?? perfect)
  }

  /** Throws `not-found` for a node that is none. */
  apply(change: LinkChange): LinkStatus {
    switch (change.type) {
      case 'partition':
        for (const { from, to } of change.blocked) this.#check([from, to])
        this.#blocked = new Map(change.blocked.map(link => [`${link.from}>${link.to}`, link]))
        break
      case 'delay': {
        const { delayMs, jitterMs } = change
        this.#setQuality(change.nodes, { delayMs, jitterMs })
        break
      }
      case 'loss':
        this.#setQuality(change.nodes, { loss: change.loss })
        break
      case 'heal':
        this.#blocked.clear()
        this.#qualities.clear()
    }
    for (const proxy of this.#proxies) proxy.changed()
    return this.status()
  }

  status(): LinkStatus {
    return { blocked: [...this.#blocked.values()], qualities: Object.fromEntries(this.#qualities) }
  }

  close(): void {
    for (const proxy of this.#proxies) proxy.close()
  }

  #setQuality(nodes: readonly string[], part: Partial<LinkQuality>): void {
    this.#check(nodes)
    for (const name of nodes.length === 0 ? this.#names : nodes) {
      const quality = { ...(this.#qualities.get(name) ?? perfect), ...part }
      if (quality.delayMs === 0 && quality.loss === 0) this.#qualities.delete(name)
      else this.#qualities.set(name, quality)
    }
  }

  #check(nodes: readonly string[]): void {
    const unknown = nodes.find(name => !this.#names.includes(name))
    if (unknown !== undefined)
      throw new MoteError('not-found', `node: expected one of ${this.#names.join(', ')}, got '${unknown}'`)
  }
}
