/** Who the consenters are: approvals of k of n authorities, decisions, and the handover block that executes one. */
import { describe, expect, test } from 'vitest'
import type { ReceiptCode } from '../../../chain/block.ts'
import { LogIndex, Milliseconds, Term } from '../../../chain/brands.ts'
import { decodeOwn, encode } from '../../../chain/codec.ts'
import { type ConsenterSet, consenterSet, type QuorumPolicy, signersHash } from '../../../chain/consenters.ts'
import { executeBlock } from '../../../chain/execution.ts'
import { headerHash } from '../../../chain/header.ts'
import { keyIdOf } from '../../../chain/keys.ts'
import {
  type ApprovalRecord,
  approvalCodec,
  type IdentityStatus,
  identityCodec,
  parametersCodec,
  stateKeyOf,
} from '../../../chain/records.ts'
import { get } from '../../../chain/state-tree.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import {
  type Actor,
  actor,
  coordinator,
  devices,
  fullNode,
  newcomer,
  operator,
  restoredOf,
  SampleLedger,
  second,
  secondOperator,
  withLeaf,
} from './sample-ledger.ts'

const thirdOperator = actor(5)
const authorities = [operator, secondOperator, thirdOperator]
const fullNodes = [actor(40), actor(41, 'p256'), actor(42)]
const [four, five, six] = fullNodes as [Actor, Actor, Actor]

function setOf(nodes: readonly Actor[], policy: QuorumPolicy = 'majority'): ConsenterSet {
  return consenterSet(
    nodes.map(({ id, signer }) => ({ id, key: signer.publicKey })),
    policy,
  )
}
const present = setOf([fullNode])
const target = setOf([fullNode, four, five])
const other = setOf([fullNode, four, six])

function chainOf(threshold: number): SampleLedger {
  return new SampleLedger({ authorities, threshold, fullNodes })
}

function approve(chain: SampleLedger, set: ConsenterSet, by: Actor = operator): ReceiptCode {
  return chain.run(by, { type: 'governance.consenters', target: set })
}

function slotOf(chain: SampleLedger, who: Actor): ApprovalRecord | undefined {
  const value = get(chain.ledger.tree, stateKeyOf.approval(who.id))
  return value && decodeOwn(approvalCodec, value)
}

function withStatus(chain: SampleLedger, who: Actor, status: IdentityStatus): SampleLedger {
  const record = { ...chain.identity(who.id), status }
  return withLeaf(chain, stateKeyOf.identity(who.id), identityCodec, record)
}

/** What the ledger's parameters say; the leaf must say the same. */
function parametersOf(chain: SampleLedger) {
  const { parameters, tree } = chain.ledger
  expect(decodeOwn(parametersCodec, get(tree, stateKeyOf.parameters())!)).toEqual(parameters)
  return parameters
}

describe('who signs, or is to, stays active', () => {
  const refusals = (chain: SampleLedger, who: Actor) => [chain.suspend(who), chain.revoke(who)]
  const refused = ['invalid-state', 'invalid-state']

  test('suspend and revoke: refuse a present consenter', () => {
    expect(refusals(chainOf(1), fullNode)).toEqual(refused)
  })

  test('suspend and revoke: refuse a decided consenter, and one that is to go until the handover', () => {
    const chain = chainOf(1)
    expect(approve(chain, setOf([four, five]))).toBe('ok')
    expect([four, five, fullNode].map(who => refusals(chain, who))).toEqual([refused, refused, refused])
    chain.handOver(setOf([four, five]))
    expect(refusals(chain, four)).toEqual(refused)
    expect(refusals(chain, fullNode)).toEqual(['ok', 'ok'])
  })

  test('suspend and revoke: a decision that is taken back protects nobody', () => {
    const chain = chainOf(1)
    approve(chain, target)
    approve(chain, present)
    expect(refusals(chain, four)).toEqual(['ok', 'ok'])
  })
})

