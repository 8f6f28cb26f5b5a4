/** The papers' own check of a key by everybody, over a real broker (Hsu-Lu B2, B5). */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { keyIdOf } from '../../chain/keys.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import type { DeviceAgent } from '../../mqtt-gateway/device/agent.ts'
import { DeviceState } from '../../mqtt-gateway/device/device-state.ts'
import type { DecisionLine } from '../../mqtt-gateway/protocol/decision-log.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { GatewayFixture, until } from '../support/gateway-fixture.ts'

const names = ['1111', '1112', '1113', '1114'] as const
const text = { content: new TextEncoder().encode('open valve 3') }

let fixture: GatewayFixture
let keys: Record<(typeof names)[number], IdentityKeys>
let directories: Record<string, string>
let agents: Record<string, DeviceAgent>
let linesOf: Record<string, DecisionLine[]>
let texts: string[]

beforeEach(async () => {
  fixture = await GatewayFixture.start()
  keys = Object.fromEntries(names.map(name => [name, fixture.device(name)])) as typeof keys
  directories = {}
  agents = {}
  linesOf = {}
  for (const name of names) {
    directories[name] = await fixture.stateDirectory()
    const lines: DecisionLine[] = []
    linesOf[name] = lines
    agents[name] = await fixture.agent(keys[name], directories[name], {
      onDecision: line => void lines.push(line),
    })
    await agents[name].refreshContact(keys['1113'].id)
  }
  texts = []
  await agents['1113']!.listen({ message: ({ content }) => void texts.push(Buffer.from(content).toString()) })
})
afterEach(async () => {
  await fixture.stop()
  expect(fixture.errors).toEqual([])
})

const vote = () => agents['1111']!.sendByVote(keys['1113'].id, text)
const idOf = (name: keyof typeof keys) => keyIdOf(keys[name].encryption.publicKey)
/** 1114 holds another key for 1113 than the chain has. */
async function alterCopyOf1114(): Promise<void> {
  const state = await DeviceState.open(directories['1114']!)
  const key = keys['1112'].encryption.publicKey
  await state.setContact(keys['1113'].id, { key, height: fixture.trust.head().height })
}

test('gateway vote: all have the same copy: a map of Check, and the message is read', async () => {
  const { vote: outcome, verdict } = await vote()
  expect(verdict).toMatchObject({ verdict: 'Check' })
  const others = [keys['1112'].id, keys['1113'].id, keys['1114'].id].toSorted()
  expect(outcome.rows.map(({ voter, check }) => [voter, check])).toEqual(
    [...others, 'gateway', 'sender'].map(voter => [voter, 'Check']),
  )
  await until(() => texts.length === 1, '1113 reads it')
  expect(fixture.decisions).toContainEqual(expect.objectContaining({ event: 'result', verdict: 'Check' }))
})

test("gateway vote: another device's copy altered is Error, and nothing is sent; both keys are logged at the gateway and there", async () => {
  await alterCopyOf1114()
  const seen = await fixture.observe(keys['1111'])
  const { vote: outcome, verdict } = await vote()
  expect(verdict).toMatchObject({ verdict: 'Error', code: 'recipient-key-mismatch', messageId: null })
  expect(outcome.rows.filter(({ check }) => check !== 'Check')).toEqual([
    { voter: keys['1114'].id, check: 'Error', inEnvelope: idOf('1113'), inCopy: idOf('1112') },
  ])
  const mismatch = { inEnvelope: idOf('1113'), inCopy: idOf('1112') }
  expect(fixture.decisions).toContainEqual(expect.objectContaining({ event: 'result', mismatch }))
  await until(() => linesOf['1114']!.length > 0, 'its own log')
  expect(linesOf['1114']).toMatchObject([{ event: 'check', verdict: 'Error', mismatch }])
  expect(linesOf['1111']).toMatchObject([{ event: 'result', verdict: 'Error', mismatch }])
  // What comes after it on the same connection shows that nothing came before.
  expect(await agents['1111']!.send(keys['1113'].id, text)).toMatchObject({ verdict: 'Check' })
  await until(() => texts.length === 1, 'what was sent without a vote')
  expect(seen.filter(({ topic }) => topic.startsWith('mote/1/to/'))).toHaveLength(1)
  const kept = await (await DeviceState.open(directories['1114']!)).contact(keys['1113'].id)
  expect(kept, 'and the copy stays as it is').toMatchObject({
    value: { key: keys['1112'].encryption.publicKey },
  })
})

