/**
 * The configuration file of an agent: versioned JSON, checked before anything starts, an error names the field. All of it has a
 * default but the version. A relative path is relative to the file. There is no secret in it.
 */
import { dirname, resolve } from 'node:path'
import { type Static, Type } from 'typebox'
import { type ContractAddress, isDigest } from '../../chain/brands.ts'
import { isRecordTopic } from '../../chain/contracts/contract.ts'
import { MoteError } from '../../chain/result.ts'
import {
  closed,
  configurationParser,
  pathSchema,
  readConfigurationFile,
} from '../../client/configuration-file.ts'
import { maxKeepMs } from '../protocol/envelope.ts'
import type { LocalDecision } from './local-decisions.ts'
import { type LocalAddress, requireLoopback } from './local-mqtt.ts'
import { type LocalRoutes, standardRoutes } from './local-routes.ts'
import type { ContractName } from './named-contracts.ts'
import { minKeepMs } from './outgoing-message.ts'

/** Contracts that judge the readings of one route: as many as guard a topic on the chain. */
const maxRouteRules = 4
/** Contracts that an agent runs by itself. */
const maxLocalDecisions = 16
const minDecideEveryMs = 100
const defaultDecideEveryMs = 1_000

const topicSchema = Type.String({ pattern: '^[^+#$\\u0000{}][^+#\\u0000]{0,255}$' })
const nameSchema = Type.String({ pattern: '^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$' })
const channelSchema = Type.String({
  pattern: '^(?!mote\\.)[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$',
  maxLength: 64,
})
const recordTopicSchema = Type.String({ pattern: '^[ -"$-*,-~]{1,128}$' })
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

/** A contract by the path of its file or by its address. */
const contractSchema = Type.String({ minLength: 1, maxLength: 1024 })
/** What a route of either direction may say of its readings. */
const readingFields = {
  recordTopic: Type.Optional(recordTopicSchema),
  rules: Type.Optional(Type.Array(contractSchema, { minItems: 1, maxItems: maxRouteRules })),
  onViolation: Type.Optional(Type.Union([Type.Literal('refuse'), Type.Literal('flag')])),
}

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
            record: Type.Optional(Type.Literal(true)),
            contract: Type.Optional(contractSchema),
            publish: Type.Optional(recordTopicSchema),
            ...readingFields,
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
            topic: Type.Optional(topicSchema),
            ...readingFields,
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
    /** Contracts that this agent runs on the readings that it keeps, and where their decisions come out. */
    decide: Type.Optional(
      Type.Array(
        Type.Object(
          {
            contract: contractSchema,
            topic: topicSchema,
            everyMs: Type.Optional(Type.Integer({ minimum: minDecideEveryMs, maximum: 24 * 60 * 60_000 })),
          },
          closed,
        ),
        { maxItems: maxLocalDecisions },
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
  readonly decide: readonly LocalDecision[]
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
  decide: [],
  queue: undefined,
}

/** The configuration in a file. Throws `config-invalid` with the field. */
export async function readAgentConfig(file: string): Promise<AgentConfig> {
  return parseAgentConfig(await readConfigurationFile(file), file)
}

/** The configuration in `content`, which was read from `file`. Throws `config-invalid`. */
export function parseAgentConfig(content: string, file: string): AgentConfig {
  const { mqtt = loopback, coap = loopback, publish, deliver, decide = [], queue } = parse(content, file)
  for (const [i, route] of (publish ?? []).entries()) requireRecipient(`${file}: publish[${i}]`, route)
  for (const [i, route] of (deliver ?? []).entries()) requirePlace(`${file}: deliver[${i}]`, route)
  if (!('path' in mqtt)) requireLoopback(mqtt.host, `${file}: mqtt.host`)
  if (coap) requireLoopback(coap.host, `${file}: coap.host`)
  const directory = dirname(resolve(file))
  const named = <Route extends WrittenRoute>({ rules, ...route }: Route) => ({
    ...route,
    ...(rules && { rules: rules.map(rule => contractName(rule, directory)) }),
    ...(route.contract !== undefined && { contract: contractName(route.contract, directory) }),
  })
  return {
    mqtt: 'path' in mqtt ? { type: 'unix', path: resolve(directory, mqtt.path) } : { type: 'tcp', ...mqtt },
    coap: coap || undefined,
    routes: {
      publish: (publish?.map(named) ?? standardRoutes.publish) as LocalRoutes['publish'],
      deliver: (deliver?.map(named) ?? standardRoutes.deliver) as LocalRoutes['deliver'],
    },
    decide: decide.map(({ contract, topic, everyMs = defaultDecideEveryMs }) => ({
      contract: contractName(contract, directory),
      topic,
      everyMs,
    })),
    queue,
  }
}

/** Every contract that a configuration names. */
export function contractNamesOf({ routes, decide }: Pick<AgentConfig, 'routes' | 'decide'>): ContractName[] {
  const ruled = [...routes.publish, ...routes.deliver].flatMap(({ rules = [] }) => rules)
  const acting = [...routes.publish, ...decide].flatMap(({ contract }) => contract ?? [])
  return [...ruled, ...acting]
}

/** Path and address are told apart by their form: a file of 64 hexadecimal characters needs `./` in front. */
function contractName(written: string, directory: string): ContractName {
  return isDigest(written)
    ? { type: 'address', address: written as ContractAddress }
    : { type: 'file', path: resolve(directory, written) }
}

type Written = Static<typeof schema>
type WrittenPublish = NonNullable<Written['publish']>[number]
type WrittenDeliver = NonNullable<Written['deliver']>[number]
type WrittenRoute = Pick<WrittenPublish, 'rules' | 'contract'>

function requireRecipient(place: string, route: WrittenPublish): void {
  const wrong = (what: string): never => {
    throw new MoteError('config-invalid', `${place}${what}`)
  }
  const { device, group, openTopic, record, contract, publish, keepMs, delivery, channel } = route
  const names = [device, group, openTopic, record, ...(route.topic.match(/\{[^/]*\}/g) ?? [])]
  if (
    names.filter(name => name !== undefined).length !== 1 ||
    /\{(?!device\}|group\}|openTopic\})/.test(route.topic)
  )
    wrong(
      ': expected one recipient: device, group or openTopic, as a field or in braces in the topic, or record',
    )
  if (keepMs !== undefined && delivery === 'received') wrong('.keepMs: expected no delivery received with it')
  if (record && (keepMs ?? delivery ?? channel) !== undefined)
    wrong('.record: expected no channel, delivery or keepMs with it')
  if (contract !== undefined && !record) wrong('.contract: expected record with it')
  if (publish !== undefined && contract === undefined) wrong('.publish: expected contract with it')
  if (record && !isRecordTopic(route.recordTopic ?? route.topic))
    wrong('.recordTopic: expected one, since the local topic is none for a record')
  requireRules(wrong, route)
}

function requirePlace(place: string, route: WrittenDeliver): void {
  const wrong = (what: string): never => {
    throw new MoteError('config-invalid', `${place}${what}`)
  }
  if (route.topic === undefined && route.recordTopic === undefined)
    wrong('.topic: expected a value, or a recordTopic for contracts here')
  if (route.onViolation === 'flag' && route.format?.type === 'number')
    wrong('.onViolation: expected refuse: a plain number has no room for a mark')
  requireRules(wrong, route)
}

function requireRules(
  wrong: (what: string) => never,
  { onViolation, rules }: Pick<WrittenPublish, 'onViolation' | 'rules'>,
): void {
  if (onViolation !== undefined && rules === undefined) wrong('.onViolation: expected rules with it')
}
