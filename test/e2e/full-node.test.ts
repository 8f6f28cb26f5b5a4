import { request } from 'node:http'
import { connect } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type AcknowledgedRequest, LoadClients } from '../../bench/load-clients.ts'
import { type ClusterNode, createCluster, type LocalCluster } from '../../bench/local-cluster.ts'
import { Height, Milliseconds } from '../../chain/brands.ts'
import { checkpointFromGenesis } from '../../chain/genesis.ts'
import { headerHash } from '../../chain/header.ts'
import { keyIdOf } from '../../chain/keys.ts'
import { follow, verifyStateAnswer } from '../../chain/light-client.ts'
import { groupIdOf, stateKeyOf } from '../../chain/records.ts'
import { unwrap } from '../../chain/result.ts'
import { signTransaction } from '../../chain/transaction.ts'
import { httpSource } from '../../client/http-source.ts'
import { signerOf } from '../../client/key-directory.ts'
import { nativeVerifier } from '../../client/native-crypto.ts'

let cluster: LocalCluster

beforeAll(async () => {
  cluster = await createCluster({ devices: 16, seed: 'full-node test', heartbeatMs: 500 })
  await cluster.start()
})

afterAll(async () => {
  await cluster.stop()
})

const sourceOf = (node: ClusterNode) => httpSource(node.api)

function signedGroup(device: number, name: string): Uint8Array {
  const keys = cluster.devices[device]!
  return signTransaction(
    {
      version: 1,
      chainId: cluster.chainId,
      body: { type: 'group.create', name, epochKeyHash: undefined },
      signer: { deviceId: keys.id, keyId: keyIdOf(keys.signing.publicKey) },
      nonce: new Uint8Array(16).fill(7),
      expiry: Milliseconds(Date.now() + 300_000),
    },
    signerOf(keys),
  )
}

/** Asks for the header hashes of heights 1 to `to`. */
async function hashesOf(node: ClusterNode, to: number): Promise<string[]> {
  const hashes: string[] = []
  while (hashes.length < to) {
    const page = await sourceOf(node).headersFrom(Height(hashes.length + 1), to - hashes.length)
    expect(page.length).toBeGreaterThan(0)
    for (const { header } of page) hashes.push(headerHash(header))
  }
  return hashes
}

function untilCertified(node: ClusterNode, height: number): Promise<true> {
  return cluster.until(`${node.name} at height ${height}`, 30_000, async () => {
    const status = await node.status().catch(() => undefined)
    return status && status.certifiedHeight >= height ? true : undefined
  })
}

test('full node: a signed transaction is certified, and a light client verifies what it changed', async () => {
  const status = await sourceOf(cluster.nodes[0]!).submit(signedGroup(0, 'proof'), 'certified')
  expect(status).toMatchObject({ status: 'certified' })
  const source = sourceOf(cluster.nodes[1]!)
  await untilCertified(cluster.nodes[1]!, status.height!)
  const run = await source.headersFrom(Height(1), 256)
  const trusted = unwrap(follow(checkpointFromGenesis(cluster.genesis), run, nativeVerifier))
  const key = stateKeyOf.group(groupIdOf(cluster.devices[0]!.id, 'proof'))
  const verified = unwrap(verifyStateAnswer(trusted, key, await source.state(key), nativeVerifier))
  expect(verified.value).toBeDefined()
  expect(verified.height).toBeGreaterThanOrEqual(status.height!)
  const history = await source.deviceTransactions(cluster.devices[0]!.id)
  expect(history).toMatchObject([{ id: status.id, height: status.height, kind: 'group.create' }])
})

test('full node: the same bytes get the same answer from every node', async () => {
  const bytes = signedGroup(1, 'again')
  const first = await sourceOf(cluster.nodes[2]!).submit(bytes, 'certified')
  for (const node of cluster.nodes) expect(await sourceOf(node).submit(bytes, 'certified')).toEqual(first)
})

test('full node: leader killed under load, nothing acknowledged is lost, it comes back and catches up', async () => {
  const acknowledged: AcknowledgedRequest[] = []
  const load = new LoadClients({
    chainId: cluster.chainId,
    apis: cluster.nodes.map(node => node.api),
    devices: cluster.devices.slice(2),
    wait: 'certified',
    onAcknowledged: each => acknowledged.push(each),
    requestTimeoutMs: 5_000,
  })
  const more = (count: number) => {
    const target = acknowledged.length + count
    return cluster.until(
      `${count} more acknowledged`,
      30_000,
      async () => acknowledged.length >= target || undefined,
    )
  }
  await load.start()
  await more(100)
  const old = await cluster.leader()
  const { term } = await old.status()
  const before = acknowledged.length
  await old.end('SIGKILL')
  await more(100)
  const next = await cluster.leader()
  expect(next.name).not.toBe(old.name)
  expect((await next.status()).term).toBeGreaterThan(term)
  await old.start()
  await more(100)
  await load.stop()
  expect(load.failures).toEqual([])
  expect(before).toBeGreaterThanOrEqual(100)

  const top = Math.max(...acknowledged.map(each => each.height))
  for (const node of cluster.nodes) await untilCertified(node, top)
  const [first, ...others] = await Promise.all(cluster.nodes.map(node => hashesOf(node, top)))
  for (const other of others) expect(other).toEqual(first)
  for (const node of cluster.nodes) {
    const present = new Map<string, number>()
    for (let height = 1; height <= top; height++) {
      const block = (await (await fetch(`${node.api}/v1/blocks/${height}`)).json()) as {
        transactions: { id: string; code: string }[]
      }
      for (const { id, code } of block.transactions) if (code === 'ok') present.set(id, height)
    }
    expect(acknowledged.filter(({ id, height }) => present.get(id) !== height)).toEqual([])
  }
})

