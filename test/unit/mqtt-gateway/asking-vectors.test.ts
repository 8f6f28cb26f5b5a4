/** test/vectors/asking.json: the program makes these bytes, reads them, and refuses those that must be refused. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import {
  parseChange,
  parseProofAnswer,
  parseQuestion,
  parseWatch,
} from '../../../mqtt-gateway/protocol/question.ts'
import {
  parseBallot,
  parseBallotAnswer,
  parseVoteRequest,
  parseVoteResult,
} from '../../../mqtt-gateway/protocol/vote.ts'
import { askingVectors } from '../../vectors/make-asking.ts'

const vectors: ReturnType<typeof askingVectors> = JSON.parse(
  readFileSync(new URL('../../vectors/asking.json', import.meta.url), 'utf8'),
)
const hex = (text: string) => Uint8Array.from(Buffer.from(text, 'hex'))
const nonce = hex(vectors.nonce)
const { vote } = vectors

test('vectors: the program makes test/vectors/asking.json', () => {
  // Through JSON, which has no undefined.
  expect(JSON.parse(JSON.stringify(askingVectors()))).toEqual(vectors)
})

test('vectors: questions of each kind, and the answer that carries its proof as a byte string', () => {
  expect(vectors.questions.map(({ subject }) => subject.type)).toEqual([
    'device',
    'group',
    'chain',
    'devices',
    'devices',
    'contract',
  ])
  for (const { subject, encoded } of vectors.questions)
    expect(parseQuestion(hex(encoded))).toMatchObject({ value: { nonce, subject } })
  expect(parseProofAnswer(hex(vectors.answer.encoded))).toMatchObject({
    value: { nonce, proof: hex(vectors.answer.proof) },
  })
})

test('vectors: what is watched, and a change of it, with and without its proof', () => {
  const { watch, watchNothing, change, changeWithoutProof } = vectors
  expect(parseWatch(hex(watch.encoded))).toMatchObject({ value: { subjects: watch.subjects } })
  expect(parseWatch(hex(watchNothing))).toMatchObject({ value: { subjects: [] } })
  expect(parseChange(hex(change.encoded))).toMatchObject({
    value: { subject: change.subject, proof: hex(change.proof) },
  })
  expect(parseChange(hex(changeWithoutProof.encoded))).toMatchObject({
    value: { subject: changeWithoutProof.subject, proof: undefined },
  })
})

test('vectors: a vote from its request to its result', () => {
  const { request, requestWithoutCopy, ballot, check, error, result } = vote
  const copy = { suite: request.copy.suite, bytes: hex(request.copy.bytes) }
  expect(parseVoteRequest(hex(request.encoded))).toMatchObject({
    value: { nonce, recipient: request.recipient, copy },
  })
  expect(parseVoteRequest(hex(requestWithoutCopy.encoded))).toMatchObject({
    value: { nonce, copy: undefined },
  })
  const { sender } = ballot
  expect(parseBallot(hex(ballot.encoded))).toMatchObject({ value: { vote: hex(ballot.vote), sender, copy } })
  expect(parseBallotAnswer(hex(check.encoded))).toMatchObject({
    value: { check: 'Check', inCopy: check.inCopy },
  })
  expect(parseBallotAnswer(hex(error.encoded))).toMatchObject({
    value: { check: 'Error', inCopy: undefined },
  })
  const { gateway, answers } = result
  expect(parseVoteResult(hex(result.encoded))).toMatchObject({ value: { nonce, gateway, answers } })
})

const parsers = {
  question: parseQuestion,
  watch: parseWatch,
  change: parseChange,
  check: parseBallotAnswer,
  request: parseVoteRequest,
}

test.each(vectors.refused)('vectors: a $what with $why is refused', ({ what, encoded }) => {
  expect(parsers[what](hex(encoded))).toMatchObject({ ok: false, error: { code: 'malformed' } })
})
