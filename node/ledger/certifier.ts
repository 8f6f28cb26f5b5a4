/**
 * Turns executed blocks into certified ones: signs, collects the others' signatures, makes certificates.
 *
 * Source: "order, execute, sign" (docs/ARCHITECTURE.md). Invariants:
 *   - a header is signed only after `durable`: the block and the record (height, header hash) are on disk;
 *   - what was recorded as signed is never contradicted (storage refuses the record, and the node stops);
 *   - a certificate is made of a quorum's signatures, all but its own verified, over the hash that this node computed itself;
 *   - a certificate covers all ancestors, so `certifiedHeight` only grows and gaps are legal, but for one: a handover
 *     header needs a quorum of the old and of the new consenters, and nothing above it counts before that;
 *   - a valid quorum over *another* hash at a height this node executed means that this node is wrong: `diverged`.
 *
 * Signatures are sent once. Loss is mended by sending again: to a peer that connects, and to all while blocks stay
 * uncertified. A peer that still sends signatures for what was certified a while ago lags: it gets ours again. Whoever goes
 * on lacking a certificate asks for it (`wanted`): that of the next handover, which no later one can replace, or the newest.
 */

import type { DeviceId, Hash, Height } from '../../chain/brands.ts'
import { type Certificate, certificateSigningBytes, verifyCertificate } from '../../chain/certificate.ts'
import { equalBytes } from '../../chain/codec.ts'
import { type ConsenterSet, quorumOf } from '../../chain/consenters.ts'
import type { Handover } from '../../chain/light-client.ts'
import { ok, type Result, refuse } from '../../chain/result.ts'
import type { HeaderSignature, SignatureMessage } from '../ports.ts'
import type { BlockToSign } from './live-chain.ts'
import { type CertifierConfig, type CertifierOutput, keyIn, SignatureSet } from './signatures.ts'

interface HeightState {
  /** What this node computed; undefined until it has executed the height. */
  ours: BlockToSign | undefined
  /** Signatures that came before that: the first of each consenter. */
  readonly early: Map<DeviceId, SignatureMessage>
  /** One for the signers; a second one, of the next signers, at a handover. Empty until the height is executed. */
  signatureSets: readonly SignatureSet[]
}

interface PendingHandover {
  readonly height: Height
  readonly next: ConsenterSet
}

export class Certifier {
  readonly #config: CertifierConfig
  readonly #output: CertifierOutput
  readonly #aheadMax: number
  readonly #keptSignatures: number
  readonly #announceAgainMs: number
  /** Sign the next uncertified height. */
  #signers: ConsenterSet
  /** Handover blocks that are executed and not certified, the lowest first. */
  #handovers: PendingHandover[] = []
  /** Heights above `#certified`. */
  readonly #open = new Map<number, HeightState>()
  /** Executed heights that this node is to sign once they are durable. */
  readonly #toSign = new Set<number>()
  /** Own signatures, oldest first. */
  readonly #own = new Map<number, SignatureMessage>()
  /** Valid signatures over hashes that are not ours, by `height:hash`. */
  readonly #others = new Map<string, SignatureSet>()
  readonly #repliedAt = new Map<DeviceId, number>()
  /** The highest height that a member has said to have signed. */
  readonly #said = new Map<DeviceId, number>()
  /** The newest valid certificate above what this node has executed. */
  #ahead: Certificate | undefined
  #executed = 0
  #certified = 0
  /** When a block was last certified, or signatures sent again. */
  #progressAt = 0
  #certifiedAt = 0
  #now = 0
  #stopped = false

  constructor(config: CertifierConfig, output: CertifierOutput) {
    this.#config = config
    this.#output = output
    this.#signers = config.consenters
    this.#aheadMax = config.aheadMax ?? 256
    this.#keptSignatures = config.keptSignatures ?? 256
    this.#announceAgainMs = config.announceAgainMs ?? 1_000
  }

  /** The highest height known to be certified. 0 stands for genesis, which needs no certificate. */
  get certifiedHeight(): Height {
    return this.#certified as Height
  }