interface RawAnswer {
  readonly status: number
  readonly type: string
  readonly body: string
}

function send(
  path: string,
  options: { method?: string; type?: string; body?: Uint8Array | string } = {},
): Promise<RawAnswer> {
  const { method = 'GET', type, body } = options
  return new Promise((resolve, reject) => {
    const headers = type === undefined ? {} : { 'content-type': type }
    const outgoing = request(`${cluster.nodes[0]!.api}${path}`, { method, headers }, incoming => {
      let text = ''
      incoming.on('data', chunk => {
        text += String(chunk)
      })
      incoming.on('end', () =>
        resolve({
          status: incoming.statusCode ?? 0,
          type: incoming.headers['content-type'] ?? '',
          body: text,
        }),
      )
    })
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

const octets = 'application/octet-stream'
const post = (body: Uint8Array | string, path = '/v1/transactions', type = octets) =>
  send(path, { method: 'POST', type, body })
const flipped = () => {
  const bytes = signedGroup(3, 'flipped')
  bytes[bytes.length - 1]! ^= 1
  return bytes
}

test.each([
  ['octets that are no transaction', () => post(new Uint8Array([1, 2, 3])), 400, 'malformed'],
  ['no body', () => post(''), 400, 'malformed'],
  ['a body over the limit', () => post(new Uint8Array(20_000)), 413, 'too-large'],
  ['another content type', () => post('{}', '/v1/transactions', 'application/json'), 415, 'malformed'],
  ['an unknown wait', () => post(flipped(), '/v1/transactions?wait=soon'), 400, 'malformed'],
  ['a batch that is none', () => post(new Uint8Array([0x93, 1]), '/v1/transactions/batch'), 400, 'malformed'],
  ['an id that is none', () => send('/v1/transactions/xyz'), 400, 'malformed'],
  ['a height that is none', () => send('/v1/headers/-1'), 400, 'malformed'],
  ['a height with a leading zero', () => send('/v1/headers/01'), 400, 'malformed'],
  ['an id in upper case', () => send(`/v1/devices/${'AB'.repeat(32)}`), 400, 'malformed'],
  ['a height above the chain', () => send('/v1/headers/999999'), 404, 'height-not-available'],
  ['a state key that is none', () => send(`/v1/state/${'g'.repeat(64)}`), 400, 'malformed'],
  ['a block above the chain', () => send('/v1/blocks/999999'), 404, 'not-found'],
  ['an unknown route', () => send('/v2/nothing'), 404, 'not-found'],
])('full node: %s gets a typed problem', async (_name, ask, status, code) => {
  const answer = await ask()
  expect(answer.type).toContain('application/problem+json')
  expect(JSON.parse(answer.body)).toMatchObject({ status, code })
  expect(answer.status).toBe(status)
})

test('full node: a body over the limit is refused at its announced length, before it comes', async () => {
  const url = `${cluster.nodes[0]!.api}/v1/transactions`
  const headers = { 'content-type': octets, 'content-length': String(2 ** 29) }
  const status = await new Promise((resolve, reject) => {
    const outgoing = request(url, { method: 'POST', headers }, incoming => {
      resolve(incoming.statusCode)
      outgoing.destroy()
    })
    outgoing.on('error', reject)
    outgoing.write('the first bytes')
  })
  expect(status).toBe(413)
})

test('full node: a forged signature is refused with its code, and the process is sound after all this', async () => {
  const answer = await post(flipped())
  expect(JSON.parse(answer.body)).toMatchObject({ status: 'refused', code: 'bad-signature' })
  await new Promise<void>(resolve => {
    const { port, hostname } = new URL(cluster.nodes[0]!.api)
    const socket = connect(Number(port), hostname, () => socket.write('\u0000\u0001garbage\r\n\r\n'))
    socket.on('error', () => resolve())
    socket.on('close', () => resolve())
    socket.resume()
  })
  expect(await send('/livez')).toMatchObject({ status: 200 })
  expect(await send('/readyz')).toMatchObject({ status: 200 })
  expect((await sourceOf(cluster.nodes[0]!).submit(signedGroup(1, 'sound'), 'certified')).status).toBe(
    'certified',
  )
})

test('full node: a wait for a header ends with the next one, or with its time', async () => {
  const source = sourceOf(cluster.nodes[0]!)
  const head = await source.certifiedHeader('latest')
  const next = await source.waitForHeader(head.header.height, 10_000)
  expect(next!.header.height).toBeGreaterThan(head.header.height)
  expect(await source.waitForHeader(Height(1_000_000), 50)).toBeUndefined()
})

test('full node: SIGTERM drains: the leader transfers its leadership, the process ends with code 0, and it starts again', async () => {
  const leader = await cluster.leader()
  expect(await leader.end('SIGTERM')).toBe(0)
  const next = await cluster.leader()
  expect(next.name).not.toBe(leader.name)
  await leader.start()
  const { height } = await next.status()
  await untilCertified(leader, height)
})
