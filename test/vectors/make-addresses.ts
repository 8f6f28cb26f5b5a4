/**
 * Makes test/vectors/coordination-address.json: the signed address of a coordination node, and bytes that are none, for
 * implementations in other languages. `node test/vectors/make-addresses.ts` writes the file.
 */
import { writeFileSync } from 'node:fs'
import { bytesToHex } from '@noble/hashes/utils.js'
import { ChainId, Milliseconds } from '../../chain/brands.ts'
import { keyIdOf } from '../../chain/keys.ts'
import { unwrap } from '../../chain/result.ts'
import { addressSigningBytes, parseAddress, signAddress } from '../../client/coordination-address.ts'
import { makeKeys } from '../../client/key-directory.ts'

const seeds = { signing: 1, encryption: 2, transport: 3 } as const
const keys = makeKeys('coordination-1', { seedOf: purpose => new Uint8Array(32).fill(seeds[purpose]) })

export function addressVectors() {
  const where = {
    chainId: ChainId('c1'.repeat(32)),
    api: 'http://192.0.2.7:4100',
    addresses: ['/ip4/192.0.2.7/tcp/4001', '/dns4/node.example/tcp/4001'],
    expiry: Milliseconds(1_790_000_300_000),
  }
  const signed = signAddress(keys, where)
  const { payload } = unwrap(parseAddress(signed))
  return {
    about:
      'Where a coordination node says that it is reached; Ed25519, secret seed 01…01. Hexadecimal; times in milliseconds.',
    publicKey: bytesToHex(keys.signing.publicKey.bytes),
    address: { ...where, device: keys.id, keyId: keyIdOf(keys.signing.publicKey) },
    payload: bytesToHex(payload),
    signed: bytesToHex(addressSigningBytes(payload)),
    encoded: bytesToHex(signed),
  }
}

if (import.meta.main) {
  const file = new URL('coordination-address.json', import.meta.url)
  writeFileSync(file, `${JSON.stringify(addressVectors(), undefined, 2)}\n`)
}
