import { hexToBytes } from '@noble/hashes/utils.js'
import { describe, expect, test } from 'vitest'
import { type ChainId, Height, LogIndex, Milliseconds, StateKey, Term } from '../../../chain/brands.ts'
import { verifyCertificate } from '../../../chain/certificate.ts'
import { type Codec, decode, encode } from '../../../chain/codec.ts'
import { checkConsenterSet, consenterSet, quorumOf } from '../../../chain/consenters.ts'
import { equivocationCodec, equivocationsBetween, verifyEquivocation } from '../../../chain/equivocation.ts'
import { changesHash, type Header, headerCodec, headerHash } from '../../../chain/header.ts'
import {
  advance,
  type CertifiedHeader,
  certifiedHeaderCodec,
  checkpointOf,
  follow,
  stateAnswerCodec,
  type TrustedHead,
  verifyEarlierHeader,
  verifyStateAnswer,
} from '../../../chain/light-client.ts'
import { perfectNodesOf, proveMerkle, verifyMerkleProof } from '../../../chain/merkle.ts'
import { nobleVerifier } from '../../../chain/noble-crypto.ts'
import { type Result, unwrap } from '../../../chain/result.ts'
import { nativeVerifier as verifier } from '../../../client/native-crypto.ts'
import { certify, committee, keyOf, SampleChain, sampleChainId } from './sample-chain.ts'

const three = committee(3)
const others = committee(3, 100)

function chainOf(blocks: number, consenters = three): SampleChain {
  const chain = new SampleChain(consenters)
  for (let i = 1; i <= blocks; i++) chain.append({ [`device ${i}`]: `record ${i}`, shared: `version ${i}` })
  return chain
}

function trustedGenesis(chain: SampleChain, consenters = three): TrustedHead {
  return unwrap(checkpointOf(chain.headers[0]!, consenters.set))
}

function codeOf(result: Result<unknown>): string {
  return result.ok ? 'ok' : result.error.code
}

describe('header', () => {
  test('header: every field is in the hash, and the encoding round-trips', () => {
    const header = chainOf(1).headers[1]!
    const seen = new Set([headerHash(header)])
    const fields = Object.keys(header).filter(name => name !== 'version') as (keyof Header)[]
    for (const name of fields) {
      const value: unknown = header[name]
      const changed = {
        ...header,
        [name]:
          typeof value === 'number'
            ? value + 1
            : (value as string).replace(/^./, c => (c === '1' ? '2' : '1')),
      }
      seen.add(headerHash(changed))
      expect(decode(headerCodec, encode(headerCodec, changed))).toEqual({ ok: true, value: changed })
    }
    expect(seen.size).toBe(18)
  })

  test('light client: an earlier header is proven under historyRoot', () => {
    const chain = chainOf(7)
    const head = unwrap(
      advance(trustedGenesis(chain), chain.headers[7]!, certify(chain.headers[7]!, three), verifier),
    )
    const hashes = chain.headers.slice(0, 7).map(header => hexToBytes(headerHash(header)))
    for (let height = 0; height < 7; height++) {
      const proof = proveMerkle(perfectNodesOf(hashes), height, 7)
      expect(verifyEarlierHeader(head, chain.headers[height]!, proof)).toBe(true)
      const claimsOther = { ...proof, size: 8 }
      expect(verifyEarlierHeader(head, chain.headers[height]!, claimsOther)).toBe(false)
      expect(verifyEarlierHeader(head, { ...chain.headers[height]!, executionVersion: 2 }, proof)).toBe(false)
      expect(verifyEarlierHeader(head, chain.headers[(height + 1) % 7]!, proof)).toBe(false)
    }
  })

  test('light client: a root binds neither index nor size of a proof, so both are compared with the headers', () => {
    const chain = chainOf(3)
    const head = unwrap(
      advance(trustedGenesis(chain), chain.headers[3]!, certify(chain.headers[3]!, three), verifier),
    )
    const hashes = chain.headers.slice(0, 3).map(header => hexToBytes(headerHash(header)))
    const proof = proveMerkle(perfectNodesOf(hashes), 2, 3)
    const { historyRoot } = head.header
    const verifiesWith = (index: number, size: number) =>
      verifyMerkleProof(historyRoot, hashes[2]!, { ...proof, index, size })
    // One path, one leaf, one root: the last leaf of three, and the last of two.
    expect([verifiesWith(2, 3), verifiesWith(1, 2)]).toEqual([true, true])
    expect(verifyEarlierHeader(head, chain.headers[2]!, proof)).toBe(true)
    expect(verifyEarlierHeader(head, chain.headers[2]!, { ...proof, index: 1, size: 2 })).toBe(false)
    // The same with one of the two claims true.
    const pairs = [0, 1, 2, 3].flatMap(index => [1, 2, 3, 4, 5].map(size => ({ ...proof, index, size })))
    const taken = pairs.filter(claimed => verifyEarlierHeader(head, chain.headers[2]!, claimed))
    expect(taken).toEqual([proof])
  })
})

