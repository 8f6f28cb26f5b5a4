/** The form of a client's packets (MQTT 3.1.1), judged before the broker sees them. */
import { expect, test } from 'vitest'
import { PacketFraming } from '../../../mqtt-gateway/protocol/packet-framing.ts'
import {
  malformedPackets,
  rightPackets,
  type SamplePacket,
  wrongAcknowledgements,
} from '../../support/malformed-packets.ts'

const limits = { connectBytes: 2048, publishBytes: () => 1024, filters: 8 }

function violationOf(
  { bytes }: Pick<SamplePacket, 'bytes'>,
  chunkBytes = bytes.length,
  hasQos2 = false,
): string | undefined {
  const framing = new PacketFraming({ ...limits, hasQos2: () => hasQos2 })
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    const violation = framing.accept(bytes.subarray(at, at + chunkBytes))
    if (violation !== undefined) return violation
  }
  return undefined
}

test.each([
  ['section 2.2.1', 0x0a],
  ['MQTT-2.2.2-2', 0x83],
  ['MQTT-4.3.2-2', 0x50],
  ['MQTT-3.3.1-4', 0x36],
])('packets: judges the first byte before there is a length [%s]', (statement, first) => {
  expect(violationOf({ bytes: Buffer.of(first) })).toContain(statement)
})

/** Who is connected, and in which order, is aedes' to judge. */
const byForm = [...malformedPackets, ...wrongAcknowledgements].filter(
  ({ statement }) => statement !== 'MQTT-3.1.0-1',
)

test.each(byForm)('packets: refuses $what [$statement]', sample => {
  expect(violationOf(sample)).toContain(sample.statement)
  expect(violationOf(sample, 1)).toBe(violationOf(sample))
})

test('packets: PUBREC and PUBCOMP of who was sent something at QoS 2 are taken, of the right form', () => {
  const found = (hex: string) => violationOf({ bytes: Buffer.from(hex, 'hex') }, undefined, true)
  for (const type of ['50', '70']) {
    expect(found(`${type}020001`)).toBeUndefined()
    expect(found(`${type}020000`)).toContain('MQTT-2.3.1-1')
    expect(found(`${type}03000100`)).toContain('section 3.4.1')
  }
  expect(found('52020001')).toContain('MQTT-2.2.2-2')
})

test.each(rightPackets)('packets: takes $what [$statement]', sample => {
  expect(violationOf(sample)).toBeUndefined()
  expect(violationOf(sample, 1)).toBeUndefined()
})
