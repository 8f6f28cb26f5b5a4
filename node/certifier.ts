/**
 * Turns executed blocks into certified ones: signs, collects the others' signatures, makes certificates.
 *
 * Source: "order, execute, sign" (docs/ARCHITECTURE.md). Invariants:
 *   - a header is signed only after `durable`: the block and the record (height, header hash) are on disk;
 *   - what was recorded as signed is never contradicted (storage refuses the record, and the node stops);
 *   - a certificate is made of verified signatures of a quorum over the hash that this node computed itself;
 *   - a certificate covers all ancestors, so `certifiedHeight` only grows and gaps are legal;
 *   - a valid quorum over *another* hash at a height this node executed means that this node is wrong: `diverged`.
 *
 * Signatures are sent once. Loss is mended by sending again: to a peer that connects, and to all while blocks stay
 * uncertified. A peer that still sends signatures for what was certified a while ago lags: it gets ours again.
 * Verification is lazy: what arrives after the quorum, or before the block, costs nothing until it is needed.
 */
import {
  type ChainId,
  type DeviceId,
  type Hash,
  Height,
  type Milliseconds,
  type Term,
} from '../chain/brands.ts'
import {
  type Certificate,
  type ConsenterSignature,
  certificateSigningBytes,
  verifyCertificate,
} from '../chain/certificate.ts'
import { type ConsenterSet, indexOfConsenter, quorumOf } from '../chain/consenters.ts'
import type { SignatureVerifier, Signer } from '../chain/keys.ts'
import { ok, type Result, refuse } from '../chain/result.ts'
import type { SignatureMessage, SignedHeader } from './ports.ts'

/** A block that this node has executed. */
export interface ExecutedBlock {
  readonly height: Height
  readonly term: Term
  readonly headerHash: Hash
}

/** A consenter that validly signed another hash than this node computed. */
export interface Disagreement {
  readonly consenter: DeviceId
  readonly height: Height
  readonly theirs: Hash
  readonly ours: Hash
}

/** What the certifier asks of the node around it. */
export interface CertifierOutput {
  announce(to: DeviceId | 'all', signatures: readonly SignatureMessage[]): void
  certified(certificate: Certificate): void
  disagreement(disagreement: Disagreement): void
  diverged(detail: string): void
}

export interface CertifierConfig {
  readonly chainId: ChainId
  readonly incarnation: number
  readonly consenters: ConsenterSet
  /** This node's id and signing key, if it is a consenter. */
  readonly self: { readonly id: DeviceId; readonly signer: Signer } | undefined
  readonly verifier: SignatureVerifier
  /** Signatures for blocks this far above the last executed one are kept until the block comes. */
  readonly aheadMax?: number
  /** Own signatures kept for peers that lag. At least the certification lag at which leaders stop. */
  readonly keptSignatures?: number
  readonly announceAgainMs?: number
}

/** Needs no certificate: everybody who knows the chain id knows its header. */
export const genesisHeight = Height(0)

interface HeightState {
  /** What this node computed; undefined until it has executed the height. */
  ours: ExecutedBlock | undefined
  /** By place in the consenter set: the first signature of each consenter for each hash it signed. */
  readonly received: Map<number, SignatureMessage>
  readonly verified: Map<number, Uint8Array>
}

export class Certifier {
  readonly #config: CertifierConfig
  readonly #output: CertifierOutput
  readonly #self: number | undefined
  readonly #aheadMax: number
  readonly #keptSignatures: number
  readonly #announceAgainMs: number
  /** Heights above `#certified`. */
  readonly #open = new Map<number, HeightState>()
  /** Own signatures, oldest first. */
  readonly #own = new Map<number, SignatureMessage>()
  /** Valid signatures over hashes that are not ours: `height:hash` to signatures by place. */
  readonly #others = new Map<string, Map<number, Uint8Array>>()
  readonly #repliedAt = new Map<DeviceId, Milliseconds>()
  /** The newest valid certificate above what this node has executed. */
  #ahead: Certificate | undefined
  #executed = 0
  #certified = 0
  /** When a block was last certified, or signatures sent again. */
  #progressAt = 0 as Milliseconds
  #certifiedAt = 0 as Milliseconds
  #now = 0 as Milliseconds
  #stopped = false

  constructor(config: CertifierConfig, output: CertifierOutput) {
    this.#config = config
    this.#output = output
    this.#self = config.self && indexOfConsenter(config.consenters, config.self.id)
    this.#aheadMax = config.aheadMax ?? 256
    this.#keptSignatures = config.keptSignatures ?? 256
    this.#announceAgainMs = config.announceAgainMs ?? 1_000
  }

