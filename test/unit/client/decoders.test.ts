/** Hostile bytes at the decoders that clients and coordination nodes face. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Codec, decode, encode } from '../../../chain/codec.ts'
import { certifiedHeaderCodec, stateAnswerCodec } from '../../../chain/light-client.ts'
import { groupIdOf, stateKeyOf } from '../../../chain/records.ts'
import { groupAnswerCodec, headerListCodec } from '../../../client/chain-source.ts'
import { httpSource } from '../../../client/http-source.ts'
import { httpContact } from '../../../client/join.ts'
import { assignmentCodec, joinReplyCodec, joinRequestCodec } from '../../../client/join-messages.ts'
import { lyingProxy } from '../../support/lying-proxy.ts'
import { keysOf, TestChain } from '../../support/test-chain.ts'

const chain = new TestChain({ devices: ['sensor'] })
const sensor = keysOf('sensor')
chain.perform(sensor, { type: 'group.create', name: 'g', epochKeyHash: undefined })
const group = groupIdOf(sensor.id, 'g')
const node = { id: sensor.id, api: 'http://127.0.0.1:4100', addresses: ['/ip4/127.0.0.1/tcp/4101'] }
const assignment = { fullNode: node, backups: [node, node] }

/** A codec, and honest bytes of it. */
function sample<T>(name: string, codec: Codec<T>, value: T): readonly [string, Codec<unknown>, Uint8Array] {
  return [name, codec as Codec<unknown>, encode(codec, value)]
}

const samples = [
  sample('certified header', certifiedHeaderCodec, chain.served(1)),
  sample('header list', headerListCodec, [chain.served(0), chain.served(1)]),
  sample('state answer', stateAnswerCodec, chain.answer(stateKeyOf.identity(sensor.id), 1)),
  sample('group answer', groupAnswerCodec, chain.groupAnswer(group, 1)),
  sample('assignment', assignmentCodec, assignment),
  sample('join request', joinRequestCodec, { type: 'register', transaction: new Uint8Array(80) }),
  sample('join reply', joinReplyCodec, { type: 'registered', height: chain.height, assignment }),
]

describe('decoders', () => {
  it.each(samples)(
    'decoders: %s: hostile bytes give a refusal or a canonical value, never a throw',
    (_name, codec, honest) => {
      const judge = (bytes: Uint8Array) => {
        const decoded = decode(codec, bytes)
        if (decoded.ok) expect(encode(codec, decoded.value)).toEqual(Uint8Array.from(bytes))
        else expect(decoded.error.code).toMatch(/^(malformed|too-large)$/)
      }
      expect(decode(codec, honest).ok).toBe(true)
      fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), judge), { numRuns: 300 })
      const edit = fc.record({ at: fc.nat(honest.length - 1), value: fc.integer({ min: 0, max: 255 }) })
      fc.assert(
        fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), edits => {
          const bytes = Uint8Array.from(honest)
          for (const { at, value } of edits) bytes[at] = value
          judge(bytes)
        }),
        { numRuns: 300 },
      )
      fc.assert(
        fc.property(fc.nat(honest.length - 1), length => judge(honest.subarray(0, length))),
        { numRuns: 50 },
      )
    },
  )

  it('http source: any answer of a node gives a value or a MoteError', async () => {
    await using proxy = await lyingProxy('http://127.0.0.1:9')
    // Nothing listens there: the proxy drops every connection.
    await expect(httpSource(proxy.url).status()).rejects.toMatchObject({ code: 'unreachable' })
    const source = httpSource('data:application/json,{"name":1}#')
    await expect(source.status()).rejects.toMatchObject({ name: 'MoteError' })
    await expect(source.certifiedHeader('latest')).rejects.toMatchObject({ code: 'bad-proof' })
    await expect(source.deviceTransactions(sensor.id)).rejects.toMatchObject({ name: 'MoteError' })
    await expect(source.submit(new Uint8Array(3), 'none')).rejects.toMatchObject({ name: 'MoteError' })
    const contact = httpContact('http://127.0.0.1:9')
    await expect(contact.exchange(new Uint8Array(1))).rejects.toMatchObject({ code: 'unreachable' })
  })
})
