/**
 * Gateways of a simulated chain and the plain clients that report through them, under all faults of the chain and some of their own: they are
 * killed, lose power, pause, have disks that are slow or fail, and their clients' connections break.
 */
import { type DeviceId, Milliseconds } from '../../chain/brands.ts'
import type { TrustedHead } from '../../chain/light-client.ts'
import type { AttestedBody, DeviceRecord } from '../../chain/record-bodies.ts'
import { noRights } from '../../chain/rights.ts'
import type { TransactionBody } from '../../chain/transaction.ts'
import { shardOf } from '../../mqtt-gateway/protocol/sharded-topics.ts'
import { deployable } from '../support/sample-contract.ts'
import type { SampleIdentity } from '../support/sample-genesis.ts'
import type { Clients } from './clients.ts'
import { DecisionRules } from './decision-rules.ts'
import type { CrashKind } from './disk.ts'
import { type GatewayObserver, SimulatedGateway } from './gateway.ts'
import type { SimulatedMessage } from './gateway-edge.ts'
import { GatewayRules } from './gateway-rules.ts'
import type { Host, Site } from './host.ts'
import type { Judge } from './judge.ts'
import { OperatorSteps } from './operator-steps.ts'
import { SimulatedClient } from './plain-clients.ts'
import type { SeededRandom } from './random.ts'
import { SimulatedClaims } from './simulated-claims.ts'

export interface GatewaysParts {
  readonly site: Site
  readonly random: SeededRandom
  readonly hosts: readonly Host[]
  readonly judge: Judge
  readonly clients: Clients
  readonly trusted: TrustedHead
  readonly operator: SampleIdentity
  /** Who may attest, one gateway each. */
  readonly gateways: readonly SampleIdentity[]
  /** Whose plain clients there are. */
  readonly devices: readonly SampleIdentity[]
}

const topic = 'plain'
const decider = deployable({
  name: 'decider',
  attested: true,
  publish: ['answers/#'],
  inputs: { number: 'number' },
  decide: [{ say: 'heard' }],
})
const calmDisk = { writeMsMin: 0.2, writeMsMax: 3, stalledUntil: 0, failNext: false }
const faultKinds = [
  'takeover',
  'crash',
  'crash-at-boundary',
  'cut',
  'pause',
  'slow-disk',
  'disk-failure',
] as const

export class Gateways {
  readonly #parts: GatewaysParts
  readonly #rules: GatewayRules
  readonly #decisions: DecisionRules
  readonly #claims: SimulatedClaims<SimulatedGateway>
  readonly #steps: OperatorSteps
  readonly #gateways: readonly SimulatedGateway[]
  readonly #clients: readonly SimulatedClient[]
  readonly #faultMs: number
  #messages = 0
  #isDeployed = false
  #stopped = false

  constructor(parts: GatewaysParts) {
    const { site, random, hosts, judge, clients, trusted } = parts
    this.#parts = parts
    this.#decisions = new DecisionRules(judge)
    this.#rules = new GatewayRules({ judge, clients, decisions: this.#decisions })
    this.#steps = new OperatorSteps(parts)
    const observer: GatewayObserver = {
      submits: bytes => judge.inside(() => this.#rules.submits(bytes)),
      acknowledges: (message, outcome) => judge.inside(() => this.#rules.acknowledges(message, outcome)),
      publishes: payload => judge.inside(() => this.#decisions.publishes(payload)),
      threw: (process, error) => judge.threw(process, error),
    }
    const shards = (gateway: SimulatedGateway) => this.#claims.of(gateway)
    const onEnded = (gateway: SimulatedGateway) => this.#later(random.between(10, 500), () => gateway.start())
    this.#gateways = parts.gateways.map(
      ({ name }) => new SimulatedGateway({ site, name, hosts, trusted, observer, onEnded, shards }),
    )
    this.#claims = new SimulatedClaims(this.#gateways, random)
    this.#clients = parts.devices.map((device, i) => {
      const gateway = this.#gateways[i % this.#gateways.length] as SimulatedGateway
      return new SimulatedClient({
        site,
        random,
        name: `${device.id}/${i}`,
        device: device.id,
        isClean: random.chance(0.3),
        gateway,
        nextMessage: () => this.#message(device.id),
        onDelivery: message => this.#rules.delivers(message),
      })
    })
    this.#faultMs = random.pick([200, 500, 1_500])
  }

  /** Every message is acknowledged, every decision published, and no more come. */
  get idle(): boolean {
    if (!this.#steps.idle || !this.#isProvable) return this.#steps.idle
    return this.#clients.every(({ idle }) => idle) && this.#decisions.missing.length === 0
  }

  /** For a run that does not come right. */
  get state(): string {
    const open = this.#clients.flatMap(({ openNumbers }) => openNumbers)
    return `${this.#steps.idle ? '' : 'steps open, '}messages open: ${open.join(' ')}, ${this.#decisions.missing.length} decisions`
  }

  get acknowledged(): number {
    return this.#rules.acknowledged
  }

  /** Somebody has all blocks. Where disks rot, or states were taken over, blocks may be gone everywhere, and with them what is to be proven. */
  get #isProvable(): boolean {
    return this.#parts.hosts.some(({ hasGaps, rotten, retired }) => !hasGaps && !rotten && !retired)
  }