describe('a decision', () => {
  test('governance.consenters: with threshold 1 one authority decides at once', () => {
    const chain = chainOf(1)
    const before = chain.ledger.header
    const block = chain.execute(chain.sign(operator, { type: 'governance.consenters', target }))
    const hash = signersHash(target)
    expect(block.receipts).toMatchObject([
      {
        code: 'ok',
        events: [
          { type: 'consenters.approved', authority: operator.id, target: hash, approvals: 1 },
          { type: 'consenters.decided', target: hash, parametersVersion: 2 },
        ],
      },
    ])
    expect(block.changes).toEqual([stateKeyOf.parameters(), stateKeyOf.approval(operator.id)].sort())
    expect(parametersOf(chain)).toMatchObject({ version: 2, consenters: present, nextConsenters: target })
    // The decision alone changes no signer: transactions never stand in a handover block.
    expect(block.handover).toBeUndefined()
    expect(block.header.signersHash).toBe(before.signersHash)
    expect(block.header.nextSignersHash).toBe(before.signersHash)
    expect(chain.execute().header.nextSignersHash).toBe(before.signersHash)
  })

  test('governance.consenters: with threshold 2 of 3 the second approval of one set decides', () => {
    const chain = chainOf(2)
    expect(approve(chain, target)).toBe('ok')
    expect(slotOf(chain, operator)).toEqual({ target, parametersVersion: 1 })
    expect(parametersOf(chain)).toMatchObject({ version: 1, nextConsenters: undefined })
    // The same authority again is one approval still.
    expect(approve(chain, target)).toBe('ok')
    expect(parametersOf(chain)).toMatchObject({ version: 1, nextConsenters: undefined })
    expect(approve(chain, target, thirdOperator)).toBe('ok')
    expect(parametersOf(chain)).toMatchObject({ version: 2, nextConsenters: target })
  })

  test('governance.consenters: approvals of different sets, or of another policy, do not add up', () => {
    const four = setOf([fullNode, ...fullNodes])
    const strict = setOf([fullNode, ...fullNodes], 'two-thirds')
    const chain = chainOf(2)
    expect([approve(chain, four), approve(chain, strict, secondOperator)]).toEqual(['ok', 'ok'])
    expect(parametersOf(chain).nextConsenters).toBeUndefined()
    expect(approve(chain, strict, thirdOperator)).toBe('ok')
    expect(parametersOf(chain).nextConsenters).toEqual(strict)
  })

  test('governance.consenters: an authority that changes its mind takes its approval along', () => {
    const chain = chainOf(2)
    approve(chain, target)
    approve(chain, other)
    approve(chain, target, secondOperator)
    expect(parametersOf(chain).nextConsenters).toBeUndefined()
    expect(slotOf(chain, operator)?.target).toEqual(other)
    approve(chain, other, thirdOperator)
    expect(parametersOf(chain).nextConsenters).toEqual(other)
  })

  test('governance.consenters: an approval from before the last decision counts no more', () => {
    const chain = chainOf(2)
    approve(chain, target)
    approve(chain, other, secondOperator)
    approve(chain, other, thirdOperator)
    expect(parametersOf(chain)).toMatchObject({ version: 2, nextConsenters: other })
    // The first operator's slot holds the same set, under the parameters of before.
    expect(slotOf(chain, operator)).toEqual({ target, parametersVersion: 1 })
    approve(chain, target, secondOperator)
    expect(parametersOf(chain)).toMatchObject({ version: 2, nextConsenters: other })
    approve(chain, target)
    expect(parametersOf(chain)).toMatchObject({ version: 3, nextConsenters: target })
  })

  test('governance.consenters: a handover makes earlier approvals void as well', () => {
    const chain = chainOf(2)
    approve(chain, target)
    approve(chain, target, secondOperator)
    approve(chain, other, thirdOperator)
    chain.handOver(target)
    expect(parametersOf(chain).version).toBe(3)
    approve(chain, other)
    expect(parametersOf(chain)).toMatchObject({ version: 3, nextConsenters: undefined })
  })

  test('governance.consenters: the present set takes a decision back', () => {
    const chain = chainOf(2)
    approve(chain, target)
    approve(chain, target, secondOperator)
    approve(chain, present)
    expect(parametersOf(chain)).toMatchObject({ version: 2, nextConsenters: target })
    approve(chain, present, thirdOperator)
    expect(parametersOf(chain)).toMatchObject({ version: 3, consenters: present, nextConsenters: undefined })
    expect(chain.handOver(target).handover).toBeUndefined()
  })

  for (const status of ['suspended', 'revoked'] as const)
    test(`governance.consenters: the approval of an authority that is ${status} does not count`, () => {
      const chain = chainOf(2)
      approve(chain, target)
      // Only governance ends an authority, so the state is made.
      withStatus(chain, operator, status)
      expect(approve(chain, target)).toBe('signer-not-active')
      expect(approve(chain, target, secondOperator)).toBe('ok')
      expect(parametersOf(chain).nextConsenters).toBeUndefined()
      expect(approve(chain, target, thirdOperator)).toBe('ok')
      expect(parametersOf(chain).nextConsenters).toEqual(target)
    })

  test('governance.consenters: two decisions in one block: the later one stands', () => {
    const chain = chainOf(1)
    const body = { type: 'governance.consenters' } as const
    const [first, failing, last] = [
      chain.sign(operator, { ...body, target }),
      chain.sign(operator, { ...body, target: setOf([newcomer]) }),
      chain.sign(secondOperator, { ...body, target: other }),
    ]
    const { receipts } = chain.execute(first!, failing!, last!)
    expect(receipts.map(({ code }) => code)).toEqual(['ok', 'unknown-subject', 'ok'])
    expect(parametersOf(chain)).toMatchObject({ version: 3, nextConsenters: other })
  })

  test('governance.consenters: a restored ledger goes on where it was', () => {
    const chain = chainOf(2)
    approve(chain, target)
    const restored = chainOf(2)
    restored.ledger = restoredOf(chain.ledger)
    const wire = chain.sign(secondOperator, { type: 'governance.consenters', target })
    restored.time = chain.time
    expect(restored.execute(wire).headerHash).toBe(chain.execute(wire).headerHash)
    expect(parametersOf(restored).nextConsenters).toEqual(target)
    restored.ledger = restoredOf(restored.ledger)
    expect(restored.handOver(target).headerHash).toBe(chain.handOver(target).headerHash)
  })
})

