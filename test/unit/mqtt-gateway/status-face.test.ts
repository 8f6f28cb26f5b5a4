/** The gateway's health answers have the form of a node's, and say why it is not ready. */
import { expect, test } from 'vitest'
import { MoteError } from '../../../chain/result.ts'
import { openStatusFace } from '../../../mqtt-gateway/status-face.ts'

test('health of the gateway: alive, ready, and a problem with the reason when it is not', async () => {
  let missing: MoteError | undefined = new MoteError('stale', 'head: too old')
  const face = await openStatusFace(
    { host: '127.0.0.1', port: 0 },
    { readiness: () => missing, status: () => ({ name: 'gateway' }) },
  )
  const get = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${face.address.port}${path}`)
    const body = (await response.json()) as object
    return { status: response.status, type: response.headers.get('content-type'), body }
  }
  expect(await get('/livez')).toMatchObject({ status: 200, body: { status: 'alive' } })
  expect(await get('/readyz')).toMatchObject({
    status: 503,
    type: 'application/problem+json',
    body: { code: 'stale', detail: 'head: too old', status: 503 },
  })
  missing = undefined
  expect(await get('/readyz')).toMatchObject({ status: 200, body: { status: 'ready' } })
  expect(await get('/nowhere')).toMatchObject({ status: 404, body: { code: 'not-found' } })
  await face.close()
})
