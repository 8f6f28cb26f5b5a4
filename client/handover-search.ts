/**
 * Finds the handover that lies between a trusted head and a header certified by other consenters, without the headers in
 * between: some twenty requests for a million blocks.
 *
 * What a source answers on the way is not verified and need not be: the search ends at a header that hands over from the
 * trusted consenters, and that one its two certificates must prove (`advance`). A source that lies fails there.
 */
import { Height } from '../chain/brands.ts'
import { type CertifiedHeader, isHandover, type TrustedHead } from '../chain/light-client.ts'
import { MoteError } from '../chain/result.ts'
import type { ChainSource } from './chain-source.ts'

/**
 * A header above the head that the trusted consenters sign and that names others as next signers. Not verified.
 * Throws `bad-header` if the source contradicts itself, and what its requests throw.
 * @param newest a header above the head that others than the trusted consenters sign
 */
export async function findHandover(
  source: ChainSource,
  head: TrustedHead,
  newest: CertifiedHeader,
): Promise<CertifiedHeader> {
  const ours = head.header.nextSignersHash
  const headerAt = async (height: number): Promise<CertifiedHeader> => {
    const entry = await source.certifiedHeader(Height(height))
    if (entry.header.height === height) return entry
    throw new MoteError(
      'bad-header',
      `${source.name}: height: expected ${height}, got ${entry.header.height}`,
    )
  }
  // The trusted consenters sign `low`, others sign `high`: a handover lies where the two meet.
  let low = await headerAt(head.header.height + 1)
  let high = newest.header.height as number
  while (high - low.header.height > 1) {
    const middle = await headerAt(Math.floor((low.header.height + high) / 2))
    if (middle.header.signersHash === ours) low = middle
    else high = middle.header.height
  }
  if (low.header.signersHash === ours && isHandover(low.header)) return low
  throw new MoteError('bad-header', `${source.name}: shows no handover below height ${high}`)
}
