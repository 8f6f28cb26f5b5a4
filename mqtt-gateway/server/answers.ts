/**
 * Where an answer of the gateway goes, and what it carries beside its payload (MQTT 5, section 4.10): a device may name one of the topics on which
 * answers come to it anyway, and data by which it knows its question again.
 */
import type { DeviceId } from '../../chain/brands.ts'
import { topics } from '../protocol/topics.ts'
import type { MessageAbout, ReplyWish } from './broker.ts'
import type { Decision } from './verification.ts'

/** Nobody waits longer for an answer: a broker forgets it then. */
const answerLifetimeMs = 60_000

/** The topic that the device asked for, if it is one of its own for answers; else `standard`. */
export function answerTopic(device: DeviceId, reply: ReplyWish | undefined, standard: string): string {
  const wished = reply?.responseTopic
  const own = [topics.verdict(device), topics.answer(device), topics.error(device)]
  return wished !== undefined && own.includes(wished) ? wished : standard
}

/** What an answer carries; of a refusal its code and reason too. */
export function answerTo(reply: ReplyWish | undefined, decision?: Decision): MessageAbout {
  const { correlationData } = reply ?? {}
  const refused = decision?.verdict === 'Error' ? decision : undefined
  return {
    lifetimeMs: answerLifetimeMs,
    ...(correlationData && { correlationData }),
    ...(refused && { code: refused.code, reason: refused.reason }),
  }
}