describe('what is refused', () => {
  const [device] = devices as [Actor]
  const spare = actor(50)

  /** The set with four's key replaced. */
  const withKey = (key: Actor) =>
    consenterSet(
      [fullNode, four].map(node => ({ id: node.id, key: (node === four ? key : node).signer.publicKey })),
      'majority',
    )
  const addKey = (chain: SampleLedger, notAfter?: number) =>
    chain.run(four, {
      type: 'key.add',
      subject: four.id,
      expectedVersion: chain.identity(four.id).version,
      key: chain.newSigningKey(four, spare, notAfter),
    })
  const revokeKey = (chain: SampleLedger) =>
    chain.run(four, {
      type: 'key.revoke',
      subject: four.id,
      expectedVersion: chain.identity(four.id).version,
      key: keyIdOf(spare.signer.publicKey),
    })

  interface Row {
    readonly what: string
    readonly set: ConsenterSet
    readonly code: ReceiptCode
    readonly by?: Actor
    readonly before?: (chain: SampleLedger) => unknown
  }
  const rows: readonly Row[] = [
    { what: 'the word of a full node', set: target, code: 'not-authorised', by: fullNode },
    { what: 'the word of a device', set: target, code: 'not-authorised', by: device },
    {
      what: 'one who is not on the chain',
      set: setOf([fullNode, newcomer]),
      code: 'unknown-subject',
    },
    { what: 'a coordination node', set: setOf([fullNode, coordinator]), code: 'label-not-allowed' },
    { what: 'a device', set: setOf([fullNode, device]), code: 'label-not-allowed' },
    {
      what: 'a suspended full node',
      set: target,
      code: 'invalid-state',
      before: chain => chain.suspend(four),
    },
    { what: 'a revoked full node', set: target, code: 'invalid-state', before: chain => chain.revoke(four) },
    { what: 'a key that is not its own', set: withKey(five), code: 'key-not-valid' },
    { what: 'a key that it never had', set: withKey(spare), code: 'key-not-valid' },
    {
      what: 'a revoked key',
      set: withKey(spare),
      code: 'key-not-valid',
      before: chain => [addKey(chain), revokeKey(chain)],
    },
    {
      what: 'a key that has ended',
      set: withKey(spare),
      code: 'key-not-valid',
      before: chain => {
        addKey(chain, chain.time + 2 * second)
        chain.time += 2 * second
      },
    },
    {
      what: 'a policy too strict for three',
      set: { ...target, policy: 'two-thirds' },
      code: 'malformed',
    },
    {
      what: 'consenters out of order',
      set: { ...target, consenters: [...target.consenters].reverse() },
      code: 'malformed',
    },
    {
      what: 'one consenter twice',
      set: { ...target, consenters: [target.consenters[0]!, target.consenters[0]!] },
      code: 'malformed',
    },
  ]

  for (const { what, set, code, by, before } of rows)
    test(`governance.consenters: refuses ${what} as ${code}`, () => {
      const chain = chainOf(1)
      before?.(chain)
      const { stateRoot } = chain.ledger.header
      expect(approve(chain, set, by)).toBe(code)
      expect(chain.ledger.header.stateRoot).toBe(stateRoot)
    })

  test('governance.consenters: takes a second key of a full node while it is valid', () => {
    const chain = chainOf(1)
    expect(approve(chain, withKey(spare))).toBe('key-not-valid')
    addKey(chain)
    expect(approve(chain, withKey(spare))).toBe('ok')
  })
})

