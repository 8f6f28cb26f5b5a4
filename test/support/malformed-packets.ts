/**
 * Packets of a client that break a rule of MQTT 3.1.1, and packets that are near to one and do not: each as bytes in
 * hexadecimal, with the statement of the standard. Whoever sends one of the former is cut off [MQTT-4.8.0-1].
 */
export interface SamplePacket {
  readonly statement: string
  readonly what: string
  readonly bytes: Uint8Array
  /** It is the first one of its connection. */
  readonly isFirst: boolean
}

type Row = readonly [statement: string, what: string, hex: string]

const hexOf = (text: string): string => Buffer.from(text).toString('hex')
const textOf = (hex: string): string => (hex.length / 2).toString(16).padStart(4, '0') + hex

/** A packet whose remaining length is below 128. */
function packet(first: string, ...body: string[]): string {
  const hex = body.join('')
  return first + (hex.length / 2).toString(16).padStart(2, '0') + hex
}

const t = textOf(hexOf('topic'))
const connect = (flags: string, ...payload: string[]): string =>
  packet('10', textOf(hexOf('MQTT')), '04', flags, '000a', ...payload)

/** Strings that are none (section 1.5.3), at the end of `to`. */
const badTexts: readonly Row[] = [
  ['MQTT-1.5.3-1', 'a surrogate', textOf('746feda080')],
  ['MQTT-1.5.3-1', 'a low surrogate', textOf('746fedbfbf')],
  ['MQTT-1.5.3-1', 'an overlong form', textOf('746fc0af')],
  ['MQTT-1.5.3-1', 'a cut sequence', textOf('746ff09f')],
  ['MQTT-1.5.3-2', 'U+0000', textOf('746f700000')],
  ['section 1.5.3', 'U+0001', textOf('746f700170')],
  ['section 1.5.3', 'U+001F', textOf('746f701f70')],
  ['section 1.5.3', 'U+007F', textOf('746f707f70')],
  ['section 1.5.3', 'U+009F', textOf('746fc29f70')],
]

const withBadTexts = (what: string, packetOf: (text: string) => string): readonly Row[] =>
  badTexts.map(([statement, bad, text]) => [statement, `${bad} in a ${what}`, packetOf(text)])

