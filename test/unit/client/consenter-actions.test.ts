/** What operators do about the consenters: approve, decide, take back, wait for the handover. */
import { describe, expect, it } from 'vitest'
import type { DeviceId } from '../../../chain/brands.ts'
import { signersHash } from '../../../chain/consenters.ts'
import { deviceIdOf, keyIdOf } from '../../../chain/keys.ts'
import { MoteError } from '../../../chain/result.ts'
import { keyPossessionSigningBytes } from '../../../chain/transaction.ts'
import { ChainClient } from '../../../client/chain-client.ts'
import {
  type ConsenterState,
  consentersChanged,
  readConsenters,
  setConsenters,
} from '../../../client/consenter-actions.ts'
import { type IdentityKeys, signerOf } from '../../../client/key-directory.ts'
import { keysOf, TestChain, type TestChainOptions } from '../../support/test-chain.ts'

const [one, two, three, four, five] = ['full-1', 'full-2', 'full-3', 'full-4', 'full-5'].map(keysOf) as [
  IdentityKeys,
  IdentityKeys,
  IdentityKeys,
  IdentityKeys,
  IdentityKeys,
]
const operators = ['operator', 'operator-2', 'operator-3'].map(keysOf) as [
  IdentityKeys,
  IdentityKeys,
  IdentityKeys,
]
const [operator, second, third] = operators
const ids = (...nodes: readonly IdentityKeys[]): DeviceId[] => nodes.map(({ id }) => id)

async function clientOf(options: TestChainOptions = {}): Promise<{ chain: TestChain; client: ChainClient }> {
  const chain = new TestChain({ devices: ['sensor'], spares: ['full-4', 'full-5'], ...options })
  chain.append()
  const { checkpoint } = chain
  const client = await ChainClient.open({ sources: [chain.source()], checkpoint, waitMs: 50 })
  return { chain, client }
}
const twoOfThree: TestChainOptions = { operators: ['operator-2', 'operator-3'], threshold: 2 }

async function refusal(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (cause: unknown) => cause,
  )
  return error instanceof MoteError ? error.code : `not refused: ${String(error)}`
}

/** Adds the signing key of `key` to `owner`. */
function addKey(chain: TestChain, owner: IdentityKeys, key: IdentityKeys, expectedVersion = 1): void {
  const publicKey = key.signing.publicKey
  const possession = signerOf(key).sign(keyPossessionSigningBytes(chain.chainId, owner.id, publicKey))
  chain.perform(owner, {
    type: 'key.add',
    subject: owner.id,
    expectedVersion,
    key: { purpose: 'sign', key: publicKey, notAfter: undefined, possession },
  })
}

