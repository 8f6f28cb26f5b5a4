/** What one device may use of a leader's mempool while an operator revokes it. */
import { describe, expect, test } from 'vitest'
import { keyIdOf } from '../../../chain/keys.ts'
import type { TransactionStatus } from '../../../client/chain-source.ts'
import type { MempoolLimits } from '../../../node/replica/mempool.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { type SampleIdentity, sampleIdentity } from '../../support/sample-genesis.ts'

const hostile = sampleIdentity('device-1')

async function start(mempool: Partial<MempoolLimits> = {}) {
  const world = new LedgerWorld(3, [hostile])
  world.mempool = mempool
  await world.startCertified()
  const { submission } = world.node(world.leader!)
  const answers: TransactionStatus[] = []
  let nonce = 0
  return {
    world,
    /** Codes of the refusals so far. */
    refusals: () => answers.flatMap(({ code }) => code ?? []),
    /** The device revokes a key of its own. It names no version that its record has: so it can go on without end. */
    revokeKey: async (device: SampleIdentity) => {
      const key = keyIdOf(device.signer.publicKey)
      const body = { type: 'key.revoke', subject: device.id, expectedVersion: 7, key } as const
      answers.push(await submission.submit(world.sign(device, body, { nonce: ++nonce }), 'none'))
    },
    /** How it ends that the operator revokes the hostile device. */
    revoke: async () => {
      const body = { type: 'identity.revoke', subject: hostile.id, expectedVersion: 1, reason: '' } as const
      const answered: TransactionStatus[] = []
      void submission
        .submit(world.sign(world.operator, body), 'certified')
        .then(answer => answered.push(answer))
      await world.until('an answer to the operator', () => answered.length > 0, 1_000)
      return answered[0]
    },
  }
}

describe('quotas: revocations that wait', () => {
  test('are as many of one device as it has keys', async () => {
    const { refusals, revokeKey } = await start()
    for (let n = 0; n < 20; n++) await revokeKey(hostile)
    expect(refusals()).toEqual(Array(12).fill('rate-limited'))
  })

  test('of devices keep no operator out: it revokes a device that fills their lane, and that is certified at once', async () => {
    const { refusals, revokeKey, revoke } = await start({ revocations: 4 })
    for (let n = 0; n < 20; n++) await revokeKey(hostile)
    expect(refusals()).toEqual(Array(16).fill('overloaded'))
    expect(await revoke()).toMatchObject({ status: 'certified' })
  })
})