const rows: readonly Row[] = [
  ['MQTT-2.2.2-2', 'PUBACK with a flag', '41020001'],
  ['MQTT-2.2.2-2', 'PUBREL without its flag', '60020001'],
  ['MQTT-2.2.2-2', 'SUBSCRIBE without its flag', packet('80', '0001', t, '00')],
  ['MQTT-2.2.2-2', 'UNSUBSCRIBE without its flag', packet('a0', '0001', t)],
  ['MQTT-2.2.2-2', 'PINGREQ with a flag', 'c100'],
  ['MQTT-2.2.2-2', 'DISCONNECT with a flag', 'e800'],
  ['section 2.2.1', 'the reserved type 0', '0000'],
  ['section 2.2.1', 'the reserved type 15', 'f000'],
  ['section 2.2.1', 'CONNACK, which a server sends', '20020000'],
  ['section 2.2.1', 'SUBACK, which a server sends', '9003000100'],
  ['section 2.2.1', 'UNSUBACK, which a server sends', 'b0020001'],
  ['section 2.2.1', 'PINGRESP, which a server sends', 'd000'],
  ['section 2.2.3', 'a length of five bytes', '308080808001'],
  ['section 2.2.3', 'PINGREQ with a body', 'c00100'],
  ['section 2.2.3', 'DISCONNECT with a body', 'e00100'],
  ['section 3.4.1', 'PUBACK with a longer body', '4003000100'],
  ['section 3.4.1', 'PUBACK with a shorter body', '400101'],
  ['section 3.4.1', 'PUBREL with a longer body', '6203000100'],
  ['MQTT-2.3.1-1', 'packet identifier 0 in a PUBLISH at QoS 1', packet('32', t, '0000', '61')],
  ['MQTT-2.3.1-1', 'packet identifier 0 in a PUBLISH at QoS 2', packet('34', t, '0000', '61')],
  ['MQTT-2.3.1-1', 'packet identifier 0 in a PUBACK', '40020000'],
  ['MQTT-2.3.1-1', 'packet identifier 0 in a PUBREL', '62020000'],
  ['MQTT-2.3.1-1', 'packet identifier 0 in a SUBSCRIBE', packet('82', '0000', t, '00')],
  ['MQTT-2.3.1-1', 'packet identifier 0 in an UNSUBSCRIBE', packet('a2', '0000', t)],
  ['section 2.2.3', 'PUBLISH at QoS 1 without a packet identifier', packet('32', t)],
  ['section 2.2.3', 'PUBLISH whose topic is longer than it', packet('30', '0010', '6162')],
  ['MQTT-3.3.1-2', 'DUP at QoS 0', packet('38', t, '61')],
  ['MQTT-3.3.1-4', 'QoS 3', packet('36', t, '0001', '61')],
  ['MQTT-3.3.2-2', 'PUBLISH to +', packet('30', textOf(hexOf('a/+')), '61')],
  ['MQTT-3.3.2-2', 'PUBLISH to #', packet('30', textOf(hexOf('a/#')), '61')],
  ['MQTT-4.7.3-1', 'PUBLISH to no topic', packet('30', '0000', '61')],
  ['MQTT-4.7.3-1', 'SUBSCRIBE to no topic', packet('82', '0001', '0000', '00')],
  ['MQTT-4.7.3-1', 'UNSUBSCRIBE from no topic', packet('a2', '0001', '0000')],
  ['MQTT-4.7.1-2', 'a filter with # before its end', packet('82', '0001', textOf(hexOf('#/a')), '00')],
  ['MQTT-4.7.1-2', 'a filter with # in a level', packet('82', '0001', textOf(hexOf('a#')), '00')],
  ['MQTT-4.7.1-3', 'a filter with + in a level', packet('82', '0001', textOf(hexOf('a+/b')), '00')],
  ['MQTT-4.7.1-3', 'a filter with + before a character', packet('82', '0001', textOf(hexOf('+b')), '00')],
  ['MQTT-3.8.3-3', 'SUBSCRIBE without a filter', packet('82', '0001')],
  ['MQTT-3.8.3-4', 'SUBSCRIBE at QoS 3', packet('82', '0001', t, '03')],
  ['MQTT-3.8.3-4', 'SUBSCRIBE with a reserved bit', packet('82', '0001', t, '40')],
  ['section 2.2.3', 'SUBSCRIBE without its last QoS', packet('82', '0001', t)],
  ['section 2.2.3', 'SUBSCRIBE with a byte after its end', packet('82', '0001', t, '0000')],
  ['MQTT-3.10.3-2', 'UNSUBSCRIBE without a filter', packet('a2', '0001')],
  ['section 2.2.3', 'UNSUBSCRIBE with a filter that is cut', packet('a2', '0001', '0001')],
  ...withBadTexts('topic name', text => packet('30', text, '61')),
  ...withBadTexts('topic filter', text => packet('82', '0001', text, '00')),
  ...withBadTexts('topic filter of an UNSUBSCRIBE', text => packet('a2', '0001', text)),
]

/** What answers a PUBLISH at QoS 1 in the words of QoS 2. */
const wrongFlows: readonly Row[] = [
  ['MQTT-4.3.2-2', 'PUBREC, where PUBACK is due', '50020001'],
  ['MQTT-4.3.2-2', 'PUBCOMP, where PUBACK is due', '70020001'],
]

