/** The gateway's health answers have the form of a node's, say why it is not ready, and no request ends the process. */
import { connect } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { MoteError } from '../../../chain/result.ts'
import { openStatusServer, type StatusServer } from '../../../mqtt-gateway/server/status-server.ts'
import { unreadiness } from '../../contract/health.ts'

let missing: MoteError | undefined
let server: StatusServer
let base: string

beforeEach(async () => {
  missing = undefined
  const source = { readiness: () => missing, status: () => ({ name: 'gateway' }) }
  server = await openStatusServer({ host: '127.0.0.1', port: 0 }, source)
  base = `http://127.0.0.1:${server.address.port}`
})
afterEach(() => server.close())

test('health of the gateway: alive, ready, and a problem with the reason when it is not', async () => {
  expect(await unreadiness(base)).toBeUndefined()
  missing = new MoteError('stale', 'head: too old')
  expect(await unreadiness(base)).toMatchObject({ code: 'stale', detail: 'head: too old' })
})

test('gateway: its status is JSON; any other path or method is a problem', async () => {
  const get = async (path: string, method = 'GET') => {
    const response = await fetch(base + path, { method })
    return { status: response.status, body: (await response.json()) as object }
  }
  expect(await get('/v1/status')).toEqual({ status: 200, body: { name: 'gateway' } })
  expect(await get('/nowhere')).toMatchObject({ status: 404, body: { code: 'not-found' } })
  expect(await get('/readyz', 'POST')).toMatchObject({ status: 405, body: { code: 'not-found' } })
})

test.each(['//', 'http://', '*'])(
  'gateway: the path %s is not found, and the next request is answered',
  async path => {
    const answer = await new Promise<string>((resolve, reject) => {
      const socket = connect(server.address.port, '127.0.0.1', () =>
        socket.write(`GET ${path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n`),
      )
      let text = ''
      socket.on('data', chunk => {
        text += chunk
      })
      socket.on('error', reject)
      socket.on('close', () => resolve(text))
    })
    expect(answer).toMatch(/^HTTP\/1\.1 404 [\s\S]*"code":"not-found"/)
    expect(await unreadiness(base)).toBeUndefined()
  },
)
