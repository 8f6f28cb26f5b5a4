/** docs/THREATS.md: strangers and a device at the MQTT port of a real gateway. */
import mqtt, { type MqttClient } from 'mqtt'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import type { ChainId, Height, Milliseconds } from '../../chain/brands.ts'
import { unwrap } from '../../chain/result.ts'
import { pause } from '../../client/deadline.ts'
import { type IdentityKeys, signerOf } from '../../client/key-directory.ts'
import { Counts } from '../../devnet/chaos/hostile/counts.ts'
import { credentialsOf, crowdGateway } from '../../devnet/chaos/hostile/strangers.ts'
import { sealEnvelope } from '../../mqtt-gateway/device/envelope-sealing.ts'
import { filters, topics } from '../../mqtt-gateway/protocol/topics.ts'
import { DevnetFixture } from '../support/devnet-fixture.ts'
import { measureDamage, timesOf } from './siege.ts'

let devnet: DevnetFixture
let gateway: { readonly host: string; readonly port: number }
let devices: IdentityKeys[]
const closing: (() => unknown)[] = []

beforeAll(async () => {
  devnet = await DevnetFixture.start('hostile-gateway', ['--lightweight', '0'])
  gateway = devnet.description.gateway.mqtt
  devices = await Promise.all(['1111', '1112', '1113'].map(name => devnet.keys(name)))
})
afterEach(async () => {
  await Promise.all(closing.splice(0).map(close => close()))
})
afterAll(() => devnet.stop())

async function connected(keys: IdentityKeys): Promise<MqttClient> {
  const { clientId, username, password } = credentialsOf(keys, devnet.description.chainId as ChainId)
  const login = { ...gateway, clientId, username, password }
  const client = await mqtt.connectAsync({ ...login, protocolVersion: 4, reconnectPeriod: 0 })
  client.on('error', () => {})
  closing.push(() => client.endAsync(true))
  return client
}

test('a device that subscribes and does not read: others are acknowledged and read as before', async () => {
  const [sender, recipient, hostile] = devices as [IdentityKeys, IdentityKeys, IdentityKeys]
  expect((await devnet.mote('device', 'rights', hostile.name, '--observe')).code).toBe(0)
  const client = await connected(sender)
  const reader = await connected(recipient)
  await reader.subscribeAsync(`mote/1/to/${recipient.id}`, { qos: 1 })
  let sent = 0
  let read = 0
  reader.on('message', () => read++)
  const send = async (): Promise<void> => {
    sent += 1
    const sealed = await sealEnvelope({
      chainId: devnet.description.chainId as ChainId,
      sender: sender.id,
      signer: signerOf(sender),
      target: { type: 'device', id: recipient.id, key: recipient.encryption.publicKey },
      counter: sent,
      seenHeight: 1 as Height,
      expiry: (Date.now() + 30_000) as Milliseconds,
      channel: '',
      content: new Uint8Array(256 * 1024),
    })
    await client.publishAsync(topics.send(sender.id), Buffer.from(unwrap(sealed).bytes), { qos: 1 })
  }
  let stalls = 0
  let slowestMs = 0
  const damage = await measureDamage(
    'a device that does not read',
    async () => {
      const times = await timesOf(send)
      slowestMs = Math.max(slowestMs, ...times)
      return times
    },
    async over => {
      while (!over.aborted) {
        const stalled = await connected(hostile)
        await stalled.subscribeAsync(filters.anyDelivery, { qos: 1 })
        stalled.stream.pause()
        stalls += 1
        while (!over.aborted && stalled.connected) {
          // A paused stream does not see that it was closed; one packet that cannot be sent does.
          stalled.publish(topics.ask(hostile.id), 'no question', { qos: 0 })
          await pause(50)
        }
      }
    },
  )
  expect(stalls).toBeGreaterThan(0)
  expect(damage.acknowledged).toBeGreaterThan(0)
  expect(damage.duringMs).toBeLessThan(Math.max(20 * damage.beforeMs, 500))
  // One that waits for the reader to be cut hides in a median.
  expect(slowestMs).toBeLessThan(5_000)
  expect(read).toBe(sent)
})

test('strangers with sockets and made-up names: a device that connects is taken as before', async () => {
  const [device] = devices as [IdentityKeys]
  const chainId = devnet.description.chainId as ChainId
  const counts = new Counts()
  const damage = await measureDamage(
    'strangers with sockets',
    () => timesOf(async () => (await connected(device)).endAsync()),
    over => crowdGateway({ gateway, chainId }, counts, over),
    () => counts.of('made-up names') > 0,
  )
  expect(counts.of('made-up names')).toBeGreaterThan(0)
  expect(damage.acknowledged).toBeGreaterThan(0)
  expect(damage.duringMs).toBeLessThan(2_000)
})
