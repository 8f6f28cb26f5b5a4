/** Mutual TLS at a real Mosquitto: devices by client certificates of an authority, bound by the same rules, and what a revoked one may still do. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import mqtt, { type MqttClient } from 'mqtt'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type IdentityKeys, makeKeys } from '../../client/key-directory.ts'
import { choosePorts } from '../../devnet/ports.ts'
import type { DeviceAgent } from '../../mqtt-gateway/device/agent.ts'
import type { EncodedEnvelope } from '../../mqtt-gateway/protocol/envelope.ts'
import { shardedTopic } from '../../mqtt-gateway/protocol/sharded-topics.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { BrokerLink } from '../../mqtt-gateway/server/broker-link.ts'
import { gatewayLogins } from '../../mqtt-gateway/server/gateway-logins.ts'
import { AttachedFixture } from '../support/attached-fixture.ts'
import type { ForeignProgram } from '../support/foreign-program.ts'
import { type GatewayFixture, listen, sentText, until } from '../support/gateway-fixture.ts'
import { noMosquitto } from '../support/mosquitto.ts'
import { messagesIn, startMosquitto } from '../support/mosquitto-clients.ts'
import { TlsFixture } from '../support/tls-fixture.ts'

describe.skipIf(noMosquitto)('client certificates at an existing broker, which needs mosquitto', () => {
  let tls: TlsFixture
  let under: AttachedFixture
  let fixture: GatewayFixture
  let port: number
  let ca: string
  let peer: IdentityKeys
  let agent: DeviceAgent
  let inbox: Awaited<ReturnType<typeof listen>>
  const running: { end(): unknown }[] = []
  const [a, b, rsa] = [makeKeys('a'), makeKeys('b'), makeKeys('rsa', { encryption: 'rsa-2048' })]

  beforeAll(async () => {
    tls = await TlsFixture.make()
    ca = tls.authority.certificate.toString()
    port = (await choosePorts(1, 'auto'))[0]!
    under = await AttachedFixture.start({ ...tls.files, clients: { ca: tls.ca, port } })
    peer = makeKeys('peer')
    for (const keys of [a, b, rsa, peer]) under.trust.register(keys)
    fixture = (await under.gateway(undefined, {}, ca)).fixture
    agent = await agentOf(peer)
    inbox = await listen(agent)
  })
  afterAll(async () => {
    for (const each of running) await each.end()
    await under.stop()
    await tls[Symbol.asyncDispose]()
    expect(fixture.errors).toEqual([])
  })

  /** By its password, on the other port. */
  const agentOf = (keys: IdentityKeys): Promise<DeviceAgent> =>
    fixture.agent(keys, undefined, {
      gateway: { ...under.mosquitto.address, tls: { ca }, brokerOf: under.keys.id },
    })

  let connections = 0
  /** mqtt.js with a certificate, and a login that counts for nothing. */
  async function connect(shown: { cert?: string; key?: string }, username = peer.id): Promise<MqttClient> {
    const client = await mqtt.connectAsync({
      ...{ protocol: 'mqtts', host: '127.0.0.1', port, ca, ...shown, username, password: 'none' },
      ...{ clientId: `c${connections++}`, protocolVersion: 5, reconnectPeriod: 0 },
    })
    client.on('error', () => {})
    running.push({ end: () => client.endAsync(true) })
    return client
  }

  async function mosquitto(
    program: 'pub' | 'sub',
    keys: IdentityKeys,
    ...words: string[]
  ): Promise<ForeignProgram> {
    const place = (name: string) => join(tls.directory, `${keys.name}.${name}`)
    const shown = tls.client(keys, { signed: true })
    for (const name of ['cert', 'key'] as const) await writeFile(place(name), shown[name], { mode: 0o600 })
    const secure = ['--cafile', tls.ca, '--cert', place('cert'), '--key', place('key')]
    const login = ['-h', '127.0.0.1', '-p', String(port), '-i', `m${connections++}`, ...secure]
    const started = startMosquitto(program, [...login, '-V', 'mqttv5', ...words])
    running.push({
      end: () => {
        started.stop()
        return started.ended
      },
    })
    return started
  }

  const sealed = async (from: DeviceAgent, to: IdentityKeys, content: string): Promise<EncodedEnvelope> => {
    const outcome = await from.seal({ type: 'device', id: to.id }, sentText(content))
    if (outcome.type !== 'sealed') throw new Error(outcome.type)
    return outcome.envelope
  }
  const sendTopic = ({ id }: IdentityKeys) => shardedTopic(topics.send(id), id)

  test('mosquitto certificates: a device needs no password; it publishes to its own topics, receives its own, and is ruled on as ever', async () => {
    const subscriber = await mosquitto('sub', a, '-t', '#', '-d', '-F', '%t %x')
    await until(() => /^Subscribed/m.test(subscriber.stdout), 'a SUBACK')
    const seen = () => messagesIn(subscriber.stdout)
    const file = join(tls.directory, 'envelope')
    await writeFile(file, (await sealed(await agentOf(a), peer, 'by certificate')).bytes)
    const publisher = await mosquitto('pub', a, '-t', sendTopic(a), '-f', file)
    expect(await publisher.ended).toMatchObject({ code: 0, stderr: '' })
    await until(() => inbox.texts.includes('by certificate') && seen().length > 0, 'message and verdict')
    expect(await agent.send(a.id, sentText('hello'))).toMatchObject({ verdict: 'Check' })
    await until(() => seen().length > 1, 'what is sent to it')
    expect(seen().map(line => line.split(' ')[0])).toEqual([topics.verdict(a.id), `mote/1/to/${a.id}`])
  })

  test('mosquitto certificates: whatever it logs in as, it is the device of its certificate; one of no authority, or none, does not connect; nor does an account without a password by an empty one', async () => {
    const client = await connect(tls.client(b, { signed: true }))
    for (const topic of [sendTopic(peer), topics.verdict(peer.id), topics.verdict(b.id), 'outside'])
      await expect(client.publishAsync(topic, 'forged', { qos: 1 }), topic).rejects.toThrow('Not authorized')
    const other = { id: b.id, signing: makeKeys('other').signing }
    // The broker asks the authority, and not the chain, whose key it is.
    const trusted = await connect(tls.client(other, { signed: true }))
    await trusted.publishAsync(sendTopic(b), 'no envelope', { qos: 1 })
    const login = { ...under.mosquitto.address, protocol: 'mqtts', ca, username: rsa.id } as const
    const byPassword = { ...login, password: '', protocolVersion: 5, reconnectPeriod: 0 } as const
    await expect(mqtt.connectAsync(byPassword)).rejects.toThrow('Not authorized')
    for (const shown of [tls.client(b), {}]) await expect(connect(shown)).rejects.toThrow()
  })

  test.each([
    ['a device', b, true],
    ['one whose key makes no password, and which has only listened,', rsa, false],
  ])(
    'mosquitto certificates: %s that is revoked is cut; it may connect again, is not ruled on, and nothing comes',
    async (_, keys, isHeard) => {
      const shown = tls.client(keys, { signed: true })
      const before = await connect(shown)
      const eventsOf = () =>
        fixture.decisions.filter(({ sender }) => sender === keys.id).map(({ event }) => event)
      if (isHeard) await before.publishAsync(sendTopic(keys), 'no envelope', { qos: 1 })
      if (isHeard) await until(() => eventsOf().includes('message'), 'it is ruled on')
      const toIt = await sealed(agent, keys, 'no more')
      const ofIt = isHeard ? await sealed(await agentOf(keys), peer, 'after the end') : undefined
      const closed = new Promise<void>(resolve => before.once('close', () => resolve()))
      under.trust.setStatus(keys.id, 'revoked')
      await closed
      if (isHeard) await until(() => eventsOf().includes('cut'), 'the gateway has ended its session')
      const again = await connect(shown)
      const seen: string[] = []
      again.on('message', (_topic, payload) => seen.push(String(payload)))
      await again.subscribeAsync('#', { qos: 1 })
      const logged = eventsOf().length
      const { refused } = fixture.gateway.status()
      await again.publishAsync(sendTopic(keys), Buffer.from(ofIt?.bytes ?? 'no envelope'), { qos: 1 })
      await until(() => fixture.gateway.status().refused > refused, 'the gateway has no session for it')
      expect(eventsOf().slice(logged)).not.toContain('message')
      expect(await agent.relay(toIt)).toMatchObject({ verdict: 'Error', code: 'recipient-not-active' })
      // The broker would give it what comes: it is the gateway that has nothing for it.
      const options = { login: gatewayLogins(under.trust.chainId, under.keys).gateway, clientId: 'marker' }
      const link = await BrokerLink.open(
        { ...under.mosquitto.address, ca, ...options, sessionSeconds: 0, topicFilters: [] },
        AbortSignal.timeout(10_000),
      )
      await link.publish(`mote/1/to/${keys.id}`, Buffer.from('marker'))
      await link.close()
      await until(() => seen.length > 0, 'the marker')
      expect(seen).toEqual(['marker'])
      expect(inbox.texts).not.toContain('after the end')
    },
  )
})
