import { expect, test } from 'vitest'
import { encode } from '../../../chain/codec.ts'
import { type CertifiedHeader, certifiedHeaderCodec } from '../../../chain/light-client.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import { maxTermLead } from '../../../consensus/message-check.ts'
import { KnownVoters } from '../../../node/replica/known-voters.ts'
import { TestChain } from '../../support/test-chain.ts'

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
