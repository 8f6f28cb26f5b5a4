import { expect, test } from 'vitest'
import type { DeviceId } from '../../../chain/brands.ts'
import { type EncryptionKey, keyIdOf } from '../../../chain/keys.ts'
import { unwrap } from '../../../chain/result.ts'
import { type IdentityKeys, makeKeys } from '../../../client/key-directory.ts'
import {
  encodeBallotAnswer,
  type KeyVoteResult,
  maxVoters,
  parseBallot,
  parseBallotAnswer,
  parseVoteRequest,
  parseVoteResult,
} from '../../../mqtt-gateway/protocol/vote.ts'
import type { OutgoingMessage } from '../../../mqtt-gateway/server/broker.ts'
import { type ResultLine, Votes } from '../../../mqtt-gateway/server/votes.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { MemoryTrust } from '../../support/memory-trust.ts'

const trust = new MemoryTrust()
const [sender, recipient, other, stranger] = ['1111', '1113', '1114', 'stranger'].map(name => {
  const keys = makeKeys(name)
  trust.register(keys)
  return keys
}) as [IdentityKeys, IdentityKeys, IdentityKeys, IdentityKeys]
const key = recipient.encryption.publicKey
const keyId = keyIdOf(key)

/** The gateway's side, with who is connected in `connected`, and what it publishes kept. */
class Hall {
  readonly clock = new ManualClock()
  readonly published: OutgoingMessage[] = []
  readonly lines: ResultLine[] = []
  connected: readonly DeviceId[] = [sender.id, recipient.id, other.id]
  readonly votes = new Votes({
    trust,
    trustTtlMs: 60_000,
    broker: {
      publish: async message => {
        this.published.push(message)
      },
    },
    connected: () => this.connected,
    log: line => this.lines.push(line),
    onError: error => {
      throw error
    },
    clock: this.clock,
  })

  open(by: IdentityKeys, copy: EncryptionKey | undefined = key): Promise<void> {
    return this.votes.open(by.id, { version: 1, nonce: new Uint8Array(16), recipient: recipient.id, copy })
  }

  /** The number of the vote, as the last ballot has it. */
  get number(): Uint8Array {
    const ballot = this.published.findLast(({ topicName }) => topicName.startsWith('mote/1/ballot/'))
    return unwrap(parseBallot(ballot!.payload)).vote
  }

  answer(by: IdentityKeys, check: 'Check' | 'Error' = 'Check', vote = this.number): void {
    this.votes.answer(by.id, unwrap(parseBallotAnswer(encodeBallotAnswer({ vote, check, inCopy: keyId }))))
  }

  get results(): readonly KeyVoteResult[] {
    return this.published
      .filter(({ topicName }) => topicName === `mote/1/result/${sender.id}`)
      .map(({ payload }) => unwrap(parseVoteResult(payload)))
  }
}

test('votes: everybody who is connected is asked but the sender, and the result comes with the last answer', async () => {
  const hall = new Hall()
  hall.connected = [sender.id, other.id, recipient.id, other.id]
  await hall.open(sender)
  const asked = hall.published.map(({ topicName }) => topicName)
  expect(asked).toEqual([recipient.id, other.id].toSorted().map(id => `mote/1/ballot/${id}`))
  hall.answer(other)
  expect(hall.results).toEqual([])
  hall.answer(recipient)
  expect(hall.results).toMatchObject([
    { gateway: { check: 'Check', inCopy: keyId }, answers: [{ check: 'Check' }, { check: 'Check' }] },
  ])
  expect(hall.lines).toMatchObject([{ verdict: 'Check', sender: sender.id, recipient: recipient.id }])
})

test('votes: an answer counts once for a device, and not of one that was not asked or for another vote', async () => {
  const hall = new Hall()
  await hall.open(sender)
  hall.answer(other, 'Error')
  hall.answer(other, 'Check')
  hall.answer(stranger)
  hall.answer(recipient, 'Check', new Uint8Array(16))
  expect(hall.results).toEqual([])
  hall.answer(recipient)
  const [result] = hall.results
  expect(result!.answers.find(({ device }) => device === other.id)).toMatchObject({ check: 'Error' })
  expect(result!.answers).toHaveLength(2)
})

test('votes: who has not answered after a second is silent, and an answer after that changes nothing', async () => {
  const hall = new Hall()
  await hall.open(sender)
  hall.answer(recipient)
  hall.clock.advance(999)
  expect(hall.results).toEqual([])
  hall.clock.advance(1)
  expect(hall.results[0]!.answers.find(({ device }) => device === other.id)).toMatchObject({
    check: 'Silent',
    inCopy: undefined,
  })
  hall.answer(other)
  expect(hall.results).toHaveLength(1)
  expect(hall.lines).toMatchObject([{ verdict: 'Error', code: 'timeout', mismatch: null }])
})

test('votes: the gateway answers by certified state, and an absent copy is Error with null', async () => {
  const hall = new Hall()
  hall.connected = []
  await hall.open(sender, other.encryption.publicKey)
  hall.clock.advance(1_000)
  await hall.votes.open(sender.id, {
    version: 1,
    nonce: new Uint8Array(16),
    recipient: recipient.id,
    copy: undefined,
  })
  expect(hall.results.map(({ gateway }) => gateway)).toEqual(Array(2).fill({ check: 'Error', inCopy: keyId }))
  expect(hall.lines.map(({ mismatch }) => mismatch)).toEqual([
    { inEnvelope: keyIdOf(other.encryption.publicKey), inCopy: keyId },
    { inEnvelope: null, inCopy: keyId },
  ])
})

test('votes: one in a second of a device, eight open, and no more voters than a result holds', async () => {
  const hall = new Hall()
  await hall.open(sender)
  await expect(hall.open(sender)).rejects.toMatchObject({ code: 'rate-limited' })
  const others = Array.from({ length: 8 }, (_, i) => makeKeys(`voter-${i}`))
  for (const keys of others.slice(0, 7)) await hall.open(keys)
  await expect(hall.open(others[7]!)).rejects.toMatchObject({ code: 'rate-limited' })
  hall.clock.advance(1_000)
  await hall.open(sender)
  hall.clock.advance(1_000)
  hall.connected = Array.from(
    { length: maxVoters + 1 },
    (_, i) => i.toString(16).padStart(64, '0') as DeviceId,
  )
  await expect(hall.open(sender)).rejects.toMatchObject({ code: 'limit-exceeded' })
})

test('votes: nothing is asked on stale trust data', async () => {
  const hall = new Hall()
  trust.age(120_000)
  await expect(hall.open(sender)).rejects.toMatchObject({ code: 'stale' })
  trust.heartbeat()
  expect(hall.published).toEqual([])
})

test('votes: hostile bytes are no request, ballot or answer', () => {
  for (const parse of [parseVoteRequest, parseBallot, parseBallotAnswer]) {
    expect(parse(new Uint8Array(800))).toMatchObject({ ok: false, error: { code: 'too-large' } })
    expect(parse(Uint8Array.of(0x91, 1))).toMatchObject({ ok: false, error: { code: 'malformed' } })
  }
})
