/**
 * What a coordination node does with join messages (client/join-messages.ts): challenges, registrations, assignments.
 * The judging is in join-desk.ts and assignment.ts, pure; here are the clock, the chain and the registry around it.
 */
import { randomBytes } from 'node:crypto'
import type { DeviceId } from '../chain/brands.ts'
import { decode, encode } from '../chain/codec.ts'
import type { SignatureVerifier } from '../chain/keys.ts'
import { judgeRegistration, type RegistrationFacts } from '../chain/registration.ts'
import { assertNever, MoteError, unwrap } from '../chain/result.ts'
import { parseTransaction } from '../chain/transaction.ts'
import type { ChainClient } from '../client/chain-client.ts'
import {
  type Assignment,
  type JoinReply,
  type JoinRequest,
  joinReplyCodec,
  joinRequestCodec,
  maxJoinMessageBytes,
  type NodeAddress,
} from '../client/join-messages.ts'
import { nativeVerifier } from '../client/native-crypto.ts'
import { assign } from './assignment.ts'
import { ChallengeTable, challengeLifetimeMs, type Registration, readRegistration } from './join-desk.ts'
import type { LiveNodes } from './live-nodes.ts'
import type { Clock } from './ports.ts'

/** A registration must be certified within this time: less than a libp2p answer may take. */
const certifyTimeoutMs = 20_000
/** Devices of which it is remembered what they were told. */
const maxTold = 100_000

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
  /** Who was told of which full nodes, the serving one first. Oldest first. */
  readonly #told = new Map<DeviceId, readonly DeviceId[]>()

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
    return encode(joinReplyCodec, await this.#reply(hostOf(address), request))
  }

  /** The full nodes this device was last told of, the serving one first; undefined if it never asked. */
  told(device: DeviceId): readonly DeviceId[] | undefined {
    return this.#told.get(device)
  }

  /** True if the device was told of other full nodes than serve and back up now. */
  isOutdated(device: DeviceId): boolean {
    const told = this.#told.get(device)
    const now = assign(device, this.#live.all())
    return told !== undefined && now !== undefined && told.join() !== idsOf(now).join()
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

  async #factsFor({ device, body }: Registration): Promise<RegistrationFacts> {
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
    this.#told.delete(device)
    this.#told.set(device, idsOf(assigned))
    const [oldest] = this.#told.keys()
    if (this.#told.size > maxTold && oldest) this.#told.delete(oldest)
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

function addressOf({ id, api, addresses }: NodeAddress): NodeAddress {
  return { id, api, addresses }
}

/** An IP address, or the part of a multiaddr that names the host. */
function hostOf(address: string): string {
  return address.startsWith('/') ? address.split('/').slice(0, 3).join('/') : address
}
