/**
 * Who is connected, and whether they still may be.
 *
 * A connection opens with an assertion (assertion.ts), a credential (credential-password.ts) or a client certificate, each checked against certified
 * state, and is cut when a later block makes the device, the key or the credential invalid: the change lists of the
 * headers name the records to look at again, and what expires is looked at whenever there is a new header. A
 * record that cannot be looked up again counts as invalid.
 *
 * Of a certificate only name, key and times count: the chain, and no authority, says whose key it is.
 *
 * The client id is the device id, or the device id, a dot and up to 16 letters or digits: one device may hold several
 * connections, since MQTT ends the older one of two with the same client id [MQTT-3.1.4-2].
 */

import { type DeviceId, type Hash, isDigest, type KeyId, type Milliseconds } from '../../chain/brands.ts'
import { type Credential, type CredentialScope, credentialHash } from '../../chain/credentials.ts'
import type { ErrorCode } from '../../chain/errors.ts'
import { keyIdOf, type PublicKey, type SignatureVerifier } from '../../chain/keys.ts'
import { RecentMap } from '../../chain/recent-map.ts'
import { findKey, isKeyValidAt, stateKeyOf } from '../../chain/records.ts'
import { MoteError, ok, type Result, refuse } from '../../chain/result.ts'
import { checkFresh } from '../../client/freshness.ts'
import { type Assertion, checkAssertionTime, parseAssertion, verifyAssertion } from '../protocol/assertion.ts'
import { parsePassword } from '../protocol/credential-password.ts'
import type { TrustAdvance, TrustView } from '../protocol/trust.ts'
import { judgedAsOfNow } from './as-of-now.ts'
import { type BrokerSession, type ClientCertificate, type Login, mayPassLater } from './broker.ts'
import { checkCredential } from './credential-check.ts'
import { defaultUnknownDeviceLimits, UnknownDevices } from './unknown-devices.ts'

export interface Session extends BrokerSession {
  readonly device: DeviceId
  readonly login: SessionLogin
}

/** What a session was opened with, and stands on: the key of its assertion or certificate, or a credential. */
export type SessionLogin =
  | {
      readonly type: 'key'
      readonly keyId: KeyId
      /** When the certificate expires that it was shown in. */
      readonly certificateUntil?: Milliseconds
    }
  | {
      readonly type: 'credential'
      readonly hash: Hash
      /** As it was when the session was opened; unknown before that. */
      readonly scope?: CredentialScope
    }
  /** An account at a broker that others wrote, which the gateway keeps equal to the chain (account-keeper.ts). */
  | { readonly type: 'account' }

/** What certified state has of a session's login. */
type Standing =
  | { readonly type: 'key'; readonly key: PublicKey }
  | { readonly type: 'credential'; readonly credential: Credential }
  | { readonly type: 'account' }

/** A session that must end, and why. */
export interface CutSession {
  readonly session: Session
  readonly code: ErrorCode
  readonly reason: string
}

/** Connections that one device may hold at the same time. */
export const maxSessionsPerDevice = 8
/** Assertions remembered until they expire: a minute of connections. */
const maxUsedAssertions = 100_000
/** Devices remembered at least, twice as many at most, that have connected: they are looked up whatever strangers did. */
const maxKnownDevices = 8192

export interface SessionsOptions {
  readonly trust: TrustView
  readonly verifier: SignatureVerifier
  readonly trustTtlMs: number
}

export class Sessions {
  readonly #options: SessionsOptions
  readonly #byClientId = new Map<string, Session>()
  /**
   * When sessions are looked at again, whatever a block changes: when their keys or certificates end, as far as that was known when they
   * were last looked at; with the next header where the chain was out of reach.
   */
  readonly #dueAt = new WeakMap<Session, number>()
  readonly #used = new UsedAssertions(maxUsedAssertions)
  readonly #unknown = new UnknownDevices(defaultUnknownDeviceLimits)
  readonly #known = new RecentMap<DeviceId, true>(maxKnownDevices)

  constructor(options: SessionsOptions) {
    this.#options = options
  }

  get count(): number {
    return this.#byClientId.size
  }

