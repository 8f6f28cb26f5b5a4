/**
 * The broker against the packet sequences of Mosquitto's test suite, where `MOTE_MOSQUITTO_DATA` says that they are: what it does
 * otherwise than their authors expect is in the list below, each with its reason, and nothing else is.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { sideBySide } from '../../client/side-by-side.ts'
import type { Broker } from '../../mqtt-gateway/server/broker.ts'
import { relayingBroker } from '../support/open-broker.ts'
import { play, readSequences, type Sequence } from './mosquitto-sequences.ts'

const directory = process.env['MOTE_MOSQUITTO_DATA']
if (directory === undefined)
  console.log(
    'Mosquitto sequences: skipped, MOTE_MOSQUITTO_DATA names no directory with the data of its broker tests',
  )

const noPassword = 'CONNACK 4: a client says who it is by user name and password'
const atQos1 = 'what clients publish is passed on at QoS 1'
const noQos2 = 'nothing was sent to the client at QoS 2, so it has no reason for this packet'
const noSharing = 'a shared subscription is refused, by 0x80'

/** By file and name. */
const otherwise: Readonly<Record<string, string>> = {
  'CONNECT: 10 ok ': noPassword,
  'CONNECT: 10 Username zero length ok': noPassword,
  'CONNECT: 10 Will flag 1 ok': noPassword,
  'CONNECT: 10 empty client ID': noPassword,
  'CONNECT: 10 empty client ID clean false [MQTT-3.1.3-7]': noPassword,
  'CONNECT: 10 [MQTT-3.1.0-2]': noPassword,
  'FLOW: QoS 0 self receive ok': atQos1,
  'FLOW: QoS 2 receive ok': atQos1,
  'FLOW: QoS 2 PUBLISH-PUBACK': atQos1,
  'FLOW: QoS 2 PUBLISH-PUBCOMP': atQos1,
  'FLOW: QoS 2 PUBLISH-PUBREC-PUBREL-PUBACK': atQos1,
  'FLOW: QoS 2 PUBLISH-PUBREC-PUBREL-PUBREC': atQos1,
  'PUBREC: 50 unsolicited': noQos2,
  'PUBCOMP: 70 unsolicited': noQos2,
  'REGRESSION: mismatched-shared-normal-subscribe-unsubscribe-leak': noSharing,
  'REGRESSION: shared-sub-uaf': noSharing,
}

const atATime = 60
/** What is known to stay open is not waited for long; the others may take as long as a busy machine needs. */
const closingMs = { known: 500, others: 60_000 }

describe.skipIf(directory === undefined)('a corpus, which needs MOTE_MOSQUITTO_DATA', () => {
  let broker: Broker
  let port: number
  beforeAll(async () => {
    const unproven = { all: 2_000, perAddress: 2_000 }
    broker = relayingBroker({ connectionsMax: 2_000, unproven, connectTimeoutMs: 600_000 })
    ;({ port } = await broker.listen())
  })
  afterAll(() => broker.close())

  test('mosquitto sequences: what the broker does otherwise is known, and why', async () => {
    const all = readSequences(directory ?? '')
    const found = new Map<string, string>()
    const playOne = async (next: Sequence) => {
      const wait = otherwise[next.name] === undefined ? closingMs.others : closingMs.known
      const outcome = await play(next, port, wait)
      if (outcome !== undefined) found.set(next.name, outcome)
    }
    // Messages of one would reach another: they have one topic.
    const alone = all.filter(({ name }) => name.startsWith('FLOW'))
    await sideBySide(alone, 1, playOne)
    const others = all.filter(({ name }) => !name.startsWith('FLOW'))
    await sideBySide(others, atATime, playOne)
    console.log(
      `Mosquitto sequences: ${all.length} of MQTT 3.1.1, ${found.size} otherwise than expected there`,
    )
    expect(all.length).toBeGreaterThan(200)
    const unknown = [...found].filter(([name]) => otherwise[name] === undefined)
    expect(unknown, 'not in the list').toEqual([])
    expect(
      Object.keys(otherwise).filter(name => !found.has(name)),
      'as expected by now',
    ).toEqual([])
  })
})
