/**
 * Plain MQTT 3.1.1 clients of a devnet, each an mqtt.js of its own with a password and a session that is not clean, which publish JSON by
 * QoS 1 or 2 while processes are killed: every message that was acknowledged stands on the chain once, and none twice.
 */
import { type IClientOptions, type MqttClient, connect as mqttConnect, Store } from 'mqtt'
import type { ContractAddress, Height, Milliseconds } from '../../chain/brands.ts'
import { credentialHash } from '../../chain/credentials.ts'
import { assert } from '../../chain/result.ts'
import { recordsAt } from '../../cli/placed-records.ts'
import { provenBlock } from '../../cli/proven-blocks.ts'
import type { ChainClient } from '../../client/chain-client.ts'
import { readContract } from '../../client/contract-actions.ts'
import { addCredential } from '../../client/credential-actions.ts'
import { pause } from '../../client/deadline.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { sideBySide } from '../../client/side-by-side.ts'
import { openDevnetChain } from '../../devnet/access.ts'
import type { DevnetDescription } from '../../devnet/layout.ts'
import { makePassword } from '../../mqtt-gateway/protocol/credential-password.ts'

export interface PlainClientsPlan {
  readonly directory: string
  readonly description: DevnetDescription
  /** What action messages call: the fire index. Undefined: there are none. */
  readonly contract: ContractAddress | undefined
  /** Of each client: registry and action messages in turns. */
  readonly messages: number
  /** In turns. */
  readonly qos: readonly (1 | 2)[]
  /** What is done while all of them publish, one after another, each when its share of the messages has been acknowledged. */
  readonly faults: readonly { readonly what: string; readonly run: () => Promise<unknown> }[]
  readonly withinMs: number
}

export interface PlainClientsReport {
  readonly clients: number
  readonly published: number
  readonly acknowledged: number
  /** Messages that were under way at each fault. */
  readonly inFlight: readonly number[]
  /** Acknowledged, and not on the chain. */
  readonly lost: number
  /** More than once on the chain. */
  readonly twice: number
  /** Action messages on the chain, and how often the contract says that it ran. */
  readonly actions: number
  readonly runs: number
  /** Different decisions that a subscriber received, and how many came again. */
  readonly decisions: number
  readonly repeatedDecisions: number
  readonly reconnectAttempts: number
  readonly tookMs: number
}

const connectsAtOnce = 32
const credentialLifetimeMs = 3_600_000
const pollMs = 50
/** A gateway that has come back waits for its clients before it publishes. */
const decisionPatienceMs = 30_000

interface PlainClient {
  readonly name: string
  readonly mqtt: MqttClient
}

export async function runPlainClients(plan: PlainClientsPlan): Promise<PlainClientsReport> {
  const { directory, description, contract, messages, qos, faults, withinMs } = plan
  const access = await openDevnetChain(directory, description)
  const { client, keys } = access
  const following = new AbortController()
  const run = client.follower.run(following.signal)
  const clients: PlainClient[] = []
  const acknowledged = new Set<string>()
  let reconnectAttempts = 0
  let actuator: MqttClient | undefined
  try {
    await client.follower.sync()
    const names = description.devices.map(({ name }) => name)
    await sideBySide(names, connectsAtOnce, async name => {
      const device = await keys.load(name)
      const password = await credentialOf(client, device)
      // Clients that lost a gateway together come back one after another.
      const reconnectPeriod = 500 + Math.random() * 2_000
      const mqtt = await plainClient(description, { clientId: device.id, device, password, reconnectPeriod })
      if (name === names[0])
        actuator = await plainClient(description, {
          clientId: `${device.id}.actuator`,
          device,
          password,
          reconnectPeriod: 50,
        })
      mqtt.on('reconnect', () => {
        reconnectAttempts += 1
      })
      clients.push({ name, mqtt })
    })
    assert(actuator, 'a devnet has a device')
    const heard = await decisionsHeard(actuator)
    const before = client.follower.head.header.height
    const runs = async () => (contract ? runsOf(client, contract) : 0)
    const runsBefore = await runs()
    const startedAt = performance.now()
    const published = clients.length * messages
    const inFlight: number[] = []
    let sent = 0
    const publishing = Promise.all(
      clients.map(async ({ name, mqtt }) => {
        for (let number = 0; number < messages; number++) {
          const id = `${name}#${number}`
          sent += 1
          await mqtt.publishAsync('forest/north', jsonOf(id, number, contract), {
            qos: qos[number % qos.length] ?? 2,
          })
          acknowledged.add(id)
        }
      }),
    )
    const faulting = (async () => {
      for (const [index, fault] of faults.entries()) {
        const share = (published * (index + 1)) / (faults.length + 2)
        while (acknowledged.size < share) await pause(pollMs)
        inFlight.push(sent - acknowledged.size)
        await fault.run()
      }
    })()
    await Promise.race([Promise.all([publishing, faulting]), overAfter(withinMs)])
    const tookMs = Math.round(performance.now() - startedAt)
    const placed = await countRecords(access, before)
    await pauseUntil(() => heard.ids.size >= placed.actions, decisionPatienceMs)
    const lost = [...acknowledged].filter(id => !placed.counts.has(id)).length
    const twice = [...placed.counts.values()].filter(count => count > 1).length
    return {
      clients: clients.length,
      published,
      acknowledged: acknowledged.size,
      inFlight,
      lost,
      twice,
      actions: placed.actions,
      runs: (await runs()) - runsBefore,
      decisions: heard.ids.size,
      repeatedDecisions: heard.repeats(),
      reconnectAttempts,
      tookMs,
    }
  } finally {
    await Promise.all([actuator, ...clients.map(({ mqtt }) => mqtt)].map(mqtt => mqtt?.endAsync(true)))
    following.abort()
    await run
  }
}

