/**
 * The water valve (Hsu C8) on a real MQTT wire: two thermometers and a valve, each with its agent, and applications that speak plain MQTT to
 * them. An intruder who lowers what is measured is caught by the signature, by the step rule or by the other thermometer, as where it sits has it.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import mqtt, { type MqttClient } from 'mqtt'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { parseAgentConfig } from '../../mqtt-gateway/agent/agent-config.ts'
import { type AgentEvent, startAgent } from '../../mqtt-gateway/agent/agent-process.ts'
import type { GatewayAddress } from '../../mqtt-gateway/device/gateway-address.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { GatewayFixture, type SeenMessage, until } from '../support/gateway-fixture.ts'
import { WireTap } from '../support/wire-tap.ts'

/** In place of the three minutes of examples/water-valve.json. */
const silenceMs = 1_500

let fixture: GatewayFixture
let directory: string
let keys: Readonly<Record<string, IdentityKeys>>
const closing: (() => Promise<unknown>)[] = []
beforeEach(async () => {
  fixture = await GatewayFixture.start()
  keys = Object.fromEntries(['1111', '1112', 'valve'].map(name => [name, fixture.device(name)]))
  directory = await fixture.stateDirectory()
  const valve = await readFile('examples/water-valve.json', 'utf8')
  await writeFile(join(directory, 'water-valve.json'), valve.replace('> 180000', `> ${silenceMs}`))
})
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close()
  await fixture.stop()
})

/** An agent and the application beside it. */
class Station {
  readonly events: AgentEvent[] = []
  readonly seen: SeenMessage[] = []
  application!: MqttClient

  static async start(
    name: string,
    config: object,
    gateway: GatewayAddress = fixture.address,
  ): Promise<Station> {
    const station = new Station()
    const text = JSON.stringify({ version: 1, coap: false, ...config })
    const agent = await startAgent({
      client: {
        keys: keys[name]!,
        chain: fixture.trust,
        gateway,
        stateDirectory: await fixture.stateDirectory(),
        timeoutMs: 2_000,
        trustTtlMs: fixture.trustTtlMs,
      },
      config: parseAgentConfig(text, join(directory, 'agent.json')),
      names: {
        device: async given => keys[given]?.id,
        group: async () => undefined,
        nameOfDevice: async id => Object.keys(keys).find(given => keys[given]!.id === id) ?? id,
        nameOfGroup: async id => id,
      },
      onEvent: event => station.events.push(event),
    })
    closing.push(() => agent.stop())
    await agent.client.connected(5_000)
    await station.connect(agent.mqtt as { readonly host: string; readonly port: number })
    return station
  }

  async connect(address: { readonly host: string; readonly port: number }): Promise<void> {
    this.application = await mqtt.connectAsync({ ...address, protocolVersion: 4, reconnectPeriod: 200 })
    closing.push(() => this.application.endAsync(true))
    this.application.on('message', (topic, payload) => this.seen.push({ topic, payload }))
    await this.application.subscribeAsync('#', { qos: 0 })
  }

  async report(...temperatures: readonly number[]): Promise<void> {
    for (const temperature of temperatures)
      await this.application.publishAsync('thermometer', JSON.stringify({ temperature }), { qos: 1 })
  }

  on(topic: string): Record<string, unknown>[] {
    return this.seen.filter(message => message.topic === topic).map(({ payload }) => JSON.parse(`${payload}`))
  }

  get decision(): unknown {
    return this.on('valve').at(-1)?.['Decision']
  }

  refusals(): string[] {
    return this.events.flatMap(event => (event.type === 'refused' ? event.reason.code : []))
  }
}

const measured = 'water/temperature'
const thermometer = (more: object = {}) => ({
  publish: [{ topic: 'thermometer', device: 'valve', recordTopic: measured, ...more }],
})
const valve = (more: object = {}) => ({
  deliver: ['1111', '1112'].map(sender => ({
    sender,
    topic: `from/${sender}`,
    recordTopic: measured,
    ...more,
  })),
  decide: [{ contract: 'water-valve.json', topic: 'valve', everyMs: 100 }],
})
const guarded = async (onViolation: string) => {
  await writeFile(join(directory, 'guard.json'), await readFile('examples/temperature-guard.json'))
  return { rules: ['guard.json'], onViolation }
}