describe('certificate', () => {
  const chain = chainOf(1)
  const header = chain.headers[1]!
  const verify = (
    certificate: ReturnType<typeof certify>,
    set = three.set,
    chainId: ChainId = sampleChainId,
    incarnation = 0,
  ) => codeOf(verifyCertificate(set, chainId, incarnation, certificate, verifier))

  test('certificate: a quorum is enough, one less is not', () => {
    expect(verify(certify(header, three, [0, 1]))).toBe('ok')
    expect(verify(certify(header, three, [1, 2]))).toBe('ok')
    expect(verify(certify(header, three, [0, 1, 2]))).toBe('ok')
    expect(verify(certify(header, three, [1]))).toBe('bad-certificate')
  })

  test('certificate: one consenter twice, or out of order, is refused', () => {
    expect(verify(certify(header, three, [1, 1]))).toBe('bad-certificate')
    expect(verify(certify(header, three, [1, 0]))).toBe('bad-certificate')
  })

  test('certificate: is bound to chain, incarnation, height and hash', () => {
    const good = certify(header, three)
    expect(verify(good, three.set, keyOf('other chain') as string as ChainId)).toBe('bad-certificate')
    expect(verify(good, three.set, sampleChainId, 1)).toBe('bad-certificate')
    expect(verify({ ...good, height: Height(2) })).toBe('bad-certificate')
    expect(verify({ ...good, headerHash: headerHash(chain.headers[0]!) })).toBe('bad-certificate')
    expect(verify(good, others.set)).toBe('bad-certificate')
  })

  test('certificate: a bad signature beyond the quorum spoils it', () => {
    const good = certify(header, three, [0, 1, 2])
    const { signature } = good.signatures[2]!
    const bad = { signer: 2, signature: signature.with(5, signature[5]! ^ 1) }
    expect(verify({ ...good, signatures: [...good.signatures.slice(0, 2), bad] })).toBe('bad-certificate')
    expect(verify({ ...good, signatures: [...good.signatures, { ...bad, signer: 3 }] })).toBe(
      'bad-certificate',
    )
  })

  test('consenters: quorums by policy', () => {
    expect([1, 2, 3, 4, 5, 6, 7].map(n => quorumOf(committee(n).set))).toEqual([1, 2, 2, 3, 3, 4, 4])
    expect([4, 5, 6, 7].map(n => quorumOf(committee(n, 1, 'two-thirds').set))).toEqual([3, 4, 5, 5])
    expect(codeOf(checkConsenterSet(committee(3, 1, 'two-thirds').set))).toBe('malformed')
    expect(codeOf(checkConsenterSet(committee(4, 1, 'two-thirds').set))).toBe('ok')
  })

  test('consenters: a set that is not sorted, or names one twice, is refused', () => {
    const [first, second] = three.set.consenters
    expect(codeOf(checkConsenterSet({ consenters: [second!, first!], policy: 'majority' }))).toBe('malformed')
    expect(codeOf(checkConsenterSet({ consenters: [first!, first!], policy: 'majority' }))).toBe('malformed')
    const sharedKey = [first!, { ...second!, key: first!.key }]
    expect(codeOf(checkConsenterSet(consenterSet(sharedKey, 'majority')))).toBe('malformed')
  })
})