  /** The devices that have a connection, each as often as it has one. */
  devices(): readonly DeviceId[] {
    return [...this.#byClientId.values()].map(({ device }) => device)
  }

  /** The session behind a broker's handle, unless it was closed, cut, or taken over by a newer connection. */
  find(handle: BrokerSession): Session | undefined {
    const session = this.#byClientId.get(handle.clientId)
    return session === handle ? session : undefined
  }

  /** Opens a session if the assertion, the password or the certificate holds against certified state. Refuses with the reason otherwise. */
  async open(login: Login): Promise<Result<Session>> {
    const { clientId, username, password, certificate } = login
    const device = deviceOfClientId(clientId)
    const needsName = password !== undefined || username !== ''
    if (device === undefined || (needsName && username !== device))
      return refuse('assertion-invalid', 'clientId: expected the device id, which is the username too')
    if (login.isAccount) return this.#openByAccount(device, login)
    if (password === undefined)
      return certificate
        ? this.#openByCertificate(device, login, certificate)
        : refuse('assertion-invalid', 'password: expected one, or a client certificate')
    const bytes = parsePassword(password)
    return bytes ? this.#openByPassword(device, login, bytes) : this.#openByAssertion(device, login, password)
  }

  /** Whether a session's login, which may have been closed, would hold now. Refuses like `open`. */
  async stillStands(session: Session): Promise<Result<void>> {
    const standing = await this.#lookUp(session, '')
    return standing.ok ? ok(undefined) : standing
  }

  async #openByCertificate(
    device: DeviceId,
    { clientId, address }: Login,
    { commonName, key, notBefore, notAfter }: ClientCertificate,
  ): Promise<Result<Session>> {
    if (commonName !== device)
      return refuse(
        'credential-invalid',
        `certificate: expected CN=${device}, got ${printableName(commonName)}`,
      )
    if (!key) return refuse('credential-invalid', 'certificate: expected a key of Ed25519 or P-256')
    const now = this.#options.trust.now()
    if (now < notBefore || now >= notAfter)
      return refuse(
        'credential-invalid',
        `certificate: valid from ${isoTime(notBefore)} to ${isoTime(notAfter)}`,
      )
    const login = { type: 'key', keyId: keyIdOf(key), certificateUntil: notAfter } as const
    const session: Session = { clientId, device, login }
    const valid = await this.#lookUp(session, address)
    return valid.ok ? this.#admit(session) : valid
  }

  /**
   * The broker has checked whose account it is, and each message is ruled on by itself. So a chain that is out of reach refuses no
   * session here: its messages get a verdict that says so.
   */
  async #openByAccount(device: DeviceId, { clientId, asOfNow }: Login): Promise<Result<Session>> {
    const session: Session = { clientId, device, login: { type: 'account' } }
    const admit = async (): Promise<Result<Session>> => {
      const admitted = await this.#admit(session)
      if (admitted.ok || !mayPassLater(admitted.error.code)) return admitted
      this.#byClientId.set(clientId, session)
      this.#dueAt.set(session, 0)
      return ok(session)
    }
    return asOfNow ? judgedAsOfNow(admit, this.#options) : admit()
  }

  async #openByPassword(device: DeviceId, login: Login, password: Uint8Array): Promise<Result<Session>> {
    if (!login.isPrivate)
      return refuse(
        'not-authorised',
        'password: taken over loopback or TLS only, since who reads it can use it',
      )
    const { clientId, address } = login
    const named = {
      type: 'credential',
      hash: credentialHash(this.#options.trust.chainId, device, password),
    } as const
    const valid = await this.#lookUp({ clientId, device, login: named }, address)
    if (!valid.ok || valid.value.type !== 'credential')
      return valid.ok ? refuse('internal', 'no credential') : valid
    return this.#admit({ clientId, device, login: { ...named, scope: valid.value.credential.scope } })
  }

