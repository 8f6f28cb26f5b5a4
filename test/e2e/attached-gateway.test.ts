/** The gateway beside a real Mosquitto, with real agents: what the broker's rules and accounts hold, and what the gateway does through it. */
import { join } from 'node:path'
import mqtt, { type IPublishPacket, type MqttClient } from 'mqtt'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Milliseconds } from '../../chain/brands.ts'
import { CertifiedBlocks } from '../../client/certified-blocks.ts'
import { type IdentityKeys, makeKeys } from '../../client/key-directory.ts'
import { accountLogin } from '../../mqtt-gateway/device/account-login.ts'
import type { DeviceAgent } from '../../mqtt-gateway/device/agent.ts'
import { openDeviceConnection } from '../../mqtt-gateway/device/device-connection.ts'
import { noPlainTopics } from '../../mqtt-gateway/protocol/plain-topics.ts'
import {
  encodePresence,
  presenceTopic,
  shardedTopic,
  shardOf,
} from '../../mqtt-gateway/protocol/sharded-topics.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { DecisionCursor } from '../../mqtt-gateway/records/decision-cursor.ts'
import { Decisions } from '../../mqtt-gateway/records/decisions.ts'
import { accountOf } from '../../mqtt-gateway/server/account-keeper.ts'
import { BrokerLink } from '../../mqtt-gateway/server/broker-link.ts'
import { gatewayLogins } from '../../mqtt-gateway/server/gateway-logins.ts'
import { Mailboxes } from '../../mqtt-gateway/server/mailboxes.ts'
import { AlarmChain } from '../support/alarm-chain.ts'
import { AttachedFixture, type AttachedUnderTest } from '../support/attached-fixture.ts'
import { type GatewayFixture, listen, sentText, until } from '../support/gateway-fixture.ts'
import { MemoryRecorder } from '../support/memory-recorder.ts'
import { Mosquitto, noMosquitto } from '../support/mosquitto.ts'
import { keysOf } from '../support/test-chain.ts'
import { TlsFixture } from '../support/tls-fixture.ts'
import { WireTap } from '../support/wire-tap.ts'

const kept = (content: string) => ({ ...sentText(content), keepMs: 3_600_000 })