describe('light client: headers', () => {
  test('light client: any later certified header is trusted, gaps are legal', () => {
    const chain = chainOf(9)
    const head = unwrap(
      advance(trustedGenesis(chain), chain.headers[5]!, certify(chain.headers[5]!, three), verifier),
    )
    expect(head.headerHash).toBe(headerHash(chain.headers[5]!))
    expect(codeOf(advance(head, chain.headers[9]!, certify(chain.headers[9]!, three), verifier))).toBe('ok')
  })

  test.each<[string, Partial<Header>, string]>([
    ['of another chain', { chainId: keyOf('x') as string as ChainId }, 'wrong-chain'],
    ['of another incarnation', { incarnation: 1 }, 'bad-header'],
    ['that goes back in time', { time: Milliseconds(1) }, 'bad-header'],
    ['that goes back in term', { term: Term(0) }, 'bad-header'],
    ['that does not go on in the log', { index: LogIndex(0) }, 'bad-header'],
    [
      'that does not follow its parent',
      { previousHash: headerHash(chainOf(0).headers[0]!).replace(/^./, 'f') as never },
      'bad-header',
    ],
    ['of other signers', { signersHash: keyOf('x') as never }, 'bad-header'],
    ['that changes signers without handover', { nextSignersHash: keyOf('x') as never }, 'bad-header'],
  ])('light client: refuses a certified header %s', (_, wrong, code) => {
    const chain = chainOf(0)
    const header = chain.append({ a: '1' }, undefined, wrong)
    expect(codeOf(advance(trustedGenesis(chain), header, certify(header, three), verifier))).toBe(code)
  })

  test('light client: refuses an earlier header, and a certificate for another one', () => {
    const chain = chainOf(3)
    const head = unwrap(
      advance(trustedGenesis(chain), chain.headers[2]!, certify(chain.headers[2]!, three), verifier),
    )
    expect(codeOf(advance(head, chain.headers[1]!, certify(chain.headers[1]!, three), verifier))).toBe(
      'bad-header',
    )
    expect(codeOf(advance(head, chain.headers[2]!, certify(chain.headers[2]!, three), verifier))).toBe(
      'bad-header',
    )
    expect(codeOf(advance(head, chain.headers[3]!, certify(chain.headers[2]!, three), verifier))).toBe(
      'bad-certificate',
    )
  })

  test('light client: refuses a certificate for another header of the same height', () => {
    const chain = chainOf(1)
    const fork = { ...chain.headers[1]!, executionVersion: 2 }
    const certificate = certify(fork, three)
    expect(codeOf(advance(trustedGenesis(chain), chain.headers[1]!, certificate, verifier))).toBe(
      'bad-certificate',
    )
    expect(codeOf(advance(trustedGenesis(chain), fork, certificate, verifier))).toBe('ok')
  })

  test('light client: a checkpoint must name the set that the header names', () => {
    expect(codeOf(checkpointOf(chainOf(0).headers[0]!, others.set))).toBe('bad-header')
  })

  test('light client: a handover needs a quorum of the old and of the new consenters', () => {
    const chain = chainOf(1)
    const header = chain.append({}, others)
    const after = chain.append({ a: '1' })
    const trusted = trustedGenesis(chain)
    const old = certify(header, three)
    const handover = { consenters: others.set, certificate: certify(header, others) }
    const head = unwrap(advance(trusted, header, old, verifier, handover))
    expect(head.consenters).toEqual(others.set)
    expect(codeOf(advance(head, after, certify(after, others), verifier))).toBe('ok')
    expect(codeOf(advance(head, after, certify(after, three), verifier))).toBe('bad-certificate')
    expect(codeOf(advance(trusted, header, old, verifier))).toBe('bad-header')
    expect(codeOf(advance(trusted, header, certify(header, others), verifier, handover))).toBe(
      'bad-certificate',
    )
    const oneSigner = { ...handover, certificate: certify(header, others, [0]) }
    expect(codeOf(advance(trusted, header, old, verifier, oneSigner))).toBe('bad-certificate')
    const oldSet = { consenters: three.set, certificate: old }
    expect(codeOf(advance(trusted, header, old, verifier, oldSet))).toBe('bad-header')
    expect(codeOf(advance(trusted, after, certify(after, others), verifier))).toBe('bad-header')
  })
})

