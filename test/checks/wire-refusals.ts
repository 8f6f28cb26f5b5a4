/** Refusals on the gateway's wire: TLS and client certificates, wills, and what a client sends too fast or twice. */
import { never, type RefusalCheck, takenOut } from './refusal-check.ts'

const sessions = 'mqtt-gateway/server/sessions.ts'
const tlsTest = 'test/e2e/gateway-tls.test.ts'
const wireTest = 'test/e2e/broker-wire.test.ts'

const certificates: readonly RefusalCheck[] = [
  ...takenOut(sessions, tlsTest, {
    'certificate: of another name': 'if (commonName !== device)',
    'certificate: that is not valid yet, or any more': 'if (now < notBefore || now >= notAfter)',
  }).map(check => ({ ...check, only: 'one of another name or key' })),
  {
    refusal: "certificate: of a key that is not the device's now",
    file: sessions,
    find: "if (entry?.purpose !== 'sign' || !isKeyValidAt(entry, trust.now()))",
    replace: "if (!entry) return ok({ type: 'key', key: { suite: 'ed25519', bytes: new Uint8Array() } })",
    test: tlsTest,
    only: 'one of another name or key',
  },
  {
    refusal: 'certificate: a session whose key, or certificate, is over',
    file: sessions,
    find: 'now >= (this.#dueAt.get(session) ?? Number.POSITIVE_INFINITY) ||',
    replace: '',
    test: tlsTest,
    only: 'a session ends with the time',
  },
]

const listener: readonly RefusalCheck[] = [
  {
    refusal: 'tls: a version before 1.2',
    file: 'mqtt-gateway/server/listeners.ts',
    find: "{ minVersion: 'TLSv1.2' }",
    replace: "{ minVersion: 'TLSv1.1', ciphers: 'DEFAULT:@SECLEVEL=0' }",
    test: tlsTest,
    only: '1.1 is refused',
  },
  ...takenOut('mqtt-gateway/server/tls-identity.ts', tlsTest, {
    'tls: a key that others may read': 'if ((mode & 0o077) !== 0)',
    'tls: a key of another certificate': 'if (!belongs)',
  }).map(check => ({ ...check, only: 'a key that others may read' })),
  {
    refusal: 'tls: at the device: a gateway whose certificate does not verify, or names another host',
    file: 'mqtt-gateway/device/gateway-address.ts',
    find: 'rejectUnauthorized: true',
    replace: 'rejectUnauthorized: false',
    test: tlsTest,
    only: 'an agent reaches the gateway',
  },
  {
    refusal: 'tls: a handshake without end',
    file: 'mqtt-gateway/server/listeners.ts',
    find: '...versions, ...asked, handshakeTimeout }',
    replace: '...versions, ...asked }',
    test: tlsTest,
    only: 'a handshake has so much time',
  },
]

const wire: readonly RefusalCheck[] = [
  {
    refusal: 'wire: the will of a session that would not be taken now',
    file: 'mqtt-gateway/server/gateway.ts',
    find: 'const ruling: Ruling = standing.ok',
    replace: 'const ruling: Ruling = true',
    test: 'test/e2e/gateway-wills.test.ts',
  },
  {
    refusal: 'wire: a retained box for who is no member any more',
    file: 'mqtt-gateway/server/retained-boxes.ts',
    find: 'const members = new Set(value?.members ?? [])',
    replace: 'const members = new Set(boxes.boxes.map(({ member }) => member))',
    test: 'test/e2e/gateway-boxes.test.ts',
    only: 'a member finds its own',
  },
  {
    refusal: 'wire: a retained box while nobody can say who is a member',
    file: 'mqtt-gateway/server/gateway.ts',
    find: 'if (isBoxFilter(topicFilter) && !(await this.#boxesSettled()))',
    replace: never,
    test: 'test/e2e/gateway-boxes.test.ts',
    only: 'while the chain cannot say',
  },
  {
    refusal: 'wire: to read a client of which enough is being decided',
    file: 'mqtt-gateway/server/client-input.ts',
    find: 'if (isFull || (this.#open.length > 0 && this.#openBytes + bytes > limits.bytes)) return false',
    replace: '',
    test: 'test/unit/mqtt-gateway/client-input.test.ts',
  },
  {
    refusal: 'wire: to read a device that is over its rate',
    file: 'mqtt-gateway/server/device-rates.ts',
    find: 'if (missing >= 0)',
    replace: never,
    test: wireTest,
    only: 'over its rate',
  },
  {
    refusal: 'wire: to judge a QoS 2 message twice',
    file: 'mqtt-gateway/server/qos2-receipts.ts',
    find: 'if (isRepeat && known?.digest === digest && known.incarnation === incarnation)',
    replace: never,
    test: wireTest,
    only: 'PUBREC comes after',
  },
  {
    refusal: 'wire: to answer a message with what an ended session had',
    file: 'mqtt-gateway/server/qos2-receipts.ts',
    find: ' && known.incarnation === incarnation',
    replace: '',
    test: 'test/unit/mqtt-gateway/qos2-receipts.test.ts',
    only: 'clean CONNECT',
  },
  {
    refusal: 'wire: to take a message while the gateway stops',
    file: 'mqtt-gateway/server/aedes-broker.ts',
    find: 'input.stop()',
    replace: 'void input',
    test: wireTest,
    only: 'closing it',
  },
]

export const wireManners: readonly RefusalCheck[] = [...certificates, ...listener, ...wire]