describe('a handover block', () => {
  const decided = () => {
    const chain = chainOf(1)
    approve(chain, target)
    return chain
  }

  test('handover: the old set signs it, the new one what follows', () => {
    const chain = decided()
    const parent = chain.ledger
    const block = chain.handOver(target)
    expect(block.handover).toEqual(target)
    expect(block.header).toMatchObject({
      height: parent.header.height + 1,
      signersHash: signersHash(present),
      nextSignersHash: signersHash(target),
      authoritiesHash: parent.header.authoritiesHash,
    })
    expect(block.headerHash).toBe(headerHash(block.header))
    expect(block.receipts).toEqual([])
    expect(block.changes).toEqual([stateKeyOf.parameters()])
    expect(parametersOf(chain)).toMatchObject({ version: 3, consenters: target, nextConsenters: undefined })
    const next = chain.execute()
    expect(next.handover).toBeUndefined()
    expect(next.header).toMatchObject({
      signersHash: signersHash(target),
      nextSignersHash: signersHash(target),
    })
  })

  const empty: readonly (readonly [string, SampleLedger, ConsenterSet])[] = [
    ['without a decision', chainOf(1), target],
    ['to another set than the one decided on', decided(), other],
    ['to the present set', decided(), present],
  ]
  for (const [what, chain, set] of empty)
    test(`handover: ${what} it is an empty block`, () => {
      const { parameters, header } = chain.ledger
      const block = chain.handOver(set)
      expect(block.handover).toBeUndefined()
      expect(block.changes).toEqual([])
      expect(block.header).toMatchObject({
        height: header.height + 1,
        stateRoot: header.stateRoot,
        nextSignersHash: signersHash(present),
      })
      expect(parametersOf(chain)).toEqual(parameters)
    })

  test('handover: asked for twice it is done once', () => {
    const chain = decided()
    expect(chain.handOver(target).handover).toEqual(target)
    expect(chain.handOver(target).handover).toBeUndefined()
    expect(parametersOf(chain).version).toBe(3)
  })

  test('handover: after a later decision the earlier one is not executed', () => {
    const chain = decided()
    approve(chain, other, secondOperator)
    expect(chain.handOver(target).handover).toBeUndefined()
    expect(chain.handOver(other).handover).toEqual(other)
  })

  test('handover: two ledgers that execute one log agree, also one that verifies nothing again', () => {
    const chain = decided()
    const parent = chain.ledger
    const time = Milliseconds(chain.time + second)
    const proposal = { version: 1, type: 'handover', time, signersHash: signersHash(target) } as const
    const [verified, trusting] = ([nativeVerifier, 'skip'] as const).map(verify =>
      executeBlock(parent, { proposal, term: Term(1), index: LogIndex(1), verify }),
    )
    expect(verified!.headerHash).toBe(trusting!.headerHash)
    expect(encode(parametersCodec, trusting!.ledger.parameters)).toEqual(
      trusting!.writes.get(stateKeyOf.parameters()),
    )
  })
})
