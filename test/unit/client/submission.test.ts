import { describe, expect, it } from 'vitest'
import { Milliseconds } from '../../../chain/brands.ts'
import type { ErrorCode } from '../../../chain/errors.ts'
import { MoteError } from '../../../chain/result.ts'
import type { TransactionBody } from '../../../chain/transaction.ts'
import { ChainClient } from '../../../client/chain-client.ts'
import type { TransactionStatus } from '../../../client/chain-source.ts'
import { systemClock } from '../../../client/clock.ts'
import { FailoverSource } from '../../../client/failover-source.ts'
import { addMembers, createGroup, rekeyGroup, removeMembers } from '../../../client/group-actions.ts'
import { grant, revoke, suspend } from '../../../client/operator-actions.ts'
import { idOfSigned, Refusals, signedBody } from '../../../client/submission.ts'
import { keysOf, TestChain, tokenOf } from '../../support/test-chain.ts'

async function setUp(...devices: string[]) {
  const chain = new TestChain({ devices })
  chain.append()
  const source = chain.source()
  const client = await ChainClient.open({ sources: [source], checkpoint: chain.checkpoint })
  await client.follower.sync()
  return { chain, source, client }
}

describe('submission', () => {
  it('submission: sends the same bytes again until they are final, and they count once', async () => {
    const { chain, source, client } = await setUp('sensor')
    const { operator: keys, chainId, time } = chain
    const body = {
      type: 'identity.revoke',
      subject: keysOf('sensor').id,
      reason: '',
    } as const
    const bytes = signedBody({ chainId, body, keys, time })
    const submit = source.submit.bind(source)
    const troubles = ['timeout', 'no-leader', 'overloaded', 'unreachable'] as const
    let sent = 0
    source.submit = async given => {
      expect(given).toBe(bytes)
      const trouble = troubles[sent++]
      // The first attempt is carried out although its answer is lost.
      if (trouble === 'timeout') await submit(given)
      if (trouble) throw new MoteError(trouble, 'try again')
      return submit(given)
    }
    const { height, id } = await client.submit(bytes)
    expect([sent, height, id]).toEqual([5, 2, idOfSigned(bytes)])
    expect(client.follower.head.header.height).toBe(2)
    expect(chain.height).toBe(2)
  })

  it('submission: reports the code of a transaction that was executed and failed', async () => {
    const { chain, client } = await setUp('sensor')
    const body = { type: 'identity.revoke', subject: keysOf('x').id, reason: '' } as const
    await expect(client.perform(chain.operator, body)).rejects.toMatchObject({ code: 'unknown-subject' })
    await expect(client.perform(keysOf('sensor'), body)).rejects.toMatchObject({ code: 'not-authorised' })
  })

  it('submission: one node that refuses ends nothing: another one takes it', async () => {
    for (const lie of ['invalid', 'refused', 'thrown'] as const) {
      const { chain, source: honest } = await setUp('sensor')
      const hostile = chain.source('hostile')
      hostile.submit = async bytes => {
        if (lie === 'thrown') throw new MoteError('bad-signature', 'a lie')
        return { id: idOfSigned(bytes), status: lie, code: 'not-authorised' }
      }
      const client = await ChainClient.open({ sources: [hostile, honest], checkpoint: chain.checkpoint })
      const body = { type: 'identity.revoke', subject: keysOf('sensor').id, reason: '' }
      const { height } = await client.perform(chain.operator, body as TransactionBody)
      expect(height).toBe(2)
    }
  })

  it('submission: a node that makes no progress is left for the next one, and asked last from then on', async () => {
    for (const way of ['pending', 'no-leader', 'silent'] as const) {
      const { chain, source: healthy } = await setUp('sensor')
      const partitioned = chain.source('partitioned')
      partitioned.submit = async bytes => {
        partitioned.asked.set('submit', (partitioned.asked.get('submit') ?? 0) + 1)
        const id = idOfSigned(bytes)
        if (way === 'pending') return { id, status: 'pending', code: 'timeout' }
        if (way === 'no-leader') return { id, status: 'refused', code: 'no-leader' }
        return new Promise(() => {})
      }
      const client = await ChainClient.open({
        sources: [partitioned, healthy],
        checkpoint: chain.checkpoint,
      })
      const { operator, time, chainId } = chain
      for (const name of ['one', 'two']) {
        const body = { type: 'group.create', name, epochKeyHash: undefined } as const
        const bytes = signedBody({ chainId, body, keys: operator, time })
        const { status } = await client.submit(bytes, { turnMs: 20 })
        expect(status.status).toBe('certified')
      }
      expect(healthy.asked.get('submit'), way).toBe(2)
      expect(partitioned.asked.get('submit'), way).toBe(1)
    }
  })

  it('submission: while every node says pending that is the answer of a relay', async () => {
    const { chain, source } = await setUp()
    const pending = async (bytes: Uint8Array): Promise<TransactionStatus> => ({
      id: idOfSigned(bytes),
      status: 'pending',
      code: 'no-leader',
    })
    const second = chain.source('second')
    source.submit = second.submit = pending
    const pool = new FailoverSource([source, second])
    const body = { type: 'group.create', name: 'group', epochKeyHash: undefined } as const
    const { operator: keys, time, chainId } = chain
    const bytes = signedBody({ chainId, body, keys, time })
    expect(await new Refusals().send(pool, bytes, 'certified')).toMatchObject({ status: 'pending' })
  })

  it('submission: a client that has seen no head yet goes by the chain, however wrong its clock is', async () => {
    const { chain, source } = await setUp('sensor')
    for (const now of [undefined, 0, 2 * chain.time]) {
      const client = await ChainClient.open({
        sources: [source],
        checkpoint: chain.checkpoint,
        clock: { ...systemClock, wall: now === undefined ? undefined : () => Milliseconds(now) },
      })
      const created = await client.perform(chain.operator, {
        type: 'group.create',
        name: `group-${now}`,
        epochKeyHash: undefined,
      })
      expect(created.status.status).toBe('certified')
    }
  })

  it('submission: what two nodes refuse is final at once, and what the only one refuses', async () => {
    const { chain, source } = await setUp('sensor')
    const body = { type: 'identity.revoke', subject: keysOf('x').id, reason: '' } as const
    for (const sources of [[source], [source, chain.source('second'), chain.source('third')]]) {
      const client = await ChainClient.open({ sources, checkpoint: chain.checkpoint })
      await client.follower.sync()
      const asked = () => sources.reduce((sum, each) => sum + (each.asked.get('submit') ?? 0), 0)
      const before = asked()
      await expect(client.perform(keysOf('sensor'), body)).rejects.toMatchObject({ code: 'not-authorised' })
      expect(asked() - before).toBe(Math.min(sources.length, 2))
    }
  })

  it('submission: while nobody confirms a refusal the outcome is unknown', async () => {
    const { chain, source } = await setUp('sensor')
    const second = chain.source('second')
    second.failure = new MoteError('unreachable', 'down')
    const client = await ChainClient.open({ sources: [source, second], checkpoint: chain.checkpoint })
    await client.follower.sync()
    const body = { type: 'identity.revoke', subject: keysOf('x').id, reason: '' } as const
    const sent = client.perform(keysOf('sensor'), body, { timeoutMs: 100 })
    await expect(sent).rejects.toMatchObject({ code: 'timeout' })
    const later = client.perform(keysOf('sensor'), body, { timeoutMs: 5_000 })
    second.failure = undefined
    await expect(later).rejects.toMatchObject({ code: 'not-authorised' })
  })

  it('submission: refusals with different codes are not one refusal, and what two nodes have executed has not expired', async () => {
    const { chain } = await setUp()
    const codes: ErrorCode[] = ['duplicate', 'transaction-expired', 'key-not-valid']
    const sources = codes.map((code, i) => {
      const source = chain.source(`node-${i}`)
      source.submit = async bytes => ({ id: idOfSigned(bytes), status: 'refused', code: codes[i] ?? code })
      return source
    })
    const pool = new FailoverSource(sources)
    const body = { type: 'group.create', name: 'group', epochKeyHash: undefined } as const
    const { operator: keys, time, chainId } = chain
    const bytes = signedBody({ chainId, body, keys, time })
    let refusals = new Refusals()
    const sent = () => refusals.send(pool, bytes, 'certified').catch(({ code }: MoteError) => ({ code }))
    expect(await sent()).toMatchObject({ code: 'unconfirmed' })
    codes[2] = 'duplicate'
    expect(await sent()).toMatchObject({ code: 'duplicate' })
    codes[0] = codes[2] = 'transaction-expired'
    expect(await sent()).toMatchObject({ code: 'unconfirmed' })
    codes[0] = codes[1] = 'bad-signature'
    expect(await sent()).toMatchObject({ code: 'bad-signature' })
    // One that lies hinders nobody: what the others call expired is.
    refusals = new Refusals()
    codes[0] = 'duplicate'
    codes[1] = codes[2] = 'transaction-expired'
    expect(await sent()).toMatchObject({ code: 'transaction-expired' })
  })

  it('submission: gives up with timeout, because the outcome is unknown', async () => {
    const { chain, source, client } = await setUp('sensor')
    source.failure = new MoteError('no-leader', 'none')
    const body = {
      type: 'identity.revoke',
      subject: keysOf('sensor').id,
      reason: '',
    } as const
    const attempt = client.perform(chain.operator, body, { timeoutMs: 60 })
    await expect(attempt).rejects.toMatchObject({ code: 'timeout' })
  })
})

