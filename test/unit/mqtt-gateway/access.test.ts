/** Who receives decisions of contracts: by the right to their topic, or every active device where topics are open. */
import { beforeEach, expect, test } from 'vitest'
import type { IdentityKeys } from '../../../client/key-directory.ts'
import { makeKeys } from '../../../client/key-directory.ts'
import { noPlainTopics, type PlainTopics } from '../../../mqtt-gateway/protocol/plain-topics.ts'
import { Access } from '../../../mqtt-gateway/server/access.ts'
import { MemoryTrust } from '../../support/memory-trust.ts'

let trust: MemoryTrust
let keys: IdentityKeys

beforeEach(() => {
  trust = new MemoryTrust()
  keys = makeKeys('1111')
  trust.register(keys)
})

/** The filters that it may subscribe to, and the topics that it receives then. */
async function granted(plain: PlainTopics, asked: readonly string[]) {
  const access = new Access(trust, plain)
  const session = { clientId: keys.id, device: keys.id, login: { type: 'account' } } as const
  const may: string[] = []
  for (const filter of asked) if ((await access.judgeSubscription(session, filter)).ok) may.push(filter)
  return { may, receives: (topicName: string) => access.mayReceive(session, topicName) }
}

const decisions = ['mote/1/decision/fire/north', 'mote/1/decision/fire/#', 'mote/1/decision/#', 'fire/#']

test('decisions: by the right to receive their topic, mapped or not, and no others', async () => {
  trust.setRights(keys.id, { subscribe: ['fire/#'] })
  const { may, receives } = await granted(noPlainTopics, decisions)
  expect(may).toEqual(['mote/1/decision/fire/north', 'mote/1/decision/fire/#', 'fire/#'])
  expect(receives('mote/1/decision/fire/north')).toBe(true)
  expect(receives('mote/1/decision/valve/1')).toBe(false)
})

test('decisions: without a right none, but where topics are open every active device gets all', async () => {
  const open = { ...noPlainTopics, out: ['fire/#'], open: true }
  expect((await granted({ ...open, open: false }, decisions)).may).toEqual([])
  const { may, receives } = await granted(open, [...decisions, 'forest/#'])
  expect(may).toEqual(decisions)
  expect(receives('fire/north')).toBe(true)
  trust.setStatus(keys.id, 'suspended')
  expect((await granted(open, decisions)).may).toEqual([])
})
