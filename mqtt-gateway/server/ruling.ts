/** What a message of a device has come to: what its sender and the decision log are told. */
import { MoteError, type Refusal } from '../../chain/result.ts'
import type { DecisionLine } from '../protocol/decision-log.ts'
import type { PublishOutcome } from './broker.ts'
import { type Decision, errorDecision } from './verification.ts'

/** A decision and what it is about. */
export interface Ruling {
  readonly event: DecisionLine['event']
  /** Of the message, or of the transaction that it has become. */
  readonly id: string | null
  readonly recipient: string | null
  readonly decision: Decision
  /** The message is a will that has fired. */
  readonly isWill?: boolean
  /** Of what was to be recorded. */
  readonly record?: RecordReport
}

/** What the sender of a message is told that was to be recorded, beside the decision. */
export interface RecordReport {
  /** What the device calls the message. */
  readonly messageId: string | null
  /** Whether it is acknowledged; the code alone does not say so. */
  readonly outcome: PublishOutcome
  /** Undefined for what is not on the chain. */
  readonly place: RecordPlace | undefined
  /** A decision that failed, or a part of a batch that was refused, where the transaction stands. */
  readonly failure: Refusal | undefined
}

/** Where a record or a call stands, under a certified header. */
export interface RecordPlace {
  readonly type: 'record' | 'call'
  readonly height: number
  readonly index: number
  /** Of the contract that was asked. */
  readonly decision: string | undefined
}

/** A message that is on its way to the chain. */
export interface RulingToCome {
  /** False if this gateway does not have it on its disk, and it has to come again. Never rejects. */
  readonly kept: Promise<boolean>
  readonly later: Promise<Ruling>
}

/** What `rule` decides; a refusal that it throws is one. @param onError told of what is no refusal */
export async function refusalsAsDecision(
  rule: () => Promise<Decision>,
  onError: (error: unknown) => void,
): Promise<Decision> {
  try {
    return await rule()
  } catch (error) {
    if (error instanceof MoteError) return errorDecision(error)
    onError(error)
    return errorDecision({ code: 'internal', detail: 'the gateway failed; its log has the cause' })
  }
}
