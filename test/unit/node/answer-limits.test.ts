/** Answers are bounded by their own limit, not by that of requests, and the largest one that a chain can need fits. */

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, it } from 'vitest'
import type { ConsenterSignature } from '../../../chain/certificate.ts'
import { decode, encode } from '../../../chain/codec.ts'
import { maxConsenters } from '../../../chain/consenters.ts'
import {
  type CertifiedHeader,
  certifiedHeaderCodec,
  maxChangesPerBlock,
} from '../../../chain/light-client.ts'
import { unwrap } from '../../../chain/result.ts'
import { encodeHeaderPage, headerListCodec, maxHeaderPageBytes } from '../../../client/chain-source.ts'
import { FailoverSource } from '../../../client/failover-source.ts'
import { httpSource } from '../../../client/http-source.ts'
import { protocols } from '../../../node/network/protocols.ts'
import { libp2pSource, queryHandler } from '../../../node/network/requests.ts'
import { decodeAnswerFrame, encodeAnswerFrame } from '../../../node/network/wire.ts'
import type { Network, OutgoingRequest } from '../../../node/ports.ts'
import { LongChain, strangeKeys } from '../../support/long-chain.ts'
import { keysOf, TestChain } from '../../support/test-chain.ts'

const chain = new TestChain()
const largest = 2 ** 53 - 1

/** A handover header with the largest numbers, sets, certificates and list of changes. */
function largestHeader(): CertifiedHeader {
  const { header } = chain.at(0).ledger
  const signature: Uint8Array = new Uint8Array(64).fill(7)
  const signatures: ConsenterSignature[] = Array.from({ length: maxConsenters }, (_, signer) => ({
    signer,
    signature,
  }))
  const height = largest as typeof header.height
  const certificate = { height, headerHash: header.stateRoot, signatures }
  const consenters = Array.from({ length: maxConsenters }, (_, i) => {
    const { id, signing } = keysOf(`consenter-${i}`)
    return { id, key: signing.publicKey }
  })
  const numbers = { height, incarnation: largest, term: largest, time: largest, executionVersion: largest }
  return {
    header: { ...header, ...(numbers as Partial<typeof header>) },
    certificate,
    handover: { consenters: { consenters, policy: 'majority' }, certificate },
    changes: strangeKeys(maxChangesPerBlock),
  }
}

describe('answers', () => {
  it('answers: the largest header that a chain can have fits one, over libp2p and over HTTP', () => {
    const header = largestHeader()
    const bytes = encode(certifiedHeaderCodec, header)
    expect(bytes.length).toBeGreaterThan(2_228_000)
    expect(bytes.length).toBeLessThan(2.2 * 1024 * 1024)
    expect(bytes.length).toBeLessThan(protocols.query.maxAnswerBytes)
    const page = encodeHeaderPage([header, header])
    expect(page.length).toBeLessThan(protocols.query.maxAnswerBytes)
    expect(unwrap(decode(headerListCodec, page))).toEqual([header])
  })

  it('answers: a page of headers ends where the next one would be too much', async () => {
    const long = new LongChain(chain)
    long.grow(60, strangeKeys(1_000))
    const headers = await long.service.headersFrom(long.height, 1)
    expect(headers).toHaveLength(1)
    const first = await long.service.headersFrom((long.height - 59) as typeof long.height, 512)
    const page = encodeHeaderPage(first)
    expect(page.length).toBeGreaterThan(maxHeaderPageBytes - 40_000)
    expect(page.length).toBeLessThanOrEqual(maxHeaderPageBytes + 3)
    const sent = unwrap(decode(headerListCodec, page))
    expect(sent).toEqual(first.slice(0, sent.length))
    // What cannot be sent is hardly read.
    expect(first.length).toBeLessThan(sent.length + 16)
    expect(encodeHeaderPage([])).toEqual(encode(headerListCodec, []))
    long.grow(512, [])
    const empty = await long.service.headersFrom((long.height - 511) as typeof long.height, 512)
    expect(unwrap(decode(headerListCodec, encodeHeaderPage(empty)))).toHaveLength(512)
  })

  it('answers: a body of the limit arrives, and one byte more is the refusal too-large', () => {
    const atLimit = new Uint8Array(protocols.query.maxAnswerBytes)
    const frame = encodeAnswerFrame('query', { type: 'body', body: atLimit })
    const answer = unwrap(decodeAnswerFrame('query', frame))
    expect(answer.type === 'body' && answer.body.length).toBe(atLimit.length)
    const over = encodeAnswerFrame('query', { type: 'body', body: new Uint8Array(atLimit.length + 1) })
    expect(unwrap(decodeAnswerFrame('query', over))).toMatchObject({ type: 'refusal', code: 'too-large' })
  })

  it('answers: one that is far larger than any request is read; one over the limit is too-large, not a lie', async () => {
    const long = new LongChain(chain)
    long.grow(2, strangeKeys(2_000))
    const handler = queryHandler(long.service, () => [])
    const { id } = keysOf('full-1')
    let answerOf = (body: Uint8Array) =>
      handler({ deviceId: id, isProven: true, remoteAddress: '', charge: () => {} }, body)
    const network = {
      peers: () => [{ id, state: 'connected', address: undefined }],
      request: (_: unknown, { body }: OutgoingRequest) => answerOf(body),
    } as unknown as Network
    const source = libp2pSource(network, id)
    expect((await source.certifiedHeader('latest')).changes).toHaveLength(2_000)
    answerOf = async () => new Uint8Array(protocols.query.maxAnswerBytes + 1)
    await expect(source.certifiedHeader('latest')).rejects.toMatchObject({ code: 'too-large' })
    answerOf = async () => new Uint8Array(1_000)
    await expect(source.certifiedHeader('latest')).rejects.toMatchObject({ code: 'bad-proof' })
  })

  it('answers: over HTTP too, one over the limit is too-large, the next source is asked, and nobody is shunned', async () => {
    const flood = createServer((_request, response) => response.end(Buffer.alloc(9 * 1024 * 1024)))
    await new Promise<void>(resolve => flood.listen(0, '127.0.0.1', resolve))
    const source = httpSource(`http://127.0.0.1:${(flood.address() as AddressInfo).port}`)
    const pool = new FailoverSource([source, chain.source('honest')])
    await expect(source.certifiedHeader('latest')).rejects.toMatchObject({ code: 'too-large' })
    const { header } = await pool.attempt(each => each.certifiedHeader('latest'))
    expect(header.height).toBe(chain.height)
    expect(pool.isDistrusted(source)).toBe(false)
    flood.closeAllConnections()
    flood.close()
  })
})
