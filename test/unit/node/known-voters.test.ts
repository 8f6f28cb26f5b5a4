import { describe, expect, test } from 'vitest'
import type { DeviceId } from '../../../chain/brands.ts'
import { encode } from '../../../chain/codec.ts'
import { type CertifiedHeader, certifiedHeaderCodec } from '../../../chain/light-client.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import { maxTermLead } from '../../../consensus/message-check.ts'
import { queryHandler } from '../../../node/network/requests.ts'
import { KnownVoters } from '../../../node/replica/known-voters.ts'
import { keysOf, TestChain } from '../../support/test-chain.ts'
import { untilPasses } from '../../support/until-passes.ts'

function asking(answer: (chain: TestChain) => CertifiedHeader) {
  const chain = new TestChain()
  const { ledger: behind } = chain
  chain.append()
  const certified: number[] = []
  const log: string[] = []
  let asked = 0
  const settled = Promise.withResolvers<void>()
  const voters = new KnownVoters({
    chain: { certified: behind, ledger: behind },
    members: { inForce: { voters: [], votersOutgoing: [], learners: [] } },
    network: {
      request: async () => {
        asked += 1
        setImmediate(settled.resolve)
        return encode(certifiedHeaderCodec, answer(chain))
      },
    },
    clock: { steady: () => 0 },
    verifier: nativeVerifier,
    replica: { leadership: { role: 'follower', term: 100, leader: undefined } },
    events: { termCertified: term => certified.push(term), votersKnown: () => {} },
    log: detail => log.push(JSON.stringify(detail)),
  })
  const peer = chain.fullNodes[0]!.id
  const meets = (term: number) => voters.meets(peer, { type: 'heard', from: peer, term, readContext: 0 })
  return { chain, meets, certified, log, asked: () => asked, settled: settled.promise }
}

test('newer terms: who sends a term far ahead is asked for a certified header, and its term counts', async () => {
  const { chain, meets, certified, asked, settled } = asking(chain => chain.served(chain.height))
  meets(100 + maxTermLead)
  expect(asked()).toBe(0)
  meets(101 + maxTermLead)
  meets(102 + maxTermLead)
  await settled
  expect(asked()).toBe(1)
  expect(certified).toEqual([chain.ledger.header.term])
})

test('newer terms: a header that no quorum has signed does not count', async () => {
  const { meets, certified, log, settled } = asking(chain => {
    const { certificate, ...served } = chain.served(chain.height)
    return {
      ...served,
      certificate: certificate && { ...certificate, signatures: certificate.signatures.slice(0, 1) },
    }
  })
  meets(101 + maxTermLead)
  await settled
  expect(certified).toEqual([])
  expect(log.join()).toContain('bad-certificate')
})

describe('known voters: a peer that asks and is no known voter', () => {
  const chain = new TestChain({ spares: ['full-4', 'full-5'], devices: ['sensor'] })
  const genesis = chain.ledger
  chain.append()
  const handover = chain.changeConsenters([chain.fullNodes[0]!, ...chain.spares])
  chain.append()
  const fresh = chain.spares[0]!.id
  const caller = { deviceId: fresh, isProven: true, remoteAddress: 'memory', charge: () => {} }

  /** A node that knows the genesis only; a peer asks it for its vote. */
  async function asks(from: DeviceId, bend = (answer: Uint8Array) => answer) {
    const handle = queryHandler(chain.source('full-4'), () => [chain.served(handover)])
    const told: (readonly DeviceId[])[] = []
    const log: string[] = []
    const voters = new KnownVoters({
      chain: { certified: genesis, ledger: genesis },
      members: { inForce: { voters: [], votersOutgoing: [], learners: [] } },
      network: { request: async (_to, { body }) => bend(await handle(caller, body)) },
      clock: { steady: () => 0 },
      verifier: nativeVerifier,
      replica: { leadership: { role: 'follower', term: 1, leader: undefined } },
      events: { termCertified: () => {}, votersKnown: ids => told.push(ids) },
      log: detail => log.push(JSON.stringify(detail)),
    })
    voters.begin()
    voters.meets(from, { type: 'timeout-now', from, term: 2 })
    await untilPasses(() => expect(told.length + log.length).toBeGreaterThan(1))
    return { told: told.slice(1), log: log.join() }
  }

  test('proves that it is a full node and who votes now: the new consenters beside those of the own state', async () => {
    const { told } = await asks(fresh)
    const expected = [...chain.fullNodes, ...chain.spares].map(({ id }) => id)
    expect(new Set(told[0])).toEqual(new Set(expected))
  })

  test('a device proves itself, and is no full node', async () => {
    const { told, log } = await asks(keysOf('sensor').id)
    expect(told).toEqual([])
    expect(log).toContain('expected an active full node, got active lightweight')
  })

  test('a proof with one bit changed shows nothing', async () => {
    const { told, log } = await asks(fresh, answer => answer.with(answer.length - 40, answer.at(-40)! ^ 1))
    expect(told).toEqual([])
    expect(log).not.toBe('')
  })
})
