/**
 * What it costs the embedded broker to deliver a group's mail to each member's own topic instead of to one topic that all
 * members subscribe to: `node bench/group-mail.ts [MEMBERS] [MESSAGES] [BYTES]` prints both (docs/decisions/0019-one-inbox-for-each-device.md).
 *
 * The broker and its subscribers are one process here, so each number holds both ends; the difference is the broker's.
 */
import mqtt, { type MqttClient } from 'mqtt'
import { aedesBroker } from '../mqtt-gateway/server/aedes-broker.ts'
import type { Broker } from '../mqtt-gateway/server/broker.ts'
import { permissive } from '../test/support/open-broker.ts'

const [members = 100, messages = 200, bytes = 300] = process.argv.slice(2).map(Number)
const host = '127.0.0.1'

function openBroker(): Broker {
  const mebibyte = 1024 * 1024
  const limits = {
    packetBytesMax: 2 * mebibyte,
    connectionsMax: members,
    unproven: { all: members + 1, perAddress: members + 1 },
    subscriptionsPerClientMax: 8,
    input: { messages: 100, bytes: 64 * mebibyte },
    rate: { messagesPerSecond: 1_000_000, bytesPerSecond: 1024 * mebibyte },
    keepAliveSecondsMax: 600,
    connectTimeoutMs: 10_000,
    outgoing: { messages: 10_000, bytes: 64 * mebibyte, bytesInAll: 1024 * mebibyte, stalledMs: 10_000 },
  }
  return aedesBroker({ host, port: 0 }, limits)(permissive)
}

interface Layout {
  readonly name: string
  readonly filterOf: (member: number) => string
  readonly topics: readonly string[]
}

const layouts: readonly Layout[] = [
  { name: 'one topic of the group', filterOf: () => 'mote/1/group/g/#', topics: ['mote/1/group/g'] },
  {
    name: 'a topic of each member',
    filterOf: member => `mote/1/to/${member}/#`,
    topics: Array.from({ length: members }, (_, member) => `mote/1/to/${member}`),
  },
]

async function connectMembers(
  port: number,
  { filterOf }: Layout,
  onMessage: () => void,
): Promise<MqttClient[]> {
  return Promise.all(
    Array.from({ length: members }, async (_, member) => {
      const client = await mqtt.connectAsync({
        host,
        port,
        clientId: String(member),
        username: String(member),
        password: 'x',
        protocolVersion: 4,
      })
      client.on('message', onMessage)
      await client.subscribeAsync(filterOf(member), { qos: 1 })
      return client
    }),
  )
}

async function measure(layout: Layout): Promise<string> {
  const broker = openBroker()
  const { port } = await broker.listen()
  let left = 0
  let arrived = () => {}
  const clients = await connectMembers(port, layout, () => {
    left -= 1
    if (left === 0) arrived()
  })
  const payload = new Uint8Array(bytes)
  const round = async (): Promise<number> => {
    const done = new Promise<void>(resolve => {
      arrived = resolve
    })
    left = members
    const start = performance.now()
    await Promise.all(layout.topics.map(topicName => broker.publish({ topicName, payload, retain: false })))
    await done
    return performance.now() - start
  }
  for (let i = 0; i < 20; i++) await round()
  const cpu = process.cpuUsage()
  const times: number[] = []
  for (let i = 0; i < messages; i++) times.push(await round())
  const { user, system } = process.cpuUsage(cpu)
  await Promise.all(clients.map(client => client.endAsync(true)))
  await broker.close()
  const sorted = times.toSorted((a, b) => a - b)
  const at = (share: number) => (sorted[Math.floor(sorted.length * share)] ?? 0).toFixed(1)
  const each = ((user + system) / 1000 / messages).toFixed(1)
  return `${layout.name.padEnd(24)} p50 ${at(0.5)} ms, p99 ${at(0.99)} ms until the last member has it; ${each} ms of CPU for each message, both ends`
}

process.stdout.write(`${members} members, ${messages} messages of ${bytes} bytes\n`)
for (const layout of layouts) process.stdout.write(`${await measure(layout)}\n`)
