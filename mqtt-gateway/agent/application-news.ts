/**
 * What an application hears beside its messages, on local topics, as JSON: what it was refused, by its agent at once or by the chain later, and what was
 * recorded. To whoever has subscribed at that moment; nothing is kept.
 */
import type { Refusal } from '../../chain/result.ts'
import { printableTopic } from '../protocol/topics.ts'
import type { LocalMqtt } from './local-mqtt.ts'
import type { DeviceRecordOutcome } from './record-outbox.ts'

/** `topic`, `code` and `reason`. */
const refusedTopic = 'agent/refused'
/** `topic`, `transaction`, and `decision` if a contract made one. */
const recordedTopic = 'agent/recorded'

export class ApplicationNews {
  #port: Pick<LocalMqtt, 'deliver'> | undefined

  /** Where applications listen, from now on. */
  open(port: Pick<LocalMqtt, 'deliver'>): void {
    this.#port = port
  }

  /** @param topic of the message, or of the record */
  refused(topic: string, { code, detail }: Refusal): void {
    this.#tell(refusedTopic, { topic: printableTopic(topic), code, reason: detail })
  }

  /** What the chain made of a record or a call. */
  settled({ topic = '', ...outcome }: DeviceRecordOutcome): void {
    if (outcome.type === 'refused') {
      this.refused(topic, outcome.reason)
      return
    }
    const { transaction, decision } = outcome
    this.#tell(recordedTopic, { topic, transaction, ...(decision !== undefined && { decision }) })
  }

  /** Written before a connection that is refused is closed; nobody waits for an acknowledgement. */
  #tell(topicName: string, text: object): void {
    const payload = new TextEncoder().encode(JSON.stringify(text))
    void this.#port?.deliver({ topicName, payload })
  }
}