/** A password whose hash the device has put on the chain. */
async function credentialOf(client: ChainClient, device: IdentityKeys): Promise<string> {
  const { bytes, text } = makePassword()
  const expiresAt = (client.records.time() + credentialLifetimeMs) as Milliseconds
  const credential = {
    hash: credentialHash(client.chainId, device.id, bytes),
    expiresAt,
    scope: 'send' as const,
  }
  await addCredential(client, device, { device: device.id, credential })
  return text
}

/** What is sent again says so (MQTT-3.3.1-1): mqtt.js 5 sends what it has stored. */
export class RedeliveryStore extends Store {
  override put(...[packet, ...more]: Parameters<Store['put']>): this {
    return super.put(packet.cmd === 'publish' ? { ...packet, dup: true } : packet, ...more)
  }
}

interface PlainLogin extends Pick<IClientOptions, 'clientId' | 'password' | 'reconnectPeriod'> {
  readonly device: IdentityKeys
}

async function plainClient(
  { gateway }: DevnetDescription,
  { device, ...login }: PlainLogin,
): Promise<MqttClient> {
  const { host, port } = gateway.mqtt
  const options: IClientOptions = {
    host,
    port,
    protocolVersion: 4,
    username: device.id,
    ...login,
    outgoingStore: new RedeliveryStore(),
    clean: false,
    connectTimeout: 30_000,
    keepalive: 60,
  }
  const mqtt = mqttConnect(options)
  // It connects again by itself.
  mqtt.on('error', () => {})
  const connected = Promise.withResolvers<void>()
  mqtt.once('connect', () => connected.resolve())
  await Promise.race([connected.promise, overAfter(60_000)])
  return mqtt
}

/** A registry message, or an action whose decision is published: in turns. */
function jsonOf(id: string, number: number, contract: ContractAddress | undefined): string {
  const Payload = { id, CS: 500, P: 20, H0: 40, H1: 45, H2: 50, H3: 55, H4: 60 }
  if (!contract || number % 2 === 0) return JSON.stringify({ Payload })
  const { id: _, ...Values } = Payload
  const MessageContent = { Address: contract, Values, Publish_Topic: 'fire/north' }
  return JSON.stringify({ Payload, MessageContent })
}

async function decisionsHeard(mqtt: MqttClient) {
  const ids = new Set<string>()
  let received = 0
  mqtt.on('message', (topic, payload) => {
    if (topic !== 'fire/north') return
    const { Height, Index, Event } = JSON.parse(payload.toString('utf8'))
    ids.add(`${Height}.${Index}.${Event}`)
    received += 1
  })
  await mqtt.subscribeAsync('fire/#', { qos: 1 })
  return { ids, repeats: () => received - ids.size }
}

/** How often each message stands on the chain above a height, by what its payload calls it. */
async function countRecords(
  access: Awaited<ReturnType<typeof openDevnetChain>>,
  above: Height,
): Promise<{ readonly counts: ReadonlyMap<string, number>; readonly actions: number }> {
  const counts = new Map<string, number>()
  let actions = 0
  await access.client.follower.sync()
  const { height: newest } = access.client.follower.head.header
  for (let height = above + 1; height <= newest; height++) {
    const block = await provenBlock(access, height as Height)
    for (const index of block.transactions.keys())
      for (const { record, decided } of recordsAt(block, index)) {
        const { id } = JSON.parse(new TextDecoder().decode(record.payload)) as { id: string }
        counts.set(id, (counts.get(id) ?? 0) + 1)
        if (decided) actions += 1
      }
  }
  return { counts, actions }
}

async function runsOf(client: ChainClient, contract: ContractAddress): Promise<number> {
  await client.follower.sync()
  const { state } = await readContract(client, contract)
  return state.value?.version ?? 0
}

async function pauseUntil(isReached: () => boolean, patienceMs: number): Promise<void> {
  const end = performance.now() + patienceMs
  while (!isReached() && performance.now() < end) await pause(pollMs)
}

/** Rejects after this time. */
async function overAfter(ms: number): Promise<never> {
  await new Promise(resolve => setTimeout(resolve, ms).unref())
  throw new Error(`not done after ${ms} ms`)
}
