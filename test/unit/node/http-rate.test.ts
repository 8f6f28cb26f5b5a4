/** The rate of requests over HTTP, on a real socket: by address, this machine's own programs apart. */
import { type IncomingHttpHeaders, request } from 'node:http'
import { afterEach, expect, test } from 'vitest'
import { createApi, listenApi } from '../../../node/service/api.ts'
import { TestChain } from '../../support/test-chain.ts'

const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

interface Answer {
  readonly status: number | undefined
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** Asks an API with this rate, each time on a connection of its own, from an address of this machine. */
async function serving(httpPerSecond: number) {
  const app = createApi({
    source: new TestChain().source(),
    readiness: () => undefined,
    failure: () => undefined,
    httpPerSecond,
    onUnexpected: error => expect.fail(String(error)),
  })
  const { hostname, port } = new URL(await listenApi(app, { host: '127.0.0.1', port: 0 }))
  closing.push(() => app.close())
  return (localAddress: string, path: string, body?: Buffer) =>
    new Promise<Answer>((resolve, reject) => {
      const method = body ? 'POST' : 'GET'
      const headers = { 'content-type': 'application/octet-stream' }
      const options = { hostname, port, path, method, headers, localAddress, agent: false }
      const asked = request(options, async response => {
        const chunks: Buffer[] = []
        for await (const chunk of response) chunks.push(chunk)
        const { statusCode: status, headers } = response
        resolve({ status, headers, body: Buffer.concat(chunks).toString() })
      })
      asked.on('error', reject)
      asked.end(body)
    })
}

test('http rate: one address is refused over it, with the time to wait, and others are not', async () => {
  const ask = await serving(1)
  const page = '/v1/headers?from=1&limit=100'
  expect((await ask('127.0.0.66', page)).status).toBe(200)
  const refused = await ask('127.0.0.66', page)
  expect(refused.status).toBe(429)
  expect(JSON.parse(refused.body)).toMatchObject({ code: 'rate-limited', status: 429 })
  // Four of its five units are taken, and three are missing.
  expect(['2', '3']).toContain(refused.headers['retry-after'])
  expect((await ask('127.0.0.67', page)).status).toBe(200)
  for (let i = 0; i < 20; i++) expect((await ask('127.0.0.1', page)).status).toBe(200)
})

test.each([
  ['a whole page', '/v1/headers?from=1', undefined],
  ['a batch, by the length of its body', '/v1/transactions/batch', Buffer.alloc(20 * 176)],
] as const)(
  'http rate: %s takes more than a small request, and all there is at most',
  async (_, path, body) => {
    const ask = await serving(0.9)
    expect((await ask('127.0.0.66', path, body)).status).not.toBe(429)
    expect((await ask('127.0.0.66', '/v1/headers/latest')).status).toBe(429)
  },
)
