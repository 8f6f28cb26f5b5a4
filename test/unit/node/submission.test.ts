import { expect, test } from 'vitest'
import type { TransactionStatus } from '../../../client/chain-source.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'

const owner = sampleIdentity('device-1')

test('submission: a transaction of an older block that is sent again is answered with that block', async () => {
  const world = await new LedgerWorld(3, [owner]).startCertified()
  const through = world.node(world.leader!)
  const heldBack: (() => void)[] = []
  world.filter = (from, to, message) => {
    if (message.type !== 'signatures') return true
    heldBack.push(() => world.post(from, to, message))
    return false
  }
  const answered = new Map<string, TransactionStatus>()
  const signed = { older: world.group(owner, 'older'), newer: world.group(owner, 'newer') }
  const submit = async (name: keyof typeof signed, wait: 'committed' | 'certified') => {
    answered.set(`${name} ${wait}`, await through.submission.submit(signed[name], wait))
  }
  void submit('older', 'committed')
  await world.until('the older one is committed', () => answered.has('older committed'))
  const { height } = answered.get('older committed')!
  const signaturesOfOlder = heldBack.splice(0)
  void submit('newer', 'certified')
  await world.until('the newer one is executed', () => through.chain.height > height!)
  void submit('older', 'certified')
  await world.settle()
  expect([...answered.keys()]).toEqual(['older committed'])
  const hold = world.filter
  world.filter = () => true
  for (const send of signaturesOfOlder) send()
  await world.settle()
  world.filter = hold
  expect(through.certifier.certifiedHeight).toBe(height)
  expect([...answered.keys()]).toEqual(['older committed', 'older certified'])
  expect(answered.get('older certified')).toMatchObject({ status: 'certified', height })
})
