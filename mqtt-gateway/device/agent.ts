/**
 * The agent on a device (Hsu C1): seals and signs what the application sends, verifies and opens what arrives.
 * `mote device send` and `listen` are thin layers over it.
 *
 * It never trusts the gateway with content or with identity; it does believe its verdict on whether a message was
 * relayed. Keys come in as `IdentityKeys` and leave this process in no form.
 */
import type { DeviceId, GroupId, Hash, Milliseconds } from '../../chain/brands.ts'
import { keyIdOf, type SignatureVerifier, type Signer } from '../../chain/keys.ts'
import type { ReportBody } from '../../chain/record-bodies.ts'
import { currentEncryptionKey, stateKeyOf } from '../../chain/records.ts'
import { assert, type MoteError, type Refusal, unwrap } from '../../chain/result.ts'
import { type IdentityKeys, signerOf } from '../../client/key-directory.ts'
import { nativeVerifier } from '../../client/native-crypto.ts'
import type { DecisionLine } from '../protocol/decision-log.ts'
import { canSealTo, type EncodedEnvelope } from '../protocol/envelope.ts'
import { encodeAcknowledgement } from '../protocol/kept-mail.ts'
import { filters, recipientOf, topics } from '../protocol/topics.ts'
import type { TrustedGroup } from '../protocol/trust.ts'
import type { AgentChain } from './agent-chain.ts'
import { EpochKeys } from './agent-epochs.ts'
import { arrivals, type ListenHandlers } from './arrivals.ts'
import { answerBallots } from './ballots.ts'
import type { LeftOut } from './box-sealing.ts'
import type { RefreshedContact } from './contacts.ts'
import { DecryptionKeys } from './decryption-key.ts'
import { openDeviceConnection } from './device-connection.ts'
import { DeviceState } from './device-state.ts'
import { EpochKeeper } from './epoch-keeper.ts'
import type { GatewayAddress } from './gateway-address.ts'
import { KeptTransfers } from './kept-transfers.ts'
import { type KeyPrefetchOptions, keepPrefetching } from './key-prefetch.ts'
import { SentSecrets } from './light-secrets.ts'
import { Listener, type ListenerOptions } from './listener.ts'
import { ListeningPlace } from './listening-place.ts'
import { MessageSealing, type OutgoingContent, type Recipient, type SealOutcome } from './message-sealing.ts'
import type { MqttConnection } from './mqtt-connection.ts'
import { type ObserverHandlers, observeDeliveries } from './observer.ts'
import { type SignedRecord, signRecord } from './signed-record.ts'
import { contentsOf } from './transfers.ts'
import { type GatewayVerdict, VerdictInbox } from './verdict-inbox.ts'
import { holdVote, refusalByVote, type VoteCaller, type VoteOutcome } from './vote.ts'

export interface AgentOptions {
  readonly keys: IdentityKeys
  readonly chain: AgentChain
  readonly gateway: GatewayAddress
  /** Where contacts, counters, replay windows and epoch keys live. One directory per device. */
  readonly stateDirectory: string
  /** The keys as they are on the disk now: asked when something is sealed to a key that is not among `keys`. By default those stay. */
  readonly reloadKeys?: (() => Promise<IdentityKeys>) | undefined
  /** For connecting, acknowledgements and verdicts. Default 10 s. */
  readonly timeoutMs?: number
  /** Messages are refused when the device's own view of the chain is older. Default 180 s. */
  readonly trustTtlMs?: number
  readonly verifier?: SignatureVerifier
  /** Told of every box with an epoch key for this device that was not taken, and why. */
  readonly onBoxRefused?: (refusal: Refusal) => void
  /** Told of every member that a new epoch of this device has no box for, and why. */
  readonly onLeftOut?: (group: GroupId, leftOut: LeftOut) => void
  /** Told why a group whose membership has changed got no new epoch by this device while it listens. */
  readonly onRekeyFailed?: (group: GroupId, refusal: Refusal) => void
  /** Told of messages that this device itself refused to send: for its decision log. */
  readonly onDecision?: (line: DecisionLine) => void | Promise<void>
  /** Light encryption for messages to one device (docs/decisions/0021-light-encryption.md). Default false. */
  readonly light?: boolean
  /** Keep a copy of every device's key while listening or observing, before the first contact. Default false. */
  readonly prefetches?: boolean
  /** False: a connection that breaks is over, and `ended` says so; by default it is opened again. */
  readonly reconnects?: boolean
}

