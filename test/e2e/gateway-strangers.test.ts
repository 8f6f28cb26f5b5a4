/**
 * Strangers at the gateway's MQTT port: what they may use up, and whom they keep out. Each has an address of his own on
 * the loopback network.
 */
import { connect, type Socket } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { GatewayFixture, testLimits, until } from '../support/gateway-fixture.ts'

const { inAll, perAddress } = testLimits.unproven

let fixture: GatewayFixture
let device: IdentityKeys
let sockets: Socket[]
beforeEach(async () => {
  sockets = []
  // However slow the machine is: silent sockets go by their number here.
  fixture = await GatewayFixture.start({ connectTimeoutMs: 60_000 })
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
  for (let i = 0; i < inAll + 10; i++) opened.push(await silent(`127.0.1.${i + 1}`))
  await until(() => stillOpen(opened).length === inAll, 'those over the share are gone')
  expect(stillOpen(opened)).toEqual(opened.slice(10))
  await connectMs(5)
})

test('strangers: what comes from the address of a device stays while strangers come', async () => {
  await fixture.client(fixture.credentials(device))
  const slow = await silent('127.0.0.1')
  const opened: Socket[] = []
  for (let i = 0; i < 2 * inAll; i++) opened.push(await silent(`127.0.1.${i + 1}`))
  await until(() => stillOpen(opened).length === inAll - 1, 'strangers make room for strangers')
  expect(slow.closed).toBe(false)
})

test('gateway: holds the connections of so many devices, and lets a device take over its own', async () => {
  const clients = []
  for (let i = 0; i < testLimits.connectionsMax; i++) {
    const keys = fixture.device(`device-${i}`)
    clients.push({ keys, client: await fixture.client(fixture.credentials(keys)) })
  }
  await expect(fixture.client(fixture.credentials(device))).rejects.toThrow('Server unavailable')
  await fixture.client(fixture.credentials(clients[0]!.keys))
})
