/**
 * How a device answers when another has its copy of a key compared with everybody's (mqtt-gateway/protocol/vote.ts; Hsu-Lu B2): `Check` if its
 * own copy is the same, `Error` if that differs or is absent. It looks at its copies and at nothing else, and mends none.
 */
import type { DeviceId, KeyId } from '../../chain/brands.ts'
import { equalBytes } from '../../chain/codec.ts'
import { type EncryptionKey, keyIdOf } from '../../chain/keys.ts'
import { MoteError } from '../../chain/result.ts'
import { OrderedQueue } from '../../client/ordered-queue.ts'
import type { DecisionLine } from '../protocol/decision-log.ts'
import { topics } from '../protocol/topics.ts'
import { type Ballot, encodeBallotAnswer, parseBallot } from '../protocol/vote.ts'
import type { AgentChain } from './agent-chain.ts'
import type { DeviceState } from './device-state.ts'
import type { MqttConnection } from './mqtt-connection.ts'

/** Ballots that wait for a device's answer; further ones get none. */
const maxWaitingBallots = 16

export interface CopyHolder {
  readonly device: DeviceId
  /** The device's own key now, which is its copy of that. */
  readonly ownKey: () => EncryptionKey
  readonly state: Pick<DeviceState, 'contact'>
}

/** What a device has for another's key: a copy, none, or bytes that are no key, with what is wrong with them. */
export interface HeldCopy {
  readonly key: EncryptionKey | undefined
  readonly flaw?: string
}

export async function copyOf({ device, ownKey, state }: CopyHolder, recipient: DeviceId): Promise<HeldCopy> {
  if (recipient === device) return { key: ownKey() }
  const contact = await state.contact(recipient)
  return contact.ok ? { key: contact.value?.key } : { key: undefined, flaw: contact.error.detail }
}

/** Two copies are the same if both are there and are one key. */
export function isSameKey(a: EncryptionKey | undefined, b: EncryptionKey | undefined): boolean {
  return a !== undefined && b !== undefined && a.suite === b.suite && equalBytes(a.bytes, b.bytes)
}

export function keyIdOfCopy(key: EncryptionKey | undefined): KeyId | undefined {
  return key && keyIdOf(key)
}

export interface BallotBoxOptions extends CopyHolder {
  readonly connection: Pick<MqttConnection, 'onMessage' | 'publish' | 'subscribe'>
  readonly chain: Pick<AgentChain, 'head' | 'ageMs'>
  /** Told of each copy that differs, for the decision log. */
  readonly onDecision: (line: DecisionLine) => void | Promise<void>
}

/** Answers every ballot from now on; resolves when ballots come. */
export async function answerBallots(options: BallotBoxOptions): Promise<void> {
  const { connection, device } = options
  const queue = new OrderedQueue()
  connection.onMessage(({ topicName, payload }) => {
    if (topicName !== topics.ballot(device) || queue.length >= maxWaitingBallots) return
    const ballot = parseBallot(payload)
    // A connection that ends meanwhile makes this device silent, and nothing is left to be done.
    if (ballot.ok) void queue.run(() => answer(options, ballot.value)).catch(() => {})
  })
  await connection.subscribe(topics.ballot(device))
}

async function answer(options: BallotBoxOptions, ballot: Ballot): Promise<void> {
  const { connection, device, onDecision } = options
  // Copies that cannot be read are none: that is an answer, and silence would not say why.
  const held = await copyOf(options, ballot.recipient).catch((error: unknown): HeldCopy => {
    if (error instanceof MoteError) return { key: undefined, flaw: error.detail }
    throw error
  })
  const check = isSameKey(held.key, ballot.copy) ? 'Check' : 'Error'
  const { vote } = ballot
  const payload = encodeBallotAnswer({ vote, check, inCopy: keyIdOfCopy(held.key) })
  await connection.publish(topics.check(device), payload)
  if (check === 'Error') await onDecision(differenceLine(options, ballot, held))
}

function differenceLine({ chain }: BallotBoxOptions, ballot: Ballot, held: HeldCopy): DecisionLine {
  const { vote, sender, recipient, copy } = ballot
  const mismatch = { inEnvelope: keyIdOfCopy(copy) ?? null, inCopy: keyIdOfCopy(held.key) ?? null }
  return {
    id: Buffer.from(vote).toString('hex'),
    event: 'check',
    sender,
    recipient,
    topic: null,
    verdict: 'Error',
    code: 'recipient-key-mismatch',
    reason:
      held.flaw ??
      `recipient ${recipient}: expected ${mismatch.inCopy ?? 'no key'} (this device's copy), got ${mismatch.inEnvelope ?? 'no key'}`,
    mismatch,
    height: chain.head().height,
    ageMs: chain.ageMs(),
  }
}
