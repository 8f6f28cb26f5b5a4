/**
 * Clients of a cluster that know nothing of this project's client library: `fetch`, and a loop that sends the same bytes
 * again. They write all the time, so what they meet is what a change of leader, a kill or a drain costs.
 *
 * Allowed are the retryable answer `no-leader`, from any node; refused, reset or closed connections to the very process
 * that was killed or drained, until it is back; and from one that drains `not-ready`. A client whose node stays up
 * therefore sees `no-leader` at worst, and mostly nothing: its node keeps the transaction and hands it to the next leader.
 */
import { randomBytes } from 'node:crypto'
import type { ClusterNode, LocalCluster } from '../../bench/local-cluster.ts'
import { type Height, Milliseconds } from '../../chain/brands.ts'
import { pause } from '../../client/deadline.ts'
import { nativeSignerFromSeed } from '../../client/native-crypto.ts'
import { idOfSigned, signedBody } from '../../client/submission.ts'

/** One attempt that was not the final answer. */
export interface Met {
  readonly client: string
  readonly node: string
  /** Our code from the answer, or the platform's for a connection that failed. */
  readonly code: string
  readonly connection: boolean
  /** What had been done to the process at this address, which was not back when the attempt began or ended. */
  readonly away: Away | undefined
}

export type Away = 'killed' | 'drained'

interface Answer {
  readonly status?: string
  readonly code?: string
  readonly height?: Height
}

const clientsPerNode = 2
const retryMs = 50
const answerWithinMs = 30_000

export class PlainWriters {
  readonly met: Met[] = []
  /** Every transaction that was sent, and the height that was acknowledged. */
  readonly heights = new Map<string, Height | undefined>()
  /** Nodes that a test has ended and not started again. */
  readonly away = new Map<string, Away>()
  /** Pause of a client after each transaction. */
  thinkMs: number
  readonly #cluster: LocalCluster
  readonly #acknowledgedAt: number[] = []
  #stopping = false
  #running: Promise<unknown> = Promise.resolve()

  constructor(cluster: LocalCluster, thinkMs: number) {
    this.#cluster = cluster
    this.thinkMs = thinkMs
  }

  start(): void {
    this.#running = Promise.all(
      this.#cluster.nodes.flatMap(own =>
        Array.from({ length: clientsPerNode }, (_, i) => this.#write(own, `${own.name}/${i}`)),
      ),
    )
  }

  /** Each transaction that is under way is still brought to its end. */
  async stop(): Promise<void> {
    this.#stopping = true
    await this.#running
  }

  /** How many have been acknowledged. */
  get acknowledged(): number {
    return this.#acknowledgedAt.length
  }

  /** Resolves when so many more have been acknowledged. */
  async more(count: number): Promise<void> {
    const target = this.acknowledged + count
    await this.#cluster.until(
      `${count} more acknowledged`,
      60_000,
      async () => this.acknowledged >= target || undefined,
    )
  }

  /** The longest time without an acknowledgement since there were so many, in ms. */
  longestGapSince(count: number): number {
    const times = this.#acknowledgedAt.slice(count - 1)
    return Math.max(0, ...times.slice(1).map((at, i) => at - times[i]!))
  }

  /** What was met that nobody should meet. */
  get unexpected(): readonly Met[] {
    return this.met.filter(({ code, connection, away }) =>
      connection ? away === undefined : code !== 'no-leader' && !(away === 'drained' && code === 'not-ready'),
    )
  }

  /** One transaction after another: to its own node, and to the next one after a connection that failed. */
  async #write(own: ClusterNode, client: string): Promise<void> {
    const { nodes } = this.#cluster
    while (!this.#stopping) {
      const bytes = this.#signed()
      const id = idOfSigned(bytes)
      this.heights.set(id, undefined)
      for (let at = nodes.indexOf(own), height: Height | undefined; height === undefined; ) {
        const node = nodes[at % nodes.length]!
        const { answer, connection } = await this.#attempt({ client, node, bytes })
        if (answer?.status === 'certified') height = answer.height!
        else await pause(retryMs)
        if (connection) at++
        this.heights.set(id, height)
      }
      this.#acknowledgedAt.push(performance.now())
      await pause(this.thinkMs)
    }
  }

  /** A grant of a token that nobody holds. */
  #signed(): Uint8Array {
    const { chainId, operator } = this.#cluster
    const { publicKey: tokenKey } = nativeSignerFromSeed('ed25519', Uint8Array.from(randomBytes(32)))
    const time = Milliseconds(Date.now())
    const expiry = Milliseconds(time + 5 * 60_000)
    const body = { type: 'identity.grant', tokenKey, quota: 1, expiry, highestLabel: 'lightweight' } as const
    return signedBody({ chainId, body, keys: operator, time })
  }

  async #attempt({ client, node, bytes }: { client: string; node: ClusterNode; bytes: Uint8Array }) {
    const before = this.away.get(node.name)
    const note = (code: string, connection: boolean) => {
      const away = before ?? this.away.get(node.name)
      this.met.push({ client, node: node.name, code, connection, away })
    }
    try {
      const response = await fetch(`${node.api}/v1/transactions`, {
        method: 'POST',
        headers: { 'content-type': 'application/octet-stream' },
        body: Uint8Array.from(bytes),
        signal: AbortSignal.timeout(answerWithinMs),
      })
      const answer = (await response.json()) as Answer
      if (answer.status !== 'certified') note(answer.code ?? `${response.status} ${answer.status}`, false)
      return { answer, connection: false }
    } catch (error) {
      const { cause = error } = error as { cause?: unknown }
      note(String((cause as { code?: unknown }).code ?? cause), true)
      return { answer: undefined, connection: true }
    }
  }
}
