/**
 * Who the consenters are, and what an operator does about it: approve of a set. Like the operator's other actions it waits
 * until certified, and what it hands back was read again, verified.
 *
 * With enough approvals the set is decided on, and a handover follows by itself: the full nodes take the new consenters in,
 * hand over and let the old ones go. That takes as long as the new ones need to catch up (`consentersChanged`).
 */
import type { DeviceId, Hash, Milliseconds } from '../chain/brands.ts'
import {
  type Consenter,
  type ConsenterSet,
  checkConsenterSet,
  consenterSet,
  type QuorumPolicy,
  signersHash,
} from '../chain/consenters.ts'
import { errorTable } from '../chain/errors.ts'
import { countsAsApproval } from '../chain/execute-governance.ts'
import { keyIdOf, type PublicKey } from '../chain/keys.ts'
import {
  type ChainParameters,
  findKey,
  type IdentityRecord,
  type IdentityStatus,
  isKeyValidAt,
  type KeyEntry,
} from '../chain/records.ts'
import { MoteError } from '../chain/result.ts'
import type { ChainClient } from './chain-client.ts'
import type { IdentityKeys } from './key-directory.ts'
import type { FinalTransaction, SubmitOptions } from './submission.ts'
import type { Verified } from './verified-chain.ts'

/** What an authority approved of last. */
export interface Approval {
  readonly authority: DeviceId
  readonly status: IdentityStatus
  readonly target: ConsenterSet
  /** False once it is void: the parameters have changed since, or the authority is not active. */
  readonly counts: boolean
}

/** The consenters, a decision that waits for its handover, and what would be decided next: all as of one height. */
export type ConsenterState = ReadParameters & { readonly approvals: readonly Approval[] }

export interface ConsentersChange {
  readonly nodes: readonly DeviceId[]
  /** The present one unless said otherwise. */
  readonly policy?: QuorumPolicy
}

export interface ConsentersDecision {
  readonly target: ConsenterSet
  readonly state: ConsenterState
  /** True if the target is what is decided on, or certifies already. */
  readonly decided: boolean
  /** Approvals that the target lacks; 0 if it is decided. */
  readonly missingApprovals: number
  /** Undefined if there was nothing to do. */
  readonly transaction: FinalTransaction | undefined
}

type ReadParameters = Verified<ChainParameters> & { readonly value: ChainParameters }

/** Rounds in which the head may move between the reads, before that counts as a failure. */
const readRounds = 4

/** Reads all of it, verified. Throws `stale` if the head moves faster than the proofs arrive. */
export async function readConsenters(client: ChainClient): Promise<ConsenterState> {
  for (let round = 0; round < readRounds; round++) {
    const { authorities } = (await readParameters(client)).value
    const approvals = await Promise.all(authorities.map(({ id }) => readApproval(client, id)))
    // Asked for again, what still stands costs no request, and all of it is as of one head.
    const parameters = await readParameters(client)
    if (approvals.some(({ heights }) => heights.some(height => height !== parameters.height))) continue
    return {
      ...parameters,
      approvals: approvals.flatMap(({ authority, status, slot }) => {
        if (!slot || !status) return []
        const isInForce = countsAsApproval(slot, parameters.value, signersHash(slot.target))
        return [{ authority, status, target: slot.target, counts: status === 'active' && isInForce }]
      }),
    }
  }
  throw new MoteError('stale', 'consenters: the head moves faster than the proofs arrive; ask again')
}

async function readParameters(client: ChainClient): Promise<ReadParameters> {
  const parameters = await client.records.parameters()
  const { value } = parameters
  if (!value) throw new MoteError('bad-proof', 'parameters: every state has them, and they are proven absent')
  return { ...parameters, value }
}

async function readApproval(client: ChainClient, authority: DeviceId) {
  const [slot, record] = await Promise.all([
    client.records.approval(authority),
    client.records.device(authority),
  ])
  const heights = [slot.height, record.height]
  return { authority, slot: slot.value, status: record.value?.status, heights }
}

/** The set that signs from now on, or that is decided on to do so. */
export function decidedConsenters({ consenters, nextConsenters }: ChainParameters): ConsenterSet {
  return nextConsenters ?? consenters
}

/** Approvals that the target lacks to be decided on. */
export function missingApprovals({ value, approvals }: ConsenterState, target: Hash): number {
  const given = approvals.filter(approval => approval.counts && signersHash(approval.target) === target)
  return Math.max(0, value.threshold - given.length)
}

/**
 * The operator approves of these nodes as consenters, unless that is done already. The present nodes take a pending
 * decision back. Throws `unknown-subject`, `invalid-state`, `label-not-allowed`, `key-not-valid` for nodes that cannot be
 * consenters, `usage` for too few, too many or a policy too strict for them, and `not-authorised` for who is no authority.
 */
