/** Open topics over a real broker (Hsu-Lu B4, B5): who publishes, who reads, and what becomes of keys that differ or are over. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { bytesToHex } from '@noble/hashes/utils.js'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { GroupId } from '../../chain/brands.ts'
import { keyIdOf } from '../../chain/keys.ts'
import { topicKeyOf } from '../../chain/open-topics.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import type { DeviceAgent } from '../../mqtt-gateway/device/agent.ts'
import type { DecisionLine } from '../../mqtt-gateway/protocol/decision-log.ts'
import { GatewayFixture, listen, type SeenMessage, sentText, until } from '../support/gateway-fixture.ts'

const names = ['1111', '1112', '1113', '1114'] as const
const delivered = (seen: readonly SeenMessage[]) => seen.filter(({ topic }) => topic.startsWith('mote/1/to/'))

let fixture: GatewayFixture
let keys: Record<(typeof names)[number], IdentityKeys>
let agents: Record<(typeof names)[number], DeviceAgent>
/** The state directory of 1111. */
let directory: string
let lines: DecisionLine[]
/** An open topic of 1113, with 1114 as a member. */
let topic: GroupId

beforeEach(async () => {
  fixture = await GatewayFixture.start()
  keys = Object.fromEntries(names.map(name => [name, fixture.device(name)])) as typeof keys
  directory = await fixture.stateDirectory()
  lines = []
  const agentOf = (name: (typeof names)[number]) =>
    fixture.agent(keys[name], name === '1111' ? directory : undefined, {
      onDecision: line => void lines.push(line),
    })
  agents = Object.fromEntries(
    await Promise.all(names.map(async name => [name, await agentOf(name)])),
  ) as typeof agents
  topic = fixture.trust.createGroup(keys['1113'].id, 'b', { publishers: undefined })
  fixture.trust.changeMembers(topic, { add: [keys['1114'].id] })
  await agents['1113'].rekey(topic)
})
afterEach(async () => {
  await fixture.stop()
  expect(fixture.errors).toEqual([])
})

const topicKey = async () => topicKeyOf((await fixture.trust.group(topic)).value!.record)!
const contacts = () => join(directory, 'contacts.json')

test('open topic: a device that is no member publishes, the members read it and nobody else; a removed one reads nothing later', async () => {
  const seen = await fixture.observe(fixture.device('observer'))
  const [in1112, in1113, in1114] = [
    await listen(agents['1112']),
    await listen(agents['1113']),
    await listen(agents['1114']),
  ]
  expect(await agents['1111'].publish(topic, sentText('18.2 degrees'))).toMatchObject({ verdict: 'Check' })
  await until(() => in1113.texts.length + in1114.texts.length === 2, 'both members read it')
  expect(in1113.messages[0]!.to).toMatchObject({ type: 'topic', id: topic, epoch: 1 })
  expect(in1112).toEqual({ texts: [], messages: [], refusals: [] })
  await until(() => delivered(seen).length === 2, 'an observer gets the bytes')
  for (const { payload } of seen) expect(payload.includes('18.2 degrees')).toBe(false)
  fixture.trust.changeMembers(topic, { remove: [keys['1114'].id] })
  const before = await topicKey()
  expect((await agents['1111'].publish(topic, sentText('too early'))).code, 'publishers cannot re-key').toBe(
    'epoch-mismatch',
  )
  let epoch = 1
  fixture.trust.onAdvance(
    () => void fixture.trust.group(topic).then(({ value }) => (epoch = value!.record.epoch)),
  )
  await until(() => epoch === 2, 'the member that is online does')
  expect(await topicKey()).not.toEqual(before)
  expect(await agents['1111'].publish(topic, sentText('18.3 degrees'))).toMatchObject({ verdict: 'Check' })
  await until(() => in1113.texts.length === 2, 'the member that stays reads it')
  expect(in1113.texts).toEqual(['18.2 degrees', '18.3 degrees'])
  expect(in1114.texts).toEqual(['18.2 degrees'])
})

test("open topic: with the publisher's copy of its key altered, and with it absent, nothing is relayed, and both keys are logged (Hsu-Lu B5)", async () => {
  const seen = await fixture.observe(fixture.device('observer'))
  expect(await agents['1111'].publish(topic, sentText('one'))).toMatchObject({ verdict: 'Check' })
  const good = await readFile(contacts(), 'utf8')
  const key = await topicKey()
  const onChain = keyIdOf(key)
  const other = keys['1112'].encryption.publicKey
  const altered = good.replace(bytesToHex(key.bytes), bytesToHex(other.bytes))
  await writeFile(contacts(), altered)
  const verdict = await agents['1111'].publish(topic, sentText('to another key'))
  expect(verdict).toMatchObject({ verdict: 'Error', code: 'recipient-key-mismatch' })
  expect(fixture.decisions).toContainEqual(
    expect.objectContaining({
      id: verdict.messageId,
      recipient: topic,
      mismatch: { inEnvelope: keyIdOf(other), onChain },
    }),
  )
  expect(await readFile(contacts(), 'utf8'), 'never repaired silently').toBe(altered)
  for (const spoilt of ['', '00'.repeat(32)]) {
    await writeFile(contacts(), good.replace(bytesToHex(key.bytes), spoilt))
    const absent = await agents['1111'].publish(topic, sentText('to none'))
    expect(absent).toMatchObject({ verdict: 'Error', code: 'recipient-key-mismatch', messageId: null })
    expect(absent.reason).toContain(onChain)
    expect(lines.at(-1)).toMatchObject({ recipient: topic, mismatch: { onChain } })
  }
  await writeFile(contacts(), good)
  expect(await agents['1111'].publish(topic, sentText('two'))).toMatchObject({ verdict: 'Check' })
  await until(() => delivered(seen).length >= 4, 'what was sealed to the right key')
  expect(delivered(seen), 'two messages for two members').toHaveLength(4)
})

test('open topic: a key that is over is renewed and the message sealed anew; a publisher outside the group of publishers is refused', async () => {
  const in1114 = await listen(agents['1114'])
  expect(await agents['1111'].publish(topic, sentText('one'))).toMatchObject({ verdict: 'Check' })
  await agents['1113'].rekey(topic)
  expect(await agents['1111'].publish(topic, sentText('two'))).toMatchObject({ verdict: 'Check' })
  await until(() => in1114.texts.length === 2, 'both')
  expect(JSON.parse(await readFile(contacts(), 'utf8')).contacts[topic]).toMatchObject({
    epoch: 2,
    publicKey: bytesToHex((await topicKey()).bytes),
  })
  const sensors = fixture.trust.createGroup(keys['1112'].id, 'sensors')
  const limited = fixture.trust.createGroup(keys['1113'].id, 'limited', { publishers: sensors })
  await agents['1113'].rekey(limited)
  expect(await agents['1111'].publish(limited, sentText('three'))).toMatchObject({ code: 'not-member' })
  expect(await agents['1112'].publish(limited, sentText('four'))).toMatchObject({ verdict: 'Check' })
  await expect(agents['1113'].sendToGroup(topic, sentText('five'))).rejects.toMatchObject({
    code: 'suite-mismatch',
  })
  await expect(agents['1111'].publish(sensors, sentText('six'))).rejects.toMatchObject({
    code: 'unknown-subject',
  })
})
