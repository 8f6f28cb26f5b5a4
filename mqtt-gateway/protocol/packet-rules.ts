/**
 * What MQTT 3.1.1 says of the form of a client's packets, and aedes and its parser do not check, or check after they have
 * worked on the packet. A violation is the number of the statement, or the section, and what was expected: the connection
 * is closed then [MQTT-4.8.0-1].
 *
 * A client to which nothing was sent by QoS 2 has no reason for a PUBREC or PUBCOMP.
 */

/** Types of packets that a client may send (section 2.2.1). */
export const packetTypes = {
  connect: 1,
  publish: 3,
  puback: 4,
  pubrec: 5,
  pubrel: 6,
  pubcomp: 7,
  subscribe: 8,
  unsubscribe: 10,
  pingreq: 12,
  disconnect: 14,
} as const

/** Longest topic name or filter of a client, in bytes: well above those of this gateway. */
export const maxTopicBytes = 512

/** The first byte of a packet and the remaining length (sections 2.2.1 to 2.2.3). */
export interface FixedHeader {
  readonly type: number
  readonly flags: number
  /** Bytes that follow. */
  readonly length: number
}

export interface PacketLimits {
  readonly connectBytes: number
  /** Asked for each PUBLISH, so that it can be lower before a client is accepted. */
  readonly publishBytes: () => number
  /** Whether something was sent to the client by QoS 2, which it has to acknowledge so. Default: nothing was. */
  readonly hasQos2?: () => boolean
  /** Filters in one SUBSCRIBE or UNSUBSCRIBE. */
  readonly filters: number
}

/** Flags that a packet type must have [MQTT-2.2.2-2]; those of PUBLISH mean something. */
function flagsOf(type: number): number {
  const { pubrel, subscribe, unsubscribe } = packetTypes
  return type === pubrel || type === subscribe || type === unsubscribe ? 0b0010 : 0
}

const clientTypes: ReadonlySet<number> = new Set(Object.values(packetTypes))

/** Judges the first byte of a packet, before its length is there. */
export function checkFirstByte(
  { type, flags }: Pick<FixedHeader, 'type' | 'flags'>,
  { hasQos2 }: Pick<PacketLimits, 'hasQos2'>,
): string | undefined {
  if (!clientTypes.has(type)) return `section 2.2.1: type: expected one that a client sends, got ${type}`
  if (type === packetTypes.publish) return checkPublishFlags(flags)
  if (flags !== flagsOf(type)) return `[MQTT-2.2.2-2] flags: expected ${flagsOf(type)}, got ${flags}`
  return (type === packetTypes.pubrec || type === packetTypes.pubcomp) && !hasQos2?.()
    ? '[MQTT-4.3.2-2] PUBREC, PUBCOMP: expected PUBACK, since nothing was sent at QoS 2'
    : undefined
}

/** Judges the length that a packet announces, before its body is kept. */
export function checkLength({ type, length }: FixedHeader, limits: PacketLimits): string | undefined {
  switch (type) {
    case packetTypes.connect:
      return expectAtMost(length, limits.connectBytes)
    case packetTypes.publish:
      return expectAtMost(length, limits.publishBytes())
    case packetTypes.puback:
    case packetTypes.pubrec:
    case packetTypes.pubrel:
    case packetTypes.pubcomp:
      return length === 2 ? undefined : `section 3.4.1: length: expected 2, got ${length}`
    case packetTypes.subscribe:
    case packetTypes.unsubscribe:
      return expectAtMost(length, 2 + limits.filters * (2 + maxTopicBytes + 1))
    default:
      return length === 0 ? undefined : `section 2.2.3: length: expected 0, got ${length}`
  }
}

function checkPublishFlags(flags: number): string | undefined {
  const qos = (flags >> 1) & 3
  if (qos === 3) return '[MQTT-3.3.1-4] QoS: expected at most 2, got 3'
  return qos === 0 && flags & 0b1000 ? '[MQTT-3.3.1-2] DUP: expected 0 at QoS 0, got 1' : undefined
}

function expectAtMost(length: number, limit: number): string | undefined {
  return length > limit ? `length: expected at most ${limit} bytes, got ${length}` : undefined
}

/** How many bytes of the body `checkBody` looks at. */
export function checkedBytes({ type, length }: FixedHeader): number {
  return type === packetTypes.publish ? Math.min(length, 2 + maxTopicBytes + 2) : length
}

/** Judges the body, or of a PUBLISH its beginning (`checkedBytes`). */
export function checkBody(
  { type, flags }: FixedHeader,
  bytes: Uint8Array,
  filters: number,
): string | undefined {
  const body = new Body(bytes)
  switch (type) {
    case packetTypes.connect:
      checkConnect(body)
      break
    case packetTypes.publish:
      checkTopicName(body, body.text('topic name'))
      if (flags & 0b0110) body.packetIdentifier()
      break
    case packetTypes.puback:
    case packetTypes.pubrec:
    case packetTypes.pubrel:
    case packetTypes.pubcomp:
      body.packetIdentifier()
      break
    case packetTypes.subscribe:
    case packetTypes.unsubscribe:
      checkFilters(body, type, filters)
      break
  }
  return body.violation
}

