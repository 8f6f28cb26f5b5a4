/**
 * Makes test/vectors/plain.json: messages of plain clients and what each is on the chain, and messages that must be refused, for
 * implementations in other languages. `node test/vectors/make-plain.ts` writes the file.
 */
import { writeFileSync } from 'node:fs'
import { bytesToHex } from '@noble/hashes/utils.js'
import type { DeviceId } from '../../chain/brands.ts'
import { encode } from '../../chain/codec.ts'
import type { AttestedBody } from '../../chain/record-bodies.ts'
import { recordBodies } from '../../chain/record-bodies.ts'
import { unwrap } from '../../chain/result.ts'
import { parsePlainMessage } from '../../mqtt-gateway/protocol/plain-message.ts'

const device = '11'.repeat(32) as DeviceId
const contract = '22'.repeat(32)
const topic = 'forest/north'
const qos = 2

const fire = { Address: contract, Publish_Topic: 'fire/north' }
const accepted: Readonly<Record<string, string>> = {
  'a registry message': '{"Payload":{"CS":500,"P":20}}',
  'a registry message with all that it may say of itself':
    '{"Payload":{"t":21.5,"on":true,"unit":"C","n":null,"list":[1]},"Topic":"hall","Timestamp":1700000000000,"MessageId":"7"}',
  'white space in a payload is part of it': '{ "Payload" : [ 1 , 2 ] , "Topic" : "hall" }',
  'a payload that is no object has no values': '{"Payload":"{\\"CS\\":500}"}',
  'a payload of null': '{"Payload":null}',
  'no address that is one': '{"Payload":1,"MessageContent":{"Address":"fire"}}',
  'empty content': '{"Payload":1,"MessageContent":""}',
  'empty content, an object': '{"Payload":1,"MessageContent":{}}',
  "values instead of the payload's": '{"Payload":{"CS":1},"MessageContent":{"Values":{"CS":2,"A":"x"}}}',
  'an address alone': `{"Payload":{"CS":500},"MessageContent":{"Address":"${contract}"}}`,
  'an address, and where to publish': `{"Payload":{"CS":500},"MessageContent":${JSON.stringify(fire)}}`,
  'content as a text': JSON.stringify({ Payload: { CS: 500 }, MessageContent: JSON.stringify(fire) }),
  'a call without a record': `{"MessageContent":${JSON.stringify({ ...fire, Values: { CS: 500 } })}}`,
  'a name twice where names mean nothing': '{"Payload":{"deep":{"a":1,"a":2}}}',
}

const refused: Readonly<Record<string, string>> = {
  'no JSON': 'CS=500',
  'a list': '[{"Payload":1}]',
  'nothing to record and nobody to call': '{}',
  'a topic alone': '{"Topic":"hall"}',
  'a topic and empty content': '{"Topic":"hall","MessageContent":""}',
  'content without an address, and no payload': '{"MessageContent":{"Values":{"CS":1}}}',
  'a name that nobody knows': '{"Payload":1,"payload":2}',
  'a name twice': '{"Payload":1,"Payload":2}',
  'a name twice, once escaped': '{"Payload":1,"Pay\\u006coad":2}',
  'a name twice in the content': `{"Payload":1,"MessageContent":{"Address":"${contract}","Address":"${contract}"}}`,
  'a name twice in content that is a text':
    '{"Payload":1,"MessageContent":"{\\"Values\\":{},\\"Values\\":{}}"}',
  'a name twice among the values': '{"Payload":1,"MessageContent":{"Values":{"a":1,"a":2}}}',
  'a name twice in the payload': '{"Payload":{"a":1,"a":2}}',
  'a name in the content that nobody knows': '{"Payload":1,"MessageContent":{"address":"x"}}',
  'content that is a number': '{"Payload":1,"MessageContent":7}',
  'content that is a text and no JSON': '{"Payload":1,"MessageContent":"fire"}',
  'values with a list': '{"Payload":1,"MessageContent":{"Values":{"a":[1]}}}',
  'values with a null': '{"Payload":1,"MessageContent":{"Values":{"a":null}}}',
  'values with a number that is none': '{"Payload":1,"MessageContent":{"Values":{"a":1e999}}}',
  'values with a name that no contract has': '{"Payload":1,"MessageContent":{"Values":{"_a":1}}}',
  'values that are a list': '{"Payload":1,"MessageContent":{"Values":[1]}}',
  'a topic with a wildcard': '{"Payload":1,"Topic":"hall/#"}',
  'a topic that is empty': '{"Payload":1,"Topic":""}',
  'a topic that is no text': '{"Payload":1,"Topic":7}',
  'a topic to publish on with a wildcard': '{"Payload":1,"MessageContent":{"Publish_Topic":"+"}}',
  'a time before 1970': '{"Payload":1,"Timestamp":-1}',
  'a time that is no integer': '{"Payload":1,"Timestamp":1.5}',
  'a time as a text': '{"Payload":1,"Timestamp":"1700000000000"}',
  'a message id that is empty': '{"Payload":1,"MessageId":""}',
  'a message id of more than 64 characters': `{"Payload":1,"MessageId":"${'x'.repeat(65)}"}`,
  'a byte order mark': '\ufeff{"Payload":1}',
}

/** Bytes that are no text. */
const refusedBytes = {
  'a byte that is no UTF-8': Uint8Array.of(...Buffer.from('{"Payload":"'), 0xff, 0x22, 0x7d),
}

export function bodyHex(body: AttestedBody): string {
  return bytesToHex(
    body.type === 'record.one'
      ? encode(recordBodies['record.one'][1], body)
      : encode(recordBodies['contract.action'][1], body),
  )
}

function vectorOf([what, message]: readonly [string, string]) {
  const bytes = new TextEncoder().encode(message)
  const { body } = unwrap(parsePlainMessage({ device, topic, payload: bytes, qos }))
  return { what, message: bytesToHex(bytes), type: body.type, fields: bodyHex(body) }
}

export function plainVectors() {
  const bytes = Object.entries(refused).map(([why, text]) => [why, new TextEncoder().encode(text)] as const)
  return {
    about:
      'Messages of plain clients in hexadecimal, which came by this QoS, the kind of transaction that each is, and the encoding of its fields; and messages that are refused as malformed.',
    device,
    topic,
    qos,
    accepted: Object.entries(accepted).map(vectorOf),
    refused: [...bytes, ...Object.entries(refusedBytes)].map(([why, message]) => ({
      why,
      message: bytesToHex(message),
    })),
  }
}

if (import.meta.main)
  writeFileSync(new URL('plain.json', import.meta.url), `${JSON.stringify(plainVectors(), undefined, 2)}\n`)
