/** Which QoS 2 messages are repeats of one that was judged, and which only look like it (MQTT 3.1.1, section 4.3.3). */
import { expect, test } from 'vitest'
import type { PublishAnswer } from '../../../mqtt-gateway/server/broker.ts'
import { Qos2Receipts } from '../../../mqtt-gateway/server/qos2-receipts.ts'

/** Delivers one message, and says whether it was judged. */
function receiver() {
  const receipts = new Qos2Receipts()
  const deliver = async ({
    text = 'x',
    incarnation = 'first',
    isRepeat = true,
    answer = 'acknowledge' as PublishAnswer,
  }) => {
    let isJudged = false
    const message = { topicName: 'tank', payload: new TextEncoder().encode(text) }
    const delivery = { clientId: 'c', incarnation, packetIdentifier: 1, isRepeat, message }
    await receipts.once(delivery, async () => {
      isJudged = true
      return answer
    })
    return isJudged
  }
  return { receipts, deliver }
}

test('QoS 2 receipts: a repeat is not judged, another message under its packet identifier is', async () => {
  const { deliver } = receiver()
  expect(await deliver({ isRepeat: false })).toBe(true)
  expect(await deliver({})).toBe(false)
  expect(await deliver({ text: 'y' })).toBe(true)
  expect(await deliver({ text: 'y', isRepeat: false })).toBe(true)
})

test('QoS 2 receipts: after PUBREL, and for what was not acknowledged, the same bytes are judged', async () => {
  const { receipts, deliver } = receiver()
  await deliver({ isRepeat: false })
  receipts.released('c', 1)
  expect(await deliver({ answer: 'close' })).toBe(true)
  expect(await deliver({})).toBe(true)
})

test('QoS 2 receipts: after a clean CONNECT the same bytes are another message, of which the first PUBLISH was lost', async () => {
  const { deliver } = receiver()
  await deliver({ isRepeat: false })
  expect(await deliver({ incarnation: 'second' })).toBe(true)
  expect(await deliver({ incarnation: 'second' })).toBe(false)
})
