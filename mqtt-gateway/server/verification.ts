/**
 * The decision: may this envelope be relayed? A pure function of the envelope, certified facts and the time
 * (Hsu-Lu B2, B5: `Check` or `Error`; docs/ARCHITECTURE.md, "Life of a message").
 *
 * Order of the checks, each of which alone can refuse:
 *   trust data fresh → sender known, itself, active → its key valid → signature → an exact repeat is a `Check` at once → suite allowed → recipient active, its key the
 *   chain's and the suite one for that key, or group known, sender a member, epoch accepted, or topic known, sender one that may publish, epoch
 *   current and its key the chain's → lifetime → counter not used.
 *
 * It only asks the replay window; who acts on `Check` marks the counter.
 */
import type { DeviceId, Height, Milliseconds } from '../../chain/brands.ts'
import type { EnvelopeSuite } from '../../chain/envelope-suites.ts'
import type { ErrorCode } from '../../chain/errors.ts'
import { keyIdOf, type SignatureVerifier } from '../../chain/keys.ts'
import { topicKeyOf } from '../../chain/open-topics.ts'
import {
  currentEncryptionKey,
  findKey,
  type IdentityRecord,
  isEpochAccepted,
  isKeyValidAt,
  type KeyEntry,
} from '../../chain/records.ts'
import type { Refusal, Result } from '../../chain/result.ts'
import { checkFresh } from '../../client/freshness.ts'
import type { KeyMismatch } from '../protocol/decision-log.ts'
import {
  canSealTo,
  checkAllowed,
  checkDeliveryTime,
  checkEnvelopeLifetime,
  checkSuite,
  type Envelope,
  notKept,
  sealingFlaw,
  verifyEnvelope,
} from '../protocol/envelope.ts'
import type { ReplayWindow } from '../protocol/replay-window.ts'
import type { ExpiryTimes, TrustedGroup } from '../protocol/trust.ts'

/** What certified state says of the two ends of an envelope. */
export interface TrustFacts {
  readonly sender: IdentityRecord | undefined
  readonly target:
    | { readonly type: 'device'; readonly record: IdentityRecord | undefined }
    | { readonly type: 'group'; readonly group: TrustedGroup | undefined }
    | {
        readonly type: 'topic'
        readonly topic: TrustedGroup | undefined
        /** Undefined: every active device. */
        readonly publishers: readonly DeviceId[] | undefined
      }
  /** How messages may be sealed on this chain. */
  readonly allowedSuites: readonly EnvelopeSuite[]
  /** The lowest height at which all of it holds. */
  readonly height: Height
  /** Age of that height's header now. */
  readonly ageMs: number
}

export interface DecisionInput {
  readonly envelope: Envelope
  /** Who the connection belongs to. */
  readonly session: DeviceId
  readonly facts: TrustFacts
  readonly times: ExpiryTimes
  readonly trustTtlMs: number
  readonly replayWindow: ReplayWindow
  /** True if this very message has been relayed: the same id, which commits to all but the signature. */
  readonly wasRelayed: boolean
  readonly verifier: SignatureVerifier
}

export type Decision =
  /** A repeat was relayed before, and is not relayed again. */
  | { readonly verdict: 'Check'; readonly isRepeat?: true; readonly delivery?: 'relayed' | 'kept' }
  | {
      readonly verdict: 'Error'
      readonly code: ErrorCode
      readonly reason: string
      readonly mismatch?: KeyMismatch
    }

/** A message that waited for a device, and whom it is for. */
export type DeliveryInput = Omit<DecisionInput, 'session' | 'replayWindow' | 'wasRelayed'> & {
  readonly recipient: DeviceId
}

type Refused = Extract<Decision, { verdict: 'Error' }>

export function decide(input: DecisionInput): Decision {
  return (
    checkFreshness(input) ??
    checkSender(input) ??
    repeatOf(input) ??
    checkPolicy(input) ??
    checkTarget(input) ??
    checkLifetime(input) ??
    checkReplay(input) ?? { verdict: 'Check' }
  )
}

/**
 * The decision at the end of its wait: may this envelope be given to this recipient now? What a block took away since it was
 * taken counts; the epoch that a group has come to since then does not, for those who were members and still are, nor that the recipient has
 * rotated its key, which still opens what was sealed to it. One that it has revoked does: somebody else may have it.
 */
