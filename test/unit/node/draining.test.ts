/** A node that is told to stop answers every client that waits: no request hangs until its client gives up. */
import { expect, test } from 'vitest'
import { unwrap } from '../../../chain/result.ts'
import { parseTransaction } from '../../../chain/transaction.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { sampleIdentity } from '../../support/sample-genesis.ts'

const device = sampleIdentity('device')

async function startedWorld(): Promise<LedgerWorld> {
  const world = new LedgerWorld(3, [device])
  return world.startCertified()
}

/** What a promise gives now; 'hangs' if it has to wait for something. */
function now<T>(promise: Promise<T>): Promise<T | 'hangs'> {
  return Promise.race([promise, new Promise<'hangs'>(resolve => setImmediate(() => resolve('hangs')))])
}

/** A transaction that is executed on every node, while no node hears another's signature. */
async function executedNotCertified(world: LedgerWorld, through: number) {
  world.filter = (_from, _to, message) => message.type !== 'signatures'
  const bytes = world.group(device, 'open')
  const { id } = unwrap(parseTransaction(bytes))
  const { submission } = world.node(through)
  const open = submission.submit(bytes, 'certified')
  await world.until('executed', () => world.node(through).chain.outcomeOf(id) !== undefined)
  return { bytes, open, submission }
}

test('stopping: who waits for a certificate is told that the transaction is committed', async () => {
  const world = await startedWorld()
  const { bytes, open, submission } = await executedNotCertified(world, 0)
  submission.stop()
  expect(await now(open)).toMatchObject({ status: 'committed' })
  expect(await now(submission.submit(bytes, 'certified'))).toMatchObject({
    status: 'committed',
  })
})

test('draining: an answer that waits for its certificate is open', async () => {
  const world = await startedWorld()
  const { open, submission } = await executedNotCertified(world, 0)
  expect(submission.open).toBe(1)
  world.filter = () => true
  await world.until('certified', () => submission.open === 0)
  expect(await open).toMatchObject({ status: 'certified' })
})
