/**
 * Routes of the HTTP API: `GET /v1/records/identity`, `/v1/records/group` and `/v1/records/contract`, what there is of one type,
 * page by page (record-pages.ts); and `GET /v1/blocks/:height/receipts`, what became of a block's transactions.
 */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { receiptsCodec } from '../../chain/block.ts'
import { Height, StateKey } from '../../chain/brands.ts'
import { encode } from '../../chain/codec.ts'
import { type ChainSource, recordPageCodec } from '../../client/chain-source.ts'
import { octets } from './callers.ts'

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