/** A message: at most 16 MiB; above 1 MiB in chunks, each of them a message to the gateway. */
export interface OutgoingText extends Omit<OutgoingContent, 'place'> {
  /** Told how many bytes of the content have been relayed. */
  readonly onProgress?: (bytes: number) => void
}

/** For connecting, acknowledgements and verdicts. */
const defaultTimeoutMs = 10_000

export class DeviceAgent {
  readonly #device: DeviceId
  readonly #chain: AgentChain
  readonly #gateway: GatewayAddress
  readonly #state: DeviceState
  readonly #connection: MqttConnection
  readonly #verdicts: VerdictInbox
  readonly #stateDirectory: string
  readonly #receiving: Omit<ListenerOptions, 'place' | 'kept'>
  readonly #sealing: MessageSealing
  readonly #onDecision: NonNullable<AgentOptions['onDecision']>
  /** Held from `listen` to `close`. */
  #place: ListeningPlace | undefined
  readonly #keeper: EpochKeeper
  readonly #voteCaller: VoteCaller & KeyPrefetchOptions
  readonly #prefetches: boolean
  readonly #signing: Parameters<typeof signRecord>[0]
  readonly #closing = new AbortController()
  readonly #decryptionKeys: DecryptionKeys
  readonly #stopFollowing: () => void
  readonly epochs: EpochKeys

