import { describe, expect, it } from 'vitest'
import { Height, Milliseconds } from '../../../chain/brands.ts'
import { decode, encode } from '../../../chain/codec.ts'
import { MoteError, unwrap } from '../../../chain/result.ts'
import {
  type CapabilityProfile,
  type CoordinatorChallenge,
  parseTransaction,
} from '../../../chain/transaction.ts'
import { ChainClient } from '../../../client/chain-client.ts'
import { addressLifetimeMs, signAddress } from '../../../client/coordination-address.ts'
import { type CoordinationContact, join, type Newcomer, registration } from '../../../client/join.ts'
import { joinReplyCodec, joinRequestCodec, type NodeAddress } from '../../../client/join-messages.ts'
import { challengeLifetimeMs, JoinService } from '../../../node/registry/join-service.ts'
import { LiveNodes } from '../../../node/registry/live-nodes.ts'
import { ManualClock } from '../../support/manual-clock.ts'
import { keysOf, TestChain, tokenOf } from '../../support/test-chain.ts'

const profile: CapabilityProfile = {
  connectionLifetime: 'hours',
  cores: 1,
  memoryMebibytes: 64,
  storageMebibytes: 128,
}

function newcomer(name: string, token = 'token', change: Partial<Newcomer> = {}): Newcomer {
  return { keys: keysOf(name), label: 'lightweight', profile, token: tokenOf(token), ...change }
}

async function setUp(options: { readonly fullNodes?: number } = {}) {
  const chain = new TestChain({ devices: ['veteran'] })
  const clock = new ManualClock(chain.time)
  const live = new LiveNodes(clock)
  const { fullNodes = 3 } = options
  for (const keys of chain.fullNodes.slice(0, fullNodes)) {
    const { id } = keys
    const where = { addresses: ['/ip4/127.0.0.1/tcp/4001'], api: `http://${id.slice(0, 8)}.invalid:4000` }
    const expiry = Milliseconds(chain.time + addressLifetimeMs)
    live.beat(id, {
      ...where,
      height: Height(0),
      certifiedHeight: Height(0),
      signed: signAddress(keys, { chainId: chain.chainId, ...where, expiry }),
      clients: 0,
      maxClients: 1,
      time: Milliseconds(0),
    })
  }
  const opened = () =>
    ChainClient.open({
      sources: [chain.source()],
      checkpoint: chain.checkpoint,
      clock,
    })
  const client = await opened()
  const coordinator = chain.coordination.id
  const service = new JoinService({ client, live, clock, coordinator, log: { info: () => {} } })
  const contact: CoordinationContact = {
    name: 'service',
    exchange: body => service.answer('192.0.2.1', body),
  }
  /** A challenge for a device. */
  const challenge = async (name: string): Promise<CoordinatorChallenge> => {
    const request = { type: 'challenge', chainId: chain.chainId, device: keysOf(name).id } as const
    const reply = unwrap(decode(joinReplyCodec, await contact.exchange(encode(joinRequestCodec, request))))
    if (reply.type !== 'challenge') throw new Error(`got ${reply.type}`)
    return { coordinator: reply.coordinator, nonce: reply.nonce, issuedAt: reply.issuedAt }
  }
  const register = (transaction: Uint8Array) =>
    contact.exchange(encode(joinRequestCodec, { type: 'register', transaction }))
  return { chain, clock, live, service, contact, challenge, register, device: await opened() }
}

async function refusal(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (cause: unknown) => cause,
  )
  return error instanceof MoteError ? error.code : `not refused: ${String(error)}`
}

