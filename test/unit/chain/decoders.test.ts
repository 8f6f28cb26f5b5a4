/** Every decoder of records, blocks and genesis on hostile bytes: a typed refusal, or a value that encodes to the same bytes. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type Block,
  blockCodec,
  decodeProposal,
  type HandoverProposal,
  proposalCodec,
  type Receipt,
  receiptCodec,
  receiptsCodec,
  type TransactionsProposal,
} from '../../../chain/block.ts'
import { Hash, Milliseconds, TransactionId } from '../../../chain/brands.ts'
import { type Codec, decode, encode } from '../../../chain/codec.ts'
import { genesisCodec } from '../../../chain/genesis.ts'
import {
  approvalCodec,
  grantCodec,
  groupCodec,
  groupIdOf,
  identityCodec,
  membersCodec,
  membershipsCodec,
  parametersCodec,
  stateKeyOf,
} from '../../../chain/records.ts'
import { get } from '../../../chain/state-tree.ts'
import { grantIdOf, parseTransaction } from '../../../chain/transaction.ts'
import {
  type Actor,
  devices,
  newcomer,
  operator,
  SampleLedger,
  sampleLedgerGenesis,
  token,
} from './sample-ledger.ts'

const [device, member] = devices as [Actor, Actor]
const chain = new SampleLedger()
chain.run(operator, chain.grantBody({ quota: 5 }))
chain.run(newcomer, chain.registerBody(newcomer))
chain.run(device, { type: 'group.create', name: 'fleet', epochKeyHash: undefined })
const group = groupIdOf(device.id, 'fleet')
const transaction = chain.sign(device, {
  type: 'group.add',
  group,
  membershipVersion: 1,
  members: [member.id],
})
chain.run(operator, { type: 'governance.consenters', target: chain.ledger.parameters.consenters })
const executed = chain.execute(transaction, Uint8Array.of(1))

const leaf = (key: Parameters<typeof get>[1]) => get(chain.ledger.tree, key)!
const proposal: TransactionsProposal = {
  version: 1,
  type: 'block',
  time: Milliseconds(2 ** 41),
  transactions: [transaction, Uint8Array.of(1)],
}
const handover: HandoverProposal = {
  version: 1,
  type: 'handover',
  time: Milliseconds(2 ** 41),
  signersHash: Hash('ab'.repeat(32)),
}
const receipts: readonly Receipt[] = [
  ...executed.receipts,
  {
    id: TransactionId('ee'.repeat(32)),
    code: 'ok',
    events: [
      { type: 'grant.created', grant: grantIdOf(token.signer.publicKey) },
      { type: 'identity.status', subject: device.id, status: 'revoked' },
      { type: 'group.rekeyed', group, epoch: 70_000 },
      { type: 'consenters.approved', authority: operator.id, target: handover.signersHash, approvals: 2 },
      { type: 'consenters.decided', target: handover.signersHash, parametersVersion: 3 },
    ],
  },
]
const block: Block = { header: executed.header, transactions: proposal.transactions, receipts }

function sample<T>(codec: Codec<T>, bytes: Uint8Array): readonly [Codec<unknown>, Uint8Array] {
  return [codec as Codec<unknown>, bytes]
}

const samples: Readonly<Record<string, readonly [Codec<unknown>, Uint8Array]>> = {
  identity: sample(identityCodec, leaf(stateKeyOf.identity(newcomer.id))),
  group: sample(groupCodec, leaf(stateKeyOf.group(group))),
  members: sample(membersCodec, leaf(stateKeyOf.members(group))),
  memberships: sample(membershipsCodec, leaf(stateKeyOf.memberships(device.id))),
  grant: sample(grantCodec, leaf(stateKeyOf.grant(grantIdOf(token.signer.publicKey)))),
  approval: sample(approvalCodec, leaf(stateKeyOf.approval(operator.id))),
  parameters: sample(parametersCodec, leaf(stateKeyOf.parameters())),
  genesis: sample(genesisCodec, encode(genesisCodec, sampleLedgerGenesis())),
  proposal: sample(proposalCodec, encode(proposalCodec, proposal)),
  handover: sample(proposalCodec, encode(proposalCodec, handover)),
  receipt: sample(receiptCodec, encode(receiptCodec, receipts[0]!)),
  receipts: sample(receiptsCodec, encode(receiptsCodec, receipts)),
  block: sample(blockCodec, encode(blockCodec, block)),
}

function mutationsOf(bytes: Uint8Array): fc.Arbitrary<Uint8Array> {
  const edits = fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 })
  return fc.tuple(edits, fc.nat(bytes.length)).map(([changes, cut]) => {
    const changed = Uint8Array.from(bytes)
    for (const [at, value] of changes) changed[at] = value
    return cut % 4 === 0 ? changed.slice(0, cut) : changed
  })
}

describe('decoders', () => {
  for (const [name, [codec, bytes]] of Object.entries(samples))
    test(`${name}: hostile bytes are refused or are the one encoding of their value`, () => {
      const decoded = decode(codec, bytes)
      expect(decoded.ok && encode(codec, decoded.value)).toEqual(bytes)
      const hostile = fc.oneof(fc.uint8Array({ maxLength: 100 }), mutationsOf(bytes))
      fc.assert(
        fc.property(hostile, input => {
          const result = decode(codec, input)
          if (result.ok) expect(encode(codec, result.value)).toEqual(input)
          else expect(['malformed', 'too-large']).toContain(result.error.code)
        }),
        { numRuns: 300, seed: 1 },
      )
    })

  test('records: bytes of one type do not read as another', () => {
    const leaves = ['identity', 'group', 'members', 'memberships', 'grant', 'parameters', 'approval']
    for (const from of leaves)
      for (const to of leaves)
        if (from !== to) expect(decode(samples[to]![0], samples[from]![1]).ok, `${from} as ${to}`).toBe(false)
  })

  test('transaction: hostile bytes are refused or parse to the same bytes', () => {
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), mutationsOf(transaction)), wire => {
        const parsed = parseTransaction(wire)
        if (parsed.ok) expect(parsed.value.bytes).toEqual(wire)
        else
          expect(['malformed', 'too-large', 'unknown-version', 'kind-not-supported']).toContain(
            parsed.error.code,
          )
      }),
      { numRuns: 2000, seed: 1 },
    )
  })

  test('proposal: a heartbeat with transactions, an oversized transaction and a new version are refused', () => {
    expect(decodeProposal(encode(proposalCodec, proposal))).toEqual({ ok: true, value: proposal })
    const heartbeat: TransactionsProposal = { ...proposal, type: 'heartbeat', transactions: [] }
    expect(decodeProposal(encode(proposalCodec, heartbeat)).ok).toBe(true)
    const busy = encode(proposalCodec, { ...heartbeat, transactions: [transaction] })
    expect(decodeProposal(busy)).toMatchObject({ error: { code: 'malformed' } })
    const future = Uint8Array.from(encode(proposalCodec, proposal))
    future[1] = 2
    expect(decodeProposal(future)).toMatchObject({ error: { code: 'malformed' } })
  })

  test('proposal: a handover names one set and carries no transactions', () => {
    const bytes = encode(proposalCodec, handover)
    expect(decodeProposal(bytes)).toEqual({ ok: true, value: handover })
    const asBlock = Uint8Array.from(bytes)
    asBlock[2] = 1
    const asHandover = encode(proposalCodec, proposal)
    asHandover[2] = 3
    for (const wrong of [asBlock, asHandover])
      expect(decodeProposal(wrong)).toMatchObject({ error: { code: 'malformed' } })
  })
})
