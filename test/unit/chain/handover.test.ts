/** Light clients on handovers that were really executed: which certificates they need, and what the old set can still prove. */
import { describe, expect, test } from 'vitest'
import { Height } from '../../../chain/brands.ts'
import type { Certificate } from '../../../chain/certificate.ts'
import { type ConsenterSet, consenterSet } from '../../../chain/consenters.ts'
import { equivocationsBetween, verifyEquivocation } from '../../../chain/equivocation.ts'
import { type Header, headerHash } from '../../../chain/header.ts'
import {
  advance,
  type CertifiedHeader,
  checkpointOf,
  follow,
  type StateAnswer,
  type TrustedHead,
  verifyStateAnswer,
} from '../../../chain/light-client.ts'
import { stateKeyOf } from '../../../chain/records.ts'
import { type Result, unwrap } from '../../../chain/result.ts'
import { nativeVerifier as verifier } from '../../../client/native-crypto.ts'
import { keysOf, TestChain } from '../../support/test-chain.ts'

const [one, two, three, four, five] = ['full-1', 'full-2', 'full-3', 'full-4', 'full-5'].map(keysOf)
const device = stateKeyOf.identity(keysOf('sensor').id)

function codeOf(result: Result<unknown>): string {
  return result.ok ? 'ok' : result.error.code
}

function freshChain(): TestChain {
  return new TestChain({ devices: ['sensor'], spares: ['full-4', 'full-5'] })
}

/** 1 an empty block, 2 the decision, 3 the handover from full-1 to 3 to full-2 to 4, 4 and 5 under the new set. */
function handedOver(): TestChain {
  const chain = freshChain()
  chain.append()
  chain.changeConsenters([two!, three!, four!])
  chain.append()
  chain.append()
  return chain
}

function run(chain: TestChain, from: number, to: number): CertifiedHeader[] {
  return Array.from({ length: to - from + 1 }, (_, i) => chain.served(from + i))
}

function take(trusted: TrustedHead, entry: CertifiedHeader): Result<TrustedHead> {
  return advance(trusted, entry.header, entry.certificate!, verifier, entry.handover)
}

function headAt(chain: TestChain, height: number): TrustedHead {
  return unwrap(follow(chain.checkpoint, run(chain, 1, height), verifier))
}

describe('handover: what a light client takes', () => {
  test('handover: headers before, at and after it are followed, one by one and in one run', () => {
    const chain = handedOver()
    let head = chain.checkpoint
    for (let height = 1; height <= 5; height++) {
      head = unwrap(take(head, chain.served(height)))
      expect(head.consenters).toEqual(chain.at(height).ledger.parameters.consenters)
      expect(head.handoverHeight).toBe(height < 3 ? undefined : 3)
    }
    expect(headAt(chain, 5)).toEqual(head)
  })

  test('handover: it is reached by a skip, and from it a later header is', () => {
    const chain = handedOver()
    const head = unwrap(take(chain.checkpoint, chain.served(3)))
    expect(unwrap(take(head, chain.served(5))).headerHash).toBe(chain.ledger.headerHash)
  })

  test('handover: a checkpoint before it leads across, one at it and one after it go on', () => {
    const chain = handedOver()
    for (const height of [2, 3, 4]) {
      const { ledger } = chain.at(height)
      const checkpoint = unwrap(checkpointOf(ledger.header, ledger.parameters.consenters))
      const followed = unwrap(follow(checkpoint, run(chain, height + 1, 5), verifier))
      expect(followed.headerHash, `from ${height}`).toBe(chain.ledger.headerHash)
    }
    const { header } = chain.at(3).ledger
    expect(codeOf(checkpointOf(header, chain.signersAt(Height(3))))).toBe('bad-header')
  })

  test('handover: two in a row, the second back to the first set', () => {
    const chain = freshChain()
    const next = (nodes: readonly (typeof one)[]) =>
      consenterSet(
        nodes.map(node => ({ id: node!.id, key: node!.signing.publicKey })),
        'majority',
      )
    const decide = (target: ConsenterSet) =>
      chain.perform(chain.operator, { type: 'governance.consenters', target })
    const first = chain.signersAt(Height(1))
    const second = next([four, five])
    decide(second)
    chain.handOver(second)
    // The decision for the second handover is in the block right after the first.
    decide(next([one]))
    chain.handOver(next([one]))
    decide(first)
    chain.handOver(first)
    chain.append()
    const head = headAt(chain, 7)
    expect(head.consenters).toEqual(first)
    expect(head.handoverHeight).toBe(6)
    for (const height of [2, 4, 6]) {
      const without = run(chain, 1, 7).toSpliced(height - 1, 1)
      expect(codeOf(follow(chain.checkpoint, without, verifier)), `without ${height}`).toBe('bad-header')
    }
    let walked = chain.checkpoint
    for (const height of [2, 4, 6, 7]) walked = unwrap(take(walked, chain.served(height)))
    expect(walked).toEqual(head)
  })
})

