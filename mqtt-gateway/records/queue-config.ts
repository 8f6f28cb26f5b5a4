/** What the configuration of a gateway says about the queue in which records wait for the chain. */
import { type Static, Type } from 'typebox'
import { MoteError } from '../../chain/result.ts'
import { closed, pathSchema } from '../../client/configuration-file.ts'

export const queueSchema = Type.Object(
  {
    /** On this machine's disk, or on NATS servers. */
    type: Type.Enum(['level', 'jetstream']),
    /** `host:port` of each NATS server, with `tls://` before it where `ca` is given. */
    servers: Type.Optional(
      Type.Array(Type.String({ pattern: '^(tls://)?[^\\s/:]+:[0-9]{1,5}$' }), { minItems: 1, maxItems: 16 }),
    ),
    /** How many servers have each transaction; said when the first gateway makes the stream. */
    replicas: Type.Optional(Type.Integer({ minimum: 1, maximum: 5 })),
    /** What the stream may take on the disk of each; likewise. */
    bytes: Type.Optional(Type.Integer({ minimum: 1_048_576, maximum: 2 ** 40 })),
    /** PEM of the authorities that the servers' certificates may have: the gateway connects by TLS. */
    ca: Type.Optional(pathSchema),
    /** File with the nkey seed by which the servers know the gateway, mode 0600. */
    nkey: Type.Optional(pathSchema),
  },
  closed,
)

export type QueueConfig =
  | { readonly type: 'level' }
  | {
      readonly type: 'jetstream'
      readonly servers: readonly string[]
      readonly replicas: number
      readonly bytes: number
      readonly ca: string | undefined
      readonly nkey: string | undefined
    }

const defaultJetStreamLimits = { replicas: 3, bytes: 1024 * 1024 * 1024 }

/** With defaults, and paths as `place` makes them. Throws `config-invalid`. */
export function queueConfigOf(
  queue: Static<typeof queueSchema> | undefined,
  { file, place }: { readonly file: string; readonly place: (path: string) => string },
): QueueConfig {
  if (!queue) return { type: 'level' }
  const { type, servers, ca, nkey, ...limits } = queue
  if (type === 'level') {
    const [more] = Object.keys(queue).filter(field => field !== 'type')
    if (more === undefined) return { type }
    throw new MoteError('config-invalid', `${file}: queue.${more}: expected with type jetstream only`)
  }
  if (!servers) throw new MoteError('config-invalid', `${file}: queue.servers: expected with type jetstream`)
  return {
    type,
    servers,
    ...defaultJetStreamLimits,
    ...limits,
    ca: ca && place(ca),
    nkey: nkey && place(nkey),
  }
}
