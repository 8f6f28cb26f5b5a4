/** docs/THREATS.md: a stranger with sockets, and an operator, against real processes. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Milliseconds } from '../../chain/brands.ts'
import { checkpointFromGenesis } from '../../chain/genesis.ts'
import { ChainClient } from '../../client/chain-client.ts'
import { pause } from '../../client/deadline.ts'
import { httpSource } from '../../client/http-source.ts'
import { revoke, suspend } from '../../client/operator-actions.ts'
import { signedBody } from '../../client/submission.ts'
import { Counts } from '../../devnet/chaos/hostile/counts.ts'
import { rotateKeys } from '../../devnet/chaos/hostile/device.ts'
import { holdSilentSockets } from '../../devnet/chaos/hostile/strangers.ts'
import { portsOf, Siege } from './siege.ts'

const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

async function besieged(seed: string): Promise<Siege> {
  const siege = await Siege.begin({ seed, heartbeatMs: 1_000 })
  closing.push(() => siege.end())
  return siege
}

test('a stranger with sockets: a full node that comes back is let in beside hundreds of silent connections', async () => {
  const siege = await besieged('strangers')
  const { nodes } = siege.cluster
  const targets = await portsOf(nodes)
  const counts = new Counts()
  const damage = await siege.damageOf(
    'a stranger with silent sockets',
    over => holdSilentSockets(targets, counts, over),
    () => counts.of('sockets') > 0,
  )
  expect(damage.acknowledged).toBeGreaterThan(0)
  expect(counts.of('sockets')).toBeGreaterThan(0)
  const ending = new AbortController()
  const filling = holdSilentSockets(targets, counts, ending.signal)
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

describe('an operator', () => {
  let siege: Siege
  beforeAll(async () => {
    siege = await Siege.begin({ seed: 'operator', heartbeatMs: 1_000 })
  })
  afterAll(() => siege.end())

  test('takes no consenter away by any single command, and the chain goes on', async () => {
    const { nodes, operator, chainId } = siege.cluster
    const answers: unknown[] = []
    const { acknowledged } = await siege.damageOf('an operator that revokes consenters', async over => {
      while (!over.aborted)
        for (const { id, api } of nodes) {
          const time = Date.now() as Milliseconds
          const body = { type: 'identity.revoke', subject: id, reason: 'revoked' } as const
          const bytes = signedBody({ chainId, body, keys: operator, time })
          answers.push(await httpSource(api).submit(bytes, 'certified'))
        }
    })
    expect(acknowledged).toBeGreaterThan(0)
    expect(answers.length).toBeGreaterThan(0)
    for (const answer of answers) expect(answer).toMatchObject({ status: 'invalid', code: 'invalid-state' })
  })

  test('suspends and revokes a device that rotates its keys in every block', async () => {
    const { nodes, operator, genesis, devices } = siege.cluster
    const device = devices.at(-1)!
    const sources = nodes.map(({ api }) => httpSource(api))
    const { api } = await siege.cluster.leader()
    const counts = new Counts()
    const ending = new AbortController()
    closing.push(async () => ending.abort())
    const { chainId } = siege.cluster
    const rotating = rotateKeys({ keys: device, chainId }, httpSource(api), counts, ending.signal)
    await siege.cluster.until('it rotates', 10_000, async () => counts.of('rotations') > 10 || undefined)
    const client = await ChainClient.open({ sources, checkpoint: checkpointFromGenesis(genesis) })
    const before = counts.of('rotations')
    const suspended = await suspend(client, operator, { id: device.id, reason: 'odd' })
    expect(suspended.record.value?.status).toBe('suspended')
    expect(counts.of('rotations')).toBeGreaterThan(before)
    expect(await rotating).toBe('signer-not-active')
    const revoked = await revoke(client, operator, { id: device.id, reason: 'stolen' })
    expect(revoked.record.value?.status).toBe('revoked')
  })
})
