/** The permission table in force: every kind, sent by somebody active who may not. */
import { expect, test } from 'vitest'
import { ContractAddress, Hash, Milliseconds } from '../../../chain/brands.ts'
import { keyIdOf } from '../../../chain/keys.ts'
import { permissions } from '../../../chain/permissions.ts'
import { groupIdOf } from '../../../chain/records.ts'
import { noRights } from '../../../chain/rights.ts'
import type { TransactionBody, TransactionType } from '../../../chain/transaction.ts'
import { sampleRecord } from '../../support/sample-record.ts'
import { type Actor, devices, encryptionKey, fullNode, operator, SampleLedger } from './sample-ledger.ts'

const [owner, member, stranger] = devices as [Actor, Actor, Actor]
const group = groupIdOf(owner.id, 'fleet')
const subject = owner.id
const edit = { subject, expectedVersion: 1 } as const
const hash = Hash('aa'.repeat(32))
const key = encryptionKey(1)
const contract = ContractAddress('cc'.repeat(32))
/** What the owner is said to have said. */
const said = sampleRecord({ source: subject })
const oldKey = keyIdOf(owner.signer.publicKey)

function forbidden(chain: SampleLedger): Readonly<Partial<Record<TransactionType, TransactionBody>>> {
  return {
    'identity.grant': chain.grantBody(),
    'identity.suspend': { type: 'identity.suspend', subject, reason: '' },
    'identity.revoke': { type: 'identity.revoke', subject, reason: '' },
    'identity.rights': {
      type: 'identity.rights',
      subject,
      expectedVersion: 0,
      ...noRights,
      observe: true,
    },
    'identity.credentials': { type: 'identity.credentials', subject, expectedVersion: 0, credentials: [] },
    'key.add': { type: 'key.add', ...edit, key },
    'key.rotate': { type: 'key.rotate', ...edit, oldKey, key, overlap: Milliseconds(0) },
    'key.revoke': { type: 'key.revoke', ...edit, key: oldKey },
    'group.add': { type: 'group.add', group, membershipVersion: 2, members: [stranger.id] },
    'group.remove': { type: 'group.remove', group, membershipVersion: 2, members: [member.id] },
    'group.rekey': {
      type: 'group.rekey',
      group,
      membershipVersion: 2,
      epoch: 0,
      epochKeyHash: hash,
      boxesHash: hash,
    },
    'group.owner': { type: 'group.owner', group, from: owner.id, owner: member.id },
    'governance.consenters': {
      type: 'governance.consenters',
      target: chain.ledger.parameters.consenters,
    },
    'record.one': { type: 'record.one', qos: 1, record: said },
    'record.batch': { type: 'record.batch', qos: 1, records: [{ ...said, source: undefined }, said] },
    'contract.deploy': { type: 'contract.deploy', contract: Uint8Array.of(0x90) },
    'contract.retire': { type: 'contract.retire', contract },
    'contract.action': {
      type: 'contract.action',
      qos: 1,
      contract,
      input: { type: 'call', source: subject, values: [] },
      publishTopic: undefined,
    },
    'contract.guard': { type: 'contract.guard', topic: 'tank', expectedVersion: 0, guards: [] },
  }
}

function withGroup(): SampleLedger {
  const chain = new SampleLedger()
  chain.run(owner, { type: 'group.create', name: 'fleet', epochKeyHash: undefined })
  chain.run(owner, { type: 'group.add', group, membershipVersion: 1, members: [member.id] })
  return chain
}

test('permissions: every kind is refused to an active identity that the table does not name', () => {
  const chain = withGroup()
  const { stateRoot } = chain.ledger.header
  for (const [type, body] of Object.entries(forbidden(chain)))
    for (const who of [stranger, fullNode])
      expect(chain.run(who, body), `${type} by ${who.id}`).toBe('not-authorised')
  expect(chain.ledger.header.stateRoot).toBe(stateRoot)
})

test('permissions: the kinds above are all that are not open to every active identity or newcomer', () => {
  const closed = Object.entries(permissions)
    .filter(([, who]) => !['nobody yet', 'active identity', 'newcomer'].includes(who))
    .map(([type]) => type)
  expect(Object.keys(forbidden(withGroup()))).toEqual(closed)
})

test('permissions: an operator has no power over keys and groups of devices, but over who owns a group', () => {
  const chain = withGroup()
  for (const [type, body] of Object.entries(forbidden(chain)))
    if (/^(key|group)\./.test(type))
      expect(chain.run(operator, body), type).toBe(type === 'group.owner' ? 'ok' : 'not-authorised')
})
