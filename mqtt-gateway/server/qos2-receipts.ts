/**
 * QoS 2 messages that were judged: a repeat (DUP) of the same bytes under the same packet identifier in the same session gets the outcome of
 * the first, also on a client's next connection (MQTT 3.1.1, section 4.3.3).
 *
 * A receipt ends with PUBREL and with the session's incarnation: after that, the packet identifier stands for another message, with the same bytes
 * perhaps, whose first PUBLISH may have been lost.
 *
 * In memory: a gateway that was restarted knows envelopes by their counters (replay-window.ts), records by their exchanges
 * (mqtt-gateway/records/recorder.ts), and nothing of messages in the clear.
 */
import { createHash } from 'node:crypto'
import { RecentMap } from '../../chain/recent-map.ts'
import type { IncomingMessage, PublishAnswer } from './broker.ts'

/** QoS 2 messages remembered at least; twice as many at most. */
const maxQos2Receipts = 16_384

export interface Qos2Message {
  readonly clientId: string
  /** Of the client's session. */
  readonly incarnation: string
  readonly packetIdentifier: number
  /** DUP. */
  readonly isRepeat: boolean
  readonly message: Pick<IncomingMessage, 'topicName' | 'payload'>
}

interface Receipt {
  readonly incarnation: string
  readonly digest: string
  readonly answer: Promise<PublishAnswer>
}

export class Qos2Receipts {
  readonly #receipts = new RecentMap<string, Receipt>(maxQos2Receipts)

  /** The answer of `judge`, or that of the first time. What was not acknowledged, or failed, is judged anew. */
  async once(
    { clientId, incarnation, packetIdentifier, isRepeat, message }: Qos2Message,
    judge: () => Promise<PublishAnswer>,
  ): Promise<PublishAnswer> {
    const name = nameOf(clientId, packetIdentifier)
    const digest = createHash('sha256').update(`${message.topicName}\0`).update(message.payload).digest('hex')
    const known = this.#receipts.get(name)
    if (isRepeat && known?.digest === digest && known.incarnation === incarnation) return known.answer
    const receipt = { incarnation, digest, answer: judge() }
    this.#receipts.set(name, receipt)
    void this.#keepIfAcknowledged(name, receipt)
    return receipt.answer
  }

  /** PUBREL [MQTT-4.3.3-2]. */
  released(clientId: string, packetIdentifier: number): void {
    this.#receipts.delete(nameOf(clientId, packetIdentifier))
  }

  async #keepIfAcknowledged(name: string, receipt: Receipt): Promise<void> {
    const outcome = await receipt.answer
      .then(answer => (typeof answer === 'object' ? answer.later : answer))
      .catch(() => 'close' as const)
    if (outcome !== 'acknowledge' && this.#receipts.get(name) === receipt) this.#receipts.delete(name)
  }
}

function nameOf(clientId: string, packetIdentifier: number): string {
  return `${clientId} ${packetIdentifier}`
}
