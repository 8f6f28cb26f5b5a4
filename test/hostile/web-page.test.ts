/** docs/THREATS.md: a web page in a browser on a node's machine, which asks the loopback address for everything it can. */
import { request } from 'node:http'
import { afterEach, expect, test } from 'vitest'
import { pause } from '../../client/deadline.ts'
import { Siege } from './siege.ts'

const closing: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

/** The status of an answer to what a page sends without asking first: a form, or a request to its own name. */
function pageAsks(api: string, headers: Readonly<Record<string, string>>): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const asked = request(`${api}/v1/transfer`, { method: 'POST', headers, agent: false }, answer => {
      answer.resume()
      resolve(answer.statusCode)
    })
    asked.on('error', reject)
    asked.end()
  })
}

test('a web page: it transfers no leadership, and clients are served as before', async () => {
  const siege = await Siege.begin({ seed: 'web page', heartbeatMs: 1_000 })
  closing.push(() => siege.end())
  const { nodes } = siege.cluster
  const leader = await siege.cluster.leader()
  const { term } = await leader.status()
  const pages = [
    {},
    { 'content-type': 'text/plain' },
    { origin: 'http://page.example' },
    { host: 'rebound.example', 'content-type': 'application/json' },
  ]
  const answers = new Set<number | undefined>()
  const { acknowledged, afterMs } = await siege.damageOf('a web page that asks for transfers', async over => {
    while (!over.aborted) {
      for (const { api } of nodes) for (const page of pages) answers.add(await pageAsks(api, page))
      await pause(20)
    }
  })
  expect([...answers].sort()).toEqual([400, 403])
  expect(acknowledged).toBeGreaterThan(0)
  expect(afterMs).toBeLessThan(1_000)
  for (const node of nodes) expect(await node.status(), node.name).toMatchObject({ term, leader: leader.id })
})
