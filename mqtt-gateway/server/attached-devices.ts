/**
 * Which devices are there, at a broker that tells nobody who is connected: what their connections say of themselves
 * (mqtt-gateway/protocol/sharded-topics.ts), and what they publish. Each device that is there has one session at the gateway.
 *
 * A connection says that it is there, retained, and that it listens once its subscription is in force; its will says that it is
 * gone, and is judged like any message, when it fires. A device that says nothing of itself and publishes counts as
 * there for `idleMs`.
 *
 * Invariants: steps of one device run one after another; bounded are the connections that a device names, and its steps that wait.
 */
import type { DeviceId } from '../../chain/brands.ts'
import { ok, type Refusal, type Result } from '../../chain/result.ts'
import { OrderedQueue } from '../../client/ordered-queue.ts'
import type { Presence } from '../protocol/sharded-topics.ts'
import { filters } from '../protocol/topics.ts'
import {
  type BrokerHandlers,
  type BrokerSession,
  type IncomingMessage,
  type Login,
  mayPassLater,
  type PublishAnswer,
} from './broker.ts'
import { maxSessionsPerDevice } from './sessions.ts'

export interface AttachedDevicesOptions {
  readonly handlers: BrokerHandlers
  /** Steps of one device that may wait. */
  readonly queuedPerDevice: number
  /** Takes back what a connection has said of itself. */
  readonly forget: (device: DeviceId, place: string) => void
  readonly onError: (error: unknown) => void
}

interface AttachedDevice {
  readonly id: DeviceId
  readonly queue: OrderedQueue
  /** What its connections say, by the names that they give themselves. */
  readonly places: Map<string, Exclude<Presence, 'gone'>>
  session: BrokerSession | undefined
  heardAt: number
}

/** Time for which a device that says nothing of its connections counts as there after a message. */
const idleMs = 60_000
const sweepMs = 15_000

export class AttachedDevices {
  readonly #options: AttachedDevicesOptions
  readonly #devices = new Map<DeviceId, AttachedDevice>()
  readonly #sweeping: NodeJS.Timeout

  constructor(options: AttachedDevicesOptions) {
    this.#options = options
    this.#sweeping = setInterval(() => this.#sweep(), sweepMs)
    this.#sweeping.unref()
  }