describe.skipIf(noMosquitto)('a gateway beside an existing broker, which needs mosquitto', () => {
  let under: AttachedFixture
  let running: AttachedUnderTest
  let fixture: GatewayFixture
  let mailboxes: Mailboxes
  const clients: MqttClient[] = []
  const joined: IdentityKeys[] = []
  const recorder = new MemoryRecorder()
  const next = (): IdentityKeys => joined.pop()!
  beforeAll(async () => {
    under = await AttachedFixture.start()
    // Before the gateway starts: who joins later waits for it to read the node list again.
    for (let i = 0; i < 26; i++) {
      const keys = makeKeys(`d${i}`)
      under.trust.register(keys)
      joined.push(keys)
    }
    mailboxes = await Mailboxes.open(join(under.mosquitto.directory, 'mail'))
    under.trust.setRights(under.keys.id, { gateway: true })
    const records = { recorder, gateway: under.keys.id, plain: noPlainTopics }
    running = await under.gateway(undefined, { mailboxes, records })
    fixture = running.fixture
  })
  afterAll(async () => {
    for (const client of clients) await client.endAsync(true)
    await under.stop()
    expect(fixture.errors).toEqual([])
  })

  const pair = async (): Promise<readonly [IdentityKeys, IdentityKeys, DeviceAgent, DeviceAgent]> => {
    const [a, b] = [next(), next()]
    return [a, b, await fixture.agent(a), await fixture.agent(b)]
  }

  /** An MQTT 5 client that has nothing of ours but the account of a device, as soon as there is one. */
  async function plainClient(keys: IdentityKeys): Promise<MqttClient> {
    const password = await accountLogin({ chain: under.trust, keys, gateway: under.keys.id })
    const login = { ...under.mosquitto.address, username: keys.id, password, protocolVersion: 5 } as const
    const deadline = performance.now() + 10_000
    for (;;) {
      try {
        const client = await mqtt.connectAsync({
          ...login,
          reconnectPeriod: 0,
          clientId: `plain${clients.length}`,
        })
        client.on('error', () => {})
        clients.push(client)
        return client
      } catch (error) {
        if (performance.now() > deadline) throw error
      }
    }
  }

  async function received(client: MqttClient, ...topicFilters: string[]): Promise<IPublishPacket[]> {
    const packets: IPublishPacket[] = []
    client.on('message', (_topic, _payload, packet) => packets.push(packet))
    await client.subscribeAsync(topicFilters, { qos: 2 })
    return packets
  }

  test('attached: a device that has just joined logs in, sends, and is told the verdict; to a group, and to an open topic', async () => {
    const [a, b] = [fixture.device('newcomer'), next()]
    const [sender, receiver] = [await fixture.agent(a), await fixture.agent(b)]
    const inbox = await listen(receiver)
    expect(await sender.send(b.id, sentText('hello'))).toMatchObject({
      verdict: 'Check',
      delivery: 'relayed',
    })
    const group = under.trust.createGroup(a.id, 'group')
    const topic = under.trust.createGroup(b.id, 'topic', { publishers: undefined })
    under.trust.changeMembers(group, { add: [b.id] })
    expect(await sender.sendToGroup(group, sentText('to all'))).toMatchObject({ verdict: 'Check' })
    await receiver.rekey(topic)
    expect(await sender.publish(topic, sentText('18.2 degrees'))).toMatchObject({ verdict: 'Check' })
    await until(() => inbox.texts.length === 3, 'all of it arrives')
    expect(inbox.texts.toSorted()).toEqual(['18.2 degrees', 'hello', 'to all'])
    expect(inbox.refusals).toEqual([])
  })

  test('attached: a vote is answered by every agent that is connected: who has no copy says so, and nobody is silent', async () => {
    const [, b, sender] = await pair()
    await sender.refreshContact(b.id)
    const { vote } = await sender.sendByVote(b.id, sentText('asked first'))
    const answers = vote.rows.map(({ check }) => check)
    expect(answers.filter(check => check === 'Check').length).toBeGreaterThanOrEqual(3)
    expect(answers).not.toContain('Silent')
  })

  test('attached: nobody publishes for another device, or what only the gateway may; the broker says so', async () => {
    const [a, b] = [next(), next()]
    const [client, victim] = [await plainClient(a), await plainClient(b)]
    const seen = await received(victim, '#')
    const forged = [
      ...[topics.send(b.id), topics.got(b.id), topics.check(b.id), 'plain/topic'].map(topic =>
        shardedTopic(topic, b.id),
      ),
      presenceTopic(b.id, 'x'),
      topics.verdict(b.id),
      topics.error(b.id),
      `mote/1/to/${b.id}/x`,
      `mote/1/to/${b.id}/${a.id}`,
      topics.verdict(a.id),
      '$CONTROL/dynamic-security/v1',
      'outside',
    ]
    for (const topic of forged)
      await expect(client.publishAsync(topic, 'forged', { qos: 1 }), topic).rejects.toThrow('Not authorized')
    const other = '0123456789abcdef'.replace(shardOf(a.id), '')[0]
    await client.publishAsync(`mote/1/send/${other}/${a.id}`, 'in another shard', { qos: 1 })
    await client.publishAsync(shardedTopic(topics.send(a.id), a.id), 'no envelope', { qos: 1 })
    const mine = () => fixture.decisions.filter(({ sender }) => sender === a.id)
    await until(() => mine().some(({ code }) => code === 'malformed'), 'its own is ruled on')
    expect(mine().map(({ event }) => event)).toEqual(['connect', 'message'])
    // The broker delivers in order: before these two come, everything else would have.
    await victim.publishAsync(shardedTopic(topics.send(b.id), b.id), 'no envelope', { qos: 1 })
    await until(() => seen.length >= 2, 'what is its own')
    expect(seen.map(({ topic }) => topic).toSorted()).toEqual([topics.error(b.id), topics.verdict(b.id)])
  })

  test('attached: what a device reports is recorded where its rights cover the topic, and else refused on its error topic', async () => {
    const a = next()
    under.trust.setRights(a.id, { publish: ['forest/#'] })
    const client = await plainClient(a)
    const told = await received(client, topics.error(a.id), topics.verdict(a.id))
    const report = (topic: string, message: object) =>
      client.publishAsync(shardedTopic(topics.report(a.id, topic), a.id), JSON.stringify(message), { qos: 1 })
    await report('hall', { Payload: 1 })
    await report('forest/north', { Payload: 2, Topic: 'hall' })
    await report('forest/north', { Payload: 3 })
    await until(() => told.length === 5, 'all answers')
    const answers = told.map(({ topic, payload }) => [topic, JSON.parse(String(payload)).code ?? null])
    expect(answers).toEqual([
      [topics.error(a.id), 'topic-not-allowed'],
      [topics.verdict(a.id), 'topic-not-allowed'],
      [topics.error(a.id), 'topic-not-allowed'],
      [topics.verdict(a.id), 'topic-not-allowed'],
      [topics.verdict(a.id), null],
    ])
    expect(recorder.requests).toMatchObject([
      { device: a.id, content: { body: { record: { topic: 'forest/north', source: a.id } } } },
    ])
  })

  test('attached: a device that is revoked is cut at once, and cannot come back', async () => {
    const [a, b, sender] = await pair()
    expect(await sender.send(b.id, sentText('while active'))).toMatchObject({ verdict: 'Check' })
    under.trust.setStatus(a.id, 'revoked')
    expect(await sender.ended).toMatchObject({ code: 'not-authorised' })
    await expect(fixture.agent(a, undefined, { timeoutMs: 300 })).rejects.toMatchObject({
      code: 'not-authorised',
    })
    expect(fixture.decisions).toContainEqual(
      expect.objectContaining({ event: 'cut', sender: a.id, code: 'device-revoked' }),
    )
  })

  test('attached: a device with another encryption key has another password; the one before is nobody’s', async () => {
    const before = next()
    const old = await plainClient(before)
    const closed = new Promise<void>(resolve => old.once('close', () => resolve()))
    const after: IdentityKeys = { ...before, encryption: makeKeys('other').encryption }
    under.trust.register(after)
    await closed
    expect((await plainClient(after)).connected).toBe(true)
    const password = await accountLogin({ chain: under.trust, keys: before, gateway: under.keys.id })
    const login = { ...under.mosquitto.address, username: before.id, password, protocolVersion: 5 } as const
    await expect(mqtt.connectAsync({ ...login, reconnectPeriod: 0 })).rejects.toThrow('Not authorized')
  })

  test('attached: an RSA key makes no password: the device is told before it connects', async () => {
    const keys = fixture.device('rsa', makeKeys('rsa', { encryption: 'rsa-2048' }))
    await expect(fixture.agent(keys)).rejects.toMatchObject({ code: 'key-not-usable' })
  })

  test('attached: mail for who is away is kept, comes when it listens, and is kept again once its will says that it is gone', async () => {
    const [a, b] = [next(), next()]
    const sender = await fixture.agent(a)
    expect(await sender.send(b.id, kept('1'))).toMatchObject({ delivery: 'kept' })
    const reader = await fixture.agent(b)
    const inbox = await listen(reader)
    await until(() => inbox.texts.length === 1, 'what waited')
    expect(await sender.send(b.id, kept('2'))).toMatchObject({ delivery: 'relayed' })
    await until(() => inbox.texts.length === 2, 'what came while it listens')
    await until(() => mailboxes.waiting(b.id).length === 0, 'it is acknowledged')
    const connections = running.fixture.gateway.status().sessions
    await reader.close()
    await until(() => running.fixture.gateway.status().sessions < connections, 'its will has come')
    expect(await sender.send(b.id, kept('3'))).toMatchObject({ delivery: 'kept' })
  })

  test('attached: an observer sees what is delivered while it has the right, and nothing from the block on that takes it', async () => {
    const [, b, sender] = await pair()
    const observer = next()
    const agent = await fixture.agent(observer)
    const seen: string[] = []
    const handlers = {
      seen: ({ messageId }: { messageId: string }) => void seen.push(messageId),
      refused: () => {},
    }
    await expect(agent.observe(handlers)).rejects.toMatchObject({ code: 'not-authorised' })
    under.trust.setRights(observer.id, { observe: true })
    await until(
      () => running.edge.accountNote(observer.id)?.split(' ').length === 3,
      'its account has the right',
    )
    await agent.observe(handlers)
    const first = await sender.send(b.id, sentText('seen'))
    await until(() => seen.length === 1, 'it is seen')
    expect(seen).toEqual([first.messageId])
    under.trust.setRights(observer.id, { observe: false })
    await until(
      () => running.edge.accountNote(observer.id)?.split(' ').length === 2,
      'its account has it no more',
    )
    await sender.send(b.id, sentText('not seen'))
    expect(seen).toHaveLength(1)
  })

  test('attached: a device that is cut before its subscription is granted asks for it on the next connection, if it opens one', async () => {
    await using tap = await WireTap.between(under.mosquitto.address)
    const keys = next()
    const gateway = { ...tap.address, brokerOf: under.keys.id }
    const options = { keys, chain: under.trust, gateway, timeoutMs: 10_000 }
    const suback = 0x90
    /** Of whoever subscribes next. */
    const cutOnce = () => {
      tap.change = packet => {
        if (packet[0] !== suback) return packet
        tap.change = same => same
        tap.cut()
        return Buffer.alloc(0)
      }
    }
    const connection = await openDeviceConnection(options)
    const seen: string[] = []
    connection.onMessage(({ topicName }) => seen.push(topicName))
    cutOnce()
    await connection.subscribe(topics.verdict(keys.id))
    await connection.publish(topics.send(keys.id), Buffer.from('no envelope'))
    await until(() => seen.length > 0, 'its verdict')
    await connection.close()
    const once = await openDeviceConnection({ ...options, reconnects: false })
    cutOnce()
    await expect(once.subscribe(topics.verdict(keys.id))).rejects.toMatchObject({ code: 'unreachable' })
    await once.close()
  })

  test('attached: without fresh trust data nothing is relayed, and the verdict says that it may pass later', async () => {
    const [a, b, sender, receiver] = await pair()
    const inbox = await listen(receiver)
    const client = await plainClient(a)
    const told = await received(client, topics.error(a.id))
    under.trust.age(fixture.trustTtlMs + 1)
    const refused = await sender.send(b.id, sentText('too late'))
    expect(refused).toMatchObject({ verdict: 'Error', code: 'stale' })
    await until(() => told.length > 0, 'the error')
    expect(JSON.parse(String(told[0]!.payload))).toMatchObject({ code: 'stale', retry: true })
    under.trust.heartbeat()
    expect(await sender.send(b.id, sentText('now'))).toMatchObject({ verdict: 'Check' })
    await until(() => inbox.texts.length > 0, 'it arrives')
    expect(inbox.texts).toEqual(['now'])
  })

  test('attached: an answer goes to the topic that was asked for, with its correlation data, its code and an expiry (MQTT 5)', async () => {
    const a = next()
    const client = await plainClient(a)
    const answers = await received(client, topics.answer(a.id), topics.verdict(a.id))
    const send = shardedTopic(topics.send(a.id), a.id)
    const ask = (responseTopic: string) =>
      client.publishAsync(send, 'no envelope', {
        qos: 1,
        properties: { responseTopic, correlationData: Buffer.from('42') },
      })
    await ask(topics.answer(a.id))
    await ask(`mote/1/to/${'b'.repeat(64)}`)
    await until(() => answers.length === 2, 'both')
    expect(answers.map(({ topic }) => topic)).toEqual([topics.answer(a.id), topics.verdict(a.id)])
    for (const { payload, properties } of answers) {
      expect(JSON.parse(String(payload))).toMatchObject({ verdict: 'Error', code: 'malformed' })
      expect(properties).toMatchObject({ contentType: 'application/json', payloadFormatIndicator: true })
      expect(properties?.userProperties).toMatchObject({ code: 'malformed' })
      expect(properties?.correlationData?.toString()).toBe('42')
      expect(properties?.messageExpiryInterval).toBeLessThanOrEqual(60)
    }
  })

  test('attached: connections that a device names are counted, and what it says of more is taken back', async () => {
    const a = next()
    const client = await plainClient(a)
    for (let i = 0; i < 12; i++)
      await client.publishAsync(presenceTopic(a.id, `p${i}`), Buffer.from(encodePresence('connected')), {
        qos: 1,
        retain: true,
      })
    const turnedAway = () =>
      fixture.decisions.filter(({ sender, code }) => sender === a.id && code === 'limit-exceeded')
    await until(() => turnedAway().length > 0, 'more than eight')
    const session = running.fixture.gateway.status().sessions
    expect(session).toBeGreaterThan(0)
  })

  test('attached: what is sent while no gateway is there is decided by the next one, once, in order; who listens is known to it', async () => {
    const [, b, sender, receiver] = await pair()
    const inbox = await listen(receiver)
    await sender.send(b.id, sentText('before'))
    await running.stopGateway()
    const sealed = await Promise.all(
      ['1', '2', '3'].map(content => sender.seal({ type: 'device', id: b.id }, sentText(content))),
    )
    const verdicts = sealed.map(each => (each.type === 'sealed' ? sender.relay(each.envelope) : undefined))
    mailboxes = await Mailboxes.open(join(under.mosquitto.directory, 'mail'))
    running = await under.gateway(undefined, { mailboxes })
    fixture = running.fixture
    for (const verdict of await Promise.all(verdicts)) expect(verdict).toMatchObject({ verdict: 'Check' })
    await until(() => inbox.texts.length === 4, 'all of it')
    expect(inbox.texts).toEqual(['before', '1', '2', '3'])
    expect(await sender.send(b.id, { ...kept('4'), lifetimeMs: 30_000 as Milliseconds })).toMatchObject({
      delivery: 'relayed',
    })
  })

  test('attached: a shard is taken over by another gateway, which the one before does not fight', async () => {
    const [a, b, sender, receiver] = await pair()
    const inbox = await listen(receiver)
    const second = await under.gateway([shardOf(a.id)])
    await until(() => !running.edge.status().shards.includes(shardOf(a.id)), 'the first has lost it')
    expect(running.edge.status().shards).toHaveLength(15)
    expect(await sender.send(b.id, sentText('through the second'))).toMatchObject({ verdict: 'Check' })
    await until(() => inbox.texts.length === 1, 'it arrives')
    const through = ({ fixture: { decisions } }: AttachedUnderTest) =>
      decisions.filter(({ sender: from, event }) => from === a.id && event === 'message').length
    expect([through(running), through(second)]).toEqual([0, 1])
    expect(running.logged.filter(line => line.startsWith('broker: taken-over'))).toHaveLength(1)
    await second.stopGateway()
    expect(running.edge.status().shards).toHaveLength(15)
  })

  test('attached: decisions go on where a shard is taken over: those that have not expired come again under their names', async () => {
    // A shard of the test before is nobody's.
    const callers = Array.from({ length: 32 }, (_, i) => keysOf(`caller-${i}`))
    const caller = callers.find(({ id }) => running.edge.shards().includes(shardOf(id)))!
    const [alarms, listener] = [new AlarmChain({ devices: [caller.name] }), next()]
    under.trust.setRights(listener.id, { subscribe: ['fire/#'] })
    const [a, client] = [next(), await plainClient(listener)]
    const seen = await received(client, topics.decision('fire/#'))
    // As a forger: the broker's rules bind it.
    const forger = await plainClient(a)
    await expect(forger.publishAsync(topics.decision('fire/north'), '{}', { qos: 1 })).rejects.toThrow(
      'Not authorized',
    )
    const stopping = new AbortController()
    const ran: Promise<void>[] = []
    const publishing = async (name: string, { edge, fixture }: AttachedUnderTest) => {
      const { follower, pool } = await alarms.client()
      const { chainId } = alarms.chain
      const cursor = await DecisionCursor.open({
        path: join(under.mosquitto.directory, `cursor-${name}`),
        chainId,
        recordAfterMs: 200,
      })
      const decisions = new Decisions({
        blocks: new CertifiedBlocks(follower, pool),
        cursor,
        shards: () => edge.shards(),
        publish: message => fixture.gateway.publishDecision(message),
        topicOf: topics.decision,
        now: () => alarms.chain.time,
        expiryMs: 3_000,
        onError: () => {},
      })
      ran.push(follower.run(stopping.signal), decisions.run(stopping.signal))
    }
    const levels = () => seen.map(({ payload }) => JSON.parse(String(payload)).Values.level)
    alarms.decide(caller, 1, 2, 3, 4)
    await publishing('first', running)
    await until(() => seen.length === 4, 'the first gateway publishes')
    const before = seen.map(({ payload }) => String(payload))
    alarms.chain.append()
    const second = await under.gateway([shardOf(caller.id)])
    await publishing('second', second)
    await until(() => seen.length === 7, 'the second gateway repeats what has not expired')
    expect(seen.slice(4).map(({ payload }) => String(payload))).toEqual(before.slice(1))
    await until(() => !running.edge.shards().includes(shardOf(caller.id)), 'the first has lost the shard')
    alarms.decide(caller, 5)
    await until(() => levels().includes(5), 'the second goes on')
    expect(levels()).toEqual([1, 2, 3, 4, 2, 3, 4, 5])
    alarms.chain.append(([0, 1, 2] as const).map(qos => alarms.call(caller, 10 + qos, { qos })))
    await until(() => seen.length === 11, 'those of each QoS')
    const by = seen.slice(8).map(({ qos, payload }) => [JSON.parse(String(payload)).Values.level, qos])
    expect(new Map(by as [number, number][])).toEqual(
      new Map([
        [10, 0],
        [11, 1],
        [12, 2],
      ]),
    )
    expect(seen.some(({ retain }) => retain)).toBe(false)
    stopping.abort()
    await Promise.all(ran)
    await second.stopGateway()
  })

  test('attached: by TLS, with a certificate that the gateway and the devices have reason to believe, and with no other', async () => {
    await using tls = await TlsFixture.make()
    await using foreign = await TlsFixture.make()
    const [ca, other] = [tls, foreign].map(({ authority }) => authority.certificate.toString())
    const logins = gatewayLogins(under.trust.chainId, under.keys)
    const { id } = joined[0]!
    const account = await accountOf(
      { trust: under.trust, gateway: under.keys.id, own: under.keys.encryption, plain: noPlainTopics },
      id,
    )
    await using secure = await Mosquitto.start([account!], logins, tls.files)
    const opened: string[] = []
    const link = (authorities: string | undefined, signal: AbortSignal) =>
      BrokerLink.open(
        {
          ...secure.address,
          ca: authorities,
          login: logins.gateway,
          clientId: 'x',
          sessionSeconds: 0,
          topicFilters: [],
          onBroken: reason => opened.push(reason),
        },
        signal,
      )
    const trusting = await link(ca, AbortSignal.timeout(10_000))
    await trusting.close()
    for (const authorities of [other, undefined])
      await expect(link(authorities, AbortSignal.timeout(300))).rejects.toMatchObject({
        code: 'interrupted',
      })
    expect(opened.some(reason => /certificate/.test(reason))).toBe(true)
    // Once for each connection, however often it fails.
    expect(opened.length).toBeLessThanOrEqual(2)
    const options = { keys: joined[0]!, chain: under.trust, timeoutMs: 5_000, reconnects: false }
    const gateway = { ...secure.address, tls: { ca }, brokerOf: under.keys.id }
    const connection = await openDeviceConnection({ ...options, gateway })
    await connection.close()
    const mistrusting = { ...gateway, tls: { ca: other } }
    await expect(openDeviceConnection({ ...options, gateway: mistrusting })).rejects.toMatchObject({
      code: 'unreachable',
    })
  })
})
