/**
 * What one client publishes, in the order in which it came: judged one after another, though an outcome may come later than the next
 * judgement, and acknowledged in that order [MQTT-4.6.0-2, MQTT-4.6.0-3].
 */
import { OrderedQueue } from '../../client/ordered-queue.ts'
import type { PublishAnswer, PublishOutcome } from './broker.ts'

export class ClientMessages {
  readonly #judgements = new OrderedQueue()
  readonly #acknowledgements = new OrderedQueue()

  /** The outcome of a message, when those before it have theirs. */
  judge(message: () => Promise<PublishAnswer>): Promise<PublishOutcome> {
    const answer = this.#judgements.run(message)
    return this.#acknowledgements.run(async () => {
      const given = await answer
      return typeof given === 'object' ? given.later : given
    })
  }

  /** After the messages before it are judged, whatever becomes of them. */
  afterwards(step: () => Promise<void>): Promise<void> {
    return this.#judgements.run(step)
  }

  /** Resolves when every message until now has its outcome. */
  async idle(): Promise<void> {
    await this.#judgements.idle()
    await this.#acknowledgements.idle()
  }
}