  private constructor(parts: AgentParts) {
    const { options, signer, state, connection, verdicts, decryptionKeys } = parts
    const { keys, chain, verifier = nativeVerifier, trustTtlMs = 180_000, onBoxRefused, onLeftOut } = options
    const device = keys.id
    this.#device = device
    this.#decryptionKeys = decryptionKeys
    this.#chain = chain
    this.#gateway = options.gateway
    this.#state = state
    this.#connection = connection
    this.#verdicts = verdicts
    this.#onDecision = options.onDecision ?? (() => {})
    this.#stateDirectory = options.stateDirectory
    this.epochs = new EpochKeys({
      device,
      decryptionKeys,
      chain,
      state,
      connection,
      verdicts,
      onBoxRefused,
      onLeftOut,
    })
    const { epochs } = this
    const sent = options.light ? new SentSecrets(chain.chainId) : undefined
    const onDecision = this.#onDecision
    this.#sealing = new MessageSealing({ device, signer, chain, state, epochs, sent, onDecision })
    const onFailure = options.onRekeyFailed ?? (() => {})
    this.#keeper = new EpochKeeper({ device, chain, epochs, onFailure })
    const { timeoutMs = defaultTimeoutMs } = options
    this.#prefetches = options.prefetches ?? false
    this.#signing = { chain, keys, trustTtlMs }
    const ownKey = () => decryptionKeys.current
    this.#voteCaller = { device, ownKey, state, chain, connection, verdicts, timeoutMs }
    this.#receiving = { device, decryptionKeys, chain, epochs, verifier, trustTtlMs }
    this.#stopFollowing = chain.onAdvance(({ changed }) => {
      if (changed === 'unknown' || changed.has(stateKeyOf.identity(device))) void this.#followOwnKey()
    })
  }

  /** Connects to the gateway. Throws `not-authorised`, `unreachable`, `timeout`. */
  static async connect(options: AgentOptions): Promise<DeviceAgent> {
    const { keys, chain, stateDirectory, timeoutMs = defaultTimeoutMs, onDecision = () => {} } = options
    const signer = signerOf(keys)
    const state = await DeviceState.open(stateDirectory)
    const decryptionKeys = new DecryptionKeys(keys, options.reloadKeys)
    const connection = await openDeviceConnection({ ...options, timeoutMs })
    try {
      const ownKey = () => decryptionKeys.current
      const [verdicts] = await Promise.all([
        VerdictInbox.open(connection, keys.id, timeoutMs),
        answerBallots({ device: keys.id, ownKey, state, connection, chain, onDecision }),
      ])
      return new DeviceAgent({ options, signer, state, connection, verdicts, decryptionKeys })
    } catch (error) {
      await connection.close()
      throw error
    }
  }

  /** Resolves, with the reason, when the gateway will not have this device any more, when a connection that is not opened again breaks, or after `close`. */
  get ended(): Promise<MoteError> {
    return this.#connection.ended
  }

  /**
   * Sends to one device, sealed to the contact's key as this device has it, and resolves to the gateway's verdict; for a
   * copy that is no key, to an `Error` of this device's own. Throws `recipient-not-active` when there is no contact and the
   * chain has no key either, `too-large` above 16 MiB, `suite-not-allowed` for a copy of a kind that the chain does not allow to seal to.
   */
  send(to: DeviceId, text: OutgoingText): Promise<GatewayVerdict> {
    return this.#sendContents(text, content => this.#sealAndRelay({ type: 'device', id: to }, content))
  }

  /** Publishes to an open topic by this device's copy of its key: one that differs is an `Error`, one that is over is renewed. Throws `unknown-subject`. */
  publish(id: GroupId, text: OutgoingText): Promise<GatewayVerdict> {
    return this.#sendUnderEpoch({ type: 'topic', id }, text)
  }

  async #sealAndRelay(to: Recipient, content: OutgoingContent): Promise<GatewayVerdict> {
    const sealed = await this.#sealing.seal(to, content)
    return sealed.type === 'sealed' ? this.relay(sealed.envelope) : sealed.verdict
  }

  /** One after another; the first one that is refused ends it. Throws `too-large`. */
  async #sendContents(
    { content, onProgress, ...text }: OutgoingText,
    send: (text: OutgoingContent) => Promise<GatewayVerdict>,
  ): Promise<GatewayVerdict> {
    const contents = unwrap(contentsOf(content))
    let verdict: GatewayVerdict | undefined
    let sent = 0
    for (const { bytes, place } of contents) {
      verdict = await send({ ...text, content: bytes, place })
      if (verdict.verdict === 'Error') return verdict
      sent += bytes.length
      onProgress?.(sent)
    }
    assert(verdict, 'a message has at least one content')
    return verdict
  }

  /**
   * Seals a message as `send` and `sendToGroup` would, and sends nothing: for who keeps the bytes until their verdict is known.
   * Throws what they throw; at most 1 MiB.
   */
  seal(to: Recipient, text: OutgoingContent): Promise<SealOutcome> {
    return this.#sealing.seal(to, text)
  }

  /**
   * The papers' own check before a message (Hsu-Lu B2), for comparison and audit: sends only if every connected device, the gateway and
   * the chain have the copy that this device has, and all answer. Throws what `holdVote` and `send` throw.
   */
  async sendByVote(
    to: DeviceId,
    text: OutgoingText,
  ): Promise<{ readonly vote: VoteOutcome; readonly verdict: GatewayVerdict }> {
    const vote = await holdVote(this.#voteCaller, to)
    if (vote.isUnanimous) return { vote, verdict: await this.send(to, text) }
    const { verdict, lines } = refusalByVote(this.#voteCaller, vote)
    for (const line of lines) await this.#onDecision(line)
    return { vote, verdict }
  }

  /** Sends sealed bytes, for the first time or again, and resolves to the gateway's verdict. Throws `timeout`. */
  async relay({ bytes, messageId }: EncodedEnvelope): Promise<GatewayVerdict> {
    const verdict = this.#verdicts.expect(messageId)
    this.#connection.publishUntil(verdict, topics.send(this.#device), bytes)
    return verdict
  }

  /** Signs a record or a call as this device, for `submit`. Throws as `signRecord`. */
  sign(body: ReportBody): Promise<SignedRecord> {
    return signRecord(this.#signing, body)
  }

  /** Has the gateway hand signed bytes to the chain, for the first time or again, and resolves to its verdict: `Check` once they are certified. Throws `timeout`. */
  async submit({ bytes, id }: SignedRecord): Promise<GatewayVerdict> {
    const verdict = this.#verdicts.expect(id)
    this.#connection.publishUntil(verdict, topics.record(this.#device), bytes)
    return verdict
  }

  /** Time of the newest certified header that there is now. Throws what `AgentChain.refresh` throws. */
  async provenTime(): Promise<Milliseconds> {
    await this.#chain.refresh()
    return this.#chain.head().time
  }

  /** Replaces the copy of a device's key by the chain's: after a rotation, or when the gateway says it differs. */
  refreshContact(id: DeviceId): Promise<RefreshedContact> {
    return this.#sealing.refreshContact(id)
  }

  /** The same for who sends again without anybody there: with a line in the decision log. False if the copy is the chain's. Throws as `refreshContact`. */
  replaceCopy(to: Recipient): Promise<boolean> {
    return this.#sealing.replaceCopy(to)
  }

  /** Sends to a group under its current epoch, made first if need be, and again if the gateway knows a newer one. Throws `unknown-subject`, `not-member`. */
  sendToGroup(id: GroupId, text: OutgoingText): Promise<GatewayVerdict> {
    return this.#sendUnderEpoch({ type: 'group', id }, text)
  }

  #sendUnderEpoch(to: Recipient, text: OutgoingText): Promise<GatewayVerdict> {
    return this.#sendContents(text, async content => {
      const first = await this.#sealAndRelay(to, content)
      if (first.code !== 'epoch-mismatch') return first
      await this.#chain.refresh()
      return this.#sealAndRelay(to, content)
    })
  }

  /** Makes a new epoch of a group: after its membership changed, say. */
  rekey(id: GroupId): Promise<TrustedGroup> {
    return this.epochs.rekey(id)
  }

  /**
   * Resolves once subscribed; from then on every message goes to `handlers`, those of one source in order, and to every other
   * listener of this device too. While it listens it takes part in giving its groups new epochs. An agent listens once. Throws `in-use` if eight processes listen for this device already.
   */
  async listen(handlers: ListenHandlers): Promise<void> {
    assert(!this.#place, 'an agent listens once')
    // Before anything is subscribed to: what another listener accepts from now on is for this one too.
    const place = await ListeningPlace.take(this.#stateDirectory, this.#chain.head().time)
    this.#place = place
    const kept = await KeptTransfers.open(place.chunkDirectory, handlers.refused)
    const listener = new Listener({ ...this.#receiving, place, kept })
    const take = arrivals({
      chainId: this.#chain.chainId,
      listener,
      handlers,
      acknowledge: messageId => this.#acknowledge(messageId),
    })
    this.#connection.onMessage(({ topicName, payload }) => {
      if (recipientOf(topicName) === this.#device) take(payload)
    })
    await this.epochs.subscribe()
    await this.#connection.subscribe(filters.toDevice(this.#device))
    void this.#keeper.start()
    this.#prefetch()
  }

  /**
   * Resolves once every envelope that is delivered to anybody goes to `handlers`, sealed as it is. The agent answers ballots as any other
   * does. Throws `not-authorised` for a device without the right to observe, `unreachable`, `timeout`.
   */
  async observe(handlers: ObserverHandlers): Promise<void> {
    const { device, connection } = this.#voteCaller
    await observeDeliveries({ device, connection, chain: this.#chain, gateway: this.#gateway }, handlers)
    this.#prefetch()
  }

  #prefetch(): void {
    if (this.#prefetches) void keepPrefetching(this.#voteCaller, this.#closing.signal)
  }

  /** The gateway forgets a kept message. If this gets lost, the message comes again, and so does this. */
  #acknowledge(messageId: Hash): void {
    this.#connection.publish(topics.got(this.#device), encodeAcknowledgement(messageId)).catch(() => {})
  }

  async close(): Promise<void> {
    this.#closing.abort()
    this.#stopFollowing()
    this.#keeper.stop()
    await this.#connection.close()
    await this.#state.settled()
    await this.#place?.release()
    this.#place = undefined
  }

  /** Others seal to another key of this device from now on: it may have been rotated by another process. */
  async #followOwnKey(): Promise<void> {
    const chain = this.#chain
    try {
      const { value } = await chain.device(this.#device)
      const isUsable = canSealTo(await chain.allowedSuites())
      const entry = value && currentEncryptionKey(value, chain.now(), isUsable)
      if (entry) await this.#decryptionKeys.follow(keyIdOf(entry.key), chain.now())
    } catch {
      // Out of reach, or a key file that cannot be read: who seals to the new key makes this device look again.
    }
  }
}

interface AgentParts {
  readonly options: AgentOptions
  readonly signer: Signer
  readonly state: DeviceState
  readonly connection: MqttConnection
  readonly verdicts: VerdictInbox
  readonly decryptionKeys: DecryptionKeys
}
