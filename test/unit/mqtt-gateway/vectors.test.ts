/** test/vectors/device.json: the program makes these bytes from the given randomness, and reads them. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { receiptCodec } from '../../../chain/block.ts'
import { ChainId } from '../../../chain/brands.ts'
import { decode } from '../../../chain/codec.ts'
import type { EncryptionSuite } from '../../../chain/keys.ts'
import { merkleRoot } from '../../../chain/merkle.ts'
import { unwrap } from '../../../chain/result.ts'
import { encryptionKeyOf } from '../../../client/encryption-keys.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import { openMemberBox } from '../../../mqtt-gateway/device/box-sealing.ts'
import type { DecryptionKey } from '../../../mqtt-gateway/device/decryption-key.ts'
import { type OpeningKey, openEnvelope } from '../../../mqtt-gateway/device/envelope-sealing.ts'
import { openWithKey } from '../../../mqtt-gateway/device/key-sealing.ts'
import { topicPairOf } from '../../../mqtt-gateway/device/topic-keys.ts'
import {
  checkAssertionTime,
  parseAssertion,
  verifyAssertion,
} from '../../../mqtt-gateway/protocol/assertion.ts'
import { parseEnvelope, verifyEnvelope } from '../../../mqtt-gateway/protocol/envelope.ts'
import {
  boxesHash,
  epochKeyHash,
  parseEpochBoxes,
  parseMemberBox,
} from '../../../mqtt-gateway/protocol/epoch-boxes.ts'
import { parseAcknowledgement } from '../../../mqtt-gateway/protocol/kept-mail.ts'
import { parseProofAnswer, parseQuestion } from '../../../mqtt-gateway/protocol/question.ts'
import { openerOf } from '../../support/device-keys.ts'
import { deviceVectors } from '../../vectors/make-device.ts'

const vectors: Awaited<ReturnType<typeof deviceVectors>> = JSON.parse(
  readFileSync(new URL('../../vectors/device.json', import.meta.url), 'utf8'),
)
const hex = (text: string) => Uint8Array.from(Buffer.from(text, 'hex'))
const keyPair = (suite: EncryptionSuite, secret: string): DecryptionKey => ({
  publicKey: encryptionKeyOf(suite, hex(secret)),
  secret: hex(secret),
})
const chainId = ChainId(vectors.chainId)
const senderKey = { suite: 'ed25519', bytes: hex(vectors.sender.key) } as const

describe('vectors of test/vectors/device.json', () => {
  test('vectors: the code of a device makes the file from its randomness', async () => {
    expect(await deviceVectors()).toEqual(vectors)
  })

  test('vectors: HPKE gives the known answer of RFC 9180', async () => {
    expect(vectors.hpke.map(({ enc, ciphertext }) => [enc, ciphertext])).toEqual([
      [
        '37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431',
        'f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a',
      ],
      [
        '04a92719c6195d5085104f469a8b9814d5838ff72b60501e2c4466e5e67b325ac98536d7b61a1af4b78e5b7f951c0900be863c403ce65c9bfcb9382657222d18c4',
        '5ad590bb8baa577f8619db35a36311226a896e7342a6d836d8b7bcd2f20b6c7f9076ac232e3ab2523f39513434',
      ],
    ])
    for (const { suite, info, aad, plaintext, recipientSecret, enc, ciphertext } of vectors.hpke) {
      const sealed = { enc: hex(enc), ciphertext: hex(ciphertext) }
      const opened = openWithKey(keyPair(suite, recipientSecret), sealed, { info: hex(info), aad: hex(aad) })
      expect(unwrap(await opened)).toEqual(hex(plaintext))
    }
  })

  test('vectors: envelopes verify and open', async () => {
    for (const vector of vectors.envelopes) {
      const envelope = unwrap(parseEnvelope(chainId, hex(vector.encoded)))
      expect(envelope.messageId).toBe(vector.messageId)
      expect(verifyEnvelope(envelope, senderKey, nativeVerifier)).toBe(true)
      const key: OpeningKey =
        'recipientSecret' in vector
          ? openerOf(chainId, keyPair(vector.to.suite, vector.recipientSecret))
          : 'topicSecret' in vector
            ? { type: 'topic', key: keyPair('x25519', vector.topicSecret) }
            : { type: 'group', epochKey: hex(vector.epochKey) }
      if ('topicSecret' in vector) {
        const pair = topicPairOf(
          { chainId, group: vector.to.id, epoch: vector.to.epoch },
          hex(vector.epochKey),
        )
        expect([pair.publicKey.bytes, pair.secret]).toEqual([hex(vector.to.key), hex(vector.topicSecret)])
      }
      const { place } = vector as { place?: { transfer: string } }
      expect(unwrap(await openEnvelope(chainId, envelope, key))).toEqual({
        bytes: hex(vector.content),
        place: place && { ...place, transfer: hex(place.transfer) },
      })
    }
  })

  test('vectors: boxes have the hashes that go on the chain, and open', async () => {
    const { group, epoch, members, encoded, ...boxes } = vectors.boxes
    const name = { chainId, group, epoch }
    expect(boxesHash(hex(encoded))).toBe(boxes.boxesHash)
    expect(epochKeyHash(name, hex(boxes.epochKey))).toBe(boxes.epochKeyHash)
    expect(unwrap(parseEpochBoxes(hex(encoded))).boxes.map(({ member }) => member)).toEqual(
      members.map(({ id }) => id),
    )
    for (const { memberBox, suite, secret } of members) {
      const opened = await openMemberBox(
        chainId,
        unwrap(parseMemberBox(hex(memberBox))),
        keyPair(suite, secret),
      )
      expect(unwrap(opened)).toEqual(hex(boxes.epochKey))
    }
  })

  test('vectors: the password is an assertion of its device, for this chain and a minute', () => {
    const { password, issuedAt, expiresAt, nonce } = vectors.assertion
    const signed = unwrap(parseAssertion(password))
    expect(signed.assertion).toMatchObject({ device: vectors.sender.id, keyId: vectors.sender.keyId })
    expect(signed.assertion.nonce).toEqual(hex(nonce))
    expect(verifyAssertion(signed, senderKey, nativeVerifier)).toBe(true)
    expect(checkAssertionTime(signed.assertion, chainId, { head: issuedAt, now: issuedAt }).ok).toBe(true)
    expect(checkAssertionTime(signed.assertion, chainId, { head: expiresAt, now: expiresAt }).ok).toBe(false)
  })

  test('vectors: questions, and the answer that carries its proof as a byte string', () => {
    const { nonce, device, group, answer } = vectors.question
    for (const [type, { id, encoded }] of Object.entries({ device, group }))
      expect(parseQuestion(hex(encoded))).toMatchObject({
        value: { nonce: hex(nonce), subject: { type, id } },
      })
    expect(parseProofAnswer(hex(answer.encoded))).toMatchObject({ value: { proof: hex(answer.proof) } })
  })

  test('vectors: the acknowledgement of a kept message; one byte more or less is none', () => {
    const { messageId, encoded } = vectors.acknowledgement
    expect(parseAcknowledgement(hex(encoded))).toEqual({ ok: true, value: { version: 1, messageId } })
    expect(parseAcknowledgement(hex(encoded).subarray(1)).ok).toBe(false)
    expect(parseAcknowledgement(hex(`${encoded}00`)).ok).toBe(false)
  })

  test('vectors: receipts of every event, and the root over them', () => {
    const { receipts, receiptsRoot } = vectors.receipts
    for (const { id, code, events, encoded } of receipts)
      expect(decode(receiptCodec, hex(encoded))).toEqual({ ok: true, value: { id, code, events } })
    expect(merkleRoot(receipts.map(({ encoded }) => hex(encoded)))).toBe(receiptsRoot)
  })
})