  /**
   * The newest height that is known of: of a certificate, or what a quorum of the consenters, this node included, says to
   * have signed. A minority cannot make it up.
   */
  get heardHeight(): Height {
    const set = this.#handovers.at(-1)?.next ?? this.#signers
    const said = set.consenters
      .map(({ id }) => (id === this.#config.self?.id ? this.#executed : (this.#said.get(id) ?? 0)))
      .sort((a, b) => b - a)
    return Math.max(this.#executed, this.#ahead?.height ?? 0, said[quorumOf(set) - 1] ?? 0) as Height
  }

  /** Heights that are kept because they lack a certificate. */
  get openHeights(): number {
    return this.#open.size
  }

  /** After a restart: what is certified already. Call before anything else; `collect` and `sign` follow for the rest. */
  restore(state: {
    readonly certifiedHeight: Height
    readonly consenters: ConsenterSet
    /** By a steady clock, as in `tick`. */
    readonly now: number
  }): void {
    this.#certified = state.certifiedHeight
    this.#executed = state.certifiedHeight
    this.#signers = state.consenters
    this.#progressAt = state.now
    this.#certifiedAt = state.now
    this.#now = state.now
  }

  /** Signatures of this block, which is executed here, are collected from now on. Heights come in order. */
  collect(block: BlockToSign): void {
    if (this.#stopped) return
    this.#executed = Math.max(this.#executed, block.height)
    if (block.height <= this.#certified) return
    const sets = [this.#signersAt(block.height)]
    if (block.handover) {
      sets.push(block.handover)
      this.#handovers.push({ height: block.height, next: block.handover })
    }
    if (sets.some(set => this.#isSelfIn(set))) this.#toSign.add(block.height)
    const state = this.#stateOf(block.height)
    state.ours = block
    state.signatureSets = sets.map(set => this.#newSignatureSet(set, block.height, block.headerHash))
    for (const [from, message] of state.early) this.#take(from, message, state, block)
    state.early.clear()
    // What this node signs is completed then (`sign`).
    if (!this.#toSign.has(block.height)) this.#complete(block.height)
    const ahead = this.#ahead
    if (ahead && ahead.height <= this.#executed) {
      this.#ahead = undefined
      this.#settleAhead(ahead, block)
    }
  }

  /** A snapshot, verified and durable here, took the place of everything up to its certified block. */
  skipTo(certificate: Certificate, consenters: ConsenterSet): void {
    if (this.#stopped) return
    this.#executed = Math.max(this.#executed, certificate.height)
    if (certificate.height <= this.#certified) return
    this.#handovers = []
    this.#signers = consenters
    this.#settle(certificate)
  }

  /** Block and signed record are on disk: the signature may leave. */
  sign(blocks: readonly BlockToSign[]): void {
    const { self, chainId, incarnation } = this.#config
    if (this.#stopped || !self) return
    const signatures: SignatureMessage[] = []
    for (const { height, term, headerHash } of blocks) {
      if (!this.#toSign.delete(height)) continue
      const message = certificateSigningBytes(chainId, incarnation, height, headerHash)
      const signed = { incarnation, height, term, headerHash, signature: self.signer.sign(message) }
      signatures.push(signed)
      this.#own.set(height, signed)
    }
    for (const height of this.#own.keys()) {
      if (this.#own.size <= this.#keptSignatures) break
      this.#own.delete(height)
    }
    if (signatures.length === 0) return
    // The others wait for it; what is verified here comes after.
    this.#output.announce('all', signatures)
    for (const { height, signature } of signatures) {
      for (const signatureSet of this.#open.get(height)?.signatureSets ?? [])
        if (this.#isSelfIn(signatureSet.set)) signatureSet.addOwn(self.id, signature)
      this.#complete(height)
    }
  }

  /**
   * Signatures from a member (proven by the transport, so that nobody speaks for another). Who signs a height is known when
   * it is executed, so until then anybody's first signature is kept.
   */
  receive(from: DeviceId, signatures: readonly SignatureMessage[]): void {
    if (this.#stopped) return
    for (const message of signatures) {
      if (message.incarnation !== this.#config.incarnation) continue
      this.#said.set(from, Math.max(message.height, this.#said.get(from) ?? 0))
      if (message.height <= this.#certified) {
        this.#answerLaggard(from)
        continue
      }
      if (message.height > this.#executed + this.#aheadMax) continue
      const state = this.#stateOf(message.height)
      if (state.ours) {
        this.#take(from, message, state, state.ours)
        this.#complete(message.height)
      } else if (!state.early.has(from)) state.early.set(from, message)
    }
  }

  /**
   * A certificate from elsewhere; one for a handover header comes with that of the new consenters. Refuses with
   * `bad-certificate`. Below what is certified, and above a handover that is not, it changes nothing.
   */
  adopt(certificate: Certificate, handover?: Handover): Result<void> {
    const { chainId, incarnation, verifier } = this.#config
    const { height } = certificate
    const pending = this.#handovers[0]
    if (this.#stopped || height <= this.#certified || (pending && height > pending.height))
      return ok(undefined)
    const valid = verifyCertificate(this.#signersAt(height), chainId, incarnation, certificate, verifier)
    if (!valid.ok) return valid
    if (height > this.#executed) {
      if (!this.#ahead || this.#ahead.height < height) this.#ahead = certificate
      return ok(undefined)
    }
    const ours = this.#open.get(height)?.ours
    if (!ours) return refuse('height-not-available', `height: expected one executed here`)
    if (pending?.height !== height) this.#settleAhead(certificate, ours)
    else if (certificate.headerHash !== ours.headerHash)
      this.#diverge(height, certificate.headerHash, ours.headerHash)
    else if (handover) {
      const { certificate: theirs } = handover
      if (theirs.height !== height || theirs.headerHash !== ours.headerHash)
        return refuse('bad-certificate', 'handover: expected a certificate for the same header')
      const taken = verifyCertificate(pending.next, chainId, incarnation, theirs, verifier)
      if (!taken.ok) return taken
      this.#settle(certificate, { consenters: pending.next, certificate: theirs })
    }
    return ok(undefined)
  }

  /** Time passes: while blocks stay uncertified, their signatures are sent again. */
  tick(now: number): void {
    this.#now = now
    if (this.#stopped || this.#executed <= this.#certified) {
      this.#progressAt = now
      return
    }
    if (now - this.#progressAt < this.#announceAgainMs) return
    this.#progressAt = now
    const pending = [...this.#own.values()].filter(message => message.height > this.#certified)
    if (pending.length > 0) this.#output.announce('all', pending)
    // A consenter that certified it and has restarted since has no signatures left to answer with.
    this.#output.wanted(this.#handovers[0]?.height)
  }

  /** A peer connected: it may have missed anything. */
  connected(peer: DeviceId): void {
    if (this.#own.size > 0 && !this.#stopped) this.#output.announce(peer, [...this.#own.values()])
  }

  /** The highest header that a consenter has signed, as far as it is in memory. */
  latestSignatureOf(id: DeviceId): HeaderSignature | undefined {
    const { incarnation } = this.#config
    let latest: HeaderSignature | undefined
    for (const [number, state] of this.#open) {
      const height = number as Height
      const signed = this.#signatureAt(height, state, id)
      if (signed && height > (latest?.height ?? 0)) latest = { incarnation, height, ...signed }
    }
    return latest
  }

  #signatureAt(
    height: Height,
    { ours, early, signatureSets }: HeightState,
    id: DeviceId,
  ): Pick<HeaderSignature, 'headerHash' | 'signature'> | undefined {
    const { chainId, incarnation, verifier } = this.#config
    for (const signatureSet of signatureSets) {
      const signature = signatureSet.signatureOf(id)
      if (ours && signature) return { headerHash: ours.headerHash, signature }
    }
    const [message, key] = [early.get(id), this.#keyOf(id)]
    if (!message || !key) return undefined
    const { headerHash, signature } = message
    const signed = certificateSigningBytes(chainId, incarnation, height, headerHash)
    return verifier.verify(key, signed, signature) ? { headerHash, signature } : undefined
  }

  /** The set whose quorum certifies this height, by what has been executed. */
  #signersAt(height: number): ConsenterSet {
    return this.#handovers.findLast(handover => handover.height < height)?.next ?? this.#signers
  }

  /** The key with which this node knows a consenter to sign now. */
  #keyOf(id: DeviceId): ReturnType<typeof keyIn> {
    const newest = this.#handovers.at(-1)?.next ?? this.#signers
    const known = keyIn(newest, id) ?? keyIn(this.#signers, id)
    return known ?? this.#handovers.map(({ next }) => keyIn(next, id)).find(key => key !== undefined)
  }

  /** True if this node's key, and not only its id, is in the set. */
  #isSelfIn(set: ConsenterSet): boolean {
    const { self } = this.#config
    if (!self) return false
    const key = keyIn(set, self.id)
    return key !== undefined && equalBytes(key.bytes, self.signer.publicKey.bytes)
  }

  #newSignatureSet(set: ConsenterSet, height: Height, headerHash: Hash): SignatureSet {
    const { chainId, incarnation, verifier } = this.#config
    const message = certificateSigningBytes(chainId, incarnation, height, headerHash)
    return new SignatureSet(set, (key, signature) => verifier.verify(key, message, signature))
  }

  #stateOf(height: number): HeightState {
    let state = this.#open.get(height)
    if (!state) {
      state = { ours: undefined, early: new Map(), signatureSets: [] }
      this.#open.set(height, state)
    }
    return state
  }

  #take(from: DeviceId, message: SignatureMessage, { signatureSets }: HeightState, ours: BlockToSign): void {
    if (message.headerHash !== ours.headerHash) this.#contradiction(from, message, ours)
    else for (const signatureSet of signatureSets) signatureSet.offer(from, message.signature)
  }

  #complete(height: number): void {
    const state = this.#open.get(height)
    const pending = this.#handovers[0]
    if (!state?.ours || height <= this.#certified || this.#stopped) return
    if (pending && height > pending.height) return
    if (!state.signatureSets.every(signatureSet => signatureSet.complete())) return
    const { headerHash } = state.ours
    const [certificate, next] = state.signatureSets.map(signatureSet =>
      signatureSet.certificate(height as Height, headerHash),
    )
    if (!certificate) return
    if (pending?.height === height && next)
      this.#settle(certificate, { consenters: pending.next, certificate: next })
    else this.#settle(certificate)
  }

  #settle(certificate: Certificate, handover?: Handover): void {
    this.#certified = certificate.height
    this.#progressAt = this.#now
    this.#certifiedAt = this.#now
    for (const height of this.#open.keys()) if (height <= this.#certified) this.#open.delete(height)
    for (const key of this.#others.keys())
      if (Number(key.split(':')[0]) <= this.#certified) this.#others.delete(key)
    if (handover) {
      this.#handovers.shift()
      this.#signers = handover.consenters
    }
    this.#output.certified(certificate, handover)
    // Blocks above a handover have waited for its certificate.
    if (handover) for (const height of [...this.#open.keys()].sort((a, b) => a - b)) this.#complete(height)
  }

  #settleAhead(certificate: Certificate, ours: BlockToSign): void {
    if (certificate.height <= this.#certified || ours.height !== certificate.height) return
    const pending = this.#handovers[0]
    if (pending && pending.height <= certificate.height) return
    if (certificate.headerHash === ours.headerHash) this.#settle(certificate)
    else this.#diverge(certificate.height, certificate.headerHash, ours.headerHash)
  }

  /** A consenter signed another hash than ours. If a quorum did, it is this node that is wrong. */
  #contradiction(consenter: DeviceId, message: SignatureMessage, ours: BlockToSign): void {
    const { height, headerHash: theirs, signature } = message
    // One contradiction says it all: a consenter that signs anything must not fill the memory.
    for (const [key, known] of this.#others)
      if (key.startsWith(`${height}:`) && known.signatureOf(consenter)) return
    const key = `${height}:${theirs}`
    const signatureSet =
      this.#others.get(key) ?? this.#newSignatureSet(this.#signersAt(height), height, theirs)
    signatureSet.offer(consenter, signature)
    if (!signatureSet.signatureOf(consenter)) return
    this.#others.set(key, signatureSet)
    this.#output.disagreement({ consenter, height, theirs, ours: ours.headerHash })
    if (signatureSet.complete()) this.#diverge(height, theirs, ours.headerHash)
  }

  #diverge(height: number, theirs: Hash, ours: Hash): void {
    this.#stopped = true
    this.#output.diverged(`height ${height}: a quorum certified ${theirs}, this node computed ${ours}`)
  }

  /** Late signatures are normal; for as long as we go on certifying they need no answer, and then at most one a second. */
  #answerLaggard(peer: DeviceId): void {
    if (this.#own.size === 0 || this.#now - this.#certifiedAt < this.#announceAgainMs) return
    const repliedAt = this.#repliedAt.get(peer)
    if (repliedAt !== undefined && this.#now - repliedAt < this.#announceAgainMs) return
    this.#repliedAt.set(peer, this.#now)
    this.#output.announce(peer, [...this.#own.values()])
  }
}
