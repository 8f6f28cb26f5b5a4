/** What a gateway says of a message for the NATS servers: refused only if they cannot have it. */
import { expect, test } from 'vitest'
import { Deadline } from '../../../../client/deadline.ts'
import { publishUntilStored } from '../../../../mqtt-gateway/records/stream-publish.ts'

type Answer = 'yes' | 'full' | 'lost'

/** Gives these answers one after another. */
function answers(...given: Answer[]): () => Promise<boolean> {
  return async () => {
    const answer = given.shift()
    if (answer === 'lost') throw new Error('timeout')
    return answer === 'yes'
  }
}
const publish = (admit: Answer[], send: Answer[], ms = 10_000) =>
  publishUntilStored({ admit: answers(...admit), send: answers(...send) }, new Deadline(ms))

test('stream publish: a full stream refuses what it cannot have', async () => {
  const overloaded = { ok: false, error: { code: 'overloaded' } }
  expect(await publish(['full'], [])).toMatchObject(overloaded)
  expect(await publish(['yes'], ['full'])).toMatchObject(overloaded)
  expect(await publish(['lost', 'full'], [])).toMatchObject(overloaded)
})

test('stream publish: no refusal for what may be stored, since the answer to it was lost', async () => {
  await expect(publish(['yes'], ['lost', 'full'])).rejects.toMatchObject({ code: 'unreachable' })
})

test('stream publish: the same again until a server says that it is stored, admitted once', async () => {
  expect(await publish(['lost', 'yes', 'full'], ['lost', 'yes'])).toMatchObject({ ok: true })
})

test('stream publish: out of reach when nobody answers in time', async () => {
  await expect(publish(['yes'], Array(99).fill('lost'), 1)).rejects.toMatchObject({ code: 'unreachable' })
})
