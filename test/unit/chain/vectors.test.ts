import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import type { Hash, StateKey } from '../../../chain/brands.ts'
import { certificateCodec, certificateSigningBytes, verifyCertificate } from '../../../chain/certificate.ts'
import { decode, encode } from '../../../chain/codec.ts'
import { consenterSetCodec, signersHash } from '../../../chain/consenters.ts'
import { changesHash, type Header, headerCodec, headerHash, restHashOf } from '../../../chain/header.ts'
import { deviceIdOf, keyIdOf, type SigningSuite } from '../../../chain/keys.ts'
import { checkpointOf, stateAnswerCodec, verifyStateAnswer } from '../../../chain/light-client.ts'
import { nobleVerifier } from '../../../chain/noble-crypto.ts'
import { unwrap } from '../../../chain/result.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'

interface HeaderVectors {
  keys: { suite: SigningSuite; key: string; keyId: string; deviceId: string }[]
  consenterSet: string
  signersHash: Hash
  changes: { keys: StateKey[]; changesHash: Hash }
  header: Header & { encoded: string }
  restHash: Hash
  headerHash: Hash
  certificateSigningBytes: string
  certificate: string
  stateAnswer: { key: StateKey; encoded: string }
}

const vectors: HeaderVectors = JSON.parse(
  readFileSync(new URL('../../vectors/header.json', import.meta.url), 'utf8'),
)

function hex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, 'hex'))
}

describe('vectors of test/vectors/header.json', () => {
  const { encoded, ...header } = vectors.header
  const set = unwrap(decode(consenterSetCodec, hex(vectors.consenterSet)))
  const certificate = unwrap(decode(certificateCodec, hex(vectors.certificate)))

  test('vectors: ids of keys and devices', () => {
    for (const { suite, key, keyId, deviceId } of vectors.keys) {
      expect(keyIdOf({ suite, bytes: hex(key) })).toBe(keyId)
      expect(deviceIdOf({ suite, bytes: hex(key) })).toBe(deviceId)
    }
  })

  test('vectors: header, its two hashes, and the hashes of signers and changes', () => {
    expect(encode(headerCodec, header)).toEqual(hex(encoded))
    expect(decode(headerCodec, hex(encoded))).toEqual({ ok: true, value: header })
    expect(restHashOf(header)).toBe(vectors.restHash)
    expect(headerHash(header)).toBe(vectors.headerHash)
    expect(signersHash(set)).toBe(vectors.signersHash)
    expect(changesHash(vectors.changes.keys)).toBe(vectors.changes.changesHash)
  })

  test.each([nobleVerifier, nativeVerifier])('vectors: certificate and state answer verify', verifier => {
    const { chainId, incarnation, height } = header
    const message = certificateSigningBytes(chainId, incarnation, height, vectors.headerHash)
    expect(message).toEqual(hex(vectors.certificateSigningBytes))
    expect(verifyCertificate(set, chainId, incarnation, certificate, verifier).ok).toBe(true)
    const answer = unwrap(decode(stateAnswerCodec, hex(vectors.stateAnswer.encoded)))
    const trusted = unwrap(checkpointOf(header, set))
    const state = unwrap(verifyStateAnswer(trusted, vectors.stateAnswer.key, answer, verifier))
    expect(Buffer.from(state.value ?? []).toString()).toBe('record')
  })
})
