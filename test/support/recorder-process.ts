/**
 * A recorder in a process of its own, to be killed: `recorder-process.ts DIRECTORY COUNT URL…` takes as many messages of one unclean session, each
 * as a repeat that may be the first, and prints what it has accepted and what became of it.
 */

import { flushCompileCache } from 'node:module'
import { unwrap } from '../../chain/result.ts'
import { CertifiedBlocks } from '../../client/certified-blocks.ts'
import { ChainClient } from '../../client/chain-client.ts'
import { httpSource } from '../../client/http-source.ts'
import { openRecorder } from '../../mqtt-gateway/records/open-recorder.ts'
import { exchangeOf, gatewayKeys, recorderChain, requestOf } from './recorder-world.ts'

// For the next one: this one may not come to its end.
flushCompileCache()
const [directory = '', count = '', ...urls] = process.argv.slice(2)
const { checkpoint } = recorderChain()
const client = await ChainClient.open({ sources: urls.map(url => httpSource(url)), checkpoint })
await client.follower.sync()
const stopping = new AbortController()
const following = client.follower.run(stopping.signal)
const blocks = new CertifiedBlocks(client.follower, client.pool)
const { recorder, stop } = await openRecorder({
  data: directory,
  queue: { type: 'level' },
  keys: gatewayKeys,
  client,
  blocks,
  checkpoint,
  onError: error => process.stderr.write(`${error}\n`),
})
const { incarnation } = await recorder.incarnationOf('c', 'kept')

async function record(packetIdentifier: number): Promise<void> {
  const text = `m${packetIdentifier}`
  const qos = packetIdentifier % 2 === 0 ? 1 : 2
  const exchange = exchangeOf(text, incarnation, { packetIdentifier, qos, isRepeat: true })
  const accepted = unwrap(await recorder.accept(requestOf({ text, exchange })))
  process.stdout.write(`accepted ${text} ${accepted.transaction}\n`)
  const { type, transaction } = await accepted.outcome
  process.stdout.write(`${type} ${text} ${transaction}\n`)
}

await Promise.all(Array.from({ length: Number(count) }, (_, i) => record(i + 1)))
stopping.abort()
await stop()
await following
