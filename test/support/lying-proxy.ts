/**
 * A full node that lies: it passes requests on to a real one over HTTP and changes what it is told to on the way back.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

/** Gets the path and the honest body, gives the body that is sent. */
export type Lie = (path: string, honest: Uint8Array) => Uint8Array

export interface LyingProxy extends AsyncDisposable {
  readonly url: string
  /** Requests served, by path. */
  readonly served: string[]
  lie: Lie
}

/** Listens on a free loopback port until it is disposed. */
export async function lyingProxy(target: string): Promise<LyingProxy> {
  const served: string[] = []
  const server = createServer(async (request, response) => {
    const path = request.url ?? '/'
    served.push(path)
    try {
      const chunks: Uint8Array[] = []
      for await (const chunk of request) chunks.push(chunk as Uint8Array)
      const { method = 'GET', headers } = request
      const type = headers['content-type']
      const honest = await fetch(target + path, {
        method,
        ...(type && { headers: { 'content-type': type } }),
        ...(chunks.length > 0 && { body: Buffer.concat(chunks) }),
      })
      const body = proxy.lie(path, new Uint8Array(await honest.arrayBuffer()))
      response.writeHead(honest.status, { 'content-type': honest.headers.get('content-type') ?? '' })
      response.end(body)
    } catch {
      response.destroy()
    }
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const proxy: LyingProxy = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    served,
    lie: (_path, honest) => honest,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
  return proxy
}