describe('handover: what a light client refuses', () => {
  const chain = handedOver()
  const trusted = headAt(chain, 2)
  const good = chain.served(3)
  const { header } = good
  const [old, next] = [chain.signersAt(Height(3)), chain.signersAt(Height(4))]
  const certify = (set: ConsenterSet, who?: readonly number[], of: Header = header): Certificate =>
    chain.certify(of.height, headerHash(of), who, set)
  const other = consenterSet(
    [...old.consenters.slice(0, 2), { id: five!.id, key: five!.signing.publicKey }],
    'majority',
  )
  const handover = good.handover!

  const rows: readonly (readonly [string, CertifiedHeader, string])[] = [
    ['without the new set', { ...good, handover: undefined }, 'bad-header'],
    [
      'with the old set as the new one',
      { ...good, handover: { consenters: old, certificate: certify(old) } },
      'bad-header',
    ],
    [
      'with a set that governance never decided on',
      { ...good, handover: { consenters: other, certificate: certify(other) } },
      'bad-header',
    ],
    [
      'with the new set under another policy',
      { ...good, handover: { ...handover, consenters: { ...next, policy: 'two-thirds' } } },
      'malformed',
    ],
    ['certified by one of the old set', { ...good, certificate: certify(old, [0]) }, 'bad-certificate'],
    [
      'certified by the new set in place of the old',
      { ...good, certificate: certify(next) },
      'bad-certificate',
    ],
    [
      'certified by one of the new set',
      { ...good, handover: { ...handover, certificate: certify(next, [2]) } },
      'bad-certificate',
    ],
    [
      'certified by the old set in place of the new',
      { ...good, handover: { ...handover, certificate: certify(old) } },
      'bad-certificate',
    ],
    [
      'with the new certificate of another block',
      { ...good, handover: { ...handover, certificate: certify(next, undefined, chain.served(4).header) } },
      'bad-certificate',
    ],
    [
      'with the old certificate of another block',
      { ...good, certificate: certify(old, undefined, chain.served(2).header) },
      'bad-certificate',
    ],
  ]
  for (const [what, entry, code] of rows)
    test(`handover: ${what} it is refused as ${code}`, () => {
      expect(codeOf(take(trusted, good))).toBe('ok')
      expect(codeOf(take(trusted, entry))).toBe(code)
      expect(codeOf(follow(trusted, [entry, chain.served(4)], verifier))).toBe(code)
    })

  test('handover: nobody gets past it, whoever certifies what follows', () => {
    for (const set of [old, next])
      for (const height of [4, 5]) {
        const { header: later } = chain.served(height)
        const certificate = certify(set, undefined, later)
        expect(codeOf(advance(trusted, later, certificate, verifier))).toBe('bad-header')
        // Not with the handover's proof either: it belongs to another header.
        expect(codeOf(advance(trusted, later, certificate, verifier, handover))).toBe('bad-header')
      }
  })

  test('handover: without its own certificate, one of a later header does not cover it', () => {
    const uncovered = run(chain, 3, 5).with(0, { ...good, certificate: undefined })
    expect(codeOf(follow(trusted, uncovered, verifier))).toBe('bad-certificate')
  })

  test('handover: the old set certifies nothing above it', () => {
    const head = headAt(chain, 3)
    const after = chain.served(4)
    expect(codeOf(take(head, { ...after, certificate: certify(old, undefined, after.header) }))).toBe(
      'bad-certificate',
    )
    const { signersHash, nextSignersHash } = trusted.header
    const fork: Header = { ...after.header, signersHash, nextSignersHash }
    expect(codeOf(advance(head, fork, certify(old, undefined, fork), verifier))).toBe('bad-header')
  })

  test('handover: an ordinary header with a handover of its own is refused', () => {
    const head = headAt(chain, 3)
    const after = chain.served(4)
    const proof = { consenters: next, certificate: certify(next, undefined, after.header) }
    expect(codeOf(take(head, { ...after, handover: proof }))).toBe('bad-header')
  })
})

