/**
 * The configuration file of an agent: versioned JSON, checked before anything starts, an error names the field. All of it has a
 * default but the version. A relative path is relative to the file. There is no secret in it.
 */
import { dirname, resolve } from 'node:path'
import { type Static, Type } from 'typebox'
import { MoteError } from '../../chain/result.ts'
import {
  closed,
  configurationParser,
  pathSchema,
  readConfigurationFile,
} from '../../client/configuration-file.ts'
import { maxKeepMs } from '../protocol/envelope.ts'
import { type LocalAddress, requireLoopback } from './local-mqtt.ts'
import { type LocalRoutes, standardRoutes } from './local-routes.ts'
import { minKeepMs } from './outgoing-message.ts'

const topicSchema = Type.String({ pattern: '^[^+#$\\u0000{}][^+#\\u0000]{0,255}$' })
const nameSchema = Type.String({ pattern: '^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$' })
const channelSchema = Type.String({
  pattern: '^(?!mote\\.)[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$',
  maxLength: 64,
})
const hostSchema = Type.String({ minLength: 1, maxLength: 64 })
const portSchema = Type.Integer({ minimum: 0, maximum: 65_535 })
const addressSchema = Type.Object({ host: hostSchema, port: portSchema }, closed)

const ruleSchema = Type.Object(
  {
    at: Type.Optional(Type.String({ minLength: 1, maxLength: 128 })),
    kind: Type.Union(['number', 'integer', 'text', 'boolean'].map(kind => Type.Literal(kind))),
    scale: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
    minimum: Type.Optional(Type.Number()),
    maximum: Type.Optional(Type.Number()),
    optional: Type.Optional(Type.Boolean()),
  },
  closed,
)
const formatSchema = Type.Union([
  Type.Object(
    {
      type: Type.Union([Type.Literal('json'), Type.Literal('cbor')]),
      fields: Type.Record(Type.String({ pattern: '^[a-zA-Z_][a-zA-Z0-9_]{0,63}$' }), ruleSchema, {
        minProperties: 1,
        maxProperties: 64,
      }),
    },
    closed,
  ),
  Type.Object({ type: Type.Literal('number'), field: nameSchema, rule: ruleSchema }, closed),
])

const schema = Type.Object(
  {
    version: Type.Literal(1),
    /** The local MQTT port: loopback address or Unix socket. Port 0: a free one, which the program prints. */
    mqtt: Type.Optional(Type.Union([addressSchema, Type.Object({ path: pathSchema }, closed)])),
    /** The local CoAP port, or false for none. */
    coap: Type.Optional(Type.Union([addressSchema, Type.Literal(false)])),
    publish: Type.Optional(
      Type.Array(
        Type.Object(
          {
            topic: topicSchema,
            device: Type.Optional(nameSchema),
            group: Type.Optional(nameSchema),
            openTopic: Type.Optional(nameSchema),
            channel: Type.Optional(channelSchema),
            keepMs: Type.Optional(Type.Integer({ minimum: minKeepMs, maximum: maxKeepMs })),
            delivery: Type.Optional(Type.Union([Type.Literal('relayed'), Type.Literal('received')])),
            format: Type.Optional(formatSchema),
          },
          closed,
        ),
        { maxItems: 256 },
      ),
    ),
    deliver: Type.Optional(
      Type.Array(
        Type.Object(
          {
            topic: topicSchema,
            sender: Type.Optional(nameSchema),
            group: Type.Optional(Type.Union([nameSchema, Type.Literal('*')])),
            openTopic: Type.Optional(Type.Union([nameSchema, Type.Literal('*')])),
            channel: Type.Optional(channelSchema),
            format: Type.Optional(formatSchema),
          },
          closed,
        ),
        { maxItems: 256 },
      ),
    ),
    queue: Type.Optional(
      Type.Object(
        {
          messages: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000 })),
          bytes: Type.Optional(Type.Integer({ minimum: 1024, maximum: 4 * 1024 * 1024 * 1024 })),
          ageMs: Type.Optional(Type.Integer({ minimum: 1_000, maximum: 30 * 24 * 60 * 60_000 })),
        },
        closed,
      ),
    ),
  },
  closed,
)

/** A checked configuration with its defaults. */
export interface AgentConfig {
  readonly mqtt: LocalAddress
  readonly coap: { readonly host: string; readonly port: number } | undefined
  readonly routes: LocalRoutes
  /** Bounds of the queue in each direction, where the file sets them. */
  readonly queue: Static<typeof schema>['queue']
}

const loopback = { host: '127.0.0.1', port: 0 }
const parse = configurationParser(schema)

/** What an agent does without a file: free ports, and every device, group and open topic by its name. */
export const standardAgentConfig: AgentConfig = {
  mqtt: { type: 'tcp', ...loopback },
  coap: loopback,
  routes: standardRoutes,
  queue: undefined,
}

/** The configuration in a file. Throws `config-invalid` with the field. */
export async function readAgentConfig(file: string): Promise<AgentConfig> {
  return parseAgentConfig(await readConfigurationFile(file), file)
}

/** The configuration in `content`, which was read from `file`. Throws `config-invalid`. */
export function parseAgentConfig(content: string, file: string): AgentConfig {
  const { mqtt = loopback, coap = loopback, publish, deliver, queue } = parse(content, file)
  for (const [i, route] of (publish ?? []).entries()) {
    const names = [route.device, route.group, route.openTopic, ...(route.topic.match(/\{[^/]*\}/g) ?? [])]
    if (
      names.filter(name => name !== undefined).length !== 1 ||
      /\{(?!device\}|group\}|openTopic\})/.test(route.topic)
    )
      throw new MoteError(
        'config-invalid',
        `${file}: publish[${i}]: expected one recipient: device, group or openTopic, as a field or in braces in the topic`,
      )
    if (route.keepMs !== undefined && route.delivery === 'received')
      throw new MoteError(
        'config-invalid',
        `${file}: publish[${i}].keepMs: expected no delivery received with it`,
      )
  }
  if (!('path' in mqtt)) requireLoopback(mqtt.host, `${file}: mqtt.host`)
  if (coap) requireLoopback(coap.host, `${file}: coap.host`)
  return {
    mqtt:
      'path' in mqtt
        ? { type: 'unix', path: resolve(dirname(resolve(file)), mqtt.path) }
        : { type: 'tcp', ...mqtt },
    coap: coap || undefined,
    routes: {
      publish: (publish ?? standardRoutes.publish) as LocalRoutes['publish'],
      deliver: (deliver ?? standardRoutes.deliver) as LocalRoutes['deliver'],
    },
    queue,
  }
}
