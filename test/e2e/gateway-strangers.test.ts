/**
 * Strangers at the gateway's MQTT port: what they may use up, and whom they keep out. Each has an address of his own on
 * the loopback network.
 */
import { connect, type Socket } from 'node:net'
import { MqttClient } from 'mqtt'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type IdentityKeys, makeKeys, signerOf } from '../../client/key-directory.ts'
import type { Credentials } from '../../mqtt-gateway/device/mqtt-connection.ts'
import { defaultUnknownDeviceLimits } from '../../mqtt-gateway/server/unknown-devices.ts'
import { GatewayFixture, testLimits, until } from '../support/gateway-fixture.ts'

const { all, perAddress } = testLimits.unproven
/** Return codes of CONNACK (MQTT 3.1.1, section 3.2.2.3). */
const connack = { tryLater: 3, badCredentials: 4, notAuthorised: 5 }

let fixture: GatewayFixture
let device: IdentityKeys
let sockets: Socket[]
beforeEach(async () => {
  sockets = []
  // However slow the machine is: silent sockets go by their number here.
  fixture = await GatewayFixture.start({ connectTimeoutMs: 60_000 }, { refusedSummaryMs: 1_000 })
  device = fixture.device('1111')
})
afterEach(async () => {
  for (const socket of sockets) socket.destroy()
  await fixture.stop()
  expect(fixture.errors).toEqual([])
})

/** A socket that says nothing, open at the gateway when this resolves. */
async function silent(localAddress: string): Promise<Socket> {
  const socket = connect({ ...fixture.address, localAddress }).on('error', () => {})
  sockets.push(socket.resume())
  await new Promise(resolve => socket.once('connect', resolve))
  return socket
}

const stillOpen = (all: readonly Socket[]): readonly Socket[] => all.filter(({ closed }) => !closed)

async function connectMs(count: number): Promise<number> {
  const times: number[] = []
  for (let i = 0; i < count; i++) {
    const startedAt = performance.now()
    const client = await fixture.client(fixture.credentials(device))
    times.push(performance.now() - startedAt)
    await client.endAsync()
  }
  return times.toSorted((one, other) => one - other)[count >> 1]!
}

test('strangers: silent sockets of one address have a share, the oldest goes first, and keep nobody out', async () => {
  const before = await connectMs(5)
  const opened: Socket[] = []
  for (let i = 0; i < perAddress + 10; i++) opened.push(await silent('127.0.0.2'))
  await until(() => stillOpen(opened).length === perAddress, 'those over the share are gone')
  expect(stillOpen(opened)).toEqual(opened.slice(10))
  const during = await connectMs(5)
  console.info(`CONNECT p50: ${before.toFixed(1)} ms, ${during.toFixed(1)} ms with silent sockets`)
  expect(during).toBeLessThan(Math.max(10 * before, 100))
})

test('strangers: silent sockets of many addresses keep out neither a device nor a newcomer', async () => {
  const opened: Socket[] = []
  for (let i = 0; i < all + 10; i++) opened.push(await silent(`127.0.1.${i + 1}`))
  await until(() => stillOpen(opened).length === all, 'those over the share are gone')
  expect(stillOpen(opened)).toEqual(opened.slice(10))
  await connectMs(5)
})

test('strangers: what comes from the address of a device stays while strangers come', async () => {
  await fixture.client(fixture.credentials(device))
  const slow = await silent('127.0.0.1')
  const opened: Socket[] = []
  for (let i = 0; i < 2 * all; i++) opened.push(await silent(`127.0.1.${i + 1}`))
  await until(() => stillOpen(opened).length === all - 1, 'strangers make room for strangers')
  expect(slow.closed).toBe(false)
})

test('gateway: holds the connections of so many devices, and lets a device take over its own', async () => {
  const clients = []
  for (let i = 0; i < testLimits.connectionsMax; i++) {
    const keys = fixture.device(`device-${i}`)
    clients.push({ keys, client: await fixture.client(fixture.credentials(keys)) })
  }
  for (let i = 0; i < 2; i++)
    await expect(fixture.client(fixture.credentials(device))).rejects.toThrow('Server unavailable')
  const lines = fixture.decisions.filter(({ code }) => code === 'overloaded')
  expect(
    lines.map(({ event, sender }) => [event, sender]),
    'one line for those of one address',
  ).toEqual([['connect', device.id]])
  await fixture.client(fixture.credentials(clients[0]!.keys))
})

/** What a CONNECT from this address comes to: `connected`, or the return code. */
function outcomeFrom(localAddress: string, credentials: Credentials): Promise<unknown> {
  const { clientId, username, password } = credentials
  const options = { clientId, username, password, protocolVersion: 4, reconnectPeriod: 0 } as const
  const client = new MqttClient(() => {
    const socket = connect({ ...fixture.address, localAddress })
    sockets.push(socket)
    return socket
  }, options)
  return new Promise(resolve => {
    client.once('connect', () => resolve('connected'))
    client.once('error', error => resolve('code' in error ? error.code : error))
  })
}

test('strangers: who makes the gateway look up too many ids waits, and devices and other addresses do not', async () => {
  const { perAddress: lookUps } = defaultUnknownDeviceLimits
  await fixture.client(fixture.credentials(device))
  const unknown = (name: string) => fixture.credentials(makeKeys(name))
  for (let i = 0; i < lookUps; i++)
    expect(await outcomeFrom('127.0.0.2', unknown(`a-${i}`))).toBe(connack.notAuthorised)
  const before = fixture.trust.lookUps
  for (let i = 0; i < 5; i++) expect(await outcomeFrom('127.0.0.2', unknown(`b-${i}`))).toBe(connack.tryLater)
  expect(fixture.trust.lookUps).toBe(before)
  expect(await outcomeFrom('127.0.0.2', fixture.credentials(device))).toBe('connected')
  expect(await outcomeFrom('127.0.0.3', unknown('c'))).toBe(connack.notAuthorised)
})

test('strangers: connections that are refused alike have one line in the decision log, and a count', async () => {
  const forger = { publicKey: device.signing.publicKey, sign: signerOf(makeKeys('forger')).sign }
  for (let i = 0; i < 50; i++)
    expect(await outcomeFrom('127.0.0.2', fixture.credentials(device, forger))).toBe(connack.badCredentials)
  const lines = () => fixture.decisions.filter(({ address }) => address === '127.0.0.2')
  const told = () =>
    lines().reduce(
      (sum, { reason }) => sum + Number(/(\d+) more were refused/.exec(reason ?? '')?.[1] ?? 1),
      0,
    )
  await until(() => told() === 50, 'all are counted in the log')
  expect(lines().length).toBeLessThan(20)
  expect(lines()[0]).toMatchObject({ event: 'connect', code: 'bad-signature', sender: device.id })
  expect(fixture.gateway.status().refused).toBe(50)
  expect(await outcomeFrom('127.0.0.3', fixture.credentials(device, forger))).toBe(connack.badCredentials)
  expect(fixture.decisions.at(-1)).toMatchObject({ address: '127.0.0.3', code: 'bad-signature' })
})