export async function setConsenters(
  client: ChainClient,
  operator: IdentityKeys,
  change: ConsentersChange,
  options?: SubmitOptions,
): Promise<ConsentersDecision> {
  await client.follower.sync()
  const before = await readConsenters(client)
  const target = await targetOf(client, before.value, change)
  const hash = signersHash(target)
  const own = before.approvals.find(({ authority, counts }) => authority === operator.id && counts)
  const isDecided = signersHash(decidedConsenters(before.value)) === hash
  // An approval of something else that still counts is replaced even so: it may be decided on later.
  const isDone = own ? signersHash(own.target) === hash : isDecided
  const transaction = isDone
    ? undefined
    : await client.perform(operator, { type: 'governance.consenters', target }, options)
  const state = transaction ? await readConsenters(client) : before
  const decided = signersHash(decidedConsenters(state.value)) === hash
  return {
    target,
    state,
    decided,
    missingApprovals: decided ? 0 : missingApprovals(state, hash),
    transaction,
  }
}

/** The set of these nodes. Who is a consenter keeps the key it signs with, others get the newest signing key they have. */
async function targetOf(
  client: ChainClient,
  { consenters: present }: ChainParameters,
  { nodes, policy = present.policy }: ConsentersChange,
): Promise<ConsenterSet> {
  const consenters = await Promise.all(
    [...new Set(nodes)].map(async (id): Promise<Consenter> => {
      const { value, time } = await client.records.device(id)
      if (!value) throw new MoteError('unknown-subject', `consenter ${id}: not on the chain`)
      if (value.status !== 'active')
        throw new MoteError('invalid-state', `consenter ${id}: expected active, got ${value.status}`)
      if (value.label !== 'full')
        throw new MoteError('label-not-allowed', `consenter ${id}: expected a full node, got ${value.label}`)
      const key = keyOf(value, time, present.consenters.find(consenter => consenter.id === id)?.key)
      if (!key) throw new MoteError('key-not-valid', `consenter ${id}: has no valid signing key`)
      return { id, key }
    }),
  )
  const target = consenterSet(consenters, policy)
  const sound = checkConsenterSet(target)
  if (!sound.ok) throw new MoteError('usage', sound.error.detail)
  return target
}

function keyOf(
  record: IdentityRecord,
  now: Milliseconds,
  present: PublicKey | undefined,
): PublicKey | undefined {
  const kept = present && findKey(record, keyIdOf(present))
  if (kept && isKeyValidAt(kept, now)) return present
  return record.keys.findLast(
    (entry): entry is Extract<KeyEntry, { purpose: 'sign' }> =>
      entry.purpose === 'sign' && isKeyValidAt(entry, now),
  )?.key
}

/**
 * Resolves when the certified head names these consenters as signers. Rejects with the reason of `signal`, and with
 * `invalid-state` if something else was decided on meanwhile.
 * @param onChange told of the state whenever the parameters or an approval changed
 */
export async function consentersChanged(
  client: ChainClient,
  target: ConsenterSet,
  options: { readonly signal: AbortSignal; readonly onChange?: (state: ConsenterState) => void },
): Promise<ConsenterState> {
  const { signal, onChange } = options
  const hash = signersHash(target)
  const stop = new AbortController()
  const following = client.follower.run(AbortSignal.any([signal, stop.signal]))
  let wasDecided = false
  let reported: string | undefined
  try {
    for (;;) {
      const advanced = nextHead(client, signal)
      const state = await readIfPossible(client)
      if (state) {
        const isDecided = signersHash(decidedConsenters(state.value)) === hash
        if (isDecided || wasDecided) {
          if (signersHash(state.value.consenters) === hash) return state
          if (!isDecided)
            throw new MoteError('invalid-state', 'consenters: something else has been decided on meanwhile')
        }
        wasDecided = isDecided
        const now = JSON.stringify([state.value.version, missingApprovals(state, hash)])
        if (now !== reported) onChange?.(state)
        reported = now
      }
      await advanced
    }
  } finally {
    stop.abort()
    await following
  }
}

/** Undefined while the nodes are busy with something else, leaving or electing say: the next head is another chance. */
async function readIfPossible(client: ChainClient): Promise<ConsenterState | undefined> {
  try {
    return await readConsenters(client)
  } catch (error) {
    if (error instanceof MoteError && errorTable[error.code].retry) return undefined
    throw error
  }
}

/** Resolves with the next advance of the head; rejects when the signal fires. */
function nextHead({ follower }: ChainClient, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const detach = follower.onAdvance(() => resolve())
  const stop = () => reject(signal.reason)
  if (signal.aborted) stop()
  signal.addEventListener('abort', stop, { once: true })
  const ended = promise.finally(() => {
    detach()
    signal.removeEventListener('abort', stop)
  })
  // The waiting caller sees the rejection; one during a read must not end the program as unhandled.
  ended.catch(() => {})
  return ended
}
