/** The gateway's configuration: what is wrong is named by its field. */
import { expect, test } from 'vitest'
import { type GatewayConfigFile, parseGatewayConfig } from '../../../mqtt-gateway/config.ts'

const valid: GatewayConfigFile = {
  version: 1,
  name: 'gateway',
  chainId: 'ab'.repeat(32),
  genesis: '../genesis.json',
  key: 'key.json',
  fullNodes: ['http://127.0.0.1:4100/'],
  mqtt: { host: '127.0.0.1', port: 0 },
  trustTtlMs: 15_000,
  data: 'data',
}
const parse = (config: object) => parseGatewayConfig(JSON.stringify(config), '/etc/mote/gateway/config.json')

test('gateway config: paths are relative to the file, defaults are filled in', () => {
  expect(parse(valid)).toMatchObject({
    genesis: '/etc/mote/genesis.json',
    key: '/etc/mote/gateway/key.json',
    data: '/etc/mote/gateway/data',
    fullNodes: ['http://127.0.0.1:4100'],
    api: undefined,
    decisions: { expiryMs: 900_000 },
    limits: { connections: 10_000 },
    log: { level: 'info', file: undefined },
  })
})

test.each([
  [{ chainId: 'xyz' }, /chainId/],
  [{ mqtt: { host: '127.0.0.1', port: 70_000 } }, /mqtt\.port/],
  [{ fullNodes: [] }, /fullNodes/],
  [{ trustTtlMs: undefined }, /trustTtlMs: expected a value/],
  [{ secret: 'x' }, /secret: expected no such field/],
  [{ version: 2 }, /version/],
  [{ decisions: { expiryMs: 999 } }, /decisions\.expiryMs/],
])('gateway config: %j is refused by its field', (change, field) => {
  expect(() => parse({ ...valid, ...change })).toThrow(field)
  expect(() => parse({ ...valid, ...change })).toThrow(/config-invalid/)
})

test('gateway config: records wait on this machine unless NATS servers are named', () => {
  expect(parse(valid).queue).toEqual({ type: 'level' })
  const servers = ['10.0.0.1:4222', 'tls://nats.example:4222']
  expect(parse({ ...valid, queue: { type: 'jetstream', servers, nkey: 'gateway.nk' } }).queue).toEqual({
    type: 'jetstream',
    servers,
    replicas: 3,
    bytes: 2 ** 30,
    ca: undefined,
    nkey: '/etc/mote/gateway/gateway.nk',
  })
  for (const [queue, field] of [
    [{ type: 'kafka' }, /queue\.type/],
    [{ type: 'jetstream' }, /queue\.servers/],
    [{ type: 'jetstream', servers: ['nats'] }, /queue\.servers/],
    [{ type: 'level', servers }, /queue\.servers/],
    [{ type: 'jetstream', servers, replicas: 6 }, /queue\.replicas/],
  ] as const)
    expect(() => parse({ ...valid, queue })).toThrow(field)
})

test('gateway config: a broker of its own or one that others wrote, with all shards and the accounts to itself unless said', () => {
  const { mqtt: _, ...attached } = valid
  const broker = { host: '10.0.0.5', port: 1883 }
  expect(parse(valid).edge).toMatchObject({ type: 'embedded' })
  expect(parse({ ...attached, broker }).edge).toMatchObject({
    type: 'attached',
    address: broker,
    shards: [...'0123456789abcdef'],
    accounts: 'mosquitto',
  })
  const some = { ...broker, shards: '0-2,f', accounts: 'operator' }
  expect(parse({ ...attached, broker: some }).edge).toMatchObject({
    shards: ['0', '1', '2', 'f'],
    accounts: 'operator',
  })
  const mqtts = { host: '0.0.0.0', port: 0, certificate: 'c', key: 'k' }
  for (const [change, field] of [
    [{ broker, mqtt: valid.mqtt }, /expected mqtt or broker, got both/],
    [{}, /expected mqtt or broker, got none/],
    [{ broker: { ...broker, shards: '0-g' } }, /broker\.shards/],
    [{ broker: { ...broker, accounts: 'nobody' } }, /broker\.accounts/],
    [{ broker, mqtts }, /mqtts/],
  ] as const)
    expect(() => parse({ ...attached, ...change })).toThrow(field)
})

test('gateway config: topics of plain clients are what rights say unless more is mapped, and none comes in and goes out', () => {
  expect(parse(valid).plain).toEqual({ in: [], out: [], open: false })
  const plain = { in: ['forest/#'], out: ['fire/#'] }
  expect(parse({ ...valid, plain }).plain).toEqual({ ...plain, open: false })
  const { mqtt: _, ...attached } = { ...valid, broker: { host: '10.0.0.5', port: 1883 } }
  expect(parse({ ...attached, plain: { open: true } }).plain.open).toBe(true)
  for (const [base, wrong, field] of [
    [valid, { in: ['forest/#'], out: ['+/fire'] }, /plain\.out: expected topic filters/],
    [valid, { in: ['forest/#'], out: ['fire/#', 'forest/+/fire'] }, /got 'forest\/#' and 'forest\/\+\/fire'/],
    [valid, { in: ['mote/1/send/#'] }, /plain\.in: expected topic filters outside mote/],
    [valid, { in: Array.from({ length: 17 }, (_, i) => `t/${i}`) }, /plain\.in/],
    [valid, { of: [] }, /plain\.of/],
    [attached, { in: ['forest/#'] }, /plain\.in: expected with mqtt only/],
    [attached, { out: ['fire/#'] }, /plain\.out: expected with mqtt only/],
  ] as const)
    expect(() => parse({ ...base, plain: wrong })).toThrow(field)
})
