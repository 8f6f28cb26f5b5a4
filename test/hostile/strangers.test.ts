/** docs/THREATS.md: a stranger with sockets, and an operator, against real processes. */
import { connect, type Socket } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import type { ClusterNode } from '../../bench/local-cluster.ts'
import type { Milliseconds } from '../../chain/brands.ts'
import { pause } from '../../client/deadline.ts'
import { httpSource } from '../../client/http-source.ts'
import { signedBody } from '../../client/submission.ts'
import { readNodeConfig } from '../../node/config.ts'
import { Siege } from './siege.ts'

/** Nodes have another one: limits are by address, and who shares a stranger's shares its limits. */
const strangersAddress = '127.0.0.66'
/** To each node: more than one address may have open that has proven nothing. */
const socketsPerNode = 300

const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function besieged(seed: string): Promise<Siege> {
  const siege = await Siege.begin({ seed, heartbeatMs: 1_000 })
  closing.push(() => siege.end())
  return siege
}

/** Silent sockets to where nodes talk to one another; those that are closed are opened again. */
async function fill(nodes: readonly ClusterNode[], over: AbortSignal): Promise<void> {
  const ports = await Promise.all(
    nodes.map(async ({ directory }) => (await readNodeConfig(`${directory}/config.json`)).p2p!.port),
  )
  const open = new Set<Socket>()
  const openAt = (port: number) => {
    const socket = connect({ port, host: '127.0.0.1', localAddress: strangersAddress })
    open.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => open.delete(socket))
  }
  while (!over.aborted) {
    for (let i = open.size; i < socketsPerNode * ports.length; i++) openAt(ports[i % ports.length]!)
    await pause(100)
  }
  for (const socket of open) socket.destroy()
}

test('a stranger with sockets: a full node that comes back is let in beside hundreds of silent connections', async () => {
  const siege = await besieged('strangers')
  const { nodes } = siege.cluster
  const damage = await siege.damageOf('a stranger with silent sockets', over => fill(nodes, over))
  expect(damage.acknowledged).toBeGreaterThan(0)
  const ending = new AbortController()
  const filling = fill(nodes, ending.signal)
  await pause(300)
  const [first, second] = nodes
  await first!.end('SIGKILL')
  await first!.start()
  const { height } = await second!.status()
  const level = await siege.cluster.until('it is level', 20_000, async () => {
    const status = await first!.status().catch(() => undefined)
    return status && status.certifiedHeight >= height ? status : undefined
  })
  ending.abort()
  await filling
  expect(level.leader).toBeDefined()
})

test('an operator: no single command takes a consenter away, and the chain goes on', async () => {
  const siege = await besieged('operator')
  const { nodes, operator, chainId } = siege.cluster
  const answers: unknown[] = []
  const { acknowledged } = await siege.damageOf('an operator that revokes consenters', async over => {
    while (!over.aborted)
      for (const { id, api } of nodes) {
        const time = Date.now() as Milliseconds
        const body = { type: 'identity.revoke', subject: id, expectedVersion: 1, reason: 'revoked' } as const
        answers.push(
          await httpSource(api).submit(signedBody({ chainId, body, keys: operator, time }), 'certified'),
        )
      }
  })
  expect(acknowledged).toBeGreaterThan(0)
  expect(answers.length).toBeGreaterThan(0)
  for (const answer of answers) expect(answer).toMatchObject({ status: 'invalid', code: 'invalid-state' })
})
