/**
 * Transactions that were parsed and checked here and wait for their block: it need not parse them again, which is a tenth of
 * executing it. A memory of a pure function (`parseTransaction`), so what it forgets costs time and changes nothing.
 *
 * A transaction is found by the end of its signature and compared as a whole, and is forgotten when its block takes it.
 */
import { RecentMap } from '../../chain/recent-map.ts'
import { ok, type Result } from '../../chain/result.ts'
import { type ParsedTransaction, parseTransaction } from '../../chain/transaction.ts'

/** Transactions that are remembered: so many at least, twice as many at most. */
const maxExpected = 2_048
/** One with more bytes is parsed again, so that a full memory stays small. */
const maxExpectedBytes = 1_024
/** Of the signature: as many bytes as no two meet by chance. */
const nameBytes = 16

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