describe('light client: runs of headers with their changes', () => {
  const chain = chainOf(6)
  const trusted = trustedGenesis(chain)
  const run = (certified: readonly number[]): CertifiedHeader[] =>
    [1, 2, 3, 4, 5, 6].map(height =>
      chain.served(height, certified.includes(height) ? certify(chain.headers[height]!, three) : undefined),
    )

  test('follow: the last certificate covers its ancestors; what comes after it is left out', () => {
    expect(unwrap(follow(trusted, run([6]), verifier)).header.height).toBe(6)
    expect(unwrap(follow(trusted, run([2, 4]), verifier)).header.height).toBe(4)
    expect(unwrap(follow(trusted, run([]), verifier))).toBe(trusted)
  })

  test('follow: a key left out of a changes list, or put in, is found', () => {
    for (let i = 0; i < 5; i++) {
      const list = run([6])
      const changes = list[i]!.changes
      const withheld = list.with(i, { ...list[i]!, changes: changes.slice(1) })
      expect(codeOf(follow(trusted, withheld, verifier))).toBe('bad-header')
      const reversed = list.with(i, { ...list[i]!, changes: changes.toReversed() })
      expect(codeOf(follow(trusted, reversed, verifier))).toBe('bad-header')
      const invented = list.with(i, { ...list[i]!, changes: [StateKey('0'.repeat(64)), ...changes] })
      expect(codeOf(follow(trusted, invented, verifier))).toBe('bad-header')
    }
  })

  test('follow: a header changed, left out or put in breaks the chain', () => {
    const list = run([6])
    expect(codeOf(follow(trusted, list.toSpliced(2, 1), verifier))).toBe('bad-header')
    expect(codeOf(follow(trusted, list.slice(1), verifier))).toBe('bad-header')
    expect(codeOf(follow(trusted, list.toSpliced(2, 0, list[2]!), verifier))).toBe('bad-header')
    const changed = { ...list[2]!, header: { ...list[2]!.header, executionVersion: 2 } }
    expect(codeOf(follow(trusted, list.with(2, changed), verifier))).toBe('bad-header')
    expect(
      codeOf(
        follow(
          trusted,
          run([6]).with(5, chainOf(6, others).served(6, certify(chainOf(6, others).headers[6]!, others))),
          verifier,
        ),
      ),
    ).toBe('bad-header')
    const forged = chain.served(6, certify(chain.headers[6]!, others))
    expect(codeOf(follow(trusted, list.with(5, forged), verifier))).toBe('bad-certificate')
  })

  test('follow: a handover in the middle needs both quorums', () => {
    const moved = chainOf(1)
    const header = moved.append({}, others)
    const last = moved.append({ a: '1' })
    const start = trustedGenesis(moved)
    const handover = { consenters: others.set, certificate: certify(header, others) }
    const list: CertifiedHeader[] = [
      moved.served(1),
      { ...moved.served(2, certify(header, three)), handover },
      moved.served(3, certify(last, others)),
    ]
    expect(unwrap(follow(start, list, verifier)).consenters).toEqual(others.set)
    expect(codeOf(follow(start, list.with(1, { ...list[1]!, handover: undefined }), verifier))).toBe(
      'bad-header',
    )
    expect(codeOf(follow(start, list.with(1, { ...list[1]!, certificate: undefined }), verifier))).toBe(
      'bad-certificate',
    )
  })

  test('certified header: round-trips', () => {
    for (const entry of run([1, 6]))
      expect(decode(certifiedHeaderCodec, encode(certifiedHeaderCodec, entry))).toEqual({
        ok: true,
        value: entry,
      })
  })
})

describe('light client: state answers', () => {
  const chain = chainOf(40)
  const trusted = trustedGenesis(chain)

  test.each(['device 7', 'shared', 'nobody'])(
    'state answer: %s is verified offline, by noble and by native code',
    name => {
      const answer = chain.answer(40, name)
      for (const each of [verifier, nobleVerifier]) {
        const state = unwrap(verifyStateAnswer(trusted, keyOf(name), answer, each))
        const expected = name === 'nobody' ? undefined : name === 'shared' ? 'version 40' : 'record 7'
        expect(state.value && Buffer.from(state.value).toString()).toBe(expected)
        expect(state.height).toBe(40)
        expect(state.headerHash).toBe(headerHash(chain.headers[40]!))
      }
    },
  )

  test.each(['device 7', 'nobody'])('state answer: %s with one byte changed anywhere is refused', name => {
    const bytes = encode(stateAnswerCodec, chain.answer(40, name, three, [0, 2]))
    const accepts = (changed: Uint8Array) => {
      const answer = decode(stateAnswerCodec, changed)
      return answer.ok && verifyStateAnswer(trusted, keyOf(name), answer.value, verifier).ok
    }
    expect(accepts(bytes)).toBe(true)
    for (let position = 0; position < bytes.length; position++)
      for (const mask of [0x01, 0x80, 0xff])
        expect(accepts(bytes.with(position, bytes[position]! ^ mask)), `byte ${position} ^ ${mask}`).toBe(
          false,
        )
  })

  test('state answer: for another key is refused', () => {
    const answer = chain.answer(40, 'device 7')
    expect(codeOf(verifyStateAnswer(trusted, keyOf('device 8'), answer, verifier))).toBe('bad-certificate')
  })

  test('state answer: a lie about the value, or hiding it, is refused', () => {
    const honest = chain.answer(40, 'device 7')
    const lie = { ...honest, value: new Uint8Array(Buffer.from('record 8')) }
    expect(codeOf(verifyStateAnswer(trusted, keyOf('device 7'), lie, verifier))).toBe('bad-certificate')
    const hidden = { ...honest, value: undefined }
    expect(codeOf(verifyStateAnswer(trusted, keyOf('device 7'), hidden, verifier))).toBe('bad-certificate')
  })

  test('state answer: too few signatures, or of other consenters, is refused', () => {
    const few = chain.answer(40, 'shared', three, [1])
    expect(codeOf(verifyStateAnswer(trusted, keyOf('shared'), few, verifier))).toBe('bad-certificate')
    const foreign = chain.answer(40, 'shared', others)
    expect(codeOf(verifyStateAnswer(trusted, keyOf('shared'), foreign, verifier))).toBe('bad-certificate')
  })

  test('state answer: at the trusted height it must be under the trusted header', () => {
    const fork = chainOf(39)
    const header = fork.append({ 'device 7': 'forged' })
    const head = unwrap(advance(trusted, chain.headers[40]!, certify(chain.headers[40]!, three), verifier))
    const forged = fork.answer(header.height, 'device 7')
    expect(codeOf(verifyStateAnswer(head, keyOf('device 7'), forged, verifier))).toBe('bad-proof')
  })

  test('state answer: without signatures it convinces only under the trusted header itself', () => {
    const unsigned = { ...chain.answer(0, 'nobody'), signatures: [] }
    expect(codeOf(verifyStateAnswer(trusted, keyOf('nobody'), unsigned, verifier))).toBe('ok')
    const later = { ...chain.answer(40, 'nobody'), signatures: [] }
    expect(codeOf(verifyStateAnswer(trusted, keyOf('nobody'), later, verifier))).toBe('bad-certificate')
    const { signatures } = chain.answer(0, 'nobody', others)
    expect(codeOf(verifyStateAnswer(trusted, keyOf('nobody'), { ...unsigned, signatures }, verifier))).toBe(
      'bad-certificate',
    )
  })

  test('state answer: an older answer says so by its height', () => {
    const head = unwrap(advance(trusted, chain.headers[40]!, certify(chain.headers[40]!, three), verifier))
    const state = unwrap(verifyStateAnswer(head, keyOf('shared'), chain.answer(12, 'shared'), verifier))
    expect(state.height).toBe(12)
  })
})