test('water valve (a): who alters each reading at the broker gets no reading through, and the valve opens by its silence rule', async () => {
  await using tap = await WireTap.between(fixture.address)
  const [inlet, outlet] = await Promise.all([
    Station.start('1111', thermometer()),
    Station.start('1112', thermometer()),
  ])
  const station = await Station.start('valve', valve(), tap.address)
  await until(() => station.decision === 'open: silence', 'nothing has come yet')
  await Promise.all([inlet.report(20), outlet.report(21)])
  await until(() => station.decision === 'closed', 'both are cool')
  const delivery = Buffer.from(topics.send(keys['valve']!.id).replace('/send/', '/to/'))
  tap.change = packet => {
    if (!packet.includes(delivery)) return packet
    const lowered = Buffer.from(packet)
    // A digit of the sealed text, as far as somebody without the key can reach it.
    const at = lowered.length - 100
    lowered[at] = (lowered[at] ?? 0) ^ 5
    return lowered
  }
  await Promise.all([inlet.report(25, 26, 27), outlet.report(25, 26, 27)])
  await until(() => station.decision === 'open: silence', 'the valve opens')
  expect(station.refusals()).toEqual(Array.from({ length: 6 }, () => 'bad-signature'))
  expect(station.on('from/1111')).toEqual([{ temperature: 20 }])
})

test('water valve (b): a thermometer that falls by 4 degrees and goes on is marked at the fall, by its own agent or by the recipient', async () => {
  const guard = await guarded('flag')
  const [inlet, outlet] = await Promise.all([
    Station.start('1111', thermometer(guard)),
    Station.start('1112', thermometer()),
  ])
  const { deliver, decide } = valve()
  const judged = deliver.map(route => (route.sender === '1112' ? { ...route, ...guard } : route))
  const station = await Station.start('valve', { deliver: judged, decide })
  await Promise.all([inlet.report(20, 22, 24, 20, 21), outlet.report(20, 22, 24, 20, 21)])
  const fall = { temperature: 20, flagged: 'temperature-guard: step' }
  const expected = [20, 22, 24].map(temperature => ({ temperature }) as object)
  for (const from of ['from/1111', 'from/1112']) {
    await until(() => station.on(from).length === 5, `five readings ${from}`)
    expect(station.on(from)).toEqual([...expected, fall, { temperature: 21 }])
  }
})

test('water valve (b): where its route refuses, the fall does not leave, and the application is told contract and rule', async () => {
  const inlet = await Station.start('1111', thermometer(await guarded('refuse')))
  const station = await Station.start('valve', valve())
  await inlet.report(20, 22, 24)
  const closed = new Promise<void>(resolve => inlet.application.once('close', () => resolve()))
  inlet.application.publish('thermometer', '{"temperature":20}', { qos: 1 })
  await closed
  expect(inlet.on('agent/refused')[0]).toEqual({
    topic: 'thermometer',
    code: 'rule-violated',
    reason: 'reading on water/temperature: temperature-guard: step',
  })
  await until(() => station.on('from/1111').length === 3, 'three readings')
  expect(station.on('from/1111').at(-1)).toEqual({ temperature: 24 })
})

test('water valve (c): a thermometer that lies by 5 degrees from its first reading violates no step, and the other one gives it away', async () => {
  const guard = await guarded('flag')
  const [liar, honest] = await Promise.all([
    Station.start('1111', thermometer(guard)),
    Station.start('1112', thermometer(guard)),
  ])
  const station = await Station.start('valve', valve(guard))
  for (const temperature of [22, 23]) {
    await liar.report(temperature - 5)
    await honest.report(temperature)
  }
  await until(() => station.decision === 'open: the thermometers disagree', 'the valve opens')
  await until(() => station.on('from/1111').length === 2, 'both readings')
  expect(station.on('from/1111')).toEqual([{ temperature: 17 }, { temperature: 18 }])
  expect(station.refusals()).toEqual([])
})
