/**
 * The counter at which newcomers are received (Qiu A3, A6): challenges, and the form of a registration. The records are
 * judged by chain/registration.ts, as execution judges them again: a verdict here admits nobody.
 *
 * Invariants: a challenge is good once, for `challengeLifetimeMs`, for the device that asked; memory is bounded, and
 * what one address asks for pushes out only its own challenges.
 */
import type { ChainId, DeviceId, Milliseconds } from '../chain/brands.ts'
import { deviceIdOf, type SignatureVerifier } from '../chain/keys.ts'
import { ok, type Result, refuse } from '../chain/result.ts'
import {
  type CoordinatorChallenge,
  type ParsedTransaction,
  parsedSigningBytes,
  type RegisterBody,
} from '../chain/transaction.ts'

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
