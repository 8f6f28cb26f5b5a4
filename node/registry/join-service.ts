/**
 * What a coordination node does with join messages (client/join-messages.ts): challenges, registrations, assignments.
 * First the service, with the clock, the chain and the registry around it; then the judging, which is pure: challenges and the form of
 * a registration. Who serves whom is in live-nodes.ts.
 */

import { randomBytes } from 'node:crypto'
import { type ChainId, type DeviceId, Height, type Milliseconds } from '../../chain/brands.ts'
import { decode, encode } from '../../chain/codec.ts'
import { deviceIdOf, type SignatureVerifier } from '../../chain/keys.ts'
import { RecentMap } from '../../chain/recent-map.ts'
import { judgeRegistration, type RegistrationFacts } from '../../chain/registration.ts'
import { assertNever, MoteError, ok, type Result, refuse, unwrap } from '../../chain/result.ts'
import {
  type CoordinatorChallenge,
  type ParsedTransaction,
  parsedSigningBytes,
  parseTransaction,
  type RegisterBody,
} from '../../chain/transaction.ts'
import { shareOf } from '../../client/address-shares.ts'
import type { ChainClient } from '../../client/chain-client.ts'
import { Deadline } from '../../client/deadline.ts'
import {
  type Assignment,
  type JoinReply,
  type JoinRequest,
  joinReplyCodec,
  joinRequestCodec,
  maxJoinMessageBytes,
  type NodeAddress,
} from '../../client/join-messages.ts'
import { nativeVerifier } from '../../client/native-crypto.ts'
import type { Clock } from '../ports.ts'
import { assign, type LiveNodes } from './live-nodes.ts'

/** A registration must be certified within this time: less than a libp2p answer may take. */
const certifyTimeoutMs = 20_000
/** A grant that is not on the chain is looked for this long. */
const grantPatienceMs = 500
/** Devices whose latest assignment is remembered. */
const maxKnownAssignments = 100_000

export interface JoinServiceParts {
  readonly client: ChainClient
  readonly live: LiveNodes
  readonly clock: Clock
  readonly coordinator: DeviceId
  readonly verifier?: SignatureVerifier
  readonly log: { info(detail: object, message: string): void }
}

export class JoinService {
  readonly #client: ChainClient
  readonly #live: LiveNodes
  readonly #clock: Clock
  readonly #verifier: SignatureVerifier
  readonly #log: JoinServiceParts['log']
  readonly #challenges: ChallengeTable
  /** The full nodes that each device was last assigned to, the serving one first. */
  readonly #knownAssignments = new RecentMap<DeviceId, readonly DeviceId[]>(maxKnownAssignments)

  constructor({ client, live, clock, coordinator, verifier, log }: JoinServiceParts) {
    this.#client = client
    this.#live = live
    this.#clock = clock
    this.#verifier = verifier ?? nativeVerifier
    this.#log = log
    this.#challenges = new ChallengeTable(coordinator, () => Uint8Array.from(randomBytes(16)))
  }

