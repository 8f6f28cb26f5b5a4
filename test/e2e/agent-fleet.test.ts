/** Many devices in one agent process, as `mote devnet up --agents` runs them: here against one gateway in this process. */

import mqtt from 'mqtt'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { DeviceId } from '../../chain/brands.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { type RunningFleet, startFleet } from '../../mqtt-gateway/agent/agent-fleet.ts'
import { GatewayFixture, until } from '../support/gateway-fixture.ts'

const count = 24

let fixture: GatewayFixture
let devices: readonly IdentityKeys[]
let fleet: RunningFleet | undefined
beforeEach(async () => {
  fixture = await GatewayFixture.start({ connectionsMax: 64, unproven: { all: 64, perAddress: 64 } })
  devices = Array.from({ length: count }, (_, i) => fixture.device(`${1111 + i}`))
})
afterEach(async () => {
  await fleet?.stop()
  await fixture.stop()
})

const start = (directory: string): Promise<RunningFleet> =>
  startFleet({
    devices,
    chainOf: () => fixture.trust,
    reloadKeys: async name => devices.find(device => device.name === name)!,
    gateway: fixture.address,
    directory,
    trustTtlMs: fixture.trustTtlMs,
    address: { type: 'tcp', host: '127.0.0.1', port: 0 },
    names: {
      device: async name => devices.find(device => device.name === name)?.id,
      group: async () => undefined,
      nameOfDevice: async (id: DeviceId) => devices.find(device => device.id === id)?.name ?? id,
      nameOfGroup: async id => id,
    },
    onEvent: () => {},
    signal: new AbortController().signal,
  })

test('fleet: every device is connected, speaks under its own name, and comes back after the gateway was away', async () => {
  fleet = await start(await fixture.stateDirectory())
  expect(fleet.connected).toBe(count)
  expect(fixture.gateway.status().sessions).toBe(count)
  const { mqtt: address } = fleet
  if (address.type !== 'tcp') throw new Error('no TCP port')
  const application = await mqtt.connectAsync({ host: address.host, port: address.port, protocolVersion: 4 })
  try {
    const seen: string[] = []
    application.on('message', (topicName, payload) => seen.push(`${topicName} ${payload}`))
    await application.subscribeAsync('+/from/+', { qos: 1 })
    await application.publishAsync('1111/to/1120', 'one', { qos: 1 })
    await until(() => seen.length === 1, 'the first message')
    await fixture.gateway.stop()
    await application.publishAsync('1120/to/1134', 'two', { qos: 1 })
    await fixture.startAgain()
    await until(() => seen.length === 2, 'the second message')
    expect(seen).toEqual(['1120/from/1111 one', '1134/from/1120 two'])
    await until(() => fleet?.connected === count, 'all are back')
    expect(
      new Set(fixture.decisions.filter(({ event }) => event === 'message').map(({ sender }) => sender)),
    ).toEqual(new Set([devices[0]!.id, devices[9]!.id]))
  } finally {
    await application.endAsync(true)
  }
})

test('fleet: a topic that does not begin with the name of one of its devices is refused', async () => {
  fleet = await start(await fixture.stateDirectory())
  const { mqtt: address } = fleet
  if (address.type !== 'tcp') throw new Error('no TCP port')
  const application = await mqtt.connectAsync({ host: address.host, port: address.port, reconnectPeriod: 0 })
  application.on('error', () => {})
  const closed = new Promise<void>(resolve => application.once('close', () => resolve()))
  application.publishAsync('to/1111', 'x', { qos: 1 }).catch(() => {})
  await closed
})