test('gateway vote: an absent copy is Error with null, at a device and at the sender', async () => {
  directories['absent'] = await fixture.stateDirectory()
  const newcomer = fixture.device('1115')
  const agent = await fixture.agent(newcomer, directories['absent'])
  const { vote: outcome, verdict } = await vote()
  expect(verdict).toMatchObject({ verdict: 'Error', code: 'recipient-key-mismatch' })
  expect(outcome.rows.filter(({ check }) => check !== 'Check')).toMatchObject([
    { voter: newcomer.id, check: 'Error', inEnvelope: idOf('1113'), inCopy: undefined },
  ])
  const none = await agent.sendByVote(keys['1113'].id, text)
  expect(none.verdict).toMatchObject({ verdict: 'Error', code: 'recipient-key-mismatch' })
  expect(none.vote.rows).toHaveLength(6)
  for (const row of none.vote.rows) expect(row).toMatchObject({ check: 'Error', inEnvelope: undefined })
  expect(fixture.decisions).toContainEqual(
    expect.objectContaining({ event: 'result', mismatch: { inEnvelope: null, inCopy: idOf('1113') } }),
  )
  expect(texts).toEqual([])
})

test('gateway vote: copies that cannot be read are Error with null, with the reason in the log there', async () => {
  await writeFile(join(directories['1114']!, 'contacts.json'), 'garbage')
  const { vote: outcome } = await vote()
  expect(outcome.rows.filter(({ check }) => check !== 'Check')).toMatchObject([
    { voter: keys['1114'].id, check: 'Error', inCopy: undefined },
  ])
  await until(() => linesOf['1114']!.length > 0, 'its own log')
  expect(linesOf['1114']![0]!.reason).toContain('contacts.json: expected JSON')
})

test('gateway vote: a device that does not answer within a second is silent, and nothing is sent; a second vote within one is refused', async () => {
  const plain = fixture.device('plain')
  await fixture.client(fixture.credentials(plain))
  const client = await fixture.client({
    ...fixture.credentials(keys['1112']),
    clientId: `${keys['1112'].id}.byhand`,
  })
  const [first, second] = await Promise.allSettled([vote(), vote()])
  expect([first, second].find(({ status }) => status === 'rejected')).toMatchObject({
    reason: { code: 'rate-limited' },
  })
  const counted = [first, second].find(outcome => outcome.status === 'fulfilled')!
  expect(counted).toMatchObject({ value: { verdict: { verdict: 'Error', code: 'timeout' } } })
  const rows = counted.status === 'fulfilled' ? counted.value.vote.rows : []
  expect(rows.filter(({ check }) => check !== 'Check')).toMatchObject([{ voter: plain.id, check: 'Silent' }])
  expect(fixture.decisions).toContainEqual(
    expect.objectContaining({ event: 'vote', code: 'rate-limited', sender: keys['1111'].id }),
  )
  // A device speaks for itself alone: neither a vote nor an answer in another's name.
  const errors = await fixture.subscribed(client, topics.error(keys['1112'].id))
  for (const topic of [topics.vote(plain.id), topics.check(plain.id)])
    await client.publishAsync(topic, Buffer.from('x'), { qos: 1 })
  await client.publishAsync(topics.check(keys['1112'].id), Buffer.from('x'), { qos: 1 })
  await until(() => errors.length === 3, 'a refusal of each')
  const codes = errors.map(({ payload }) => (JSON.parse(payload.toString()) as { code: string }).code)
  expect(codes).toEqual(['topic-not-allowed', 'topic-not-allowed', 'malformed'])
  expect(texts).toEqual([])
})