  /** The answer to one join message. Throws the refusal. */
  async answer(address: string, body: Uint8Array): Promise<Uint8Array> {
    const request = unwrap(decode(joinRequestCodec, body, maxJoinMessageBytes))
    return encode(joinReplyCodec, await this.#reply(shareOf(address), request))
  }

  /** The full nodes this device was last assigned to, the serving one first; undefined if it never asked. */
  knownAssignment(device: DeviceId): readonly DeviceId[] | undefined {
    return this.#knownAssignments.get(device)
  }

  /** True if the device's latest assignment names other full nodes than serve and back up now. */
  isOutdated(device: DeviceId): boolean {
    const known = this.#knownAssignments.get(device)
    const now = assign(device, this.#live.all())
    return known !== undefined && now !== undefined && known.join() !== idsOf(now).join()
  }

  /** Who serves an active device now. Throws `unknown-subject`, `signer-not-active`, `no-full-node`. */
  async assignmentOf(device: DeviceId): Promise<Assignment> {
    let { value } = await this.#client.records.device(device)
    if (!value) {
      await this.#client.follower.sync()
      value = (await this.#client.records.device(device)).value
    }
    if (!value) throw new MoteError('unknown-subject', `device ${device}: not on the chain`)
    if (value.status !== 'active')
      throw new MoteError('signer-not-active', `device ${device}: ${value.status}`)
    return this.#assign(device)
  }

  async #reply(host: string, request: JoinRequest): Promise<JoinReply> {
    switch (request.type) {
      case 'challenge':
        return this.#challenge(host, request)
      case 'register':
        return this.#register(request.transaction)
      case 'assignment':
        return { type: 'assignment', assignment: await this.assignmentOf(request.device) }
      default:
        return assertNever(request)
    }
  }

  #challenge(host: string, request: Extract<JoinRequest, { type: 'challenge' }>): JoinReply {
    const { chainId } = this.#client
    if (request.chainId !== chainId)
      throw new MoteError('wrong-chain', `chainId: expected ${chainId}, got ${request.chainId}`)
    this.#mustHaveFullNode()
    const challenge = unwrap(
      this.#challenges.issue(request.device, host, {
        at: this.#clock.steady(),
        time: this.#client.records.time(),
      }),
    )
    return { type: 'challenge', ...challenge, lifetimeMs: challengeLifetimeMs }
  }

  async #register(transaction: Uint8Array): Promise<JoinReply> {
    const parsed = unwrap(parseTransaction(transaction))
    const registration = unwrap(readRegistration(parsed, this.#client.chainId, this.#verifier))
    const { device, body } = registration
    this.#mustHaveFullNode()
    unwrap(this.#challenges.redeem(body.challenge, device, this.#clock.steady()))
    await this.#client.follower.sync()
    unwrap(judgeRegistration(device, body, await this.#factsFor(registration)))
    const { height } = await this.#client.submit(transaction, { timeoutMs: certifyTimeoutMs })
    const admitted = await this.#client.records.device(device)
    if (admitted.value?.status !== 'active')
      throw new MoteError('not-authorised', `device ${device}: ${admitted.value?.status ?? 'not registered'}`)
    const assignment = this.#assign(device)
    this.#log.info({ device, height, fullNode: assignment.fullNode.id }, 'a device joined')
    return { type: 'registered', height, assignment }
  }

  /** A token is used as soon as some full node has shown its grant, and the one that is asked here may be a block behind that one. */
  async #factsFor(registration: Registration): Promise<RegistrationFacts> {
    const { follower } = this.#client
    const deadline = new Deadline(grantPatienceMs)
    for (;;) {
      const facts = await this.#factsNow(registration)
      if (facts.grant || deadline.isOver) return facts
      const next = Height(follower.head.header.height + 1)
      await follower.reach(next, deadline.remainingMs).catch(() => {})
    }
  }

  async #factsNow({ device, body }: Registration): Promise<RegistrationFacts> {
    const { records, chainId } = this.#client
    const [parameters, identity, grant, coordinator] = await Promise.all([
      records.parameters(),
      records.device(device),
      records.grant(body.grant),
      records.device(body.challenge.coordinator),
    ])
    if (!parameters.value) throw new MoteError('not-ready', 'parameters: not on the chain')
    const operator = grant.value && (await records.device(grant.value.operator)).value
    return {
      chainId,
      time: this.#client.records.time(),
      verification: this.#verifier,
      parameters: parameters.value,
      identity: identity.value,
      grant: grant.value,
      operator,
      coordinator: coordinator.value,
    }
  }

  #assign(device: DeviceId): Assignment {
    const assigned = assign(device, this.#live.all())
    if (!assigned) throw new MoteError('no-full-node', 'no full node is alive')
    this.#knownAssignments.set(device, idsOf(assigned))
    return { fullNode: addressOf(assigned.fullNode), backups: assigned.backups.map(addressOf) }
  }

  #mustHaveFullNode(): void {
    if (this.#live.all().length === 0) throw new MoteError('no-full-node', 'no full node is alive')
  }
}

function idsOf({
  fullNode,
  backups,
}: {
  readonly fullNode: NodeAddress
  readonly backups: readonly NodeAddress[]
}): readonly DeviceId[] {
  return [fullNode.id, ...backups.map(({ id }) => id)]
}

function addressOf({ id, api, addresses, signed }: NodeAddress): NodeAddress {
  return { id, api, addresses, signed }
}

/*
 * The counter at which newcomers are received (Qiu A3, A6): challenges, and the form of a registration. The records are
 * judged by chain/registration.ts, as execution judges them again: a verdict here admits nobody.
 *
 * Invariants: a challenge is good once, for `challengeLifetimeMs`, for the device that asked; memory is bounded, and
 * what one address asks for pushes out only its own challenges.
 */

/** How long a challenge is good. */
export const challengeLifetimeMs = 30_000
const maxChallenges = 4096
const maxChallengesPerAddress = 64

interface OpenChallenge extends CoordinatorChallenge {
  readonly device: DeviceId
  readonly address: string
  /** By the steady clock. */
  readonly at: number
}

/** The challenges that are out. */
export class ChallengeTable {
  readonly #coordinator: DeviceId
  readonly #random: () => Uint8Array
  /** By nonce, oldest first. */
  readonly #open = new Map<string, OpenChallenge>()

  /** @param random 16 unpredictable bytes each time */
  constructor(coordinator: DeviceId, random: () => Uint8Array) {
    this.#coordinator = coordinator
    this.#random = random
  }

  get size(): number {
    return this.#open.size
  }

  /**
   * A new challenge for a device, `at` a moment of the steady clock that lifetimes go by, and at a `time` of the chain, which
   * the registration has to be near. Refuses `overloaded` when too many are out. */
  issue(
    device: DeviceId,
    address: string,
    { at, time }: { at: number; time: Milliseconds },
  ): Result<CoordinatorChallenge> {
    this.#dropOver(at)
    const own = [...this.#open].filter(([, challenge]) => challenge.address === address)
    const [oldest] = own
    if (own.length >= maxChallengesPerAddress && oldest) this.#open.delete(oldest[0])
    if (this.#open.size >= maxChallenges) return refuse('overloaded', 'challenges: too many are out')
    const nonce = this.#random()
    const challenge = { coordinator: this.#coordinator, nonce, issuedAt: time }
    this.#open.set(keyOf(nonce), { ...challenge, device, address, at })
    return ok(challenge)
  }

  /** Takes a challenge back: from now on it is void, whatever becomes of the request. Refuses `challenge-expired`. */
  redeem(challenge: CoordinatorChallenge, device: DeviceId, at: number): Result<void> {
    const open = this.#open.get(keyOf(challenge.nonce))
    this.#open.delete(keyOf(challenge.nonce))
    if (challenge.coordinator !== this.#coordinator)
      return refuse('challenge-expired', `coordinator: expected ${this.#coordinator}`)
    if (!open || open.device !== device || open.issuedAt !== challenge.issuedAt)
      return refuse('challenge-expired', 'challenge: not given to this device, or used already')
    if (at - open.at > challengeLifetimeMs)
      return refuse('challenge-expired', `challenge: good for ${challengeLifetimeMs} ms`)
    return ok(undefined)
  }

  #dropOver(now: number): void {
    for (const [key, { at }] of this.#open) {
      if (now - at <= challengeLifetimeMs) return
      this.#open.delete(key)
    }
  }
}

function keyOf(nonce: Uint8Array): string {
  return Buffer.from(nonce).toString('hex')
}

/** A register transaction that has the right form; its records are not looked at yet. */
export interface Registration {
  readonly device: DeviceId
  readonly body: RegisterBody
}

/** The registration in a transaction whose signature is its device's own. No state needed, so this comes first. */
export function readRegistration(
  parsed: ParsedTransaction,
  chainId: ChainId,
  verifier: SignatureVerifier,
): Result<Registration> {
  const { body, signer, chainId: named } = parsed.unsigned
  if (body.type !== 'identity.register')
    return refuse('malformed', `transaction: expected identity.register, got ${body.type}`)
  if (named !== chainId) return refuse('wrong-chain', `chainId: expected ${chainId}, got ${named}`)
  const device = deviceIdOf(body.inceptionKey)
  if (signer.deviceId !== device)
    return refuse('possession-not-proven', `signer: expected ${device}, the id of the inception key`)
  if (!verifier.verify(body.inceptionKey, parsedSigningBytes(parsed), parsed.signature))
    return refuse('bad-signature', 'signature: does not verify under the inception key')
  return ok({ device, body })
}