describe('operator actions', () => {
  it('operator actions: grant, suspend and revoke come back as verified records', async () => {
    const { chain, client } = await setUp('sensor')
    const { id } = keysOf('sensor')
    const granted = await grant(client, chain.operator, { tokenKey: tokenOf('t').publicKey, quota: 2 })
    expect((await client.records.grant(granted.grant)).value?.quota).toBe(2)
    const suspended = await suspend(client, chain.operator, { id, reason: 'odd' })
    expect(suspended.record.value?.status).toBe('suspended')
    const revoked = await revoke(client, chain.operator, { id, reason: 'stolen' })
    expect(revoked.record.value?.status).toBe('revoked')
    expect(revoked.record.height).toBeGreaterThanOrEqual(revoked.transaction!.height)
    expect((await revoke(client, chain.operator, { id, reason: 'again' })).transaction).toBeUndefined()
  })

  it('operator actions: a revocation goes on when another operator suspends meanwhile', async () => {
    const { chain, source, client } = await setUp('sensor')
    const { id } = keysOf('sensor')
    let raced = false
    const submit = source.submit.bind(source)
    source.submit = async bytes => {
      if (!raced) {
        raced = true
        chain.perform(chain.operator, {
          type: 'identity.suspend',
          subject: id,
          reason: '',
        })
      }
      return submit(bytes)
    }
    const { record } = await revoke(client, chain.operator, { id, reason: 'stolen' })
    expect(record.value).toMatchObject({ status: 'revoked', version: 3 })
  })

  it('operator actions: does not believe a certified status without a proof', async () => {
    const { chain, source, client } = await setUp('sensor')
    source.submit = async bytes => ({
      id: idOfSigned(bytes),
      status: 'certified',
      height: client.follower.head.header.height,
    })
    const attempt = revoke(client, chain.operator, { id: keysOf('sensor').id, reason: '' })
    await expect(attempt).rejects.toMatchObject({ code: 'withheld' })
  })
})

