/**
 * Mosquitto, where it is installed, as a reference for test/support/malformed-packets.ts: it closes on what is malformed
 * there, with the exceptions named below, and takes what is right there.
 */
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BrokerAddress } from '../../mqtt-gateway/server/broker.ts'
import { malformedPackets, rightPackets, type SamplePacket } from '../support/malformed-packets.ts'
import { hasMosquitto, Mosquitto } from '../support/mosquitto.ts'

/** Where Mosquitto 2.0.11 is kinder than the standard. */
const taken = [
  'PUBACK with a flag',
  'PUBACK with a longer body',
  'PUBREL with a longer body',
  'PINGREQ with a flag',
  'PINGREQ with a body',
  'SUBACK, which a server sends',
  'UNSUBACK, which a server sends',
  'PINGRESP, which a server sends',
  'DUP at QoS 0',
]

const connectPacket = Buffer.from('100d00044d5154540402000a000171', 'hex')
const pingRequest = Buffer.from('c000', 'hex')

/** Whether the server closes, or answers a PINGREQ that follows. */
function outcomeOf({ isFirst, bytes }: SamplePacket, address: BrokerAddress): Promise<'closed' | 'taken'> {
  const { promise, resolve } = Promise.withResolvers<'closed' | 'taken'>()
  const socket = connect(address)
  const received: Buffer[] = []
  socket.on('error', () => {})
  socket.on('close', () => resolve('closed'))
  socket.on('data', chunk => {
    received.push(chunk)
    if (Buffer.concat(received).toString('hex').endsWith('d000')) resolve('taken')
  })
  socket.write(Buffer.concat(isFirst ? [bytes, pingRequest] : [connectPacket, bytes, pingRequest]))
  // It waits for more of a packet whose length was not announced right.
  socket.setTimeout(2_000, () => socket.destroy())
  return promise.finally(() => socket.destroy())
}

describe.skipIf(!hasMosquitto)('a reference, which needs mosquitto', () => {
  let mosquitto: Mosquitto
  beforeAll(async () => {
    mosquitto = await Mosquitto.startOpen()
  })
  afterAll(() => mosquitto[Symbol.asyncDispose]())

  test.each(malformedPackets.filter(({ what }) => !taken.includes(what)))(
    'mosquitto: closes on $what [$statement]',
    async sample => {
      expect(await outcomeOf(sample, mosquitto.address)).toBe('closed')
    },
  )

  test.each(rightPackets)('mosquitto: takes $what [$statement]', async sample => {
    expect(await outcomeOf(sample, mosquitto.address)).toBe('taken')
  })
})
