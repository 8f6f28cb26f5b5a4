/**
 * Clients that send what is wrong: bent and made-up packets of MQTT, as the first of a connection and inside a session, and bent and
 * made-up envelopes, boxes, questions, watches, votes and answers to them.
 */
import { connect, type Socket } from 'node:net'
import mqttPacket from 'mqtt-packet'
import type { ChainId, GroupId, Hash, Milliseconds } from '../../chain/brands.ts'
import { keyIdOf } from '../../chain/keys.ts'
import { type IdentityKeys, signerOf } from '../../client/key-directory.ts'
import { makeCredentials } from '../../mqtt-gateway/device/mqtt-connection.ts'
import { encodeEpochBoxes } from '../../mqtt-gateway/protocol/epoch-boxes.ts'
import { encodeAcknowledgement } from '../../mqtt-gateway/protocol/kept-mail.ts'
import { encodeQuestion, encodeWatch } from '../../mqtt-gateway/protocol/question.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { encodeBallotAnswer, encodeVoteRequest } from '../../mqtt-gateway/protocol/vote.ts'
import type { SeededRandom } from '../simulation/random.ts'
import { malformedPackets } from '../support/malformed-packets.ts'
import { sealedMessage } from '../support/sealed-message.ts'
import { keysOf } from '../support/test-chain.ts'
import type { AttackedGateway } from './attacked-gateway.ts'
import { bentFrom, randomMessagePack, randomPacket } from './bytes.ts'

/** What is counted as one thing sent. */
type Kind = 'payload' | 'packet' | 'first packet'

export interface AttackCounts {
  /** Sent, by kind. */
  readonly sent: Record<Kind, number>
  /** Payloads that were acknowledged, or answered by the end of the connection. */
  answered: number
  /** Of those that were acknowledged, how many must have a line in the decision log. */
  toBeLogged: number
  /** Connections that the gateway ended. */
  ended: number
  /** Packets that were right after all, or whose rest the gateway waited for until the client ended it. */
  taken: number
  connections: number
}

/** How long an answer is waited for. A packet that is only half there has none. */
const silenceMs = 500
const answerMs = 20_000
/** Payloads in one session before it sends a bent packet, and under way at a time. */
const payloadsPerSession = 24

/** A topic that a device may publish to, and what would be right there. */
interface Target {
  readonly topicName: string
  readonly samples: readonly Buffer[]
  /** Each payload has a line in the decision log; what is right after all has none there. */
  readonly isLogged: boolean
}

/** One connection, as bytes. */
class RawClient {
  readonly socket: Socket
  readonly closed: Promise<void>
  isClosed = false
  readonly counts = { connack: 0, puback: 0, pingresp: 0, suback: 0 }
  #wake: () => void = () => {}

  constructor(address: { readonly host: string; readonly port: number }, localAddress: string) {
    this.socket = connect({ ...address, localAddress })
    this.socket.setNoDelay(true)
    const parser = mqttPacket.parser({ protocolVersion: 4 })
    parser.on('packet', ({ cmd }) => {
      if (cmd in this.counts) this.counts[cmd as keyof typeof this.counts] += 1
      this.#wake()
    })
    parser.on('error', () => this.socket.destroy())
    this.socket.on('data', chunk => parser.parse(chunk))
    this.socket.on('error', () => {})
    this.closed = new Promise(resolve => {
      this.socket.once('close', () => {
        this.isClosed = true
        this.#wake()
        resolve()
      })
    })
  }

  /** True when the condition holds; false when the connection has ended or the time is over before. */
  async until(condition: () => boolean, withinMs: number): Promise<boolean> {
    let isLate = false
    const timer = setTimeout(() => {
      isLate = true
      this.#wake()
    }, withinMs)
    while (!condition() && !this.isClosed && !isLate)
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
    clearTimeout(timer)
    return condition()
  }

  async end(): Promise<void> {
    this.socket.destroy()
    await this.closed
  }
}

