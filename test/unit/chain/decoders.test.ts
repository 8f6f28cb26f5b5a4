import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { certificateCodec } from '../../../chain/certificate.ts'
import { type Codec, decode, encode } from '../../../chain/codec.ts'
import { consenterSetCodec } from '../../../chain/consenters.ts'
import { equivocationCodec, equivocationsBetween } from '../../../chain/equivocation.ts'
import { headerCodec, headerHash } from '../../../chain/header.ts'
import { encryptionKeyCodec, publicKeyCodec } from '../../../chain/keys.ts'
import { certifiedHeaderCodec, stateAnswerCodec } from '../../../chain/light-client.ts'
import { HistoryTree, merkleProofCodec, perfectNodesOf } from '../../../chain/merkle.ts'
import { stateProofCodec } from '../../../chain/state-tree.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import { certify, committee, SampleChain } from './sample-chain.ts'

const three = committee(3)
const chain = new SampleChain(three)
const header = chain.append({ 'device 1': 'record', 'device 2': 'record' })
const certificate = certify(header, three)
const fork = certify({ ...header, stateRoot: headerHash(header) }, three)
const [evidence] = equivocationsBetween(three.set, header, [certificate, fork], nativeVerifier)
const leaves = [1, 2, 3].map(byte => Uint8Array.of(byte))
const history = leaves.reduce((tree, leaf) => tree.append(leaf), HistoryTree.empty)

function sample<T>(name: string, codec: Codec<T>, value: T): [string, Codec<unknown>, Uint8Array] {
  return [name, codec as Codec<unknown>, encode(codec, value)]
}

const samples = [
  sample('public key', publicKeyCodec, three.set.consenters[0]!.key),
  sample('encryption key', encryptionKeyCodec, { suite: 'x25519', bytes: new Uint8Array(32) }),
  sample('consenter set', consenterSetCodec, three.set),
  sample('header', headerCodec, header),
  sample('certificate', certificateCodec, certificate),
  sample('certified header', certifiedHeaderCodec, {
    ...chain.served(1, certificate),
    handover: { consenters: three.set, certificate },
  }),
  sample('state answer', stateAnswerCodec, chain.answer(1, 'device 1')),
  sample('state answer of absence', stateAnswerCodec, chain.answer(1, 'nobody')),
  sample('state proof', stateProofCodec, chain.answer(1, 'device 1').proof),
  sample('merkle proof', merkleProofCodec, history.prove(1, perfectNodesOf(leaves))),
  sample('equivocation', equivocationCodec, evidence!),
]

describe.each(samples)('decoder of %s', (_, codec, bytes) => {
  test('decoder: mutated bytes are refused or are the canonical bytes of another value', () => {
    const edit = fc.record({
      at: fc.nat(bytes.length - 1),
      remove: fc.nat(3),
      add: fc.uint8Array({ maxLength: 4 }),
    })
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), edits => {
        let mutated = bytes
        for (const { at, remove, add } of edits)
          mutated = Uint8Array.from([...mutated.slice(0, at), ...add, ...mutated.slice(at + remove)])
        const decoded = decode(codec, mutated)
        if (decoded.ok) expect(encode(codec, decoded.value)).toEqual(mutated)
        else expect(decoded.error.code).toBe('malformed')
      }),
      { numRuns: 500 },
    )
  })

  test('decoder: random bytes are refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), random => {
        expect(decode(codec, random).ok).toBe(false)
      }),
      { numRuns: 500 },
    )
  })

  test('decoder: every shorter or longer form is refused', () => {
    expect(decode(codec, bytes).ok).toBe(true)
    for (let length = 0; length < bytes.length; length++)
      expect(decode(codec, bytes.slice(0, length)).ok).toBe(false)
    expect(decode(codec, Uint8Array.of(...bytes, 0xc0)).ok).toBe(false)
  })
})

test('vectors: the domains of docs/FORMATS.md exist', async () => {
  const { domains } = await import('../../../chain/hashing.ts')
  const named = readFileSync(new URL('../../../docs/FORMATS.md', import.meta.url), 'utf8').matchAll(
    /`(mote\/[a-z-]+\/1)`/g,
  )
  const names = [...named].map(([, name]) => name as string)
  expect(names.length).toBeGreaterThan(8)
  for (const name of names) expect(domains as readonly string[]).toContain(name)
})