describe('group actions', () => {
  it('group actions: create, add, remove and re-key give the verified group', async () => {
    const { client } = await setUp('1111', '1112', '1113')
    const [owner, b, c] = [keysOf('1111'), keysOf('1112'), keysOf('1113')]
    const made = await createGroup(client, owner, 'hsu0001')
    const { id: group } = made.value.record
    const added = await addMembers(client, owner, { group, devices: [b.id, c.id, b.id] })
    expect(added.value.members).toEqual([owner.id, b.id, c.id].sort())
    expect((await addMembers(client, owner, { group, devices: [b.id] })).height).toBe(added.height)
    const hashes = { epochKeyHash: 'a1'.repeat(32) as never, boxesHash: 'b2'.repeat(32) as never }
    const keyed = await rekeyGroup(client, b, { group: added.value, ...hashes })
    expect(keyed.value.record.epoch).toBe(1)
    const late = rekeyGroup(client, c, { group: added.value, ...hashes })
    await expect(late).rejects.toMatchObject({ code: 'epoch-conflict' })
    const removed = await removeMembers(client, owner, { group, devices: [c.id] })
    expect(removed.value.members).not.toContain(c.id)
    const again = createGroup(client, owner, 'hsu0001')
    await expect(again).rejects.toMatchObject({ code: 'already-exists' })
  })
})