describe('set consenters', () => {
  it('set consenters: one operator of one decides, and a second time there is nothing to do', async () => {
    const { chain, client } = await clientOf()
    const nodes = ids(four, two, three, two)
    const decision = await setConsenters(client, operator, { nodes })
    expect(decision).toMatchObject({ decided: true, missingApprovals: 0 })
    expect(decision.target.consenters.map(({ id }) => id)).toEqual(ids(two, three, four).sort())
    expect(decision.target.policy).toBe('majority')
    expect(chain.ledger.parameters.nextConsenters).toEqual(decision.target)
    const { height } = chain
    const again = await setConsenters(client, operator, { nodes })
    expect(again).toMatchObject({ decided: true, transaction: undefined })
    expect(chain.height).toBe(height)
    chain.handOver(decision.target)
    expect(await setConsenters(client, operator, { nodes })).toMatchObject({ transaction: undefined })
  })

  it('set consenters: two of three operators decide; the first is told what is missing', async () => {
    const { chain, client } = await clientOf(twoOfThree)
    const change = { nodes: ids(one, two, three, four, five), policy: 'two-thirds' } as const
    const first = await setConsenters(client, operator, change)
    expect(first).toMatchObject({ decided: false, missingApprovals: 1 })
    expect(await setConsenters(client, operator, change)).toMatchObject({
      decided: false,
      missingApprovals: 1,
      transaction: undefined,
    })
    expect(first.state.approvals).toMatchObject([
      { authority: operator.id, status: 'active', target: first.target, counts: true },
    ])
    const last = await setConsenters(client, third, change)
    expect(last).toMatchObject({ decided: true, missingApprovals: 0 })
    expect(chain.ledger.parameters.nextConsenters).toEqual(last.target)
    expect(last.target.policy).toBe('two-thirds')
  })

  it('set consenters: the present nodes take a decision back, and an approval that still counts', async () => {
    const { chain, client } = await clientOf(twoOfThree)
    const present = { nodes: ids(one, two, three) }
    const other = { nodes: ids(two, three, four) }
    await setConsenters(client, operator, other)
    expect((await setConsenters(client, operator, present)).transaction).toBeDefined()
    expect((await setConsenters(client, second, other)).decided).toBe(false)
    expect((await setConsenters(client, third, other)).decided).toBe(true)
    expect(await setConsenters(client, operator, present)).toMatchObject({
      decided: false,
      missingApprovals: 1,
    })
    expect(await setConsenters(client, second, present)).toMatchObject({ decided: true })
    expect(chain.ledger.parameters.nextConsenters).toBeUndefined()
    const { approvals } = await readConsenters(client)
    expect(approvals.map(({ counts }) => counts)).toEqual([false, false, false])
  })

  it('set consenters: who stays keeps its key while that is valid, others get the newest', async () => {
    const { chain, client } = await clientOf()
    const [spareOfTwo, spareOfFour] = [keysOf('spare-2'), keysOf('spare-4')]
    addKey(chain, two, spareOfTwo)
    addKey(chain, four, spareOfFour)
    const keyOf = (
      decision: { target: { consenters: readonly { id: string; key: object }[] } },
      who: IdentityKeys,
    ) => decision.target.consenters.find(({ id }) => id === who.id)?.key
    const nodes = ids(two, three, four)
    const first = await setConsenters(client, operator, { nodes })
    expect(keyOf(first, two)).toEqual(two.signing.publicKey)
    expect(keyOf(first, four)).toEqual(spareOfFour.signing.publicKey)
    chain.perform(two, {
      type: 'key.revoke',
      subject: two.id,
      expectedVersion: 2,
      key: keyIdOf(two.signing.publicKey),
    })
    const next = await setConsenters(client, operator, { nodes })
    expect(keyOf(next, two)).toEqual(spareOfTwo.signing.publicKey)
    expect(signersHash(next.target)).not.toBe(signersHash(first.target))
  })

  it('set consenters: refuses who cannot be a consenter before anything is sent', async () => {
    const { chain, client } = await clientOf()
    chain.perform(operator, {
      type: 'identity.suspend',
      subject: five.id,
      reason: '',
    })
    const { height } = chain
    const stranger = deviceIdOf(keysOf('stranger').signing.publicKey)
    const rows = [
      [{ nodes: [one.id, stranger] }, 'unknown-subject'],
      [{ nodes: ids(one, five) }, 'invalid-state'],
      [{ nodes: ids(one, keysOf('sensor')) }, 'label-not-allowed'],
      [{ nodes: ids(one, two, three), policy: 'two-thirds' }, 'usage'],
      [{ nodes: [] }, 'usage'],
    ] as const
    for (const [change, code] of rows)
      expect(await refusal(setConsenters(client, operator, change)), code).toBe(code)
    expect(chain.height).toBe(height)
    expect(await refusal(setConsenters(client, one, { nodes: ids(one) }))).toBe('not-authorised')
  })
})

describe('wait for consenters', () => {
  it('wait for consenters: ends with the handover, and tells of approvals on the way', async () => {
    const { chain, client } = await clientOf(twoOfThree)
    const nodes = ids(two, three, four)
    const { target } = await setConsenters(client, operator, { nodes })
    const seen: ConsenterState[] = []
    const changes = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const waiting = consentersChanged(client, target, {
      signal: AbortSignal.timeout(10_000),
      onChange: state => {
        seen.push(state)
        changes[seen.length - 1]?.resolve()
      },
    })
    await changes[0]!.promise
    chain.append()
    chain.perform(second, { type: 'governance.consenters', target })
    await changes[1]!.promise
    chain.append()
    chain.handOver(target)
    const state = await waiting
    expect(state.value.consenters).toEqual(target)
    expect(client.follower.head.consenters).toEqual(target)
    expect(seen.map(({ value }) => value.nextConsenters)).toEqual([undefined, target])
  })

  it('wait for consenters: fails when another decision takes the place, and at its deadline', async () => {
    const { chain, client } = await clientOf()
    const { target } = await setConsenters(client, operator, { nodes: ids(two, three, four) })
    const started = Promise.withResolvers<void>()
    const waiting = consentersChanged(client, target, {
      signal: AbortSignal.timeout(10_000),
      onChange: () => started.resolve(),
    })
    await started.promise
    const present = chain.ledger.parameters.consenters
    chain.perform(operator, { type: 'governance.consenters', target: present })
    expect(await refusal(waiting)).toBe('invalid-state')
    const signal = AbortSignal.timeout(50)
    await expect(consentersChanged(client, target, { signal })).rejects.toMatchObject({
      name: 'TimeoutError',
    })
  })

  it('wait for consenters: those that certify already are there at once', async () => {
    const { chain, client } = await clientOf()
    const signal = AbortSignal.timeout(10_000)
    const state = await consentersChanged(client, chain.checkpoint.consenters, { signal })
    expect(state.value.nextConsenters).toBeUndefined()
  })
})