  /** Those that have a session. */
  get count(): number {
    return [...this.#devices.values()].filter(({ session }) => session).length
  }

  /**
   * Resolves when the gateway has decided, or has the message on its way. What a device may not publish now is dropped: it has no verdict, and is
   * sent again. Never rejects.
   * One that nobody sends again (`asOfNow`) is dropped only if its device may not publish by what the chain has now, else it is `close`.
   */
  async published(id: DeviceId, message: IncomingMessage): Promise<PublishAnswer> {
    const device = this.#device(id)
    device.heardAt = performance.now()
    let answer: PublishAnswer = 'close'
    await this.#inTurn(device, async () => {
      const { asOfNow } = message
      const opened = await this.#open(device, asOfNow)
      if (opened.ok) answer = await this.#options.handlers.published(opened.value, message)
      else answer = asOfNow && mayPassLater(opened.error.code) ? 'close' : 'acknowledge'
    })
    return answer
  }

  /** What a connection says of itself. Never rejects. */
  present(id: DeviceId, place: string, presence: Presence): Promise<void> {
    const device = this.#device(id)
    return this.#inTurn(device, () =>
      presence === 'gone' ? this.#gone(device, place) : this.#there(device, place, presence),
    )
  }

  /** The connections that have said nothing since are gone: what their wills said was not heard. */
  async keepOnly(places: ReadonlySet<string>): Promise<void> {
    await Promise.all(
      [...this.#devices.values()].flatMap(({ id, places: said }) =>
        [...said.keys()]
          .filter(place => !places.has(nameOf(id, place)))
          .map(place => this.present(id, place, 'gone')),
      ),
    )
  }

  /** The gateway has ended a device's session. */
  end(id: DeviceId): void {
    const device = this.#devices.get(id)
    if (!device) return
    this.#devices.delete(id)
    for (const place of device.places.keys()) this.#options.forget(id, place)
    this.#closeSession(device)
  }

  /** Ends every session, when nothing is under way any more. */
  async close(): Promise<void> {
    clearInterval(this.#sweeping)
    await Promise.all([...this.#devices.values()].map(({ queue }) => queue.idle()))
    for (const device of this.#devices.values()) this.#closeSession(device)
    this.#devices.clear()
  }

  #device(id: DeviceId): AttachedDevice {
    const known = this.#devices.get(id)
    if (known) return known
    const device = { id, queue: new OrderedQueue(), places: new Map(), session: undefined, heardAt: 0 }
    this.#devices.set(id, device)
    return device
  }

  async #inTurn(device: AttachedDevice, step: () => Promise<void>): Promise<void> {
    if (device.queue.length >= this.#options.queuedPerDevice) {
      const detail = `device: expected at most ${this.#options.queuedPerDevice} messages that wait`
      return this.#options.handlers.turnedAway(loginOf(device.id), { code: 'overloaded', detail })
    }
    await device.queue.run(step).catch(this.#options.onError)
  }

  async #sessionOf(device: AttachedDevice): Promise<BrokerSession | undefined> {
    const opened = await this.#open(device)
    return opened.ok ? opened.value : undefined
  }

  async #open(device: AttachedDevice, asOfNow = false): Promise<Result<BrokerSession>> {
    if (device.session) return ok(device.session)
    const opened = await this.#options.handlers.authenticate({ ...loginOf(device.id), asOfNow })
    device.session = opened.ok ? opened.value : undefined
    return opened
  }

  async #there(device: AttachedDevice, place: string, presence: Exclude<Presence, 'gone'>): Promise<void> {
    const { handlers, forget } = this.#options
    const isNew = !device.places.has(place)
    if (isNew && device.places.size >= maxSessionsPerDevice) {
      this.#turnAway(device, `connections: expected at most ${maxSessionsPerDevice}`)
      return forget(device.id, place)
    }
    const session = await this.#sessionOf(device)
    if (!session) return forget(device.id, place)
    device.places.set(place, presence)
    if (presence === 'listening') await this.#listens(device, session, handlers)
  }

  async #listens({ id }: AttachedDevice, session: BrokerSession, handlers: BrokerHandlers): Promise<void> {
    const own = filters.toDevice(id)
    if ((await handlers.maySubscribe(session, own)) === 'grant') handlers.subscribed(session, own)
  }

  /** A device of which no connection listens any more has a new session: what is given to listeners stands on the one before. */
  async #gone(device: AttachedDevice, place: string): Promise<void> {
    const said = device.places.get(place)
    device.places.delete(place)
    if (said === undefined) return
    const others = [...device.places.values()]
    if (said === 'listening' && !others.includes('listening')) this.#closeSession(device)
    if (others.length > 0) await this.#sessionOf(device)
    else this.#closeSession(device)
  }

  #turnAway({ id }: AttachedDevice, detail: string): void {
    const refusal: Refusal = { code: 'limit-exceeded', detail }
    this.#options.handlers.turnedAway(loginOf(id), refusal)
  }

  #closeSession(device: AttachedDevice): void {
    const { session } = device
    device.session = undefined
    if (session) this.#options.handlers.closed(session)
  }

  #sweep(): void {
    const now = performance.now()
    for (const [id, device] of this.#devices) {
      if (device.places.size > 0 || device.queue.length > 0 || now - device.heardAt < idleMs) continue
      this.#devices.delete(id)
      this.#closeSession(device)
    }
  }
}

/** A connection by its device's id and the name that it gives itself. */
export function nameOf(device: DeviceId, place: string): string {
  return `${device}/${place}`
}

/** As the broker has checked it. */
function loginOf(device: DeviceId): Login {
  return {
    clientId: device,
    username: device,
    password: '',
    isPrivate: false,
    address: '',
    isAccount: true,
  }
}