describe('handover: state answers', () => {
  const chain = handedOver()
  const judge = (trusted: TrustedHead, answer: StateAnswer) =>
    codeOf(verifyStateAnswer(trusted, device, answer, verifier))
  /** The state at this height, as the other of the two sets would certify it. */
  const signedBy = (height: number, set: ConsenterSet): StateAnswer => ({
    ...chain.answer(device, height),
    signatures: chain.certify(Height(height), chain.at(height).ledger.headerHash, undefined, set).signatures,
  })
  const [old, next] = [chain.signersAt(Height(3)), chain.signersAt(Height(4))]

  test('state answer: at the handover it is the old set that signs, for whoever stands before or at it', () => {
    for (const height of [1, 2, 3])
      expect(judge(headAt(chain, height), chain.answer(device, 3)), `from ${height}`).toBe('ok')
    expect(judge(headAt(chain, 2), signedBy(3, next))).toBe('bad-certificate')
    expect(judge(headAt(chain, 5), chain.answer(device, 3))).toBe('stale')
  })

  test('state answer: after it the new set signs, and what the old one signed before is too old', () => {
    for (const height of [3, 4, 5]) {
      const head = headAt(chain, height)
      expect(judge(head, chain.answer(device, 4)), `from ${height}`).toBe('ok')
      expect(judge(head, chain.answer(device, 2)), `from ${height}`).toBe('stale')
    }
    expect(judge(headAt(chain, 3), signedBy(4, old))).toBe('bad-certificate')
    expect(judge(headAt(chain, 2), chain.answer(device, 4))).toBe('bad-certificate')
  })

  test('state answer: under the handover header itself another value is refused', () => {
    const answer = chain.answer(device, 3)
    expect(judge(headAt(chain, 3), { ...answer, value: undefined })).toBe('bad-proof')
    expect(judge(headAt(chain, 3), { ...answer, value: Uint8Array.of(...answer.value!, 0) })).toBe(
      'bad-proof',
    )
  })
})

describe('handover: equivocation', () => {
  test('equivocation: of a consenter that is none any more is proven with the set of that height', () => {
    const chain = handedOver()
    const height = Height(2)
    const set = chain.signersAt(height)
    const { headerHash: hash } = chain.at(2).ledger
    const forged = headerHash({ ...chain.at(2).ledger.header, executionVersion: 2 })
    const who = set.consenters.findIndex(({ id }) => id === one!.id)
    const certificates = [chain.certify(height, hash, [who]), chain.certify(height, forged, [who])] as const
    const scope = { chainId: chain.chainId, incarnation: 0 }
    const [evidence] = equivocationsBetween(set, scope, certificates, verifier)
    expect(evidence?.consenter).toBe(one!.id)
    expect(verifyEquivocation(evidence!, set.consenters[who]!, verifier)).toBe(true)
    const present = chain.ledger.parameters.consenters
    expect(equivocationsBetween(present, scope, certificates, verifier)).toEqual([])
  })
})
