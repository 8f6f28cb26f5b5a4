/** docs/THREATS.md: a coordination node that refuses newcomers and gives bad advice, against real processes. */
import { randomBytes } from 'node:crypto'
import { createServer } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Signer } from '../../chain/keys.ts'
import type { ChainClient } from '../../client/chain-client.ts'
import { readGenesisFile } from '../../client/genesis-file.ts'
import { httpSource } from '../../client/http-source.ts'
import { httpContact, join as joinChain } from '../../client/join.ts'
import { makeKeys, readKeyFile } from '../../client/key-directory.ts'
import { nativeSignerFromSeed } from '../../client/native-crypto.ts'
import { grant } from '../../client/operator-actions.ts'
import { multiaddrOf, playCoordination } from '../../devnet/chaos/hostile/coordination.ts'
import { Counts } from '../../devnet/chaos/hostile/counts.ts'
import { usageOf } from '../../devnet/chaos/process-usage.ts'
import { apiUrl, layout } from '../../devnet/layout.ts'
import { DevnetFixture } from '../support/devnet-fixture.ts'
import { measureDamage, timesOf } from './siege.ts'

const profile = {
  connectionLifetime: 'days',
  cores: 1,
  memoryMebibytes: 64,
  storageMebibytes: 64,
} as const
/** More than a test of any length lets in. */
const newcomers = 1_000

let devnet: DevnetFixture
let client: ChainClient
beforeAll(async () => {
  devnet = await DevnetFixture.start('hostile-coordination', [
    '--coordination',
    '2',
    '--lightweight',
    '1',
    '--devices',
    '0',
  ])
  client = await devnet.client()
})
afterAll(() => devnet.stop())

const nodeNamed = (name: string) => devnet.description.nodes.find(node => node.name === name)!

async function grantedToken(): Promise<Signer> {
  const token = nativeSignerFromSeed('ed25519', randomBytes(32))
  await grant(client, await devnet.operator(), { tokenKey: token.publicKey, quota: newcomers })
  return token
}

/** A newcomer that knows both coordination nodes, the hostile one first. */
async function join(token: Signer): Promise<void> {
  const contacts = ['coordination-1', 'coordination-2'].map(name => httpContact(apiUrl(nodeNamed(name).api)))
  const keys = makeKeys('newcomer')
  await joinChain(client, { keys, label: 'lightweight', profile, token }, contacts)
}

test('a coordination node: newcomers get in by another one, and its bad advice is checked, bounded and dropped', async () => {
  const hostile = nodeNamed('coordination-1')
  const light = nodeNamed('lightweight-1')
  const fullNodes = devnet.description.nodes
    .filter(({ label }) => label === 'full')
    .map(({ id, p2p }) => ({ id, address: multiaddrOf(p2p) }))
  let dialled = 0
  const thirdParty = createServer(socket => {
    dialled += 1
    socket.on('error', () => {}).destroy()
  })
  await new Promise<void>(resolve => thirdParty.listen(0, '127.0.0.1', resolve))
  const { port } = thirdParty.address() as { port: number }
  const token = await grantedToken()
  const source = httpSource(apiUrl(light.api))
  const usage = async () => usageOf((await source.status()).pid)
  const before = await usage()
  const height = (await source.status()).certifiedHeight
  const counts = new Counts()
  let slowestJoinMs = 0
  let misledMs = 0
  const reads = await measureDamage(
    'a coordination node, joining',
    async () => {
      const times = await timesOf(() => join(token))
      slowestJoinMs = Math.max(slowestJoinMs, ...times)
      return times
    },
    async over => {
      expect((await devnet.mote('chaos', 'kill', hostile.name)).code).toBe(0)
      const keys = await readKeyFile(layout.nodeKey(devnet.directory, hostile.name))
      const genesis = await readGenesisFile(layout.genesis(devnet.directory))
      const beganAt = performance.now()
      await playCoordination(
        {
          peer: { genesis, keys, port: hostile.p2p.port },
          api: hostile.api,
          fullNodes,
          thirdParty: { host: '127.0.0.1', port },
        },
        counts,
        over,
      )
      misledMs = performance.now() - beganAt
    },
    () => counts.of('assignments refused') > 0,
  )
  const after = await usage()
  process.stdout.write(`${JSON.stringify({ ...counts.all, dialled, slowestJoinMs, before, after })}\n`)
  expect(counts.of('refused')).toBeGreaterThan(0)
  expect(counts.of('assignments refused')).toBeGreaterThan(0)
  // Those name active full nodes by their own signatures, and the node goes where those say.
  expect(counts.of('assignments taken')).toBeLessThanOrEqual(Math.ceil(11 + misledMs / 2_000))
  expect(dialled).toBe(0)
  // A newcomer that is kept waiting goes to the next one after 5 s.
  expect(reads.acknowledged).toBeGreaterThan(0)
  expect(slowestJoinMs).toBeLessThan(20_000)
  const now = await source.status()
  expect(now.certifiedHeight).toBeGreaterThan(height)
  expect(fullNodes.map(({ id }) => id)).toContain(now.servedBy)
  if (before && after) expect(after.memoryBytes - before.memoryBytes).toBeLessThan(100 * 1024 * 1024)
  thirdParty.close()
})