describe('join', () => {
  it('join: a device with a granted token is admitted, proves its own record, and gets a full node and backups', async () => {
    const { chain, contact, device } = await setUp()
    chain.grant('token')
    const joined = await join(device, newcomer('sensor'), [contact])
    expect(joined.id).toBe(keysOf('sensor').id)
    expect(joined.record.value.status).toBe('active')
    expect(joined.height).toBe(joined.record.value.registeredAt)
    const { fullNode, backups } = joined.assignment
    expect(new Set([fullNode, ...backups].map(node => node.id))).toEqual(
      new Set(chain.fullNodes.map(node => node.id)),
    )
  })

  it('join: a grant that the full node which is asked here does not know yet is waited for, a moment', async () => {
    const { chain, contact, device } = await setUp()
    const joining = join(device, newcomer('sensor'), [contact])
    setTimeout(() => chain.grant('token'), 50)
    expect((await joining).record.value.status).toBe('active')
  })

  it('join: where a full node is reached is what that one signed, whatever the coordination node says', async () => {
    const { chain, contact, device } = await setUp()
    chain.grant('token')
    const changed = (name: string, change: (node: NodeAddress) => NodeAddress): CoordinationContact => ({
      name,
      exchange: async body => {
        const answer = await contact.exchange(body)
        const reply = unwrap(decode(joinReplyCodec, answer))
        if (reply.type === 'challenge') return answer
        const { fullNode, backups } = reply.assignment
        const assignment = { fullNode: change(fullNode), backups: backups.map(change) }
        return encode(joinReplyCodec, { ...reply, assignment })
      },
    })
    const elsewhere = { api: 'http://192.0.2.66:1', addresses: ['/ip4/192.0.2.66/tcp/1'] }
    const lies = changed('lies', node => ({ ...node, ...elsewhere }))
    const unsigned = changed('unsigned', node => ({ ...node, ...elsewhere, signed: undefined }))
    const sensor = newcomer('sensor')
    expect(await refusal(join(device, sensor, [unsigned]))).toBe('no-full-node')
    const { contact: through, assignment } = await join(device, sensor, [unsigned, lies])
    expect(through).toBe('lies')
    for (const { id, api, addresses } of [assignment.fullNode, ...assignment.backups]) {
      expect(api).toBe(`http://${id.slice(0, 8)}.invalid:4000`)
      expect(addresses).toEqual(['/ip4/127.0.0.1/tcp/4001'])
    }
  })

  it('join: asking again after a lost answer is a success', async () => {
    const { chain, contact, device } = await setUp()
    chain.grant('token')
    let lost = 0
    const lossy: CoordinationContact = {
      name: 'lossy',
      exchange: async body => {
        const answer = await contact.exchange(body)
        if (unwrap(decode(joinReplyCodec, answer)).type !== 'registered' || lost++ > 0) return answer
        throw new MoteError('timeout', 'the answer was lost')
      },
    }
    const joined = await join(device, newcomer('sensor'), [lossy, contact])
    expect([lost, joined.record.value.status]).toEqual([1, 'active'])
  })

  it('join: one coordination node that refuses ends nothing: the next one is asked, and two that refuse are believed', async () => {
    const { chain, contact, device } = await setUp()
    const refuses = (name: string): CoordinationContact => ({
      name,
      exchange: async () => {
        throw new MoteError('grant-not-valid', 'a lie')
      },
    })
    const silent: CoordinationContact = {
      name: 'silent',
      exchange: async () => {
        throw new MoteError('timeout', 'no answer')
      },
    }
    const through = (...contacts: CoordinationContact[]) => join(device, newcomer('sensor'), contacts)
    expect(await refusal(through(refuses('a')))).toBe('grant-not-valid')
    expect(await refusal(through(refuses('a'), refuses('b'), silent))).toBe('grant-not-valid')
    expect(await refusal(through(refuses('a'), silent))).toBe('unconfirmed')
    expect(await refusal(through(silent, refuses('a')))).toBe('unconfirmed')
    expect(await refusal(through(silent, silent))).toBe('timeout')
    expect(await refusal(through(contact, refuses('a')))).toBe('grant-not-valid')
    chain.grant('token')
    expect((await through(refuses('a'), silent, contact)).record.value.status).toBe('active')
  })

  it('join: a coordination node cannot spend a grant on another device', async () => {
    const { chain, challenge, register } = await setUp()
    chain.grant('token')
    const honest = registration(chain.chainId, newcomer('sensor'), await challenge('sensor'))
    const thief = newcomer('thief')
    // It has seen sensor's token signature, and puts it into a registration of its own device.
    const stolen: Newcomer = { ...thief, token: { ...thief.token, sign: () => signatureIn(honest) } }
    const forged = registration(chain.chainId, stolen, await challenge('thief'))
    expect(await refusal(register(forged))).toBe('possession-not-proven')
    // Nor past the service: execution says the same.
    expect(chain.append([forged]).map(receipt => receipt.code)).toEqual(['possession-not-proven'])
    expect(chain.append([honest]).map(receipt => receipt.code)).toEqual(['ok'])
  })

  it('join: refuses an id that is active, and one that was revoked', async () => {
    const { chain, challenge, register } = await setUp()
    chain.grant('token', { quota: 3 })
    const veteran = async () => registration(chain.chainId, newcomer('veteran'), await challenge('veteran'))
    expect(await refusal(register(await veteran()))).toBe('id-active')
    chain.revoke(keysOf('veteran').id)
    expect(await refusal(register(await veteran()))).toBe('invalid-state')
  })

  it('join: refuses a token without a grant, a spent grant, an expired grant and a label above it', async () => {
    const { chain, clock, challenge, register } = await setUp()
    const attempt = async (who: Newcomer) => {
      const transaction = registration(chain.chainId, who, await challenge(who.keys.name))
      const before = chain.height
      const code = await refusal(register(transaction))
      // Execution would refuse as well: the service must not have bothered it.
      expect(chain.height).toBe(code.startsWith('not refused') ? before + 1 : before)
      return code
    }
    expect(await attempt(newcomer('a', 'nobody granted this'))).toBe('grant-not-valid')
    chain.grant('once')
    expect(await attempt(newcomer('b', 'once'))).toMatch(/not refused/)
    expect(await attempt(newcomer('c', 'once'))).toBe('grant-not-valid')
    chain.grant('short', { validForMs: 10_000 })
    clock.advance(20_000)
    chain.append([], { afterMs: 20_000 })
    expect(await attempt(newcomer('d', 'short'))).toBe('grant-not-valid')
    chain.grant('light')
    expect(await attempt(newcomer('e', 'light', { label: 'full' }))).toBe('label-not-allowed')
  })

  it('join: judges all that execution judges, and submits nothing that it would refuse', async () => {
    const { chain, challenge, register } = await setUp()
    chain.grant('token', { quota: 3 })
    const keys = keysOf('sensor')
    const smallOrder = { suite: 'x25519', bytes: new Uint8Array(32) } as const
    const unusable = newcomer('sensor', 'token', {
      keys: { ...keys, encryption: { ...keys.encryption, publicKey: smallOrder } },
    })
    const sealed = registration(chain.chainId, unusable, await challenge('sensor'))
    const honest = registration(chain.chainId, newcomer('sensor'), await challenge('sensor'))
    const { height } = chain
    expect(await refusal(register(sealed))).toBe('key-not-usable')
    expect(chain.height).toBe(height)
    chain.revoke(chain.coordination.id)
    expect(await refusal(register(honest))).toBe('challenge-expired')
    expect(chain.height).toBe(height + 1)
    expect(chain.append([sealed, honest]).map(receipt => receipt.code)).toEqual([
      'challenge-expired',
      'challenge-expired',
    ])
  })

  it('join: a challenge is good once, for its device, and for thirty seconds', async () => {
    const { chain, clock, challenge, register } = await setUp()
    chain.grant('token', { quota: 10 })
    const make = (name: string, given: CoordinatorChallenge) =>
      registration(chain.chainId, newcomer(name), given)
    const first = await challenge('a')
    expect(await refusal(register(make('b', first)))).toBe('challenge-expired')
    expect(await refusal(register(make('a', first))), 'b has used it up').toBe('challenge-expired')
    const late = await challenge('a')
    clock.advance(challengeLifetimeMs + 1)
    expect(await refusal(register(make('a', late)))).toBe('challenge-expired')
    const invented = { ...late, nonce: new Uint8Array(16) }
    expect(await refusal(register(make('a', invented)))).toBe('challenge-expired')
    const good = make('a', await challenge('a'))
    expect(await refusal(register(good))).toMatch(/not refused/)
    expect(await refusal(register(good))).toBe('challenge-expired')
  })

  it('join: refuses a registration that the device did not sign itself', async () => {
    const { chain, challenge, register } = await setUp()
    chain.grant('token')
    const other = keysOf('other')
    const keys = keysOf('sensor')
    const mixed: Newcomer = newcomer('sensor', 'token', {
      keys: { ...keys, signing: { publicKey: keys.signing.publicKey, seed: other.signing.seed } },
    })
    const forged = registration(chain.chainId, mixed, await challenge('sensor'))
    expect(await refusal(register(forged))).toBe('bad-signature')
    const wire = registration(chain.chainId, newcomer('sensor'), await challenge('sensor'))
    wire[wire.length - 1] = wire[wire.length - 1]! ^ 1
    expect(await refusal(register(wire))).toBe('bad-signature')
  })

  it('join: refuses another chain, and takes nobody while no full node lives', async () => {
    const { contact } = await setUp()
    const device = keysOf('sensor').id
    const request = { type: 'challenge', chainId: new TestChain({ name: 'twin' }).chainId, device } as const
    expect(await refusal(contact.exchange(encode(joinRequestCodec, request)))).toBe('wrong-chain')
    const alone = await setUp({ fullNodes: 0 })
    expect(await refusal(alone.challenge('sensor'))).toBe('no-full-node')
  })

  it('join: every changed byte of a request is refused or answered, never a crash', async () => {
    const { chain, service, challenge } = await setUp()
    chain.grant('token')
    const transaction = registration(chain.chainId, newcomer('sensor'), await challenge('sensor'))
    const honest = encode(joinRequestCodec, { type: 'register', transaction })
    const before = chain.height
    for (let i = 0; i < honest.length; i++) {
      const changed = Uint8Array.from(honest)
      changed[i] = changed[i]! ^ 1
      expect(await refusal(service.answer('192.0.2.1', changed))).not.toMatch(/^not refused/)
    }
    expect(chain.height, 'nothing was submitted').toBe(before)
  })

  it('join: assignments are given to active devices only', async () => {
    const { chain, service } = await setUp()
    const { id } = keysOf('veteran')
    expect((await service.assignmentOf(id)).backups).toHaveLength(2)
    expect(service.knownAssignment(id)).toHaveLength(3)
    expect(await refusal(service.assignmentOf(keysOf('stranger').id))).toBe('unknown-subject')
    chain.revoke(id)
    await service.assignmentOf(keysOf('stranger').id).catch(() => {})
    expect(await refusal(service.assignmentOf(id))).toBe('signer-not-active')
  })

  it('join: one address cannot push out the challenges of another', async () => {
    const { chain, service, challenge, register } = await setUp()
    chain.grant('token')
    const mine = await challenge('sensor')
    for (let i = 0; i < 200; i++) {
      const request = { type: 'challenge', chainId: chain.chainId, device: keysOf('veteran').id } as const
      await service.answer('198.51.100.7', encode(joinRequestCodec, request))
    }
    expect(await refusal(register(registration(chain.chainId, newcomer('sensor'), mine)))).toMatch(
      /not refused/,
    )
  })
})

/** The token key's signature inside a registration. */
function signatureIn(transaction: Uint8Array): Uint8Array {
  const { body } = unwrap(parseTransaction(transaction)).unsigned
  if (body.type !== 'identity.register') throw new Error(body.type)
  return body.tokenSignature
}
