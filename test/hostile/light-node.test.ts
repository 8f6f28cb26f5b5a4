/** docs/THREATS.md: a lightweight node that floods full nodes with requests, and says what only full nodes say, against real processes. */
import { afterEach, expect, test } from 'vitest'
import { derivedKeys } from '../../bench/local-cluster.ts'
import { Counts } from '../../devnet/chaos/hostile/counts.ts'
import { floodRequests, sendRaftFrames } from '../../devnet/chaos/hostile/light-node.ts'
import { defaultNetworkLimits } from '../../node/network/protocols.ts'
import { queries } from '../../node/network/request-table.ts'
import { addressesOf, phaseMs, Siege } from './siege.ts'

const seed = 'light node'
const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

test('a lightweight node that floods: it is answered by its quota, its Raft frames close its connection, and the others are served', async () => {
  const siege = await Siege.begin({ seed, lightweight: 2, heartbeatMs: 1_000 })
  closing.push(() => siege.end())
  const { genesis, nodes } = siege.cluster
  const leader = await siege.cluster.leader()
  const { term } = await leader.status()
  const addresses = await addressesOf(nodes)
  // One process cannot ask every node for more than its quota; it asks the one whose work all wait for.
  const asked = addresses.filter(({ id }) => id === leader.id)
  const flooder = { genesis, keys: derivedKeys(seed, 'light-1', true) }
  const asker = new Counts()
  let askedMs = 0
  const asking = await siege.damageOf(
    'a lightweight node that asks without end',
    async over => {
      const beganAt = performance.now()
      await floodRequests(flooder, asked, asker, over)
      askedMs = performance.now() - beganAt
    },
    () => asker.of('rate-limited') > 0,
  )
  const speaker = new Counts()
  const speaking = await siege.damageOf(
    'a lightweight node that sends Raft frames',
    over => sendRaftFrames({ genesis, keys: derivedKeys(seed, 'light-2', true) }, addresses, speaker, over),
    () => speaker.of('frames') > 0,
  )
  process.stdout.write(`${JSON.stringify({ ...asker.all, ...speaker.all, askedMs: Math.round(askedMs) })}\n`)
  const { provenBurst, provenPerSecond } = defaultNetworkLimits
  const quota = (provenBurst + (provenPerSecond * askedMs) / 1_000) / queries.headers.cost
  expect(asker.of('answered')).toBeGreaterThan(0)
  expect(asker.of('answered')).toBeLessThanOrEqual(Math.ceil(quota))
  expect(asker.of('rate-limited')).toBeGreaterThan(0)
  // The last frames may close their connections when nobody looks any more.
  expect(speaker.of('closed')).toBeGreaterThan(0)
  expect(speaker.of('closed')).toBeGreaterThanOrEqual(speaker.of('frames') - nodes.length)
  for (const { acknowledged, duringMs, afterMs } of [asking, speaking]) {
    expect(acknowledged).toBeGreaterThan(phaseMs / 1_000)
    expect(duringMs).toBeLessThan(1_000)
    expect(afterMs).toBeLessThan(1_000)
  }
  for (const node of nodes) expect(await node.status()).toMatchObject({ leader: leader.id, term })
})
