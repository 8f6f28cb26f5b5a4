/** Refusals about messages between devices: what may be sealed to whom, and how. */
import { never, type RefusalCheck, takenOut } from './refusal-check.ts'

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
    refusal: "open topics: another key than the chain's, at the gateway",
    file: 'mqtt-gateway/server/verification.ts',
    find: 'return target.keyId === mismatch.onChain\n',
    replace: 'return true\n',
    test: 'test/unit/mqtt-gateway/verification.test.ts',
  },
  {
    refusal: "open topics: a box whose epoch key does not give the chain's topic key",
    file: 'mqtt-gateway/device/agent-epochs.ts',
    find: 'if (topic && !isTopicKey(',
    replace: 'if (false && !isTopicKey(',
    test: 'test/unit/mqtt-gateway/agent-epochs.test.ts',
  },
  {
    refusal: 'open topics: a copy of its key that is of no epoch, or of another kind',
    file: 'mqtt-gateway/device/device-state.ts',
    find: "if (contact.value.key.suite !== 'x25519')",
    replace: never,
    test: 'test/unit/mqtt-gateway/device-state.test.ts',
  },
  {
    refusal: 'open topics: a sender that may not publish, at the recipient',
    file: 'mqtt-gateway/device/listener.ts',
    find: 'return isOpen || writers?.members.includes(sender)\n',
    replace: 'return true\n',
    test: 'test/unit/mqtt-gateway/listener.test.ts',
  },
  {
    refusal: 'open topics: a message under the epoch key, at the recipient',
    file: 'mqtt-gateway/device/listener.ts',
    find: "if ((target.type === 'topic') !== (topic !== undefined))",
    replace: never,
    test: 'test/unit/mqtt-gateway/listener.test.ts',
  },
  {
    refusal: 'open topics: a suite that is not for them',
    file: 'mqtt-gateway/protocol/envelope.ts',
    find: '(isTopic && header.suite !== topicSuite)',
    replace: 'false',
    test: envelopeTest,
  },
  {
    refusal: "suites: one that is not for the recipient's key, at the gateway",
    file: 'mqtt-gateway/server/verification.ts',
    find: 'return errorOf(checkSuite(envelope.header.suite, entry.key))',
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

const repeats: readonly RefusalCheck[] = [
  {
    refusal: 'repeats: to relay the same message twice',
    file: 'mqtt-gateway/server/rulings.ts',
    find: 'if (decision.isRepeat)',
    replace: never,
    test: 'test/e2e/gateway-broker.test.ts',
    only: 'an exact repeat',
  },
  {
    refusal: 'repeats: another message on a used counter',
    file: 'mqtt-gateway/server/rulings.ts',
    find: 'const wasRelayed = relayed !== undefined',
    replace: 'const wasRelayed = true',
    test: 'test/e2e/gateway-broker.test.ts',
    only: 'an exact repeat',
  },
  {
    refusal: 'repeats: to acknowledge one of a sender that is revoked',
    file: 'mqtt-gateway/server/verification.ts',
    find: '    checkSender(input) ??\n    repeatOf(input) ??\n',
    replace: '    repeatOf(input) ??\n    checkSender(input) ??\n',
    test: 'test/unit/mqtt-gateway/verification.test.ts',
  },
]

const lightTest = 'test/unit/mqtt-gateway/light-secrets.test.ts'
const lightSecrets = 'mqtt-gateway/device/light-secrets.ts'

const light: readonly RefusalCheck[] = [
  {
    refusal: 'light secrets: to keep one for longer than a day',
    file: lightSecrets,
    find: 'wall() - known.wall) < lightSecretMs',
    replace: 'wall() - known.wall) < Number.POSITIVE_INFINITY',
    test: lightTest,
  },
  {
    refusal: 'light secrets: to keep what opens no message',
    file: 'mqtt-gateway/device/envelope-sealing.ts',
    find: 'if (opened.ok) secrets.keep(enc, secret.value)',
    replace: 'secrets.keep(enc, secret.value)',
    test: lightTest,
  },
  {
    refusal: 'light secrets: to key two messages alike',
    file: 'mqtt-gateway/device/envelope-sealing.ts',
    find: "domainBytes('mote/envelope-light-key/1', aad)",
    replace: "domainBytes('mote/envelope-light-key/1')",
    test: lightTest,
  },
]

const transfersFile = 'mqtt-gateway/device/transfers.ts'
const transfersTest = 'test/unit/mqtt-gateway/transfers.test.ts'

const chunks: readonly RefusalCheck[] = [
  ...takenOut(transfersFile, transfersTest, {
    'chunks: a message of more than 16 MiB': 'if (message.length > maxTransferBytes)',
    'chunks: a transfer that there is no room for': 'if (!room.ok)',
    'chunks: one that names another whole or count':
      'if (transfer.whole !== place.whole || transfer.chunks.length !== place.count)',
    'chunks: more transfers of one sender':
      'if (all.filter(each => each.sender === sender).length >= maxTransfersPerSender)',
  }),
  ...takenOut('mqtt-gateway/protocol/content.ts', transfersTest, {
    'chunks: a place that there is not': 'if (count < 2 || index >= count)',
    'chunks: one of another size': 'if (index < count - 1 && content.length !== maxContentBytes)',
  }),
  {
    refusal: 'chunks: a whole that is not what its chunks named',
    file: transfersFile,
    find: 'return digestOf(message) === whole',
    replace: 'return true',
    test: transfersTest,
  },
  {
    refusal: 'chunks: more bytes in all',
    file: transfersFile,
    find: 'return chunks * maxContentBytes > maxTransfersBytes',
    replace: 'return false',
    test: transfersTest,
  },
  {
    refusal: 'chunks: to wait for ever',
    file: transfersFile,
    find: '>= chunkWaitMs) this',
    replace: '>= Number.POSITIVE_INFINITY) this',
    test: transfersTest,
  },
  {
    refusal: 'chunks: more bytes that wait to be opened',
    file: 'mqtt-gateway/device/listener.ts',
    find: ' || this.#bytes + bytes > maxWaitingBytes',
    replace: '',
    test: 'test/unit/mqtt-gateway/listener.test.ts',
  },
]

const policy: readonly RefusalCheck[] = [
  {
    refusal: 'allowed suites: to relay another',
    file: 'mqtt-gateway/server/verification.ts',
    find: '    repeatOf(input) ??\n    checkPolicy(input) ??\n',
    replace: '    repeatOf(input) ??\n',
    test: 'test/unit/mqtt-gateway/verification.test.ts',
  },
  {
    refusal: 'allowed suites: to read another',
    file: 'mqtt-gateway/device/listener.ts',
    find: 'if (!allowed.ok)',
    replace: never,
    test: 'test/unit/mqtt-gateway/listener.test.ts',
  },
  {
    refusal: 'allowed suites: to send by another',
    file: 'mqtt-gateway/device/message-sealing.ts',
    find: 'if (allowed) unwrap(checkAllowed(suite, allowed))',
    replace: 'void allowed',
    test: 'test/e2e/gateway-messages.test.ts',
    only: 'does not allow',
  },
  {
    refusal: 'allowed suites: a key of another, for a message or a box',
    file: 'mqtt-gateway/protocol/envelope.ts',
    find: 'allowed.includes(suiteForKey[key.suite]) && ',
    replace: '',
    test: 'test/unit/mqtt-gateway/agent-epochs.test.ts',
  },
  {
    refusal: 'allowed suites: a box by another',
    file: 'mqtt-gateway/device/agent-epochs.ts',
    find: 'if (!allowed.ok)',
    replace: never,
    test: 'test/unit/mqtt-gateway/agent-epochs.test.ts',
  },
  {
    refusal: 'allowed suites: a genesis that lists one twice',
    file: 'chain/genesis.ts',
    find: 'if (!suites.ok)',
    replace: never,
    test: 'test/unit/chain/genesis.test.ts',
  },
]

export const deviceMessages: readonly RefusalCheck[] = [
  ...onePurpose,
  ...suites,
  ...policy,
  ...repeats,
  ...light,
  ...chunks,
]
