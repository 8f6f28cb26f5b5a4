/**
 * Makes test/vectors/asking.json: what a device and its gateway ask each other beside messages, byte for byte (docs/FORMATS.md, "MQTT topics"):
 * questions and their answer, what is watched and a change of it, a vote on a key from its request to its result; and bytes that must be
 * refused. `node test/vectors/make-asking.ts` writes the file.
 */
import { writeFileSync } from 'node:fs'
import { bytesToHex } from '@noble/hashes/utils.js'
import type { ContractAddress, StateKey } from '../../chain/brands.ts'
import { deviceIdOf, type EncryptionKey, keyIdOf } from '../../chain/keys.ts'
import { signerFromSeed, x25519PublicKey } from '../../chain/noble-crypto.ts'
import { groupIdOf } from '../../chain/records.ts'
import {
  encodeChange,
  encodeProofAnswer,
  encodeQuestion,
  encodeWatch,
} from '../../mqtt-gateway/protocol/question.ts'
import {
  encodeBallot,
  encodeBallotAnswer,
  encodeVoteRequest,
  encodeVoteResult,
} from '../../mqtt-gateway/protocol/vote.ts'

const filled = (byte: number, length = 32) => new Uint8Array(length).fill(byte)
const deviceOf = (byte: number) => deviceIdOf(signerFromSeed('ed25519', filled(byte)).publicKey)
const [sender, recipient, other] = [deviceOf(1), deviceOf(2), deviceOf(3)]
const group = groupIdOf(sender, 'valves')
const after = '5a'.repeat(32) as StateKey
const contract = '6b'.repeat(32) as ContractAddress
const nonce = filled(8, 16)
/** Stands for an encoded state answer, group answer or record page. */
const proof = filled(9, 40)
const copy: EncryptionKey = { suite: 'x25519', bytes: x25519PublicKey(filled(4)) }
const inCopy = keyIdOf(copy)
const vote = filled(7, 16)

const toDevice = { type: 'device', id: recipient } as const
const toGroup = { type: 'group', id: group } as const

function questions() {
  const subjects = [
    toDevice,
    toGroup,
    { type: 'chain' },
    { type: 'devices', after: undefined },
    { type: 'devices', after },
    { type: 'contract', id: contract },
  ] as const
  return subjects.map(subject => ({ subject, encoded: bytesToHex(encodeQuestion(nonce, subject)) }))
}

function votes() {
  const key = { suite: copy.suite, bytes: bytesToHex(copy.bytes) }
  const gateway = { check: 'Check', inCopy } as const
  const answers = [
    { device: sender, check: 'Check', inCopy },
    { device: recipient, check: 'Error', inCopy: undefined },
    { device: other, check: 'Silent', inCopy: undefined },
  ] as const
  return {
    request: { recipient, copy: key, encoded: bytesToHex(encodeVoteRequest({ nonce, recipient, copy })) },
    requestWithoutCopy: {
      recipient,
      encoded: bytesToHex(encodeVoteRequest({ nonce, recipient, copy: undefined })),
    },
    ballot: {
      vote: bytesToHex(vote),
      sender,
      encoded: bytesToHex(encodeBallot({ vote, sender, recipient, copy })),
    },
    check: {
      check: 'Check',
      inCopy,
      encoded: bytesToHex(encodeBallotAnswer({ vote, check: 'Check', inCopy })),
    },
    error: {
      check: 'Error',
      encoded: bytesToHex(encodeBallotAnswer({ vote, check: 'Error', inCopy: undefined })),
    },
    result: { gateway, answers, encoded: bytesToHex(encodeVoteResult({ nonce, gateway, answers })) },
  }
}

/** One byte of sound bytes changed, so that nothing but that is amiss. */
function changed(bytes: Uint8Array, at: number, to: number): string {
  return bytesToHex(bytes.map((byte, i) => (i === at ? to : byte)))
}

function refused() {
  const question = encodeQuestion(nonce, toDevice)
  const answer = encodeBallotAnswer({ vote, check: 'Check', inCopy: undefined })
  return [
    { what: 'question', why: 'another version', encoded: changed(question, 1, 2) },
    { what: 'question', why: 'a byte after it', encoded: `${bytesToHex(question)}00` },
    { what: 'question', why: 'a nonce of 15 bytes', encoded: bytesToHex(encodeQuestionOf(15)) },
    { what: 'watch', why: 'more than 16 subjects', encoded: bytesToHex(watchOf(17)) },
    { what: 'watch', why: 'the chain, which nobody watches', encoded: '9201919103' },
    { what: 'change', why: 'a proof of no bytes', encoded: emptyProof() },
    { what: 'check', why: 'Silent, which only the gateway says', encoded: changed(answer, 20, 3) },
    {
      what: 'request',
      why: 'a suite that does not exist',
      encoded: changed(encodeVoteRequest({ nonce, recipient, copy }), 55, 99),
    },
  ] as const
}

/** Hand-made: the encoder makes none of these. */
function encodeQuestionOf(nonceBytes: number): Uint8Array {
  const sound = encodeQuestion(nonce, toDevice)
  // [1, bin 8 of 16 bytes, …]
  return Uint8Array.of(
    sound[0]!,
    sound[1]!,
    0xc4,
    nonceBytes,
    ...sound.slice(4, 4 + nonceBytes),
    ...sound.slice(20),
  )
}

function watchOf(count: number): Uint8Array {
  const one = encodeWatch([toDevice]).slice(3)
  // [1, array 16 of `count` subjects]
  return Uint8Array.of(
    0x92,
    1,
    0xdc,
    count >> 8,
    count,
    ...Array.from({ length: count }, () => [...one]).flat(),
  )
}

function emptyProof(): string {
  const sound = encodeChange(toDevice, Uint8Array.of(1))
  return bytesToHex(Uint8Array.of(...sound.slice(0, -2), 0))
}

export function askingVectors() {
  return {
    about: 'questions, watches and votes of docs/FORMATS.md; bytes are hexadecimal',
    nonce: bytesToHex(nonce),
    questions: questions(),
    answer: { proof: bytesToHex(proof), encoded: bytesToHex(encodeProofAnswer(nonce, proof)) },
    watch: { subjects: [toDevice, toGroup], encoded: bytesToHex(encodeWatch([toDevice, toGroup])) },
    watchNothing: bytesToHex(encodeWatch([])),
    change: {
      subject: toDevice,
      proof: bytesToHex(proof),
      encoded: bytesToHex(encodeChange(toDevice, proof)),
    },
    changeWithoutProof: { subject: toGroup, encoded: bytesToHex(encodeChange(toGroup, undefined)) },
    vote: votes(),
    refused: refused(),
  }
}

if (import.meta.main)
  writeFileSync(new URL('asking.json', import.meta.url), `${JSON.stringify(askingVectors(), undefined, 2)}\n`)
