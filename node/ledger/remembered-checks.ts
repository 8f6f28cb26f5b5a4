/**
 * What was checked when it came in, so that it need not be when its block does: signatures that were found valid
 * (`RememberingVerifier`), and transactions that were parsed (`ExpectedTransactions`). Both are memories of pure functions: what they
 * forget costs time and changes nothing.
 */
import { hash } from 'node:crypto'
import type { PublicKey, SignatureVerifier } from '../../chain/keys.ts'
import { RecentMap } from '../../chain/recent-map.ts'
import { ok, type Result } from '../../chain/result.ts'
import { type ParsedTransaction, parseTransaction } from '../../chain/transaction.ts'

/**
 * A verifier that remembers what it has found valid: a transaction is verified when it is admitted and met again when
 * its block is executed; a header signature comes once live and once in a certificate.
 *
 * Only positive findings are kept, under a SHA-256 of the whole of (key, message, signature), so a memory can never turn
 * a bad signature into a good one.
 */
export class RememberingVerifier implements SignatureVerifier {
  readonly #verifier: SignatureVerifier
  readonly #valid: RecentMap<string, true>

  /** @param perGeneration findings kept; at most twice as many are held */
  constructor(verifier: SignatureVerifier, perGeneration = 32_768) {
    this.#verifier = verifier
    this.#valid = new RecentMap(perGeneration)
  }

  verify(key: PublicKey, message: Uint8Array, signature: Uint8Array): boolean {
    const finding = findingOf(key, message, signature)
    if (this.#valid.get(finding)) return true
    if (!this.#verifier.verify(key, message, signature)) return false
    this.#valid.set(finding, true)
    return true
  }
}

/** Lengths go first, so that no two triples have the same bytes. */
function findingOf({ suite, bytes }: PublicKey, message: Uint8Array, signature: Uint8Array): string {
  const lengths = Uint8Array.of(suite.length, bytes.length, signature.length)
  return hash('sha256', Buffer.concat([lengths, bytes, signature, message]), 'binary')
}

/** Transactions that are remembered: so many at least, twice as many at most. */
const maxExpected = 2_048
/** One with more bytes is parsed again, so that a full memory stays small. */
const maxExpectedBytes = 1_024
/** Of the signature: as many bytes as no two meet by chance. */
const nameBytes = 16

/**
 * Transactions that were parsed and checked here and wait for their block: it need not parse them again, which is a tenth of
 * executing it. One is found by the end of its signature and compared as a whole, and is forgotten when its block takes it.
 */
export class ExpectedTransactions {
  readonly #parsed = new RecentMap<string, ParsedTransaction>(maxExpected)

  remember(parsed: ParsedTransaction): void {
    if (parsed.bytes.length <= maxExpectedBytes) this.#parsed.set(nameOf(parsed.bytes), parsed)
  }

  /** As `parseTransaction`. */
  parse(wire: Uint8Array): Result<ParsedTransaction> {
    const name = nameOf(wire)
    const known = this.#parsed.get(name)
    if (known === undefined) return parseTransaction(wire)
    this.#parsed.delete(name)
    return Buffer.compare(known.bytes, wire) === 0 ? ok(known) : parseTransaction(wire)
  }
}

/** The signature is the last field. */
function nameOf(wire: Uint8Array): string {
  const end = wire.subarray(-nameBytes)
  return Buffer.from(end.buffer, end.byteOffset, end.length).toString('latin1')
}
