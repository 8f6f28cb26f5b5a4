/** What one device may use of a leader's mempool while an operator revokes it. */
import { describe, expect, test } from 'vitest'
import { GrantId, Milliseconds } from '../../../chain/brands.ts'
import { keyIdOf } from '../../../chain/keys.ts'
import type { TransactionBody } from '../../../chain/transaction.ts'
import type { TransactionStatus } from '../../../client/chain-source.ts'
import type { MempoolLimits } from '../../../node/replica/mempool.ts'
import { LedgerWorld } from '../../support/ledger-world.ts'
import { type SampleIdentity, sampleIdentity } from '../../support/sample-genesis.ts'

const devices = Array.from({ length: 20 }, (_, i) => sampleIdentity(`device-${i + 1}`))
const [hostile, other] = devices as [SampleIdentity, SampleIdentity]

async function start(mempool: Partial<MempoolLimits> = {}, unexpiredTransactions = 1_000_000) {
  const world = new LedgerWorld(3, devices, 0, { unexpiredTransactions })
  world.mempool = mempool
  await world.startCertified()
  const { submission } = world.node(world.leader!)
  const answers: TransactionStatus[] = []
  let nonce = 0
  /** What became of a transaction that expires within 10 s, or the code of the refusal. */
  const ended = async (signer: SampleIdentity, body: TransactionBody) => {
    const bytes = world.sign(signer, body, { nonce: ++nonce, expiryMs: 8_000 })
    const answered: TransactionStatus[] = []
    void submission.submit(bytes, 'certified').then(answer => answered.push(answer))
    await world.until('an answer', () => answered.length > 0, 1_000)
    const { status, code } = answered[0]!
    return status === 'refused' ? code : status
  }
  return {
    world,
    /** A transaction that fails, and counts for replay. */
    send: (device: SampleIdentity) => {
      const key = keyIdOf(device.signer.publicKey)
      return ended(device, { type: 'key.revoke', subject: device.id, expectedVersion: 7, key })
    },
    /** A registration under a grant that nobody has given. */
    sendRegistration: (name: string) => {
      const newcomer = sampleIdentity(name)
      return ended(newcomer, {
        type: 'identity.register',
        inceptionKey: newcomer.signer.publicKey,
        label: 'lightweight',
        keys: [],
        transportKey: undefined,
        profile: { connectionLifetime: 'days', cores: 1, memoryMebibytes: 1, storageMebibytes: 1 },
        metadataHash: undefined,
        grant: GrantId('ab'.repeat(32)),
        tokenSignature: new Uint8Array(64),
        challenge: { coordinator: other.id, nonce: new Uint8Array(16), issuedAt: Milliseconds(0) },
      })
    },
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
      const body = { type: 'identity.revoke', subject: hostile.id, reason: '' } as const
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

describe('quotas: transactions that have not expired', () => {
  test('are a share of one signer at most, until they expire; and the operator revokes it at once', async () => {
    const { world, send, revoke } = await start({}, 100)
    for (let n = 0; n < 5; n++) expect(await send(hostile)).toBe('invalid')
    expect(await send(hostile)).toBe('rate-limited')
    await world.run(10_000)
    expect(await send(other)).toBe('invalid')
    expect(await send(hostile)).toBe('invalid')
    expect(await revoke()).toMatchObject({ status: 'certified' })
  })

  test('of all signers leave places for operators', async () => {
    const { send, revoke } = await start({}, 20)
    for (const device of devices.slice(0, 18)) expect(await send(device)).toBe('invalid')
    expect(await send(devices[18]!)).toBe('overloaded')
    expect(await revoke()).toMatchObject({ status: 'certified' })
  })

  test('of newcomers are those of one signer: ids that nobody has are free', async () => {
    const { sendRegistration } = await start({}, 100)
    for (let n = 0; n < 5; n++) expect(await sendRegistration(`newcomer-${n}`)).toBe('invalid')
    expect(await sendRegistration('newcomer-5')).toBe('rate-limited')
  })
})
