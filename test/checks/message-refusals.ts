/** Refusals about messages between devices: what may be sealed to whom, and how. */
import { never, type RefusalCheck } from './refusal-check.ts'

const keyTest = 'test/unit/chain/execute-key.test.ts'

const envelopeTest = 'test/unit/mqtt-gateway/envelope.test.ts'

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

const suites: readonly RefusalCheck[] = [
  {
    refusal: "suites: one that is not for the recipient's key, at the gateway",
    file: 'mqtt-gateway/server/verification.ts',
    find: 'return errorOf(checkSuite(suite, entry.key))',
    replace: 'return undefined',
    test: 'test/unit/mqtt-gateway/verification.test.ts',
  },
  {
    refusal: "suites: one that is not for the recipient's key, at the recipient",
    file: 'mqtt-gateway/device/envelope-sealing.ts',
    find: ': checkSuite(suite, key)',
    replace: ': ok(undefined)',
    test: envelopeTest,
  },
  {
    refusal: "suites: a message to a key that is not this device's",
    file: 'mqtt-gateway/device/envelope-sealing.ts',
    find: 'target.keyId !== keyIdOf(key)',
    replace: 'false',
    test: envelopeTest,
  },
  {
    refusal: "suites: an encapsulated key of another length than the suite's",
    file: 'mqtt-gateway/protocol/envelope.ts',
    find: 'if (!suite.encBytes.includes(enc.length))',
    replace: never,
    test: envelopeTest,
  },
]

export const deviceMessages: readonly RefusalCheck[] = [...onePurpose, ...suites]