const pingRequest = Buffer.from('c000', 'hex')

export class Attackers {
  readonly counts: AttackCounts = {
    sent: { payload: 0, packet: 0, 'first packet': 0 },
    answered: 0,
    toBeLogged: 0,
    ended: 0,
    taken: 0,
    connections: 0,
  }
  readonly #started: AttackedGateway
  readonly #random: SeededRandom
  readonly #targets = new Map<IdentityKeys, readonly Target[]>()
  readonly #packets: readonly Buffer[]
  readonly #firstPackets: readonly Buffer[]

  private constructor(started: AttackedGateway, random: SeededRandom) {
    this.#started = started
    this.#random = random
    const known = (isFirst: boolean) =>
      malformedPackets.filter(packet => packet.isFirst === isFirst).map(({ bytes }) => Buffer.from(bytes))
    this.#packets = [...known(false), ...rightPackets()]
    this.#firstPackets = [...known(true), connectOf({ clientId: 'a', username: 'b', password: 'c' })]
  }

  /** @param names of devices whose keys follow from the name, as the gateway's process has them */
  static async make(
    started: AttackedGateway,
    names: readonly string[],
    random: SeededRandom,
  ): Promise<Attackers> {
    const attackers = new Attackers(started, random)
    for (const name of names) {
      const keys = keysOf(name)
      attackers.#targets.set(keys, await targetsOf(keys, started))
    }
    return attackers
  }

  get total(): number {
    return Object.values(this.counts.sent).reduce((sum, count) => sum + count, 0)
  }

  /** All of them at once, until so many things have been sent. */
  async run(count: number): Promise<void> {
    await Promise.all(
      [...this.#targets.keys()].map(async keys => {
        while (this.total < count) {
          await this.#firstPacket()
          await this.#session(keys)
        }
      }),
    )
  }

  #connect(): RawClient {
    this.counts.connections += 1
    const [third, fourth] = [this.#random.below(250), 2 + this.#random.below(250)]
    return new RawClient(this.#started, `127.0.${third}.${fourth}`)
  }

  async #firstPacket(): Promise<void> {
    const client = this.#connect()
    this.counts.sent['first packet'] += 1
    const bytes =
      this.#random.below(3) === 0 ? randomPacket(this.#random) : bentFrom(this.#random, this.#firstPackets)
    client.socket.write(bytes)
    await this.#outcome(client)
  }

  /** Whether the gateway has ended the connection, or answers still. */
  async #outcome(client: RawClient): Promise<void> {
    const before = client.counts.pingresp
    client.socket.write(pingRequest)
    await client.until(() => client.counts.pingresp > before, silenceMs)
    if (client.isClosed) this.counts.ended += 1
    else this.counts.taken += 1
    await client.end()
  }

  async #session(keys: IdentityKeys): Promise<void> {
    const client = this.#connect()
    const credentials = makeCredentials({
      chainId: this.#started.chainId as ChainId,
      device: keys.id,
      signer: signerOf(keys),
      now: () => Date.now() as Milliseconds,
    })
    client.socket.write(connectOf(credentials))
    if (await client.until(() => client.counts.connack > 0, answerMs)) {
      await this.#payloads(client, keys)
      if (!client.isClosed) {
        this.counts.sent.packet += 1
        const bytes =
          this.#random.below(3) === 0 ? randomPacket(this.#random) : bentFrom(this.#random, this.#packets)
        client.socket.write(bytes)
        await this.#outcome(client)
      }
    }
    await client.end()
  }

  async #payloads(client: RawClient, keys: IdentityKeys): Promise<void> {
    const targets = this.#targets.get(keys) ?? []
    let [sent, toBeLogged] = [0, 0]
    while (sent < payloadsPerSession && !client.isClosed) {
      const { topicName: topic, samples, isLogged } = targets[this.#random.below(targets.length)] as Target
      const payload =
        this.#random.below(4) === 0 ? randomMessagePack(this.#random) : bentFrom(this.#random, samples)
      const messageId = ++sent
      client.socket.write(
        mqttPacket.generate({ cmd: 'publish', topic, payload, qos: 1, dup: false, retain: false, messageId }),
      )
      this.counts.sent.payload += 1
      if (isLogged) toBeLogged += 1
    }
    const areAcknowledged = await client.until(() => client.counts.puback >= sent, answerMs)
    this.counts.answered += client.isClosed ? sent : client.counts.puback
    if (areAcknowledged) this.counts.toBeLogged += toBeLogged
  }
}

