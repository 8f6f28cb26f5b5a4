import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { ChainId, Milliseconds } from '../../../chain/brands.ts'
import { encode } from '../../../chain/codec.ts'
import { nobleVerifier } from '../../../chain/noble-crypto.ts'
import type { IdentityRecord } from '../../../chain/records.ts'
import { MoteError, unwrap } from '../../../chain/result.ts'
import { ChainClient } from '../../../client/chain-client.ts'
import {
  type AddressView,
  addressLifetimeMs,
  coordinationAddressesCodec,
  findCoordinationNodes,
  judgeAddress,
  maxCoordinationAddresses,
  parseAddress,
  signAddress,
  verifiedAddress,
} from '../../../client/coordination-address.ts'
import { maxAddressBytes } from '../../../client/join-messages.ts'
import type { IdentityKeys } from '../../../client/key-directory.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import { protocols } from '../../../node/network/protocols.ts'
import { CoordinationAddresses } from '../../../node/registry/coordination-addresses.ts'
import { type TestChain as Chain, keysOf, TestChain } from '../../support/test-chain.ts'
import { addressVectors } from '../../vectors/make-addresses.ts'

const api = 'http://192.0.2.7:4100'
const addresses = ['/ip4/192.0.2.7/tcp/4001']

function signedBy(chain: Chain, keys: IdentityKeys, change: Partial<Parameters<typeof signAddress>[1]> = {}) {
  const expiry = Milliseconds(chain.time + addressLifetimeMs)
  return signAddress(keys, { chainId: chain.chainId, api, addresses, expiry, ...change })
}

async function setUp() {
  const chain = new TestChain({ devices: ['sensor'] })
  const source = chain.source()
  const client = await ChainClient.open({ sources: [source], checkpoint: chain.checkpoint })
  await client.follower.sync()
  const { value } = await client.records.device(chain.coordination.id)
  const view: AddressView = { chainId: chain.chainId, time: chain.time, record: value }
  const judged = (signed: Uint8Array, change: Partial<AddressView> = {}) => {
    const result = judgeAddress(unwrap(parseAddress(signed)), { ...view, ...change }, nobleVerifier)
    return result.ok ? 'ok' : result.error.code
  }
  return { chain, source, client, record: value!, judged }
}

describe('coordination address', () => {
  it('coordination address: an active coordination node says where it is, with its own key', async () => {
    const { chain, judged } = await setUp()
    expect(judged(signedBy(chain, chain.coordination))).toBe('ok')
  })

  it('coordination address: is refused for another chain, time, label, status or key', async () => {
    const { chain, record, judged } = await setUp()
    const good = signedBy(chain, chain.coordination)
    const at = (offset: number) =>
      signedBy(chain, chain.coordination, { expiry: Milliseconds(chain.time + offset) })
    const as = (change: Partial<IdentityRecord>) => judged(good, { record: { ...record, ...change } })
    expect(judged(signedBy(chain, chain.coordination, { chainId: ChainId('ab'.repeat(32)) }))).toBe(
      'wrong-chain',
    )
    expect(judged(at(0))).toBe('stale')
    expect(judged(at(1))).toBe('ok')
    expect(judged(at(2 * addressLifetimeMs))).toBe('ok')
    expect(judged(at(2 * addressLifetimeMs + 1))).toBe('expiry-too-far')
    expect(judged(good, { record: undefined })).toBe('unknown-signer')
    for (const status of ['pending', 'suspended', 'revoked'] as const)
      expect(as({ status })).toBe('signer-not-active')
    for (const label of ['lightweight', 'full'] as const) expect(as({ label })).toBe('not-authorised')
    const [sign, encrypt] = record.keys
    expect(as({ keys: [encrypt!] })).toBe('key-not-valid')
    expect(as({ keys: [{ ...sign!, revokedAt: chain.time }] })).toBe('key-not-valid')
    expect(as({ keys: [{ ...sign!, notAfter: chain.time }] })).toBe('key-not-valid')
  })

  it('coordination address: a full node signs where it is in the same way, and neither stands for the other', async () => {
    const { chain, client } = await setUp()
    const [full] = chain.fullNodes
    const signed = signedBy(chain, full!)
    const where = { id: full!.id, api, addresses }
    expect(await verifiedAddress(client, signed, 'full')).toEqual(where)
    expect(await verifiedAddress(client, signed, 'coordination')).toBeUndefined()
    expect(await verifiedAddress(client, signedBy(chain, chain.coordination), 'full')).toBeUndefined()
    expect(await verifiedAddress(client, signedBy(chain, keysOf('sensor')), 'full')).toBeUndefined()
    expect(await verifiedAddress(client, Uint8Array.of(1), 'full')).toBeUndefined()
  })

  it('coordination address: one byte changed anywhere is refused', async () => {
    const { chain, record } = await setUp()
    const good = signedBy(chain, chain.coordination)
    const view = { chainId: chain.chainId, time: chain.time, record }
    for (let i = 0; i < good.length; i++) {
      const changed = Uint8Array.from(good)
      changed[i] = changed[i]! ^ 1
      const parsed = parseAddress(changed)
      expect(parsed.ok && judgeAddress(parsed.value, view, nobleVerifier).ok, `byte ${i}`).toBe(false)
    }
  })

  it('coordination address: the largest list of them fits an answer', () => {
    const most = encode(
      coordinationAddressesCodec,
      Array.from({ length: maxCoordinationAddresses }, () => new Uint8Array(maxAddressBytes)),
    )
    expect(most.length).toBeLessThan(protocols.query.maxAnswerBytes)
  })

  it('coordination address: the vector of test/vectors/coordination-address.json', () => {
    const path = new URL('../../vectors/coordination-address.json', import.meta.url)
    expect(addressVectors()).toEqual(JSON.parse(readFileSync(path, 'utf8')))
  })
})

