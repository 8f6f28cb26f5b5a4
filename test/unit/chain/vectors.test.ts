import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { decodeProposal, proposalCodec, receiptCodec } from '../../../chain/block.ts'
import type { Hash, StateKey } from '../../../chain/brands.ts'
import { certificateCodec, certificateSigningBytes, verifyCertificate } from '../../../chain/certificate.ts'
import { decode, encode } from '../../../chain/codec.ts'
import { consenterSetCodec, signersHash } from '../../../chain/consenters.ts'
import { chainIdOf, genesisCodec, genesisHeader } from '../../../chain/genesis.ts'
import { changesHash, type Header, headerCodec, headerHash, restHashOf } from '../../../chain/header.ts'
import { deviceIdOf, keyIdOf, type SigningSuite } from '../../../chain/keys.ts'
import { checkpointOf, stateAnswerCodec, verifyStateAnswer } from '../../../chain/light-client.ts'
import { nobleVerifier } from '../../../chain/noble-crypto.ts'
import { approvalCodec, parametersCodec, stateKeyOf } from '../../../chain/records.ts'
import { unwrap } from '../../../chain/result.ts'
import { parseGenesis } from '../../../client/genesis-file.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import { governanceVectors } from '../../vectors/make-governance.ts'

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

describe('vectors of test/vectors/governance.json', () => {
  const governance: ReturnType<typeof governanceVectors> = JSON.parse(
    readFileSync(new URL('../../vectors/governance.json', import.meta.url), 'utf8'),
  )
  const target = unwrap(decode(consenterSetCodec, hex(governance.target.encoded)))

  test('vectors: the script makes the file', () => {
    expect(governanceVectors()).toEqual(governance)
  })

  test('vectors: a block, a heartbeat and a handover as the log orders them', () => {
    expect(governance.proposals.map(({ type }) => type)).toEqual(['block', 'block', 'heartbeat', 'handover'])
    for (const { encoded, type, time, ...rest } of governance.proposals) {
      const proposal = unwrap(decodeProposal(hex(encoded)))
      expect(encode(proposalCodec, proposal)).toEqual(hex(encoded))
      expect(proposal).toMatchObject({ version: 1, type, time })
      if (proposal.type === 'handover') expect(rest).toEqual({ signersHash: signersHash(target) })
      else
        expect(rest).toEqual({
          transactions: proposal.transactions.map(bytes => Buffer.from(bytes).toString('hex')),
        })
    }
  })

  test('vectors: a genesis as file and as bytes, its chain id, and the leaves of its state', () => {
    const { file, encoded, chainId, headerHash: hash, leaves } = governance.genesis
    const document = unwrap(decode(genesisCodec, hex(encoded)))
    expect(parseGenesis(JSON.stringify(file), 'vector')).toEqual(document)
    expect(chainIdOf(document)).toBe(chainId)
    expect(headerHash(genesisHeader(document))).toBe(hash)
    const parameters = leaves.find(({ stateKey }) => stateKey === stateKeyOf.parameters())
    expect(unwrap(decode(parametersCodec, hex(parameters!.leaf))).envelopeSuites).toEqual([
      'hpke-x25519-aes128gcm',
      'hpke-p256-aes128gcm',
      'group-hkdf-sha256-aes256gcm',
    ])
  })

  test('vectors: the approval of an authority, and the events of a decision', () => {
    const { authority, parametersVersion, stateKey, leaf } = governance.approval
    expect(stateKeyOf.approval(authority)).toBe(stateKey)
    expect(decode(approvalCodec, hex(leaf))).toEqual({ ok: true, value: { target, parametersVersion } })
    const { events } = unwrap(decode(receiptCodec, hex(governance.receipt)))
    expect(events).toEqual([
      { type: 'consenters.approved', authority, target: signersHash(target), approvals: 2 },
      { type: 'consenters.decided', target: signersHash(target), parametersVersion: 5 },
    ])
  })
})