function checkTopicName(body: Body, topicName: string): void {
  if (topicName === '') body.refuse('[MQTT-4.7.3-1] topic name: expected at least one character')
  if (/[+#]/.test(topicName)) body.refuse('[MQTT-3.3.2-2] topic name: expected no wildcard')
}

function checkFilters(body: Body, type: number, filters: number): void {
  body.packetIdentifier()
  const isSubscribe = type === packetTypes.subscribe
  if (body.isAtEnd)
    body.refuse(`[MQTT-${isSubscribe ? '3.8.3-3' : '3.10.3-2'}] filters: expected at least one`)
  for (let count = 1; !body.violation && !body.isAtEnd; count++) {
    if (count > filters) body.refuse(`filters: expected at most ${filters}`)
    checkTopicFilter(body, body.text('topic filter'))
    if (isSubscribe && body.uint8() > 2) body.refuse('[MQTT-3.8.3-4] requested QoS: expected at most 2')
  }
}

function checkTopicFilter(body: Body, topicFilter: string): void {
  if (topicFilter === '') body.refuse('[MQTT-4.7.3-1] topic filter: expected at least one character')
  const levels = topicFilter.split('/')
  const [last] = levels.splice(-1)
  if (levels.some(level => level.includes('#')) || (last?.includes('#') && last !== '#'))
    body.refuse('[MQTT-4.7.1-2] topic filter: expected # as the whole last level only')
  if ([...levels, last].some(level => level?.includes('+') && level !== '+'))
    body.refuse('[MQTT-4.7.1-3] topic filter: expected + as a whole level only')
}

const connectFlags = {
  reserved: 1,
  clean: 2,
  will: 4,
  willQos: 0x18,
  willRetain: 0x20,
  password: 0x40,
  username: 0x80,
}

/** A CONNECT of a version that nobody here knows, which is answered before the connection is closed. */
export const unknownLevel = '[MQTT-3.1.2-2] protocol level: expected 4'
/** The levels of MQTT 3.1, 3.1.1 and 5. */
const knownLevels = [3, 4, 5]

/** CONNECT (section 3.1). What MQTT 5 says after its level is aedes' to refuse, with a CONNACK [MQTT-3.1.2-2]. */
function checkConnect(body: Body): void {
  const name = body.text('protocol name')
  if (name !== 'MQTT' && name !== 'MQIsdp') body.refuse('[MQTT-3.1.2-1] protocol name: expected MQTT')
  const level = body.uint8()
  if (!knownLevels.includes(level)) body.refuse(unknownLevel)
  if (level !== 3 && level !== 4) return
  const flags = body.uint8()
  const has = (flag: number): boolean => (flags & flag) !== 0
  if (has(connectFlags.reserved)) body.refuse('[MQTT-3.1.2-3] reserved flag: expected 0')
  if ((flags & connectFlags.willQos) === connectFlags.willQos)
    body.refuse('[MQTT-3.1.2-14] will QoS: expected at most 2')
  if (!has(connectFlags.will) && has(connectFlags.willQos | connectFlags.willRetain))
    body.refuse('[MQTT-3.1.2-11] will QoS and retain: expected 0 without a will')
  if (!has(connectFlags.username) && has(connectFlags.password))
    body.refuse('[MQTT-3.1.2-22] password flag: expected 0 without a user name')
  body.uint16()
  body.text('client id')
  if (has(connectFlags.will)) {
    checkTopicName(body, body.text('will topic'))
    body.binary()
  }
  if (has(connectFlags.username)) body.text('user name')
  if (has(connectFlags.password)) body.binary()
  if (!body.isAtEnd)
    body.refuse('[MQTT-3.1.3-1] payload: expected the fields that the flags announce, and no more')
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
/** U+0000 must not be there [MQTT-1.5.3-2]; the others should not, and a receiver may close the connection (section 1.5.3). */
const forbidden = /[\p{Control}\p{Noncharacter_Code_Point}]/u

/** Reads a body from its beginning. After the first violation it reads nothing but zeros. */
class Body {
  readonly #bytes: Uint8Array
  #at = 0
  violation: string | undefined

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length
  }

  /** The first violation is the one that counts. */
  refuse(violation: string): void {
    this.violation ??= violation
  }

  uint8(): number {
    return this.#take(1)[0] ?? 0
  }

  uint16(): number {
    return this.uint8() * 256 + this.uint8()
  }

  packetIdentifier(): void {
    if (this.uint16() === 0) this.refuse('[MQTT-2.3.1-1] packet identifier: expected at least 1, got 0')
  }

  binary(): void {
    this.#take(this.uint16())
  }

  /** A string (section 1.5.3); empty if it is none. */
  text(what: string): string {
    const length = this.uint16()
    if (length > maxTopicBytes) this.refuse(`${what}: expected at most ${maxTopicBytes} bytes, got ${length}`)
    try {
      const text = utf8.decode(this.#take(length))
      if (text.includes('\0')) this.refuse(`[MQTT-1.5.3-2] ${what}: expected no U+0000`)
      if (forbidden.test(text)) this.refuse(`section 1.5.3: ${what}: expected no control character`)
      return text
    } catch {
      this.refuse(`[MQTT-1.5.3-1] ${what}: expected well-formed UTF-8`)
      return ''
    }
  }

  #take(count: number): Uint8Array {
    const taken = this.violation ? new Uint8Array() : this.#bytes.subarray(this.#at, this.#at + count)
    this.#at += count
    if (taken.length < count) this.refuse('section 2.2.3: expected the whole packet, got its beginning')
    return taken
  }
}
