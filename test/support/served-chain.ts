/** A chain source behind the HTTP API of a full node, as far as clients ask it: for commands without processes. */
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { blockCodec, receiptsCodec } from '../../chain/block.ts'
import { blockLeavesCodec } from '../../chain/block-leaves.ts'
import { DeviceId, GroupId, Height, StateKey, TransactionId } from '../../chain/brands.ts'
import { decodeOwn, encode } from '../../chain/codec.ts'
import { errorTable } from '../../chain/errors.ts'
import { certifiedHeaderCodec, stateAnswerCodec } from '../../chain/light-client.ts'
import { MoteError } from '../../chain/result.ts'
import {
  groupAnswerCodec,
  headerListCodec,
  type ListedType,
  recordPageCodec,
  submissionCodec,
} from '../../client/chain-source.ts'
import type { TestSource } from './test-source.ts'

export interface ServedChain extends AsyncDisposable {
  readonly host: string
  readonly port: number
}

/** Listens on a free loopback port until it is disposed. */
export async function serveChain(source: TestSource): Promise<ServedChain> {
  const server = createServer(async (request, response) => {
    const gone = new AbortController()
    response.on('close', () => gone.abort())
    try {
      const answer = await answerOf(source, request, gone.signal)
      const isBytes = answer instanceof Uint8Array
      response.writeHead(answer === undefined ? 204 : 200, {
        'content-type': isBytes ? 'application/octet-stream' : 'application/json',
      })
      response.end(isBytes ? answer : answer && JSON.stringify(answer))
    } catch (error) {
      const { code, detail } = error instanceof MoteError ? error : new MoteError('internal', String(error))
      response.writeHead(errorTable[code].http, { 'content-type': 'application/problem+json' })
      response.end(JSON.stringify({ code, detail }))
    }
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { address, port } = server.address() as AddressInfo
  return {
    host: address,
    port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}

/** Bytes, a value to be sent as JSON, or undefined for an answer without content. */
async function answerOf(
  source: TestSource,
  request: IncomingMessage,
  signal: AbortSignal,
): Promise<Uint8Array | object | undefined> {
  const url = new URL(request.url ?? '/', 'http://node')
  const [, , what, which = ''] = url.pathname.split('/')
  const number = (name: string) => Number(url.searchParams.get(name))
  if (what === 'status') return source.status()
  if (what === 'transactions' && which === 'batch') {
    const batch = decodeOwn(submissionCodec, await bodyOf(request))
    return Promise.all(batch.map(transaction => source.submit(transaction)))
  }
  if (what === 'transactions' && request.method === 'POST') return source.submit(await bodyOf(request))
  if (what === 'transactions') return source.transactionStatus(TransactionId(which))
  if (what === 'state') return encode(stateAnswerCodec, await source.state(StateKey(which)))
  if (what === 'devices' && url.pathname.endsWith('/transactions'))
    return source.deviceTransactions(DeviceId(which))
  if (what === 'groups') return encode(groupAnswerCodec, await source.group(GroupId(which)))
  if (what === 'records') {
    const after = url.searchParams.get('after') as StateKey | null
    return encode(recordPageCodec, await source.records(which as ListedType, after ?? undefined))
  }
  if (what === 'headers' && which === 'wait') {
    const header = await source.waitForHeader(Height(number('after')), number('timeoutMs'), { signal })
    return header && encode(certifiedHeaderCodec, header)
  }
  if (what === 'headers' && which !== '') {
    const height = which === 'latest' ? which : Height(Number(which))
    return encode(certifiedHeaderCodec, await source.certifiedHeader(height))
  }
  if (what === 'blocks' && url.pathname.endsWith('/receipts'))
    return encode(receiptsCodec, await source.receipts(Height(Number(which))))
  if (what === 'blocks' && url.pathname.endsWith('/leaves'))
    return encode(blockLeavesCodec, await source.blockLeaves(Height(Number(which))))
  if (what === 'blocks') return encode(blockCodec, await source.block(Height(Number(which))))
  if (what === 'headers')
    return encode(headerListCodec, await source.headersFrom(Height(number('from')), number('limit')))
  throw new MoteError('not-found', url.pathname)
}

async function bodyOf(request: IncomingMessage): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  for await (const chunk of request) chunks.push(chunk as Uint8Array)
  return Uint8Array.from(Buffer.concat(chunks))
}
