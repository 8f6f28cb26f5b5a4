/**
 * QoS 2 messages that were judged: a repeat (DUP) of the same bytes under the same packet identifier gets the outcome of the first, also on
 * a client's next connection (MQTT 3.1.1, section 4.3.3). Sessions are clean, and clients send again all the same what was not acknowledged when a connection broke.
 *
 * In memory: a gateway that was restarted knows envelopes by their counters (replay-window.ts), and nothing of messages in the clear.
 */
import { createHash } from 'node:crypto'
import { RecentMap } from '../../chain/recent-map.ts'
import type { IncomingMessage, PublishOutcome } from './broker.ts'

/** QoS 2 messages remembered at least; twice as many at most. */
const maxQos2Receipts = 16_384

export interface Qos2Message {
  readonly clientId: string
  readonly packetIdentifier: number
  /** DUP. */
  readonly isRepeat: boolean
  readonly message: IncomingMessage
}

interface Receipt {
  readonly digest: string
  readonly outcome: Promise<PublishOutcome>
}

export class Qos2Receipts {
  readonly #receipts = new RecentMap<string, Receipt>(maxQos2Receipts)

  /** The outcome of `judge`, or that of the first time. What was not acknowledged, or failed, is judged anew. */
  async once(
    { clientId, packetIdentifier, isRepeat, message }: Qos2Message,
    judge: () => Promise<PublishOutcome>,
  ): Promise<PublishOutcome> {
    const name = `${clientId} ${packetIdentifier}`
    const digest = createHash('sha256').update(`${message.topicName}\0`).update(message.payload).digest('hex')
    const known = this.#receipts.get(name)
    if (isRepeat && known?.digest === digest) return known.outcome
    const receipt = { digest, outcome: judge() }
    this.#receipts.set(name, receipt)
    const outcome = await receipt.outcome.catch((error: unknown) => {
      this.#forget(name, receipt)
      throw error
    })
    if (outcome !== 'acknowledge') this.#forget(name, receipt)
    return outcome
  }

  #forget(name: string, receipt: Receipt): void {
    if (this.#receipts.get(name) === receipt) this.#receipts.delete(name)
  }
}
