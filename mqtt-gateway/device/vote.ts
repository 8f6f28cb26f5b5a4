/**
 * The sender's side of a vote on its copy of a recipient's key (mqtt-gateway/protocol/vote.ts; Hsu-Lu B2): it shows the copy, gathers what
 * the devices and the gateway answer, and compares the copy with the chain by itself.
 */
import { randomBytes } from 'node:crypto'
import type { DeviceId, KeyId, Milliseconds } from '../../chain/brands.ts'
import { equalBytes } from '../../chain/codec.ts'
import type { ErrorCode } from '../../chain/errors.ts'
import type { EncryptionKey } from '../../chain/keys.ts'
import { currentEncryptionKey } from '../../chain/records.ts'
import { MoteError } from '../../chain/result.ts'
import { Deadline } from '../../client/deadline.ts'
import type { DecisionLine } from '../protocol/decision-log.ts'
import { canSealTo } from '../protocol/envelope.ts'
import { topics } from '../protocol/topics.ts'
import {
  type CountedAnswer,
  encodeVoteRequest,
  type KeyVoteResult,
  maxLinesPerVote,
  parseVoteResult,
  type Unversioned,
  type VoteRequest,
  voteTimeoutMs,
} from '../protocol/vote.ts'
import type { AgentChain } from './agent-chain.ts'
import { type CopyHolder, copyOf, isSameKey, keyIdOfCopy } from './ballots.ts'
import type { MqttConnection } from './mqtt-connection.ts'
import type { GatewayVerdict, VerdictInbox } from './verdict-inbox.ts'

/** One who was asked, and the answer. */
export interface VoteRow {
  /** A device by its id; the gateway, by the state that it follows; the sender, by the chain as it knows it. */
  readonly voter: DeviceId | 'gateway' | 'sender'
  readonly check: CountedAnswer['check']
  /** The sender's copy; undefined if it has none. The same in every row. */
  readonly inEnvelope: KeyId | undefined
  /** What the voter has in its place. */
  readonly inCopy: KeyId | undefined
}

export interface VoteOutcome {
  readonly recipient: DeviceId
  /** True if everybody answered `Check`. */
  readonly isUnanimous: boolean
  /** The devices by id, the gateway, the sender. */
  readonly rows: readonly VoteRow[]
}

export interface VoteCaller extends CopyHolder {
  readonly chain: Pick<AgentChain, 'device' | 'allowedSuites' | 'now' | 'head' | 'ageMs'>
  readonly connection: Pick<MqttConnection, 'onMessage' | 'publish' | 'subscribe'>
  readonly verdicts: Pick<VerdictInbox, 'expect'>
  readonly timeoutMs: number
}

/**
 * Asks everybody. Throws the gateway's refusal (`rate-limited` for a second vote within a second), `timeout`, or why the chain
 * is out of reach.
 */
export async function holdVote(caller: VoteCaller, recipient: DeviceId): Promise<VoteOutcome> {
  const { key } = await copyOf(caller, recipient)
  const own = await checkByChain(caller, recipient, key)
  const { gateway, answers } = await gatherResult(caller, { recipient, copy: key })
  const inEnvelope = keyIdOfCopy(key)
  const rows: readonly VoteRow[] = [
    ...answers.map(({ device, check, inCopy }) => ({ voter: device, check, inEnvelope, inCopy })),
    { voter: 'gateway', ...gateway, inEnvelope },
    { voter: 'sender', ...own, inEnvelope },
  ]
  return { recipient, rows, isUnanimous: rows.every(({ check }) => check === 'Check') }
}

async function checkByChain(
  { chain }: VoteCaller,
  recipient: DeviceId,
  copy: EncryptionKey | undefined,
): Promise<KeyVoteResult['gateway']> {
  const [{ value, time }, allowed] = await Promise.all([chain.device(recipient), chain.allowedSuites()])
  const at = Math.max(time, chain.now()) as Milliseconds
  const current = value?.status === 'active' ? currentEncryptionKey(value, at, canSealTo(allowed)) : undefined
  return { check: isSameKey(copy, current?.key) ? 'Check' : 'Error', inCopy: keyIdOfCopy(current?.key) }
}

async function gatherResult(
  { connection, verdicts, device, timeoutMs }: VoteCaller,
  request: Omit<Unversioned<VoteRequest>, 'nonce'>,
): Promise<KeyVoteResult> {
  const nonce = Uint8Array.from(randomBytes(16))
  const { promise, resolve } = Promise.withResolvers<KeyVoteResult>()
  const stop = connection.onMessage(({ topicName, payload }) => {
    if (topicName !== topics.result(device)) return
    const result = parseVoteResult(payload)
    if (result.ok && equalBytes(result.value.nonce, nonce)) resolve(result.value)
  })
  try {
    await connection.subscribe(topics.result(device))
    const opened = verdicts.expect(Buffer.from(nonce).toString('hex'))
    connection.publish(topics.vote(device), encodeVoteRequest({ nonce, ...request })).catch(() => {})
    const { verdict, code = 'internal', reason = 'the gateway gave no reason' } = await opened
    if (verdict === 'Error') throw new MoteError(code, reason)
    const late = () => new MoteError('timeout', `gateway: no result within ${timeoutMs} ms`)
    return await new Deadline(timeoutMs + voteTimeoutMs).within(promise, late)
  } finally {
    stop()
  }
}

/** What a vote that was not unanimous comes to for the message, and its lines for the sender's decision log. */
export function refusalByVote(
  { chain, device }: Pick<VoteCaller, 'chain' | 'device'>,
  { recipient, rows }: VoteOutcome,
): { readonly verdict: GatewayVerdict; readonly lines: readonly DecisionLine[] } {
  const { height } = chain.head()
  const ageMs = chain.ageMs()
  const objections = rows.filter(({ check }) => check !== 'Check')
  const isDifference = objections.some(({ check }) => check === 'Error')
  const code: ErrorCode = isDifference ? 'recipient-key-mismatch' : 'timeout'
  const reason = `vote: ${objections.length} of ${rows.length} did not answer Check; nothing was sent`
  const lines = objections.slice(0, maxLinesPerVote).map(
    ({ voter, check, inEnvelope, inCopy }): DecisionLine => ({
      id: null,
      event: 'result',
      sender: device,
      recipient,
      topic: null,
      verdict: 'Error',
      code: check === 'Silent' ? 'timeout' : 'recipient-key-mismatch',
      reason: check === 'Silent' ? `${voter}: did not answer` : `${voter}: has another key`,
      mismatch: check === 'Silent' ? null : { inEnvelope: inEnvelope ?? null, inCopy: inCopy ?? null },
      height,
      ageMs,
    }),
  )
  return { verdict: { messageId: null, verdict: 'Error', code, reason, height, ageMs }, lines }
}
