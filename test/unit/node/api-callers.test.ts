/** Who may change something over a node's HTTP API, on a real socket: no web page, and an operator with the token of the directory. */
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { grantOperatorAccess } from '../../../client/operator-access.ts'
import { adminRoutes, createApi, listenApi } from '../../../node/service/api.ts'
import { keysOf, TestChain } from '../../support/test-chain.ts'

const data = mkdtempSync(join(tmpdir(), 'mote-operator-'))
const id = keysOf('full-1').id
let transfers = 0
let token: string
let app: ReturnType<typeof createApi>
let url: URL

beforeAll(async () => {
  token = await grantOperatorAccess(data)
  const transfer = async () => {
    transfers += 1
    return { from: id, to: id, term: 1, durationMs: 1 }
  }
  app = createApi({
    source: new TestChain().source(),
    readiness: () => undefined,
    failure: () => undefined,
    httpPerSecond: 1_000,
    onUnexpected: error => expect.fail(String(error)),
    extend: routes => adminRoutes(routes, { token, configuration: { name: 'here' }, transfer }),
  })
  url = new URL(await listenApi(app, { host: '127.0.0.1', port: 0 }))
})
afterAll(async () => {
  await app.close()
  rmSync(data, { recursive: true })
})
beforeEach(() => {
  transfers = 0
})

type Headers = Readonly<Record<string, string>>

/** `fetch` would not let a test choose `Host` and `Origin`. */
function ask(method: string, path: string, headers: Headers, body = ''): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = url
    const asked = request({ hostname, port, method, path, headers, agent: false }, response => {
      response.resume()
      resolve(response.statusCode)
    })
    asked.on('error', reject)
    asked.end(body)
  })
}

const json = { 'content-type': 'application/json' }
const octets = { 'content-type': 'application/octet-stream' }
const operator = () => ({ authorization: `Bearer ${token}` })
const transfer = (headers: Headers) => ask('POST', '/v1/transfer', headers, '{}')

test('api callers: an operator transfers leadership, by any address of this machine', async () => {
  for (const host of ['127.0.0.1', 'localhost:4100', 'LOCALHOST', '[::1]:4100', '192.0.2.1:80'])
    expect(await transfer({ ...json, ...operator(), host }), host).toBe(200)
  expect(transfers).toBe(5)
})

test.each<[string, () => Headers]>([
  ['no token', () => json],
  ['a wrong token', () => ({ ...json, authorization: `Bearer ${'0'.repeat(64)}` })],
  ['an origin', () => ({ ...json, ...operator(), origin: 'http://127.0.0.1:4100' })],
  ['the origin of a file', () => ({ ...json, ...operator(), origin: 'null' })],
  ['the name of another host', () => ({ ...json, ...operator(), host: 'rebound.example:4100' })],
  ['a name that begins like an address', () => ({ ...json, ...operator(), host: '127.0.0.1.example' })],
])('api callers: with %s nobody transfers leadership', async (_what, headers) => {
  expect(await transfer(headers())).toBe(403)
  expect(transfers).toBe(0)
})

test('api callers: what a form can send changes nothing', async () => {
  const forms = [
    undefined,
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
  ]
  for (const type of forms) {
    const headers = { ...operator(), ...(type !== undefined && { 'content-type': type }) }
    expect(await transfer(headers), type).toBe(400)
  }
  expect(transfers).toBe(0)
})

test('api callers: a web page submits no transaction; whoever has its bytes does', async () => {
  const submit = (headers: Headers) => ask('POST', '/v1/transactions?wait=none', headers, 'x')
  expect(await submit({ ...octets, origin: 'http://page.example' })).toBe(403)
  expect(await submit({ ...octets, host: 'rebound.example' })).toBe(403)
  expect(await submit(octets)).not.toBe(403)
})

test('api callers: the configuration is for the operator; what changes nothing asks for no token', async () => {
  expect(await ask('GET', '/v1/configuration', {})).toBe(403)
  expect(await ask('GET', '/v1/configuration', operator())).toBe(200)
  expect(await ask('GET', '/livez', { host: 'a.name.example', origin: 'http://page.example' })).toBe(200)
})

test('api callers: the token is for this user only, and another one after each start', async () => {
  expect(statSync(join(data, 'operator.json')).mode & 0o777).toBe(0o600)
  expect(await grantOperatorAccess(data)).not.toBe(token)
})