export function decideDelivery(input: DeliveryInput): Decision {
  return (
    checkFreshness(input) ??
    checkSender({ ...input, session: input.envelope.header.sender }) ??
    checkPolicy(input) ??
    checkRecipientNow(input) ??
    errorOf(checkDeliveryTime(input.envelope.header, input.times)) ?? { verdict: 'Check' }
  )
}

function checkRecipientNow(input: DeliveryInput): Refused | undefined {
  const { envelope, facts, recipient } = input
  const { target, sender } = envelope.header
  if (target.type === 'device')
    return facts.target.type === 'device'
      ? checkRecipient(input, target, facts.target.record, entry => entry.revokedAt === undefined)
      : error('internal', 'facts about a group for an envelope to a device')
  const { readers, writers } = membersOf(facts.target)
  if (!readers.includes(recipient) || (writers && !writers.includes(sender)))
    return error('not-member', `${sender} or ${recipient} is not in group ${target.id} any more`)
  return undefined
}

/** Who may read and, if not everybody, write now. */
function membersOf(target: TrustFacts['target']): {
  readonly readers: readonly DeviceId[]
  readonly writers: readonly DeviceId[] | undefined
} {
  if (target.type === 'topic') return { readers: target.topic?.members ?? [], writers: target.publishers }
  const members = (target.type === 'group' && target.group?.members) || []
  return { readers: members, writers: members }
}

function error(code: ErrorCode, reason: string, mismatch?: KeyMismatch): Refused {
  return { verdict: 'Error', code, reason, ...(mismatch && { mismatch }) }
}

/** A refusal as a decision. */
export function errorDecision({ code, detail }: Refusal): Refused {
  return error(code, detail)
}

function errorOf(result: Result<void>): Refused | undefined {
  return result.ok ? undefined : errorDecision(result.error)
}

function checkFreshness({
  facts,
  trustTtlMs,
}: Pick<DecisionInput, 'facts' | 'trustTtlMs'>): Refused | undefined {
  return errorOf(checkFresh(facts.ageMs, trustTtlMs))
}

function checkSender(input: Omit<DecisionInput, 'replayWindow' | 'wasRelayed'>): Refused | undefined {
  const { envelope, session, facts, times, verifier } = input
  const { now } = times
  const { sender, senderKeyId } = envelope.header
  if (!facts.sender) return error('unknown-signer', `sender ${sender} is not on the chain`)
  if (sender !== session)
    return error('topic-not-allowed', `sender: expected ${session}, whose connection this is, got ${sender}`)
  if (facts.sender.status !== 'active')
    return error('signer-not-active', `sender ${sender} is ${facts.sender.status}`)
  const entry = findKey(facts.sender, senderKeyId)
  if (entry?.purpose !== 'sign' || !isKeyValidAt(entry, now))
    return error('key-not-valid', `senderKeyId: ${senderKeyId} is no valid signing key of ${sender}`)
  return verifyEnvelope(envelope, entry.key, verifier)
    ? undefined
    : error('bad-signature', `signature: does not verify under key ${senderKeyId}`)
}

/** A sender whose acknowledgement was lost sends the same bytes again, whatever has happened to the recipient since. */
function repeatOf({ wasRelayed }: DecisionInput): Decision | undefined {
  return wasRelayed ? { verdict: 'Check', isRepeat: true } : undefined
}

function checkPolicy({ envelope, facts }: Pick<DecisionInput, 'envelope' | 'facts'>): Refused | undefined {
  return errorOf(checkAllowed(envelope.header.suite, facts.allowedSuites))
}

function checkTarget(input: DecisionInput): Refused | undefined {
  const { target } = input.envelope.header
  const { facts } = input
  const { now } = input.times
  if (target.type === 'device')
    return facts.target.type === 'device'
      ? checkRecipient(input, target, facts.target.record)
      : error('internal', 'facts about something else for an envelope to a device')
  if (target.type === 'topic')
    return facts.target.type === 'topic'
      ? checkTopic(input, target, facts.target)
      : error('internal', 'facts about something else for an envelope to a topic')
  return facts.target.type === 'group'
    ? checkGroup(input.envelope.header, target, facts.target.group, now)
    : error('internal', 'facts about something else for an envelope to a group')
}

