/** What a gateway does not take for the chain, does not take for a repeat, and does not believe of an outcome. */
import { never, type RefusalCheck, takenOut } from './refusal-check.ts'

const recorder = 'mqtt-gateway/records/durable-recorder.ts'
const exchanges = 'mqtt-gateway/records/exchange-store.ts'
const settling = 'mqtt-gateway/records/settling.ts'
const recorderTest = 'test/unit/mqtt-gateway/records/durable-recorder.test.ts'
const settlingTest = 'test/unit/mqtt-gateway/records/settling.test.ts'
const exchangesTest = 'test/unit/mqtt-gateway/records/exchange-store.test.ts'

const signedByDevice: readonly RefusalCheck[] = takenOut(
  'mqtt-gateway/records/device-signed.ts',
  recorderTest,
  {
    'records: a transaction of another chain': 'if (named !== chainId)',
    'records: a transaction of another kind': 'if (!kinds.includes(body.type))',
    'records: a transaction that another device signed': 'if (signer.deviceId !== device)',
    'records: a device that speaks for another one': 'if (attestedSources(body).length > 0)',
    'records: a transaction that would wait for its expiry': 'if (expiry > time + maxExpiryAheadMs)',
  },
)

export const queue: readonly RefusalCheck[] = [
  ...signedByDevice,
  {
    refusal: 'records: to fill the part of a stream that is for what goes back',
    file: 'mqtt-gateway/records/stream-room.ts',
    find: '? maxBytes - reservedBytes :',
    replace: '? maxBytes :',
    test: 'test/unit/mqtt-gateway/records/stream-room.test.ts',
    only: 'reserved part',
  },
  {
    refusal: 'records: another message under the id of an earlier one',
    file: recorder,
    find: "if (named && named.digest !== Buffer.from(message.digest).toString('hex'))",
    replace: never,
    test: recorderTest,
    only: 'message id',
  },
  {
    refusal: 'records: more that is open than the limit',
    file: recorder,
    find: 'this.#open.size >= this.#parts.limits.records ||',
    replace: '',
    test: recorderTest,
    only: 'overloaded',
  },
  {
    refusal: 'records: a delivery of a session that has ended',
    file: exchanges,
    find: 'if (session?.incarnation === incarnation) return session',
    replace: 'if (session) return session',
    test: recorderTest,
    only: 'clean CONNECT',
  },
  {
    refusal: 'records: to take a session that begins for the one before',
    file: exchanges,
    find: "start === 'kept' &&",
    replace: '',
    test: exchangesTest,
    only: 'new and kept',
  },
  {
    refusal: 'records: to take a PUBLISH without DUP for a repeat at QoS 1',
    file: exchanges,
    find: 'qos === 2 || isRepeat',
    replace: 'true',
    test: recorderTest,
    only: 'without DUP',
  },
  {
    refusal: 'records: to take another content for a repeat',
    file: exchanges,
    find: '&& tie.digest === bytesToHex(digest) ? tie',
    replace: '? tie',
    test: recorderTest,
    only: 'another packet identifier',
  },
  {
    refusal: 'records: to leave in memory what a full queue refused',
    file: recorder,
    find: 'await this.#parts.exchanges.untie(open)\n        this.#close(open)',
    replace: 'this.#close(open)',
    test: recorderTest,
    only: 'full queue',
  },
  {
    refusal: 'records: to give up a delivery when the queue cannot be reached',
    file: recorder,
    find: 'if (open.ties.size === 0) throw error',
    replace: 'throw error',
    test: recorderTest,
    only: 'cannot be reached',
  },
  {
    refusal: 'records: to sign anew what a third node has in a block',
    file: settling,
    find: "    if (execution) return { type: 'executed', ...execution }\n    // It was",
    replace: '    // It was',
    test: recorderTest,
    only: 'two nodes call expired',
  },
  {
    refusal: 'records: to hold up a shard with what one node alone refuses',
    file: settling,
    find: 'if (isForOneAlone(error) && performance.now() - since > unconfirmedMs)',
    replace: never,
    test: recorderTest,
    only: 'holds nobody up',
  },
  {
    refusal: 'records: to refuse for good what the chain may take later',
    file: settling,
    find: 'if (isUnproven || willBeInTime) throw',
    replace: 'if (isUnproven) throw',
    test: settlingTest,
    only: 'not ahead by certified time',
  },
  {
    refusal: 'records: to hold up what was sent with a transaction whose block is forgotten',
    file: settling,
    find: "return error instanceof MoteError && ['forgotten', 'height-not-available'].includes(error.code)",
    replace: 'return false',
    test: recorderTest,
    only: 'not held up',
  },
  {
    refusal: 'records: a place at which a transaction does not stand',
    file: settling,
    find: "  if (height === undefined || status.status === 'committed') return status\n",
    replace:
      "  if (height === undefined || status.status === 'committed') return status\n  if (status.status === 'certified') return { height, index: 0, receipt: { id, code: 'ok', events: [] } }\n",
    test: recorderTest,
    only: 'only claims',
  },
  {
    refusal: 'records: the key for NATS servers in a file that others may read',
    file: 'mqtt-gateway/records/open-queue.ts',
    find: 'if ((mode & 0o077) !== 0)',
    replace: never,
    test: 'test/unit/mqtt-gateway/records/open-queue.test.ts',
  },
  {
    refusal: 'records: to call refused what NATS servers may have',
    file: 'mqtt-gateway/records/stream-publish.ts',
    find: 'if (mayBeStored) break',
    replace: '',
    test: 'test/unit/mqtt-gateway/records/stream-publish.test.ts',
    only: 'may be stored',
  },
  {
    refusal: 'records: more sessions of one device than the limit',
    file: exchanges,
    find: 'if (siblings.length < maxSessionsPerOwner) return []',
    replace: 'if (siblings.length > 0) return []',
    test: exchangesTest,
    only: 'loses its oldest',
  },
  {
    refusal: 'records: more deliveries of one session than the limit',
    file: exchanges,
    find: 'if (session.ties.size <= maxExchangesPerSession) return []',
    replace: 'if (session.ties.size > 0) return []',
    test: exchangesTest,
    only: 'oldest that have ended',
  },
  {
    refusal: 'records: to forget what is open',
    file: exchanges,
    find: 'filter(([, { open }]) => !open).slice(0, count)',
    replace: 'slice(0, count)',
    test: exchangesTest,
    only: 'none that is open',
  },
  {
    refusal: 'records: a session whose time is over',
    file: exchanges,
    find: '      if (session.seenAt + sessionMs < now)',
    replace: '      if (false)',
    test: exchangesTest,
    only: 'not seen for its time',
  },
]