describe('coordination address: a search', () => {
  it('finds what the chain confirms, and nothing else', async () => {
    const { chain, source, client } = await setUp()
    const stranger = keysOf('stranger')
    source.addresses = [
      Uint8Array.of(1, 2, 3),
      signedBy(chain, keysOf('sensor')),
      signedBy(chain, stranger),
      signedBy(chain, chain.coordination, { expiry: chain.time }),
      signedBy(chain, chain.coordination),
    ]
    expect(await findCoordinationNodes(client)).toEqual([{ id: chain.coordination.id, api, addresses }])
  })

  it('goes on to the next full node when one knows none, fails or lies', async () => {
    const { chain } = await setUp()
    const [silent, empty, lying, honest] = ['silent', 'empty', 'lying', 'honest'].map(name =>
      chain.source(name),
    )
    silent!.failure = new MoteError('unreachable', 'down')
    lying!.addresses = [signedBy(chain, keysOf('sensor'))]
    honest!.addresses = [signedBy(chain, chain.coordination)]
    const sources = [silent!, empty!, lying!, honest!]
    const client = await ChainClient.open({ sources, checkpoint: chain.checkpoint })
    await client.follower.sync()
    expect(await findCoordinationNodes(client)).toHaveLength(1)
  })

  it('is empty when nobody knows any', async () => {
    const { client } = await setUp()
    expect(await findCoordinationNodes(client)).toEqual([])
  })
})

describe('coordination addresses of a full node', () => {
  function fullNode(chain: Chain, record: IdentityRecord | undefined, count = 1) {
    const connected = new Set([chain.coordination.id])
    let known = record
    let time = chain.time
    const kept = new CoordinationAddresses({
      chainId: chain.chainId,
      verifier: nativeVerifier,
      network: { peers: () => [...connected].map(id => ({ id, state: 'connected', address: undefined })) },
      view: () => ({
        time,
        record: id => known && { ...known, id, keys: count === 1 ? known.keys : keysAt(id) },
      }),
    })
    const many = new Map(
      Array.from({ length: count === 1 ? 0 : count }, (_, i) => keysOf(`many-${i}`)).map(keys => [
        keys.id,
        keys,
      ]),
    )
    const keysAt = (id: IdentityKeys['id']) => {
      const keys = many.get(id)!
      return [{ ...record!.keys[0]!, purpose: 'sign' as const, key: keys.signing.publicKey }]
    }
    const take = (signed: Uint8Array, deviceId: IdentityKeys['id'] = chain.coordination.id) => {
      try {
        kept.take(deviceId, signed)
        return 'taken'
      } catch (error) {
        return (error as MoteError).code
      }
    }
    return {
      kept,
      take,
      connected,
      change: (change: Partial<IdentityRecord>) => (known = { ...record!, ...change }),
      pass: (ms: number) => (time = Milliseconds(time + ms)),
    }
  }

  it('takes the word of a proven coordination node about itself alone', async () => {
    const { chain, record } = await setUp()
    const { kept, take } = fullNode(chain, record)
    const good = signedBy(chain, chain.coordination)
    expect(take(good, keysOf('sensor').id)).toBe('not-authorised')
    expect(take(signedBy(chain, keysOf('sensor')), keysOf('sensor').id)).toBe('key-not-valid')
    expect(take(Uint8Array.of(1))).toBe('malformed')
    expect(kept.current()).toEqual([])
    expect(take(good)).toBe('taken')
    expect(kept.current()).toEqual([good])
    const newer = signedBy(chain, chain.coordination, { api: 'http://192.0.2.8:4100' })
    expect(take(newer)).toBe('taken')
    expect(kept.current(), 'one for each').toEqual([newer])
  })

  it('gives out what holds now: connected, active, not expired', async () => {
    const { chain, record } = await setUp()
    const { kept, take, connected, change, pass } = fullNode(chain, record)
    take(signedBy(chain, chain.coordination))
    expect(kept.ids()).toEqual([chain.coordination.id])
    connected.delete(chain.coordination.id)
    expect(kept.current()).toEqual([])
    connected.add(chain.coordination.id)
    change({ status: 'revoked' })
    expect(kept.current()).toEqual([])
    change({})
    expect(kept.current()).toHaveLength(1)
    pass(addressLifetimeMs)
    expect(kept.current()).toEqual([])
  })

  it('keeps as many as it may, and refuses one more while all of them hold', async () => {
    const { chain, record } = await setUp()
    const count = maxCoordinationAddresses + 1
    const { kept, take, connected } = fullNode(chain, record, count)
    const many = Array.from({ length: count }, (_, i) => keysOf(`many-${i}`))
    for (const { id } of many) connected.add(id)
    for (const keys of many.slice(0, -1)) expect(take(signedBy(chain, keys), keys.id)).toBe('taken')
    const last = many.at(-1)!
    expect(take(signedBy(chain, last), last.id)).toBe('overloaded')
    connected.delete(many[0]!.id)
    expect(take(signedBy(chain, last), last.id)).toBe('taken')
    expect(kept.current()).toHaveLength(maxCoordinationAddresses)
  })
})