  /** The highest height known to be certified. 0 stands for genesis, which needs no certificate. */
  get certifiedHeight(): Height {
    return this.#certified as Height
  }

  /** True if this node's signature counts. */
  get signs(): boolean {
    return this.#self !== undefined && !this.#stopped
  }

  /** After a restart: what is certified already. Call before anything else; `executed`/`durable` follow for the rest. */
  restore(state: { readonly certifiedHeight: Height; readonly now: Milliseconds }): void {
    this.#certified = state.certifiedHeight
    this.#executed = state.certifiedHeight
    this.#progressAt = state.now
    this.#certifiedAt = state.now
    this.#now = state.now
  }

  /** The block has been executed (it need not be durable yet). Heights come in order. */
  executed(block: ExecutedBlock): void {
    if (this.#stopped) return
    this.#executed = Math.max(this.#executed, block.height)
    if (block.height <= this.#certified) return
    const state = this.#stateOf(block.height)
    state.ours = block
    for (const [signer, message] of state.received)
      if (message.headerHash !== block.headerHash) this.#contradiction(signer, message, block)
    this.#complete(block.height, state)
    const ahead = this.#ahead
    if (ahead && ahead.height <= this.#executed) {
      this.#ahead = undefined
      this.#settleAhead(ahead, block)
    }
  }

  /** A snapshot, verified and durable here, took the place of everything up to its certified block. */
  installed(certificate: Certificate): void {
    if (this.#stopped) return
    this.#executed = Math.max(this.#executed, certificate.height)
    if (certificate.height > this.#certified) this.#settle(certificate)
  }

  /** Block and signed record are on disk: the signature may leave. */
  durable(blocks: readonly ExecutedBlock[]): void {
    const { self, chainId, incarnation } = this.#config
    if (this.#stopped || !self || this.#self === undefined) return
    const signatures: SignatureMessage[] = []
    for (const { height, term, headerHash } of blocks) {
      const message = certificateSigningBytes(chainId, incarnation, height, headerHash)
      const signed = { incarnation, height, term, headerHash, signature: self.signer.sign(message) }
      signatures.push(signed)
      this.#own.set(height, signed)
      if (height <= this.#certified) continue
      const state = this.#stateOf(height)
      state.verified.set(this.#self, signed.signature)
      this.#complete(height, state)
    }
    for (const height of this.#own.keys()) {
      if (this.#own.size <= this.#keptSignatures) break
      this.#own.delete(height)
    }
    if (signatures.length > 0) this.#output.announce('all', signatures)
  }

  /** Signatures from a peer (proven by the transport, so that nobody speaks for another). */
  receive(from: DeviceId, signatures: readonly SignatureMessage[]): void {
    const signer = indexOfConsenter(this.#config.consenters, from)
    if (this.#stopped || signer === undefined) return
    for (const message of signatures) {
      if (message.incarnation !== this.#config.incarnation) continue
      if (message.height <= this.#certified) {
        this.#answerLaggard(from)
        continue
      }
      if (message.height > this.#executed + this.#aheadMax) continue
      const state = this.#stateOf(message.height)
      if (state.ours && state.ours.headerHash !== message.headerHash) {
        this.#contradiction(signer, message, state.ours)
        continue
      }
      if (state.received.has(signer) || state.verified.has(signer)) continue
      state.received.set(signer, message)
      this.#complete(message.height, state)
    }
  }

  /** A certificate from a peer's answer. Refuses with `bad-certificate`. Below what is certified it changes nothing. */
  adopt(certificate: Certificate): Result<void> {
    const { chainId, incarnation, consenters, verifier } = this.#config
    if (this.#stopped || certificate.height <= this.#certified) return ok(undefined)
    const valid = verifyCertificate(consenters, chainId, incarnation, certificate, verifier)
    if (!valid.ok) return valid
    if (certificate.height > this.#executed) {
      if (!this.#ahead || this.#ahead.height < certificate.height) this.#ahead = certificate
      return ok(undefined)
    }
    const ours = this.#open.get(certificate.height)?.ours
    if (!ours) return refuse('height-not-available', `height: expected one executed here`)
    this.#settleAhead(certificate, ours)
    return ok(undefined)
  }

  /** Time passes: while blocks stay uncertified, their signatures are sent again. */
  tick(now: Milliseconds): void {
    this.#now = now
    if (this.#stopped || this.#executed <= this.#certified) {
      this.#progressAt = now
      return
    }
    if (now - this.#progressAt < this.#announceAgainMs) return
    this.#progressAt = now
    const pending = [...this.#own.values()].filter(message => message.height > this.#certified)
    if (pending.length > 0) this.#output.announce('all', pending)
  }

  /** A peer connected: it may have missed anything. */
  connected(peer: DeviceId): void {
    if (this.#own.size > 0 && !this.#stopped) this.#output.announce(peer, [...this.#own.values()])
  }

  /** The highest header that a consenter has signed, as far as it is in memory. */
  latestSignatureOf(id: DeviceId): SignedHeader | undefined {
    const signer = indexOfConsenter(this.#config.consenters, id)
    if (signer === undefined) return undefined
    let latest: SignedHeader | undefined
    for (const [height, { ours, received, verified }] of this.#open) {
      const message = received.get(signer)
      const signed =
        ours && verified.has(signer)
          ? ours.headerHash
          : message && this.#isValid(signer, message)
            ? message.headerHash
            : undefined
      if (signed === undefined || height <= (latest?.height ?? 0)) continue
      latest = { incarnation: this.#config.incarnation, height: height as Height, headerHash: signed }
    }
    return latest
  }

  #stateOf(height: number): HeightState {
    let state = this.#open.get(height)
    if (!state) {
      state = { ours: undefined, received: new Map(), verified: new Map() }
      this.#open.set(height, state)
    }
    return state
  }

  /** Verifies just enough of what has arrived to reach the quorum. */
  #complete(height: number, state: HeightState): void {
    const { ours } = state
    if (!ours || height <= this.#certified || this.#stopped) return
    const quorum = quorumOf(this.#config.consenters)
    for (const [signer, message] of state.received) {
      if (state.verified.size >= quorum) break
      state.received.delete(signer)
      if (message.headerHash === ours.headerHash && this.#isValid(signer, message))
        state.verified.set(signer, message.signature)
    }
    if (state.verified.size >= quorum) this.#settle(certificateOf(ours, state.verified))
  }

  #settle(certificate: Certificate): void {
    this.#certified = certificate.height
    this.#progressAt = this.#now
    this.#certifiedAt = this.#now
    for (const height of this.#open.keys()) if (height <= this.#certified) this.#open.delete(height)
    for (const key of this.#others.keys())
      if (Number(key.split(':')[0]) <= this.#certified) this.#others.delete(key)
    this.#output.certified(certificate)
  }

  #settleAhead(certificate: Certificate, ours: ExecutedBlock): void {
    if (certificate.height <= this.#certified || ours.height !== certificate.height) return
    if (certificate.headerHash === ours.headerHash) this.#settle(certificate)
    else this.#diverge(certificate.height, certificate.headerHash, ours.headerHash)
  }

  /** A consenter signed another hash than ours. If a quorum did, it is this node that is wrong. */
  #contradiction(signer: number, message: SignatureMessage, ours: ExecutedBlock): void {
    const consenter = this.#config.consenters.consenters[signer]
    if (!consenter || !this.#isValid(signer, message)) return
    const key = `${message.height}:${message.headerHash}`
    const signatures = this.#others.get(key) ?? new Map<number, Uint8Array>()
    if (signatures.has(signer)) return
    signatures.set(signer, message.signature)
    this.#others.set(key, signatures)
    const { height, headerHash } = ours
    this.#output.disagreement({
      consenter: consenter.id,
      height,
      theirs: message.headerHash,
      ours: headerHash,
    })
    if (signatures.size >= quorumOf(this.#config.consenters))
      this.#diverge(height, message.headerHash, headerHash)
  }

  #diverge(height: number, theirs: Hash, ours: Hash): void {
    this.#stopped = true
    this.#output.diverged(`height ${height}: a quorum certified ${theirs}, this node computed ${ours}`)
  }

  #isValid(signer: number, message: SignatureMessage): boolean {
    const { chainId, incarnation, consenters, verifier } = this.#config
    const key = consenters.consenters[signer]?.key
    const { height, headerHash, signature } = message
    const signed = certificateSigningBytes(chainId, incarnation, height, headerHash)
    return key !== undefined && verifier.verify(key, signed, signature)
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

function certificateOf(block: ExecutedBlock, verified: ReadonlyMap<number, Uint8Array>): Certificate {
  const signatures: ConsenterSignature[] = [...verified]
    .map(([signer, signature]) => ({ signer, signature }))
    .sort((a, b) => a.signer - b.signer)
  return { height: block.height, headerHash: block.headerHash, signatures }
}