  async #openByAssertion(
    device: DeviceId,
    { clientId, address }: Login,
    password: string,
  ): Promise<Result<Session>> {
    const parsed = parseAssertion(password)
    if (!parsed.ok) return parsed
    const { assertion } = parsed.value
    if (assertion.device !== device)
      return refuse('assertion-invalid', `assertion.device: expected ${device}, got ${assertion.device}`)
    const { trust, verifier } = this.#options
    const timely = checkAssertionTime(assertion, trust.chainId, {
      head: trust.head().time,
      now: trust.now(),
    })
    if (!timely.ok) return timely
    const session: Session = { clientId, device, login: { type: 'key', keyId: assertion.keyId } }
    const valid = await this.#lookUp(session, address)
    if (!valid.ok) return valid
    if (valid.value.type !== 'key' || !verifyAssertion(parsed.value, valid.value.key, verifier))
      return refuse('bad-signature', `assertion: does not verify under key ${assertion.keyId}`)
    const used = this.#used.use(assertion, trust.head().time)
    return used.ok ? this.#admit(session) : used
  }

  /** What the session stands on, if certified state has it. */
  async #lookUp(session: Session, address: string): Promise<Result<Standing>> {
    const { trust, trustTtlMs } = this.#options
    const fresh = checkFresh(trust.ageMs(), trustTtlMs)
    if (!fresh.ok) return fresh
    return this.#known.get(session.device)
      ? this.#check(session)
      : this.#unknown.inTurn(() => this.#checkUnknown(session, address))
  }

  async #admit(session: Session): Promise<Result<Session>> {
    const { clientId, device } = session
    const others = [...this.#byClientId.values()].filter(other => other.device === device)
    if (others.length >= maxSessionsPerDevice && !this.#byClientId.has(clientId))
      return refuse('limit-exceeded', `sessions: ${device} has ${others.length} connections`)
    this.#byClientId.set(clientId, session)
    this.#known.set(device, true)
    // The chain may have gone on since the first look; from here on `reviewAfter` watches.
    const still = await this.#check(session)
    if (still.ok) return ok(session)
    this.close(session)
    return still
  }

  close(handle: BrokerSession): void {
    if (this.find(handle)) this.#byClientId.delete(handle.clientId)
  }

  /** The sessions that a step of the chain ended. They are closed here; the caller cuts their connections. */
  async reviewAfter({ changed }: TrustAdvance): Promise<readonly CutSession[]> {
    const now = this.#options.trust.now()
    const touched = [...this.#byClientId.values()].filter(
      session =>
        session.login.type === 'credential' ||
        now >= (this.#dueAt.get(session) ?? Number.POSITIVE_INFINITY) ||
        changed === 'unknown' ||
        changed.has(stateKeyOf.identity(session.device)),
    )
    const cuts = await Promise.all(
      touched.map(async (session): Promise<CutSession | undefined> => {
        const valid = await this.#check(session)
        return valid.ok ? undefined : { session, code: cutCode(valid.error.code), reason: valid.error.detail }
      }),
    )
    const ended = cuts.filter(cut => cut !== undefined)
    for (const { session } of ended) this.close(session)
    return ended
  }

  /** The same for a device that has not connected lately. Refuses `overloaded` where too many like it were no devices. */
  async #checkUnknown(session: Session, address: string): Promise<Result<Standing>> {
    if (!this.#unknown.mayAsk(address))
      return refuse(
        'overloaded',
        `connections: too many from ${address} named a device that is not on the chain`,
      )
    const valid = await this.#check(session)
    if (!valid.ok && valid.error.code === 'unknown-signer') this.#unknown.count(address)
    return valid
  }

  /** What the session stands on, if certified state lets it act now. */
  async #check(session: Session): Promise<Result<Standing>> {
    const { trust } = this.#options
    const { device, login } = session
    try {
      const { value: record } = await trust.device(device)
      if (!record) return refuse('unknown-signer', `device ${device} is not on the chain`)
      if (record.status !== 'active')
        return refuse('signer-not-active', `device ${device} is ${record.status}`)
      if (login.type === 'account') {
        this.#dueAt.delete(session)
        return ok({ type: 'account' })
      }
      if (login.type === 'credential') {
        const credential = await checkCredential(trust, device, login.hash)
        if (!credential.ok) return credential
        const { scope = credential.value.scope } = login
        return scope === credential.value.scope
          ? ok({ type: 'credential', credential: credential.value })
          : refuse('credential-invalid', `scope: was ${scope}, is ${credential.value.scope}`)
      }
      const { keyId } = login
      const entry = findKey(record, keyId)
      if (entry?.purpose !== 'sign' || !isKeyValidAt(entry, trust.now()))
        return refuse('key-not-valid', `key ${keyId} is no valid signing key of ${device}`)
      const { certificateUntil = Number.POSITIVE_INFINITY } = login
      if (trust.now() >= certificateUntil)
        return refuse('credential-invalid', `certificate: expired ${isoTime(certificateUntil)}`)
      this.#dueAt.set(session, Math.min(certificateUntil, entry.notAfter ?? Number.POSITIVE_INFINITY))
      return ok({ type: 'key', key: entry.key })
    } catch (error) {
      if (error instanceof MoteError) return refuse(error.code, error.detail)
      throw error
    }
  }
}

function isoTime(time: number): string {
  return new Date(time).toISOString()
}

/** At most 64 printable characters: a stranger chose it. */
function printableName(name: string | undefined): string {
  return name === undefined ? 'none' : `'${name.slice(0, 64).replace(/[^ -~]/g, '?')}'`
}

function cutCode(code: ErrorCode): ErrorCode {
  return code === 'signer-not-active' || code === 'unknown-signer' ? 'device-revoked' : code
}

/** The device of a client id, if it has the form of one. */
export function deviceOfClientId(clientId: string): DeviceId | undefined {
  const [device = '', suffix, ...rest] = clientId.split('.')
  if (!isDigest(device) || rest.length > 0) return undefined
  return suffix === undefined || /^[A-Za-z0-9]{1,16}$/.test(suffix) ? (device as DeviceId) : undefined
}

/** The assertions that were used and have not expired: bounded, and when it is full a new one is refused rather than an old one forgotten. */
export class UsedAssertions {
  readonly #maxEntries: number
  readonly #expiryOf = new Map<string, Milliseconds>()

  constructor(maxEntries: number) {
    this.#maxEntries = maxEntries
  }

  /**
   * Marks an assertion as used. Refuses `assertion-used`, or `overloaded` when there is no room to remember it.
   * @param head time by which it is judged what has expired
   */
  use(assertion: Assertion, head: Milliseconds): Result<void> {
    const name = `${assertion.device}/${Buffer.from(assertion.nonce).toString('hex')}`
    if (this.#expiryOf.has(name))
      return refuse('assertion-used', 'password: this assertion opened a connection before')
    if (this.#expiryOf.size >= this.#maxEntries) this.#forgetExpired(head)
    if (this.#expiryOf.size >= this.#maxEntries)
      return refuse('overloaded', `assertions: ${this.#maxEntries} are in use and not expired`)
    this.#expiryOf.set(name, assertion.expiresAt)
    return ok(undefined)
  }

  #forgetExpired(head: Milliseconds): void {
    for (const [name, expiresAt] of this.#expiryOf) if (expiresAt <= head) this.#expiryOf.delete(name)
  }
}