  start(): void {
    const { gateways } = this.#parts
    for (const gateway of this.#gateways) gateway.start()
    this.#steps.run([{ type: 'contract.deploy', contract: decider.bytes }], () => {
      this.#isDeployed = true
    })
    const rights = gateways.map(
      ({ id: subject }): TransactionBody => ({
        ...noRights,
        type: 'identity.rights',
        subject,
        expectedVersion: 0,
        gateway: true,
      }),
    )
    this.#steps.run(rights, () => {
      if (this.#stopped) return
      for (const client of this.#clients) client.start()
    })
    this.#nextFault()
  }

  /** No more faults, and no more messages. */
  stop(): void {
    this.#stopped = true
    this.#steps.stop()
    for (const client of this.#clients) client.stop()
    for (const gateway of this.#gateways) {
      for (const { faults } of gateway.disks) Object.assign(faults, calmDisk)
      if (gateway.process) gateway.process.endsIn = undefined
      this.#resume(gateway)
      this.#later(this.#parts.random.between(0, 50), () => gateway.start())
    }
  }

  judgeAll(): void {
    if (this.#isProvable) this.#rules.judgeAll()
  }

  #later(delayMs: number, happen: () => void): void {
    this.#parts.site.timeline.schedule(delayMs, undefined, 'gateways', happen)
  }

  #nextFault(): void {
    const { random } = this.#parts
    this.#later(random.exponential(this.#faultMs), () => {
      if (this.#stopped) return
      this.#fault(random.pick(this.#gateways))
      this.#nextFault()
    })
  }

  #fault(gateway: SimulatedGateway): void {
    const { random, site } = this.#parts
    const { process } = gateway
    const crashKind: CrashKind = random.chance(0.5) ? 'process' : 'power'
    const kind = random.pick(faultKinds)
    switch (kind) {
      case 'takeover':
        this.#takeOver(gateway)
        return
      case 'crash':
        gateway.crash(crashKind)
        this.#giveAway(gateway)
        this.#later(random.between(10, 2_000), () => gateway.start())
        return
      case 'crash-at-boundary':
        if (process) process.endsIn = { count: 1 + random.below(40), kind: crashKind }
        this.#later(random.between(200, 1_500), () => gateway.start())
        return
      case 'cut':
        process?.edge?.cut(random)
        return
      case 'pause':
        if (!process?.alive || process.paused) return
        process.paused = true
        this.#later(random.between(50, 1_500), () => this.#resume(gateway))
        return
      case 'slow-disk':
        for (const { faults } of gateway.disks) Object.assign(faults, { writeMsMin: 20, writeMsMax: 200 })
        this.#later(random.between(200, 1_500), () => {
          for (const { faults } of gateway.disks) Object.assign(faults, calmDisk)
        })
        return
      case 'disk-failure':
        random.pick(gateway.disks).faults.failNext = true
        site.note(`${gateway.name}: the next write fails`)
        return
    }
  }

  /** The gateway has the shard of one device from now on, whoever had it. */
  #takeOver(
    gateway: SimulatedGateway,
    shard = shardOf(this.#parts.random.pick(this.#parts.devices).id),
  ): void {
    this.#claims.takeOver(shard, gateway)
    this.#parts.site.note(`${gateway.name} has ${shard}`)
  }

  /** In half of the cases somebody has noticed after a while that it is gone. */
  #giveAway(gateway: SimulatedGateway): void {
    const { random } = this.#parts
    const heir = random.pick(this.#gateways.filter(each => each !== gateway))
    if (random.chance(0.5))
      this.#later(random.between(50, 1_500), () => {
        for (const shard of this.#claims.of(gateway)) this.#takeOver(heir, shard)
      })
  }

  #resume({ process }: SimulatedGateway): void {
    if (!process?.paused) return
    process.paused = false
    this.#parts.site.timeline.release(process)
  }

  #message(source: DeviceId): SimulatedMessage {
    const number = this.#messages++
    const payload = Buffer.from(`${number}`)
    const record: DeviceRecord = {
      source,
      topic,
      payload,
      values: [{ name: 'number', value: number }],
      claimedTime: number % 3 === 0 ? Milliseconds(1_700_000_000_000 + number) : undefined,
      messageId: undefined,
    }
    const body: AttestedBody =
      this.#isDeployed && this.#parts.random.chance(0.5)
        ? {
            type: 'contract.action',
            contract: decider.address,
            input: { type: 'record', record },
            publishTopic: 'answers/1',
            qos: 1,
          }
        : { type: 'record.one', record, qos: 1 }
    return { number, body, payload, topicName: `mote/1/plain/${source}/${topic}` }
  }
}
