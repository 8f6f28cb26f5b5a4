/** `GET /v1/records/identity`, `/v1/records/group` and `/v1/records/contract`: what there is of one type, page by page (client/chain-source.ts). */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { StateKey } from '../../chain/brands.ts'
import { encode } from '../../chain/codec.ts'
import { type ChainSource, recordPageCodec } from '../../client/chain-source.ts'
import { octets } from './callers.ts'

const params = Type.Object({ type: Type.Enum(['identity', 'group', 'contract']) })
const querystring = Type.Object({ after: Type.Optional(Type.String({ pattern: '^[0-9a-f]{64}$' })) })

export function recordRoutes(app: FastifyInstance, source: Pick<ChainSource, 'records'>): void {
  app
    .withTypeProvider<TypeBoxTypeProvider>()
    .get('/v1/records/:type', { schema: { params, querystring } }, async (request, reply) => {
      const { after } = request.query
      const page = await source.records(
        request.params.type,
        after === undefined ? undefined : StateKey(after),
      )
      return reply.type(octets).send(encode(recordPageCodec, page))
    })
}
