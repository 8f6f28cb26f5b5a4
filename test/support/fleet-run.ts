/**
 * Devices of a devnet that send to each other, to a group and to an open topic, while something is killed: what has to hold is that nothing
 * is lost, nothing comes twice, and what one device sent to one target comes in order.
 *
 * Every device runs in this process as an application would run it (`createDeviceClient`); everything else is the devnet's own processes.
 */
import { join } from 'node:path'
import type { GroupId } from '../../chain/brands.ts'
import { KeyDirectory } from '../../client/key-directory.ts'
import { MessageStore } from '../../client/message-store.ts'
import { sideBySide } from '../../client/side-by-side.ts'
import { openDevnetChain } from '../../devnet/access.ts'
import type { DevnetDescription } from '../../devnet/layout.ts'
import { createDeviceClient, type DeviceClient } from '../../mqtt-gateway/agent/device-client.ts'
import { agentChain } from '../../mqtt-gateway/device/agent-chain.ts'
import type { Recipient } from '../../mqtt-gateway/device/message-sealing.ts'

export interface FleetPlan {
  readonly directory: string
  readonly description: DevnetDescription
  /** Other devices that each device sends to. */
  readonly fanOut: number
  /** Messages to each of them. */
  readonly messages: number
  /** An open topic to which the first device publishes. */
  readonly topic?: GroupId
  /** The process that is killed when all messages are on their way. */
  readonly victim: number
  /** What is done about it. */
  readonly afterwards?: () => Promise<unknown>
  readonly withinMs: number
}

export interface FleetReport {
  readonly sent: number
  /** To a group or an open topic once for each reader. */
  readonly expected: number
  readonly delivered: number
  readonly dropped: readonly string[]
  /** What a reader did not take, by code: its sender hears of that, if it asked to, and sends it again. */
  readonly refused: Readonly<Record<string, number>>
  readonly lost: number
  readonly twice: number
  readonly outOfOrder: number
  /** Messages that were under way at the kill, each to another target or of another sender. */
  readonly inFlight: number
  readonly tookMs: number
}

/** What has come, by who it came to, from whom, and for what target. */
class Arrivals {
  readonly #last = new Map<string, number>()
  delivered = 0
  twice = 0
  outOfOrder = 0
  readonly #seen = new Set<string>()

  take(reader: string, sender: string, text: string): void {
    const lane = `${reader} ${sender} ${text.split('#')[0]}`
    const number = Number(text.split('#')[1])
    if (this.#seen.has(`${lane} ${number}`)) {
      this.twice += 1
      return
    }
    this.#seen.add(`${lane} ${number}`)
    this.delivered += 1
    if (number < (this.#last.get(lane) ?? -1)) this.outOfOrder += 1
    else this.#last.set(lane, number)
  }
}

const connectsAtOnce = 16
const pollMs = 50

export async function runFleet(plan: FleetPlan): Promise<FleetReport> {
  const { directory, description, messages, victim, afterwards, withinMs } = plan
  const { client } = await openDevnetChain(directory, description)
  const following = new AbortController()
  const run = client.follower.run(following.signal)
  const store = await MessageStore.open(join(directory, 'fleet'))
  const clients: DeviceClient[] = []
  const arrivals = new Arrivals()
  const refused: Record<string, number> = {}
  try {
    await client.follower.sync()
    const keys = await KeyDirectory.open(directory)
    const devices = await Promise.all(description.devices.map(({ name }) => keys.load(name)))
    await sideBySide(devices, connectsAtOnce, async device => {
      const opened = await createDeviceClient({
        keys: device,
        chain: agentChain(client, device),
        gateway: description.gateway.mqtt,
        stateDirectory: join(directory, 'devices', device.name),
        store,
        trustTtlMs: description.trustTtlMs,
        reconnectDelayMsMax: 1_000,
        onEvent: event => {
          if (event.type === 'refused') refused[event.reason.code] = (refused[event.reason.code] ?? 0) + 1
        },
      })
      opened.listen(({ from, content }) => {
        arrivals.take(device.id, from, new TextDecoder().decode(content))
      })
      clients[devices.indexOf(device)] = opened
      await opened.connected(60_000)
    })
    const lanes = lanesOf(devices, plan)
    const startedAt = performance.now()
    const outcomes: Promise<unknown>[] = []
    const dropped: string[] = []
    const open = new Set<number>()
    let expected = 0
    for (let number = 0; number < messages; number++)
      await sideBySide([...lanes.entries()], lanes.length, async ([lane, { sender, to, readers }]) => {
        expected += readers
        open.add(lane)
        const content = new TextEncoder().encode(`${to.id}#${number}`)
        const queued = await (clients[sender] as DeviceClient).sendTo(to, {
          content,
          // What a reader has, not what was given to it. Groups and topics have many readers, and no such answer.
          delivery: to.type === 'device' ? 'received' : 'relayed',
        })
        const isLast = number === messages - 1
        outcomes.push(
          queued.outcome.then(outcome => {
            if (outcome.type === 'dropped')
              dropped.push(`${to.type}: ${outcome.reason.code}: ${outcome.reason.detail}`)
            if (isLast) open.delete(lane)
          }),
        )
      })
    const inFlight = open.size
    process.kill(victim, 'SIGKILL')
    await afterwards?.()
    const end = performance.now() + withinMs
    const isOver = () => performance.now() > end || (arrivals.delivered >= expected && open.size === 0)
    while (!isOver()) await new Promise(resolve => setTimeout(resolve, pollMs))
    const { delivered, twice, outOfOrder } = arrivals
    const tookMs = Math.round(performance.now() - startedAt)
    const lost = expected - delivered
    return {
      sent: outcomes.length,
      expected,
      delivered,
      dropped,
      refused,
      lost,
      twice,
      outOfOrder,
      inFlight,
      tookMs,
    }
  } finally {
    await Promise.all(clients.map(each => each?.close()))
    await store.close()
    following.abort()
    await run
  }
}

interface FleetLane {
  /** Index of the device. */
  readonly sender: number
  readonly to: Recipient
  readonly readers: number
}

/** Each device to those after it; the first one to its group and to the open topic too. */
function lanesOf(devices: readonly { readonly id: string }[], plan: FleetPlan): readonly FleetLane[] {
  const { fanOut, topic, description } = plan
  const direct = devices.flatMap((_, sender) =>
    Array.from({ length: fanOut }, (_, step): FleetLane => {
      const { id } = devices[(sender + step + 1) % devices.length] as { id: string }
      return { sender, to: { type: 'device', id: id as never }, readers: 1 }
    }),
  )
  const group = description.groups.find(({ name }) => name === 'hsu0001')
  const inGroup = Math.min(devices.length, 3) - 1
  return [
    ...direct,
    ...(group ? [{ sender: 0, to: { type: 'group', id: group.id } as const, readers: inGroup }] : []),
    ...(topic ? [{ sender: 0, to: { type: 'topic', id: topic } as const, readers: 2 }] : []),
  ]
}
