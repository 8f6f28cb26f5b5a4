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
    chain: { certified: behind },
    network: {
      request: async () => {
        asked += 1
        return encode(certifiedHeaderCodec, answer(chain))
      },
    },
    clock: {
      after: () => {
        settled.resolve()
        return () => {}
      },
    },
    verifier: nativeVerifier,
    replica: { leadership: { role: 'follower', term: 100, leader: undefined } },
    events: { termCertified: term => certified.push(term) },
    log: detail => log.push(JSON.stringify(detail)),
  })
  const peer = chain.fullNodes[0]!.id
  return { chain, terms, peer, certified, log, asked: () => asked, settled: settled.promise }
}

test('newer terms: who sends a term far ahead is asked for a certified header, and its term counts', async () => {
  const { chain, terms, peer, certified, asked, settled } = asking(chain => chain.served(chain.height))
  terms.meets(peer, 100 + maxTermLead)
  expect(asked()).toBe(0)
  terms.meets(peer, 101 + maxTermLead)
  terms.meets(peer, 102 + maxTermLead)
  await settled
  expect(asked()).toBe(1)
  expect(certified).toEqual([chain.ledger.header.term])
})

test('newer terms: a header that no quorum has signed does not count', async () => {
  const { terms, peer, certified, log, settled } = asking(chain => {
    const { certificate, ...served } = chain.served(chain.height)
    return {
      ...served,
      certificate: certificate && { ...certificate, signatures: certificate.signatures.slice(0, 1) },
    }
  })
  terms.meets(peer, 101 + maxTermLead)
  await settled
  expect(certified).toEqual([])
  expect(log.join()).toContain('bad-certificate')
})
