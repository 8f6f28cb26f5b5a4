/** Refusals about messages between devices: what may be sealed to whom, and how. */
import { never, type RefusalCheck } from './refusal-check.ts'

const keyTest = 'test/unit/chain/execute-key.test.ts'

const onePurpose: readonly RefusalCheck[] = [
  {
    refusal: 'one secret: a P-256 point that signs in the record already, to encrypt to',
    file: 'chain/usable-keys.ts',
    find: "sign.suite === 'p256' &&",
    replace: 'false &&',
    test: keyTest,
  },
  {
    refusal: 'one secret: the negative of a point',
    file: 'chain/usable-keys.ts',
    find: 'bytesToHex(sign.bytes.subarray(1)) === bytesToHex(encrypt.bytes.subarray(1))',
    replace: 'bytesToHex(sign.bytes) === bytesToHex(encrypt.bytes)',
    test: keyTest,
  },
  {
    refusal: 'one secret: an Ed25519 key as X25519 key',
    file: 'chain/usable-keys.ts',
    find: 'return (u * (1n - y) - (1n + y)) % p25519 === 0n',
    replace: 'return u === y',
    test: keyTest,
  },
  {
    refusal: 'one secret: to add or rotate a key to it',
    file: 'chain/execute-key.ts',
    find: 'if (!onePurpose.ok)',
    replace: never,
    test: keyTest,
  },
  {
    refusal: 'one secret: to register with it',
    file: 'chain/registration.ts',
    find: 'if (!onePurpose.ok)',
    replace: never,
    test: 'test/unit/chain/execute-identity.test.ts',
  },
  {
    refusal: 'one secret: a genesis with it',
    file: 'chain/genesis.ts',
    find: 'const sharing = encryptionKey && sharingFlaw(inceptionKey, encryptionKey)',
    replace: 'const sharing = encryptionKey && undefined',
    test: 'test/unit/chain/genesis.test.ts',
  },
]

export const deviceMessages: readonly RefusalCheck[] = [...onePurpose]