const id = textOf(hexOf('p'))
const firstRows: readonly Row[] = [
  ['MQTT-3.1.0-1', 'PUBLISH', packet('30', t, '61')],
  ['MQTT-3.1.2-1', 'another protocol name', packet('10', textOf(hexOf('MQTU')), '0402000a', id)],
  ['MQTT-3.1.2-3', 'the reserved flag', connect('03', id)],
  ['MQTT-3.1.2-11', 'will QoS without a will', connect('0a', id)],
  ['MQTT-3.1.2-11', 'will retain without a will', connect('22', id)],
  ['MQTT-3.1.2-14', 'will QoS 3', connect('1e', id, id, id)],
  ['MQTT-3.1.2-22', 'a password without a user name', connect('42', id, id)],
  ['section 2.2.3', 'a will flag without a will', connect('06', id)],
  ['section 2.2.3', 'a user name flag without a user name', connect('82', id)],
  ['section 2.2.3', 'a password flag without a password', connect('c2', id, id)],
  ['section 2.2.3', 'no client id', connect('02')],
  ['MQTT-3.1.3-1', 'a user name without its flag', connect('02', id, id)],
  ['MQTT-3.1.3-1', 'a password without its flag', connect('82', id, id, id)],
  ['MQTT-3.3.2-2', 'a will to #', connect('06', id, textOf(hexOf('#')), id)],
  ...withBadTexts('client id', text => connect('02', text)),
  ...withBadTexts('will topic', text => connect('06', id, text, id)),
  ...withBadTexts('user name', text => connect('82', id, text)),
]

const samples = (all: readonly Row[], isFirst: boolean): readonly SamplePacket[] =>
  all.map(([statement, what, hex]) => ({ statement, what, bytes: Buffer.from(hex, 'hex'), isFirst }))

/** Packets that every broker refuses by these statements. */
export const malformedPackets: readonly SamplePacket[] = [
  ...samples(rows, false),
  ...samples(firstRows, true),
]

/** Packets that are wrong where nothing was sent at QoS 2. */
export const wrongAcknowledgements: readonly SamplePacket[] = samples(wrongFlows, false)

/** Packets that are rare or near the edge of a rule, and right. */
export const rightPackets: readonly SamplePacket[] = [
  ...samples(
    [
      ['MQTT-2.3.1-1', 'the highest packet identifier', packet('32', t, 'ffff', '61')],
      ['MQTT-3.3.1-2', 'DUP at QoS 1', packet('3a', t, '0001', '61')],
      ['section 3.3.3', 'PUBLISH without a payload', packet('30', t)],
      ['section 1.5.3', 'U+2A6D4 in a topic name', packet('30', textOf('41f0aa9b94'), '61')],
      ['MQTT-1.5.3-3', 'U+FEFF in a topic name', packet('30', textOf('efbbbf61'), '61')],
      ['MQTT-4.7.1-2', 'SUBSCRIBE to #', packet('82', '0001', textOf(hexOf('#')), '00')],
      [
        'MQTT-4.7.1-3',
        'SUBSCRIBE to levels of + and #',
        packet('82', '0001', textOf(hexOf('+/a/+/#')), '01'),
      ],
      ['MQTT-4.7.1-3', 'SUBSCRIBE to empty levels', packet('82', '0001', textOf(hexOf('/+//')), '01')],
      ['MQTT-3.8.4-4', 'SUBSCRIBE to two topics', packet('82', '0001', t, '00', id, '02')],
      ['MQTT-3.10.4-5', 'UNSUBSCRIBE from what it did not subscribe to', packet('a2', '0001', t, id)],
      ['section 3.4', 'PUBACK that nothing asked for', '40020009'],
      ['section 3.6', 'PUBREL that nothing asked for', '62020009'],
      ['section 3.12', 'PINGREQ', 'c000'],
    ],
    false,
  ),
  ...samples(
    [
      ['section 3.1', 'CONNECT', connect('02', id)],
      ['section 3.1', 'CONNECT with a will, a user name and a password', connect('c6', id, id, id, id, id)],
      ['MQTT-3.1.3-11', 'CONNECT with an empty user name', connect('82', id, '0000')],
      [
        'section 3.1.3.5',
        'CONNECT with a password that is no text',
        connect('c2', id, id, textOf('746f700000')),
      ],
    ],
    true,
  ),
]