describe('equivocation', () => {
  const chain = { chainId: sampleChainId, incarnation: 0 }
  const one = chainOf(3).headers[3]!
  const fork = { ...one, stateRoot: headerHash(one) }

  test('equivocation: a consenter in two certificates of one height is found, and anybody can check it', () => {
    const certificates = [certify(one, three, [0, 1]), certify(fork, three, [1, 2])] as const
    const found = equivocationsBetween(three.set, chain, certificates, verifier)
    expect(found.map(evidence => evidence.consenter)).toEqual([three.set.consenters[1]!.id])
    const [evidence] = found
    expect(equivocationsBetween(three.set, chain, [certificates[1], certificates[0]], verifier)).toEqual(
      found,
    )
    const wire = encode(equivocationCodec as Codec<unknown>, evidence)
    expect(decode(equivocationCodec, wire)).toEqual({ ok: true, value: evidence })
    expect(verifyEquivocation(evidence!, three.set.consenters[1]!, nobleVerifier)).toBe(true)
    expect(verifyEquivocation(evidence!, three.set.consenters[0]!, verifier)).toBe(false)
    expect(
      verifyEquivocation({ ...evidence!, second: evidence!.first }, three.set.consenters[1]!, verifier),
    ).toBe(false)
    const framed = { ...evidence!, consenter: three.set.consenters[0]!.id }
    expect(verifyEquivocation(framed, three.set.consenters[1]!, verifier)).toBe(false)
    expect(verifyEquivocation({ ...evidence!, incarnation: 1 }, three.set.consenters[1]!, verifier)).toBe(
      false,
    )
    expect(verifyEquivocation({ ...evidence!, height: Height(4) }, three.set.consenters[1]!, verifier)).toBe(
      false,
    )
  })

  test('equivocation: two signatures of one hash, two heights, or a forged signature are none', () => {
    const none = (a: ReturnType<typeof certify>, b: ReturnType<typeof certify>) =>
      expect(equivocationsBetween(three.set, chain, [a, b], verifier)).toEqual([])
    none(certify(one, three, [0, 1, 2]), certify(one, three, [0, 1, 2]))
    none(certify(one, three), certify(chainOf(4).headers[4]!, three))
    none(certify(one, three), certify(fork, others))
  })
})

test('changes: the hash refuses keys that are not sorted and distinct', () => {
  const [a, b] = ['0', '1'].map(digit => StateKey(digit.repeat(64))) as [StateKey, StateKey]
  expect(changesHash([a, b])).not.toBe(changesHash([a]))
  expect(() => changesHash([b, a])).toThrow('sorted')
  expect(() => changesHash([a, a])).toThrow('sorted')
})