function connectOf({
  clientId,
  username,
  password,
}: {
  clientId: string
  username: string
  password: string
}): Buffer {
  return mqttPacket.generate({
    cmd: 'connect',
    protocolId: 'MQTT',
    protocolVersion: 4,
    clean: true,
    keepalive: 60,
    clientId,
    username,
    password: Buffer.from(password),
  })
}

function rightPackets(): readonly Buffer[] {
  const filter = { topic: 'mote/1/to/x', qos: 1 } as const
  return [
    mqttPacket.generate({ cmd: 'subscribe', messageId: 7, subscriptions: [filter] }),
    mqttPacket.generate({ cmd: 'unsubscribe', messageId: 8, unsubscriptions: ['mote/1/to/x', 'a/+/b'] }),
    mqttPacket.generate({ cmd: 'puback', messageId: 9 }),
    mqttPacket.generate({ cmd: 'pingreq' }),
    mqttPacket.generate({
      cmd: 'publish',
      topic: 'a/b',
      payload: 'x',
      qos: 2,
      messageId: 10,
      dup: false,
      retain: true,
    }),
  ]
}

async function targetsOf(
  keys: IdentityKeys,
  { chainId, group: groupId, recipient }: AttackedGateway,
): Promise<readonly Target[]> {
  const other = keysOf(recipient)
  const nonce = new Uint8Array(16).fill(5)
  const group = groupId as GroupId
  const box = {
    member: keys.id,
    keyId: keyIdOf(keys.encryption.publicKey),
    enc: new Uint8Array(32),
    ciphertext: new Uint8Array(48),
  }
  const envelopes: Uint8Array[] = []
  for (const [counter, channel] of ['', 'kitchen/temperature'].entries())
    envelopes.push(
      await sealedMessage(
        chainId as ChainId,
        { from: keys, to: other },
        {
          counter,
          expiry: (Date.now() + 500_000) as Milliseconds,
          channel,
          content: new Uint8Array(40 + 400 * counter),
        },
      ),
    )
  const copy = { suite: 'x25519', bytes: other.encryption.publicKey.bytes } as const
  const rows: readonly (readonly [string, readonly Uint8Array[]])[] = [
    [topics.send(keys.id), envelopes],
    [topics.boxes(group), [encodeEpochBoxes(group, 1, [box])]],
    [
      topics.ask(keys.id),
      [
        encodeQuestion(nonce, { type: 'device', id: other.id }),
        encodeQuestion(nonce, { type: 'devices', after: undefined }),
      ],
    ],
    [
      topics.watch(keys.id),
      [
        encodeWatch([
          { type: 'device', id: other.id },
          { type: 'group', id: group },
        ]),
      ],
    ],
    [topics.vote(keys.id), [encodeVoteRequest({ nonce, recipient: other.id, copy })]],
    [topics.check(keys.id), [encodeBallotAnswer({ vote: nonce, check: 'Check', inCopy: keyIdOf(copy) })]],
    [topics.got(keys.id), [encodeAcknowledgement('ab'.repeat(32) as Hash)]],
  ]
  return rows.map(([topicName, payloads]) => ({
    topicName,
    samples: payloads.map(bytes => Buffer.from(bytes)),
    isLogged: topicName !== topics.check(keys.id) && topicName !== topics.got(keys.id),
  }))
}
