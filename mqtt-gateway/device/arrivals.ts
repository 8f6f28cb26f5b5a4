/**
 * What comes on a device's delivery topics, on its way to who listens: each source in a lane of its own, and an acknowledgement to the
 * gateway for each message that was kept, once it need not come again.
 *
 * Invariant: a kept message is acknowledged after the handler has taken it, or when it will never be taken; not when it could not be
 * judged at this moment, or the handler failed.
 */
import type { ChainId, Hash } from '../../chain/brands.ts'
import { errorTable } from '../../chain/errors.ts'
import { type Refusal, refusalOf } from '../../chain/result.ts'
import { type Envelope, notKept, parseEnvelope } from '../protocol/envelope.ts'
import { type DeliveredMessage, Lanes, type Listener, type TakeMessage } from './listener.ts'

export interface ListenHandlers {
  readonly message: TakeMessage
  /** Told when a message that was taken cannot come again: its counter is marked as used on the disk. */
  readonly settled?: (message: DeliveredMessage) => void
  /** Told of what arrived for this device and must not be believed. */
  readonly refused?: (refusal: Refusal) => void
}

export interface ArrivalsOptions {
  readonly chainId: ChainId
  readonly listener: Listener
  readonly handlers: ListenHandlers
  /** Tells the gateway that a kept message need not come again. */
  readonly acknowledge: (messageId: Hash) => void
}

/** Refusals with this HTTP status or a higher one are about this moment, not about the message. */
const passingHttp = 502

/** What takes the payload of each delivery, in the order in which they come. */
export function arrivals({
  chainId,
  listener,
  handlers,
  acknowledge,
}: ArrivalsOptions): (payload: Uint8Array) => void {
  const lanes = new Lanes()
  return payload => {
    const parsed = parseEnvelope(chainId, payload)
    if (!parsed.ok) {
      handlers.refused?.(parsed.error)
      return
    }
    const { header, messageId } = parsed.value
    const { type, id } = header.target
    const take = async () => {
      const isOver = await receive(listener, parsed.value, handlers)
      if (isOver && header.keepUntil !== notKept) acknowledge(messageId)
    }
    if (!lanes.add(`${type}/${id}`, take, payload.length))
      handlers.refused?.({ code: 'overloaded', detail: `${type}/${id}: too many messages wait` })
  }
}

/** Takes an envelope. True if it need not come again: it was accepted, now or before, or will never be. */
async function receive(
  listener: Listener,
  envelope: Envelope,
  { message, settled, refused }: ListenHandlers,
): Promise<boolean> {
  try {
    const received = await listener.receive(envelope, message)
    if (received.ok) {
      if (received.value) settled?.(received.value)
      return true
    }
    const { code } = received.error
    // A kept message comes again if its acknowledgement got lost: nothing is wrong with that.
    const isRepeat = code === 'replayed' && envelope.header.keepUntil !== notKept
    if (!isRepeat) refused?.(received.error)
    return errorTable[code].http < passingHttp
  } catch (error) {
    refused?.(refusalOf(error))
    return false
  }
}
