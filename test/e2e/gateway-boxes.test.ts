/** Boxes that wait at the broker are judged again before anybody finds them: after each block, and by a gateway that was away. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { GroupId } from '../../chain/brands.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { filters } from '../../mqtt-gateway/protocol/topics.ts'
import { memoryBoxStore } from '../../mqtt-gateway/server/boxes.ts'
import { GatewayFixture, sentText, until } from '../support/gateway-fixture.ts'

let fixture: GatewayFixture
let [d1111, d1112, d1113] = [] as unknown as [IdentityKeys, IdentityKeys, IdentityKeys]
let group: GroupId
/** Where 1111 counts its messages. */
let counters: string
beforeEach(async () => {
  fixture = await GatewayFixture.start({ connectTimeoutMs: 30_000 }, { boxes: memoryBoxStore() })
  d1111 = fixture.device('1111')
  d1112 = fixture.device('1112')
  d1113 = fixture.device('1113')
  group = fixture.trust.createGroup(d1111.id, 'hsu0001')
  fixture.trust.changeMembers(group, { add: [d1112.id, d1113.id] })
  counters = await fixture.stateDirectory()
  const owner = await fixture.agent(d1111, counters)
  await owner.sendToGroup(group, sentText('there is a key'))
  await owner.close()
})
afterEach(() => fixture.stop())

/** How many boxes a device finds that subscribes now. */
async function boxesFoundBy(keys: IdentityKeys): Promise<number> {
  const client = await fixture.client(fixture.credentials(keys))
  const seen: string[] = []
  client.on('message', topicName => seen.push(topicName))
  await client.subscribeAsync(filters.boxesOf(keys.id), { qos: 1 })
  await client.subscribeAsync(filters.toDevice(keys.id), { qos: 1 })
  // A message of its own comes after what was retained.
  const sender = await fixture.agent(d1111, counters)
  await sender.send(keys.id, sentText('marker'))
  await until(() => seen.some(topicName => topicName.startsWith('mote/1/to/')), 'the marker', 20_000)
  await sender.close()
  await client.endAsync()
  return seen.filter(topicName => topicName.startsWith('mote/1/box/')).length
}

test('boxes: a member finds its own; who was removed finds none, though nobody has made a new key yet', async () => {
  expect(await boxesFoundBy(d1112)).toBe(1)
  fixture.trust.changeMembers(group, { remove: [d1113.id] })
  expect(await boxesFoundBy(d1113)).toBe(0)
  expect(await boxesFoundBy(d1112)).toBe(1)
})

test('boxes: who was removed while the gateway was away finds none when it is back', async () => {
  await fixture.stopGateway()
  fixture.trust.changeMembers(group, { remove: [d1113.id] })
  await fixture.startAgain()
  expect(await boxesFoundBy(d1113)).toBe(0)
  expect(await boxesFoundBy(d1112)).toBe(1)
})

test('boxes: while the chain cannot say who is a member nobody gets one; the connection is closed, to come again', async () => {
  const client = await fixture.client(fixture.credentials(d1112))
  fixture.trust.reachable = false
  fixture.trust.changeMembers(group, { remove: [d1113.id] })
  const closed = new Promise<void>(resolve => client.once('close', () => resolve()))
  await expect(client.subscribeAsync(filters.boxesOf(d1112.id), { qos: 1 })).rejects.toThrow()
  await closed
  fixture.trust.reachable = true
  expect(await boxesFoundBy(d1112)).toBe(1)
})
