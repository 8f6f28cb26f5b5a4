/** The HTTP API of a node closes although somebody is still connected. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { expect, test } from 'vitest'
import { createApi, listenApi } from '../../../node/service/api.ts'
import { TestChain } from '../../support/test-chain.ts'

test.each([
  ['nothing was asked', ''],
  ['half of something was asked', 'POST /v1/transactions HTTP/1.1\r\nhost: here\r\n'],
])('api: closes with a connection on which %s', { timeout: 20_000 }, async (_, asked) => {
  const app = createApi({
    source: new TestChain().source(),
    readiness: () => undefined,
    failure: () => undefined,
    httpPerSecond: 1_000,
    onUnexpected: error => {
      throw error
    },
  })
  const url = new URL(await listenApi(app, { host: '127.0.0.1', port: 0 }))
  const accepted = once(app.server, 'connection')
  const socket = connect(Number(url.port), url.hostname)
  socket.on('error', () => {})
  socket.write(asked)
  await accepted
  const closed = once(socket, 'close')
  await app.close()
  await closed
  expect(socket.destroyed).toBe(true)
})
