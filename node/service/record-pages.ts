/**
 * Pages of what there is of one type in a certified state, each record with its proof (client/chain-source.ts). The order is that of
 * the state keys, which are hashes: a page begins anywhere, and looks at a bounded number of leaves of any type. And the routes of
 * the HTTP API under which these pages, and the receipts of a block, are asked for.
 */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { receiptsCodec } from '../../chain/block.ts'
import { Height, StateKey } from '../../chain/brands.ts'
import type { Certificate } from '../../chain/certificate.ts'
import { encode } from '../../chain/codec.ts'
import type { Ledger } from '../../chain/ledger.ts'
import { type StateAnswer, stateAnswer, stateAnswerCodec } from '../../chain/light-client.ts'
import { isRecordOf } from '../../chain/records.ts'
import { entries, prove } from '../../chain/state-tree.ts'
import {
  type ChainSource,
  type ListedType,
  maxRecordPageBytes,
  maxRecordsPerPage,
  type RecordPage,
  recordPageCodec,
} from '../../client/chain-source.ts'
import { octets } from './callers.ts'

/** Leaves that one page looks at: about a millisecond. */
const maxLeavesPerPage = 4_096

/** A state and what certifies it; undefined at the genesis. */
export interface ListedState {
  readonly ledger: Pick<Ledger, 'header' | 'tree'>
  readonly certificate: Certificate | undefined
}

/** The value at a key with its proof, or the proof that there is none. */
export function answerAt(
  { ledger: { header, tree }, certificate }: ListedState,
  key: StateKey,
  value: Uint8Array | undefined,
): StateAnswer {
  return stateAnswer(header, certificate, value, prove(tree, key))
}

export function recordPage(certified: ListedState, type: ListedType, after?: StateKey): RecordPage {
  const answers: StateAnswer[] = []
  let bytes = 0
  let leaves = 0
  let last = after
  for (const [key, value] of entries(certified.ledger.tree, after)) {
    if (leaves === maxLeavesPerPage || answers.length === maxRecordsPerPage) return { answers, next: last }
    leaves += 1
    if (isRecordOf(type, value)) {
      const answer = answerAt(certified, key, value)
      bytes += encode(stateAnswerCodec, answer).length
      if (answers.length > 0 && bytes > maxRecordPageBytes) return { answers, next: last }
      answers.push(answer)
    }
    last = key
  }
  return { answers, next: undefined }
}

/*
 * `GET /v1/records/identity`, `/v1/records/group` and `/v1/records/contract`: what there is of one type, page by page; and
 * `GET /v1/blocks/:height/receipts`: what became of a block's transactions (client/chain-source.ts).
 */

const params = Type.Object({ type: Type.Enum(['identity', 'group', 'contract']) })
const querystring = Type.Object({ after: Type.Optional(Type.String({ pattern: '^[0-9a-f]{64}$' })) })
const byHeight = Type.Object({ height: Type.String({ pattern: '^(0|[1-9][0-9]{0,14})$' }) })

export function recordRoutes(
  routes: FastifyInstance,
  source: Pick<ChainSource, 'records' | 'receipts'>,
): void {
  const app = routes.withTypeProvider<TypeBoxTypeProvider>()
  app.get('/v1/records/:type', { schema: { params, querystring } }, async (request, reply) => {
    const { after } = request.query
    const page = await source.records(request.params.type, after === undefined ? undefined : StateKey(after))
    return reply.type(octets).send(encode(recordPageCodec, page))
  })
  app.get('/v1/blocks/:height/receipts', { schema: { params: byHeight } }, async (request, reply) => {
    const receipts = await source.receipts(Height(Number(request.params.height)))
    return reply.type(octets).send(Buffer.from(encode(receiptsCodec, receipts)))
  })
}