function checkRecipient(
  { envelope, facts, times: { now } }: Pick<DecisionInput, 'envelope' | 'facts' | 'times'>,
  target: Extract<Envelope['header']['target'], { type: 'device' }>,
  record: IdentityRecord | undefined,
  isGood = (entry: KeyEntry) => isKeyValidAt(entry, now),
): Refused | undefined {
  if (record?.status !== 'active')
    return error('recipient-not-active', `recipient ${target.id} is ${record?.status ?? 'not on the chain'}`)
  const entry = findKey(record, target.keyId)
  if (entry?.purpose === 'encrypt' && isGood(entry) && sealingFlaw(entry.key) === undefined)
    return errorOf(checkSuite(envelope.header.suite, entry.key))
  const current = currentEncryptionKey(record, now, canSealTo(facts.allowedSuites))
  const onChain = current && keyIdOf(current.key)
  return error(
    'recipient-key-mismatch',
    `recipient.keyId: expected ${onChain ?? 'none'} (on the chain), got ${target.keyId}`,
    { inEnvelope: target.keyId, onChain },
  )
}

function checkGroup(
  { sender, keepUntil }: Envelope['header'],
  target: Extract<Envelope['header']['target'], { type: 'group' }>,
  group: TrustedGroup | undefined,
  now: Milliseconds,
): Refused | undefined {
  if (!group) return error('unknown-subject', `group ${target.id} is not on the chain`)
  if (!group.members.includes(sender)) return error('not-member', `sender ${sender} is not in the group`)
  if (group.record.topic)
    return error('suite-mismatch', `group ${target.id} is an open topic, with a key of its own`)
  const { epoch, epochKeyHash } = group.record
  if (!isEpochAccepted(group.record, target.epoch, now))
    return error('epoch-mismatch', `epoch: expected ${epoch} of membership now, got ${target.epoch}`, {
      inEnvelope: target.epochKeyHash,
      onChain: epochKeyHash,
    })
  // Its box is kept with it, and the gateway has those of the newest epoch.
  if (keepUntil !== notKept && target.epoch !== epoch)
    return error('epoch-mismatch', `epoch: expected ${epoch} of a message to keep, got ${target.epoch}`, {
      inEnvelope: target.epochKeyHash,
      onChain: epochKeyHash,
    })
  if (target.epoch === epoch && target.epochKeyHash !== epochKeyHash)
    return error('epoch-mismatch', `epochKeyHash: expected ${epochKeyHash}, got ${target.epochKeyHash}`, {
      inEnvelope: target.epochKeyHash,
      onChain: epochKeyHash,
    })
  return undefined
}

/**
 * Only the current epoch: the chain has its key and no earlier one, so another could not be compared (Hsu-Lu B5). After a removal there is none
 * until a member has re-keyed.
 */
function checkTopic(
  { envelope, times: { now } }: DecisionInput,
  target: Extract<Envelope['header']['target'], { type: 'topic' }>,
  { topic, publishers }: Extract<TrustFacts['target'], { type: 'topic' }>,
): Refused | undefined {
  const { sender } = envelope.header
  if (!topic?.record.topic) return error('unknown-subject', `topic ${target.id}: no open topic has this id`)
  if (publishers && !publishers.includes(sender))
    return error('not-member', `sender ${sender} is not in the group that may publish`)
  const { epoch } = topic.record
  const key = topicKeyOf(topic.record)
  const mismatch = { inEnvelope: target.keyId, onChain: key && keyIdOf(key) }
  if (target.epoch !== epoch || !isEpochAccepted(topic.record, epoch, now))
    return error(
      'epoch-mismatch',
      `epoch: expected ${epoch} of membership now, got ${target.epoch}`,
      mismatch,
    )
  return target.keyId === mismatch.onChain
    ? undefined
    : error(
        'recipient-key-mismatch',
        `topic.keyId: expected ${mismatch.onChain} (on the chain), got ${target.keyId}`,
        mismatch,
      )
}

function checkLifetime({ envelope: { header }, times }: DecisionInput): Refused | undefined {
  return errorOf(checkEnvelopeLifetime(header, times))
}

function checkReplay({ envelope: { header }, times, replayWindow }: DecisionInput): Refused | undefined {
  const { senderKeyId: keyId, counter, expiry } = header
  return errorOf(replayWindow.check({ keyId, counter, expiry }, times.head))
}
