/** Messages of plain clients: test/vectors/plain.json, and what vectors do not show (docs/FORMATS.md, "Messages of plain clients"). */
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { ChainId, DeviceId } from '../../../chain/brands.ts'
import { maxTransactionBytes } from '../../../chain/limits.ts'
import type { Qos } from '../../../chain/record-bodies.ts'
import { unwrap } from '../../../chain/result.ts'
import { jsonMembers, nameTwice } from '../../../client/json-members.ts'
import { makeKeys } from '../../../client/key-directory.ts'
import { signedBody } from '../../../client/submission.ts'
import { maxPlainMessageBytes, parsePlainMessage } from '../../../mqtt-gateway/protocol/plain-message.ts'
import { bodyHex, plainVectors } from '../../vectors/make-plain.ts'

const vectors: ReturnType<typeof plainVectors> = JSON.parse(
  readFileSync(new URL('../../vectors/plain.json', import.meta.url), 'utf8'),
)
const device = vectors.device as DeviceId
const qos = vectors.qos as Qos
const parse = (payload: Uint8Array, topic = vectors.topic) =>
  parsePlainMessage({ device, topic, payload, qos })
const parseText = (text: string, topic?: string) => parse(new TextEncoder().encode(text), topic)
const hex = (text: string) => Uint8Array.from(Buffer.from(text, 'hex'))

test('vectors: the program makes test/vectors/plain.json', () => {
  expect(plainVectors()).toEqual(vectors)
})

test.each(vectors.accepted)('vectors: $what', ({ message, type, fields }) => {
  const { body } = unwrap(parse(hex(message)))
  expect({ type: body.type, fields: bodyHex(body) }).toEqual({ type, fields })
})

test.each(vectors.refused)('vectors: refused: $why', ({ message }) => {
  expect(parse(hex(message))).toMatchObject({ ok: false, error: { code: 'malformed' } })
})

test('plain message: the record has the bytes of the payload as they stood, white space, escapes and all', () => {
  const payload = '{ "t" : 1e0,\t"name":"\\u00fc ü" }'
  expect(unwrap(parseText(`{"Payload": ${payload} ,"MessageId":"7"}`))).toMatchObject({
    body: {
      type: 'record.one',
      qos,
      record: {
        source: device,
        topic: vectors.topic,
        payload: new TextEncoder().encode(payload),
        values: [
          { name: 'name', value: 'ü ü' },
          { name: 't', value: 1 },
        ],
        messageId: '7',
      },
    },
    messageId: '7',
  })
})

test('plain message: a topic that no record can have is no topic of a record, and hinders no call', () => {
  const long = 'x'.repeat(129)
  expect(parseText('{"Payload":1}', long)).toMatchObject({ error: { code: 'malformed' } })
  expect(parseText('{"Payload":1,"Topic":"hall"}', long)).toMatchObject({ ok: true })
  expect(parseText(`{"MessageContent":{"Address":"${'22'.repeat(32)}"}}`, long)).toMatchObject({ ok: true })
})

test('plain message: at most 8 KiB, and no record that a transaction has no room for', () => {
  const wrap = (length: number) => `{"Payload":"${'x'.repeat(length - '{"Payload":""}'.length)}"}`
  expect(parseText(wrap(maxPlainMessageBytes))).toMatchObject({ ok: true })
  expect(parseText(wrap(maxPlainMessageBytes + 1))).toMatchObject({ error: { code: 'too-large' } })
  const wide = (count: number, length: number) =>
    JSON.stringify({
      Payload: Object.fromEntries(Array.from({ length: count }, (_, i) => [`name${i}`, 'x'.repeat(length)])),
    })
  // 64 texts, twice: as they stand and as values.
  expect(parseText(wide(64, 115))).toMatchObject({ error: { code: 'too-large' } })
  const { body } = unwrap(parseText(wide(64, 111)))
  const keys = makeKeys('gateway')
  const signed = signedBody({ chainId: '00'.repeat(32) as ChainId, body, keys, time: 0 as never })
  expect(signed.length).toBeGreaterThan(maxTransactionBytes - 1_000)
})

test('plain message: 64 values and no more where they are named; depth is no danger', () => {
  const values = (count: number) =>
    JSON.stringify({
      Payload: 1,
      MessageContent: { Values: Object.fromEntries(Array.from({ length: count }, (_, i) => [`v${i}`, i])) },
    })
  expect(parseText(values(64))).toMatchObject({ ok: true })
  expect(parseText(values(65))).toMatchObject({ error: { code: 'malformed' } })
  const deep = 4_000
  expect(parseText(`{"Payload":${'['.repeat(deep)}${']'.repeat(deep)}}`)).toMatchObject({ ok: true })
})

test('plain message: a refusal shows nothing of what a stranger wrote but printable characters', () => {
  const refusal = parseText('{"\\u001b[2J\\nPayload":1}')
  expect(refusal).toMatchObject({ error: { detail: expect.stringContaining("'?[2J?Payload'") } })
})

test('json members: a name that stands twice in one object is found, however deep, and however it is written', () => {
  const once = '{"a":{"b":[{"a":1},{"a":"b"},"a","a"]},"b":"{\\"x\\":1,\\"x\\":2}","c":[[],{}]}'
  for (const text of [once, '[]', '"a"', '1', '{}']) expect(nameTwice(text), text).toBeUndefined()
  expect(nameTwice('{"a":1,"b":2,"a":3}')).toBe('a')
  expect(nameTwice('[1,{"b":{"x":[],"c":{"x":1},"\\u0078":2}}]')).toBe('x')
  expect(nameTwice(`${'['.repeat(100_000)}{"a":1,"a":2}${']'.repeat(100_000)}`)).toBe('a')
})

test('json members: what JSON.parse takes out of an object, each with its own text', () => {
  const space = fc.constantFrom('', ' ', '\n\t', '\r  ')
  fc.assert(
    fc.property(fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue()), space, (object, gap) => {
      const own = Object.entries(object)
      const text = `${gap}{${own
        .map(
          ([name, value]) =>
            `${gap}${JSON.stringify(name)}${gap}:${gap}${JSON.stringify(value, undefined, gap)}${gap}`,
        )
        .join(',')}}${gap}`
      const members = jsonMembers(text)
      expect(members.map(({ name }) => name)).toEqual(own.map(([name]) => name))
      for (const [i, { text: value }] of members.entries()) {
        expect(value).toBe(value.trim())
        expect(JSON.parse(value)).toEqual(JSON.parse(JSON.stringify(own[i]?.[1])))
      }
    }),
  )
})
