/**
 * What a client meets that knows nothing of this project's client library: `fetch`, and a loop that sends the same bytes
 * again. It writes through two leader kills (SIGKILL) and one planned transfer of leadership.
 *
 * Allowed are the retryable answer `no-leader`, from any node, and refused, reset or closed connections to the very
 * process that was killed, until it is back. A client whose node stays up therefore sees `no-leader` at worst, and mostly
 * nothing: its node keeps the transaction and hands it to the next leader.
 */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type ClusterNode, createCluster, derivedKeys, type LocalCluster } from '../../bench/local-cluster.ts'
import { Milliseconds } from '../../chain/brands.ts'
import { keyIdOf } from '../../chain/keys.ts'
import { signerFromSeed } from '../../chain/noble-crypto.ts'
import { parseTransaction, signTransaction } from '../../chain/transaction.ts'

const seed = 'plain retry test'
const clientsPerNode = 2
const retryMs = 50
const answerWithinMs = 30_000
/** Pause of a client after each transaction: what is tested is not how many there are. */
const thinkMs = 60

/** One attempt that was not the final answer. */
interface Met {
  readonly client: string
  readonly node: string
  /** Our code from the answer, or the platform's for a connection that failed. */
  readonly code: string
  readonly connection: boolean
  /** The process at this address had been killed and was not back when the attempt began or ended. */
  readonly nodeWasKilled: boolean
}

interface Answer {
  readonly status?: string
  readonly code?: string
  readonly height?: number
}

let cluster: LocalCluster
const met: Met[] = []
const killed = new Set<string>()
/** Every transaction that was sent, and the height that was acknowledged. */
const heights = new Map<string, number | undefined>()
let stopping = false
let running: Promise<unknown>

beforeAll(async () => {
  cluster = await createCluster({ seed, heartbeatMs: 500 })
  await cluster.start()
  running = Promise.all(
    cluster.nodes.flatMap(own =>
      Array.from({ length: clientsPerNode }, (_, i) => write(own, `${own.name}/${i}`)),
    ),
  )
})

afterAll(async () => {
  stopping = true
  await cluster?.stop()
})

const { signing, id: operator } = derivedKeys(seed, 'operator')
const signer = signerFromSeed('ed25519', signing.seed.expose())

/** A grant of a token that nobody holds. */
function signed(): Uint8Array {
  const tokenKey = signerFromSeed('ed25519', Uint8Array.from(randomBytes(32))).publicKey
  const expiry = Milliseconds(Date.now() + 5 * 60_000)
  return signTransaction(
    {
      version: 1,
      chainId: cluster.chainId,
      body: { type: 'identity.grant', tokenKey, quota: 1, expiry, highestLabel: 'lightweight' },
      signer: { deviceId: operator, keyId: keyIdOf(signing.publicKey) },
      nonce: Uint8Array.from(randomBytes(16)),
      expiry,
    },
    signer,
  )
}

function idOf(bytes: Uint8Array): string {
  const parsed = parseTransaction(bytes)
  if (!parsed.ok) throw new Error(parsed.error.detail)
  return parsed.value.id
}

/** One transaction after another: to its own node, and to the next one after a connection that failed. */
async function write(own: ClusterNode, client: string): Promise<void> {
  while (!stopping) {
    const bytes = signed()
    const id = idOf(bytes)
    heights.set(id, undefined)
    for (let at = cluster.nodes.indexOf(own), height: number | undefined; height === undefined; ) {
      const node = cluster.nodes[at % cluster.nodes.length]!
      const { answer, connection } = await attempt({ client, node, bytes })
      if (answer?.status === 'certified') height = answer.height!
      else await new Promise(resolve => setTimeout(resolve, retryMs))
      if (connection) at++
      heights.set(id, height)
    }
    await new Promise(resolve => setTimeout(resolve, thinkMs))
  }
}

async function attempt({ client, node, bytes }: { client: string; node: ClusterNode; bytes: Uint8Array }) {
  const before = killed.has(node.name)
  const note = (code: string, connection: boolean) =>
    met.push({ client, node: node.name, code, connection, nodeWasKilled: before || killed.has(node.name) })
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

async function more(count: number): Promise<void> {
  const acknowledged = () => [...heights.values()].filter(height => height !== undefined).length
  const target = acknowledged() + count
  await cluster.until(`${count} more acknowledged`, 60_000, async () => acknowledged() >= target || undefined)
}

async function killLeader(): Promise<ClusterNode> {
  const leader = await cluster.leader()
  killed.add(leader.name)
  expect(await leader.end('SIGKILL')).toBe('SIGKILL')
  await more(40)
  await leader.start()
  killed.delete(leader.name)
  return leader
}

test('a plain retry through two leader kills and a transfer: "no leader" at worst, and nothing twice', async () => {
  await more(40)
  const first = await killLeader()
  await more(40)
  const old = await cluster.leader()
  const transfer = await old.transfer()
  expect(transfer.status).toBe(200)
  await more(40)
  expect((await cluster.leader()).name).not.toBe(old.name)
  const second = await killLeader()
  await more(40)
  stopping = true
  await running

  const others = met.filter(({ nodeWasKilled }) => !nodeWasKilled)
  expect(others.filter(({ code, connection }) => connection || code !== 'no-leader')).toEqual([])
  const atKilled = met.filter(({ nodeWasKilled }) => nodeWasKilled)
  expect(atKilled.filter(({ code, connection }) => !connection && code !== 'no-leader')).toEqual([])
  expect(atKilled.every(({ node }) => node === first.name || node === second.name)).toBe(true)
  expect(atKilled.length, 'clients of the killed nodes notice').toBeGreaterThan(0)

  const last = Math.max(...[...heights.values()].map(height => height ?? Number.POSITIVE_INFINITY))
  for (const node of cluster.nodes) expect(await executedAt(node, last), node.name).toEqual(heights)
})

/** Every transaction of ours that a node's blocks have executed, with its height. Throws for one that is there twice. */
async function executedAt(node: ClusterNode, last: number): Promise<ReadonlyMap<string, number>> {
  await cluster.until(`${node.name} in step`, 30_000, async () => {
    const status = await node.status().catch(() => undefined)
    return (status?.certifiedHeight ?? 0) >= last || undefined
  })
  const executed = new Map<string, number>()
  for (let height = 1; height <= last; height++) {
    const response = await fetch(`${node.api}/v1/blocks/${height}`)
    const { transactions } = (await response.json()) as { transactions: { id: string; code: string }[] }
    for (const { id, code } of transactions) {
      // Ordered once more by a retry, and not executed again.
      if (code === 'duplicate') continue
      expect(code, id).toBe('ok')
      if (executed.has(id)) throw new Error(`${id}: at height ${executed.get(id)} and ${height}`)
      executed.set(id, height)
    }
  }
  return executed
}
