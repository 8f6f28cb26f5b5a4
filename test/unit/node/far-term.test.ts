/** A node that was away while the others held a million elections, between real `LedgerNode`s: it is not deaf for good. */

import { expect, test } from 'vitest'
import { encode } from '../../../chain/codec.ts'
import { maxTermLead } from '../../../consensus/message-check.ts'
import { hardStateCodec, seal, storeKey } from '../../../node/storage/store-records.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'

const devices = [sampleIdentity('device-0'), sampleIdentity('device-1')]
const far = 3 * maxTermLead

test('far term: a node that was away is led by a certified header to a term that it would not hear', async () => {
  const world = await new LedgerWorld(3, devices).startCertified()
  for (const i of [0, 1, 2]) world.crash(i)
  for (const i of [0, 1]) {
    const key = storeKey('hardState')
    world.disk(i).damage(key, () => seal(key, encode(hardStateCodec, { currentTerm: far, votedFor: null })))
    await world.start(i)
  }
  await world.until('a block of the far term', () =>
    world.running.every(({ chain }) => chain.certified.header.term > far),
  )
  await world.start(2)
  expect(world.node(2).replica.leadership.term).toBeLessThan(far)
  await world.until('it follows', () => world.node(2).replica.leadership.term > far)
  const { height } = world.node(0).chain
  await world.until('it is level', () => world.node(2).chain.height >= height)
})
