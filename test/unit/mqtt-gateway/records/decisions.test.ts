/** Decisions on a simulated chain: real blocks, receipts, certificates and proofs; only broker and shards are the test's. */
import { execFile, spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ChainId } from '../../../../chain/brands.ts'
import type { Qos } from '../../../../chain/record-bodies.ts'
import { MoteError } from '../../../../chain/result.ts'
import { CertifiedBlocks } from '../../../../client/certified-blocks.ts'
import type { IdentityKeys } from '../../../../client/key-directory.ts'
import { allShards, type Shard, shardOf } from '../../../../mqtt-gateway/protocol/sharded-topics.ts'
import { topics } from '../../../../mqtt-gateway/protocol/topics.ts'
import { DecisionCursor } from '../../../../mqtt-gateway/records/decision-cursor.ts'
import { Decisions } from '../../../../mqtt-gateway/records/decisions.ts'
import { AlarmChain, alarm } from '../../../support/alarm-chain.ts'
import { until } from '../../../support/gateway-fixture.ts'
import { repositoryRoot } from '../../../support/source-files.ts'
import { keysOf } from '../../../support/test-chain.ts'

const names = Array.from({ length: 12 }, (_, i) => `sensor-${i}`)
const sensors = names.map(keysOf)
const sensor = sensors[0] as IdentityKeys
const stranger = sensors.find(({ id }) => shardOf(id) !== shardOf(sensor.id)) as IdentityKeys

interface Seen {
  readonly topic: string
  readonly qos: Qos
  readonly gateway: string
  readonly message: { readonly Values: { readonly level: number } } & Record<string, unknown>
}
/** Name of a decision, which no other one has; an actuator compares it with others of its topic, shard and QoS. */
const nameOf = ({ message }: Seen) => `${message['Height']}.${message['Index']}.${message['Event']}`
const levelsOf = (seen: readonly Seen[]) => seen.map(({ message }) => message.Values.level)

/** What examples/actuator is made of, but `mosquitto_sub`. */
const hasJq = ['jq', 'stdbuf'].every(of => spawnSync(of, ['--version']).status === 0)

let directory: string
let alarms: AlarmChain
let seen: Seen[]
const running: (() => Promise<void>)[] = []
/** What the broker does with the next message. */
let take: (seen: Seen) => Promise<void>

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'mote-decisions-'))
  alarms = new AlarmChain({ devices: names })
  seen = []
  take = async message => void seen.push(message)
})
afterEach(async () => {
  await Promise.all(running.splice(0).map(stop => stop()))
  await rm(directory, { recursive: true, force: true })
})

interface Choices {
  readonly shards?: () => readonly Shard[]
  readonly expiryMs?: number
  readonly recordAfterMs?: number
  readonly longestRun?: number
}

/** A gateway's decisions, with the cursor of that name. `kill` leaves the file as it is; `die` does, and what was under way never ends. */
async function start(name: string, choices: Choices = {}) {
  const { shards = () => allShards, expiryMs = 3_600_000, recordAfterMs = 0, longestRun } = choices
  const { chain } = alarms
  const client = await alarms.client(longestRun === undefined ? {} : { longestRun })
  const blocks = new CertifiedBlocks(client.follower, client.pool)
  const path = join(directory, name)
  const cursor = await DecisionCursor.open({ path, chainId: chain.chainId, recordAfterMs })
  const stopping = new AbortController()
  const errors: unknown[] = []
  const decisions = new Decisions({
    blocks,
    cursor,
    shards,
    publish: ({ topicName: topic, payload, qos }) =>
      take({ topic, qos, gateway: name, message: JSON.parse(Buffer.from(payload).toString()) }),
    topicOf: topics.decision,
    now: () => chain.time,
    expiryMs,
    onError: error => errors.push(error),
  })
  const ran = [client.follower.run(stopping.signal), decisions.run(stopping.signal)]
  const kill = async (): Promise<void> => {
    stopping.abort()
    await Promise.all(ran)
  }
  const die = (): void => {
    running.splice(running.indexOf(kill), 1)
    stopping.abort()
  }
  running.push(kill)
  const passed = () => until(() => cursor.at(shardOf(sensor.id)) === chain.height, 'the head is passed')
  return { decisions, cursor, errors, kill, die, passed }
}

describe('decisions: what is published', () => {
  it('decisions: JSON with the name that the receipt gives it, on the topic of the request', async () => {
    const { chain } = alarms
    chain.append([
      alarms.call(sensor, 30, { isRecord: true }),
      alarms.call(sensor, 20, { publishTopic: 'fire' }),
    ])
    await (await start('a')).passed()
    const { height, time } = chain.ledger.header
    const Shard = shardOf(sensor.id)
    const common = { Contract: alarm.address, Shard, Height: height, Time: time, Event: 0 }
    const { id } = chain.block(height).receipts[0]!
    expect(seen.map(({ topic, message }) => [topic, message])).toEqual([
      [
        'mote/1/decision/fire/north',
        { ...common, Decision: 'high', Values: { level: 30 }, Record: id, Index: 0, Event: 1 },
      ],
      ['mote/1/decision/fire', { ...common, Decision: 'low', Values: { level: 20 }, Record: null, Index: 1 }],
    ])
  })

  it('decisions: by the QoS of the request, which the receipt says', async () => {
    const { chain, source } = alarms
    const calls = ([0, 1, 2] as const).map(qos => alarms.call(sensor, 40 + qos, { qos }))
    chain.append([...calls, alarms.call(sensor, 43, { isRecord: true, qos: 2 })])
    await (await start('a')).passed()
    expect(seen.map(({ qos, message }) => [message.Values.level, qos])).toEqual([
      [40, 0],
      [41, 1],
      [42, 2],
      [43, 2],
    ])
    expect(source.asked.get('block')).toBeUndefined()
  })

  it('decisions: one that failed, one that nobody asked to publish, and other devices have none', async () => {
    const { chain } = alarms
    chain.append([
      alarms.call(sensor, 0),
      alarms.call(sensor, 30, { publishTopic: 'none' }),
      alarms.call(sensor, 31, { publishTopic: 'elsewhere' }),
      alarms.call(stranger, 32),
      alarms.call(sensor, 33),
    ])
    await (await start('a', { shards: () => [shardOf(sensor.id)] })).passed()
    expect(levelsOf(seen)).toEqual([33])
  })

  it('decisions: in the order of their names, of blocks as they come and of those before', async () => {
    alarms.decide(sensor, 1, 2, 3)
    const gateway = await start('a')
    await gateway.passed()
    alarms.decide(sensor, 4)
    alarms.chain.append([alarms.call(sensor, 5), alarms.call(sensor, 6)])
    await gateway.passed()
    expect(levelsOf(seen)).toEqual([1, 2, 3, 4, 5, 6])
    expect(gateway.decisions.status()).toEqual({ published: 6, expired: 0 })
  })

  it('decisions: after an absence of thousands of blocks all that have not expired, read by few requests', async () => {
    const { chain, source } = alarms
    for (let i = 1; i <= 2_500; i++) chain.append(i % 100 === 0 ? [alarms.call(sensor, i)] : [])
    const gateway = await start('a', { expiryMs: 1_500_000, longestRun: 64 })
    await gateway.passed()
    // A block a second: the last 1,500 of them.
    expect(levelsOf(seen)).toEqual(Array.from({ length: 16 }, (_, i) => 1_000 + 100 * i))
    expect(source.asked.get('headersFrom')).toBeLessThan(8)
    expect(source.asked.get('receipts')).toBe(16)
  })

  it('decisions: what expires while the broker is out of reach is not published late', async () => {
    alarms.decide(sensor, 1)
    take = async () => {
      throw new MoteError('unreachable', 'broker: off')
    }
    const gateway = await start('a', { expiryMs: 10_000 })
    await until(() => gateway.errors.length > 0, 'it has failed')
    alarms.chain.append([alarms.call(sensor, 2)], { afterMs: 20_000 })
    take = async message => void seen.push(message)
    await gateway.passed()
    expect(levelsOf(seen)).toEqual([2])
    expect(gateway.errors).toHaveLength(1)
  })

  it('decisions: nor is what expires while the broker is slow with the one before', async () => {
    alarms.decide(sensor, 1, 2)
    take = async message => {
      seen.push(message)
      if (seen.length === 1) alarms.chain.append([alarms.call(sensor, 3)], { afterMs: 20_000 })
    }
    const gateway = await start('a', { expiryMs: 10_000 })
    await gateway.passed()
    expect(levelsOf(seen)).toEqual([1, 3])
    expect(gateway.decisions.status()).toEqual({ published: 2, expired: 1 })
  })
})

describe('decisions: at least once', () => {
  it('decisions: a cursor passes a block when the broker has all of it, and not before', async () => {
    const { chain } = alarms
    chain.append([alarms.call(sensor, 1), alarms.call(sensor, 2)])
    const before = chain.height - 1
    take = async message => {
      if (message.message.Values.level === 2) throw new MoteError('unreachable', 'broker: off')
      seen.push(message)
    }
    const first = await start('a')
    await until(() => first.errors.length > 0, 'the second is not taken')
    expect(first.cursor.at(shardOf(sensor.id)) ?? 0).toBeLessThanOrEqual(before)
    await first.kill()
    take = async message => void seen.push(message)
    await (await start('a')).passed()
    expect(levelsOf(seen.slice(-2))).toEqual([1, 2])
    expect(new Set(seen.map(nameOf)).size).toBe(2)
  })

  it('decisions: a kill at any message loses none, and what comes again has the name it had', async () => {
    const expected = Array.from({ length: 6 }, (_, i) => i + 1)
    for (let dies = 1; dies <= 6; dies++) {
      alarms = new AlarmChain({ devices: names })
      seen = []
      for (let i = 0; i < 6; i += 3)
        alarms.chain.append(expected.slice(i, i + 3).map(level => alarms.call(sensor, level)))
      const gateway = await start(`killed-${dies}`)
      const dead = Promise.withResolvers<void>()
      take = async message => {
        if (seen.length >= dies) return new Promise<void>(() => dead.resolve())
        seen.push(message)
      }
      // The process is gone at the message after: nothing of it runs on.
      if (dies < 6) await dead.promise
      else await gateway.passed()
      gateway.die()
      take = async message => void seen.push(message)
      await (await start(`killed-${dies}`)).passed()
      const byName = Map.groupBy(seen, nameOf)
      expect([...byName.values()].map(([one]) => one!.message.Values.level)).toEqual(expected)
      for (const copies of byName.values())
        for (const copy of copies) expect(copy.message).toEqual(copies[0]!.message)
      // No more than one block: the one under way, or the one that is being recorded.
      expect(seen.length - byName.size).toBeLessThanOrEqual(3)
    }
  })

  it('decisions: what has been published for less than the given time comes again after a kill', async () => {
    alarms.decide(sensor, 1, 2)
    const first = await start('a', { recordAfterMs: 60_000 })
    await first.passed()
    await first.kill()
    const second = await start('a')
    await second.passed()
    expect(levelsOf(seen)).toEqual([1, 2, 1, 2])
    await second.kill()
    await (await start('a')).passed()
    expect(seen).toHaveLength(4)
  })

  it('decisions: who ends in order has recorded everything', async () => {
    alarms.decide(sensor, 1)
    const first = await start('a', { recordAfterMs: 60_000 })
    await first.passed()
    await first.kill()
    await first.cursor.close()
    await (await start('a')).passed()
    expect(levelsOf(seen)).toEqual([1])
  })

  it('decisions: out of reach of the chain it waits, and goes on', async () => {
    const { source } = alarms
    const gateway = await start('a')
    await gateway.passed()
    source.tamperReceipts = () => {
      throw new MoteError('height-not-available', 'not here')
    }
    alarms.decide(sensor, 1)
    await until(() => gateway.errors.length > 0, 'it has failed')
    expect(gateway.cursor.at(shardOf(sensor.id))).toBeLessThan(alarms.chain.height)
    expect(seen).toEqual([])
    source.tamperReceipts = receipts => receipts
    await gateway.passed()
    expect(levelsOf(seen)).toEqual([1])
  })

  it('decisions: a full node cannot make one up', async () => {
    const { source, chain } = alarms
    alarms.decide(sensor, 1)
    const [honest] = chain.block(chain.height).receipts
    source.tamperReceipts = receipts =>
      receipts.map(receipt => (receipt.id === honest!.id ? forged : receipt))
    const forged = {
      ...honest!,
      events: honest!.events.map(event =>
        event.type === 'contract.decided' ? { ...event, decision: 'high' } : event,
      ),
    }
    const gateway = await start('a')
    await until(() => gateway.errors.length > 0, 'it has been refused')
    expect(seen).toEqual([])
  })
})

describe('decisions: a takeover', () => {
  it('decisions: who takes a shard over repeats what has not expired, under the same names', async () => {
    const shard = shardOf(sensor.id)
    let owner = 'a'
    const shardsOf = (name: string) => () => (owner === name ? [shard] : [])
    const a = await start('a', { shards: shardsOf('a'), expiryMs: 5_000 })
    await a.passed()
    alarms.decide(sensor, 1, 2, 3)
    await until(() => seen.length === 3, 'the first gateway publishes')
    for (let i = 0; i < 4; i++) alarms.chain.append()
    await start('b', { shards: shardsOf('b'), expiryMs: 5_000 })
    owner = 'b'
    await until(() => seen.some(({ gateway }) => gateway === 'b'), 'the second gateway goes on')
    alarms.decide(sensor, 4)
    await until(() => levelsOf(seen).includes(4), 'and on')
    const [ofA, ofB] = ['a', 'b'].map(name => seen.filter(({ gateway }) => gateway === name)) as [
      Seen[],
      Seen[],
    ]
    expect(levelsOf(ofA)).toEqual([1, 2, 3])
    // The block of 1 is more than 5 s old.
    expect(levelsOf(ofB)).toEqual([2, 3, 4])
    expect(ofB.slice(0, 2).map(({ message }) => message)).toEqual(ofA.slice(1).map(({ message }) => message))
  })

  it('decisions: one shard that is taken over does not repeat the others', async () => {
    const [own, other] = [shardOf(sensor.id), shardOf(stranger.id)]
    let shards: readonly Shard[] = [own]
    const gateway = await start('a', { shards: () => shards })
    alarms.chain.append([alarms.call(sensor, 1), alarms.call(stranger, 2)])
    await gateway.passed()
    expect(levelsOf(seen)).toEqual([1])
    shards = [own, other]
    await until(() => levelsOf(seen).includes(2), 'the other shard is caught up with')
    alarms.chain.append([alarms.call(sensor, 3), alarms.call(stranger, 4)])
    await gateway.passed()
    expect(levelsOf(seen)).toEqual([1, 2, 3, 4])
  })

  it('decisions: who has lost a shard publishes nothing of it any more, and goes on from there if it comes back', async () => {
    const shard = shardOf(sensor.id)
    let shards: readonly Shard[] = [shard]
    const gateway = await start('a', { shards: () => shards })
    take = async message => {
      seen.push(message)
      shards = []
    }
    alarms.chain.append([alarms.call(sensor, 1), alarms.call(sensor, 2)])
    await until(() => seen.length === 1, 'the first')
    alarms.decide(sensor, 3)
    take = async message => void seen.push(message)
    shards = [shard]
    await gateway.passed()
    expect(levelsOf(seen)).toEqual([1, 1, 2, 3])
  })
})

describe('decisions: an actuator', () => {
  it.skipIf(!hasJq)(
    'actuator: acts once on each, whichever of two gateways is behind with its shard',
    async () => {
      const [own, other] = [shardOf(sensor.id), shardOf(stranger.id)]
      alarms.decide(sensor, 1)
      alarms.decide(stranger, 2)
      alarms.decide(sensor, 3)
      const ahead = await start('b', { shards: () => [other] })
      await until(() => ahead.cursor.at(other) === alarms.chain.height, 'the second gateway has published')
      await (await start('a', { shards: () => [own] })).passed()
      // What a takeover of the second one's shard brings.
      await start('c', { shards: () => [other] })
      await until(() => seen.length === 4, 'the third gateway has published')
      expect(levelsOf(seen)).toEqual([2, 1, 3, 2])
      const expected = seen.slice(0, 3).map(each => `${nameOf(each)} ${each.message['Decision']}`)
      expect(await acted(seen)).toEqual(expected)
    },
  )

  it.skipIf(!hasJq)('actuator: acts on one by QoS 2 that was overtaken by the next by QoS 1', async () => {
    alarms.chain.append([alarms.call(sensor, 1, { qos: 2 }), alarms.call(sensor, 2, { qos: 1 })])
    await (await start('a')).passed()
    const [slow, quick] = seen as [Seen, Seen]
    expect(await acted([quick, slow, quick, slow])).toEqual([`${nameOf(quick)} low`, `${nameOf(slow)} low`])
  })

  it.skipIf(!hasJq)('actuator: knows after a restart what it acted on, of each topic and shard', async () => {
    alarms.decide(sensor, 1)
    alarms.chain.append([alarms.call(sensor, 2, { publishTopic: 'fire' })])
    alarms.decide(stranger, 3)
    await (await start('a')).passed()
    expect(levelsOf(seen)).toEqual([1, 2, 3])
    const [first, ...others] = seen
    expect(await acted([...others, first!])).toHaveLength(3)
    expect(await acted(seen)).toEqual([])
    alarms.decide(sensor, 4)
    await until(() => seen.length === 4, 'one more')
    expect(await acted(seen)).toEqual([`${nameOf(seen[3]!)} low`])
  })
})

/** What examples/actuator does with these, by the lines that it prints; `mosquitto_sub -F %J` is a file. */
async function acted(messages: readonly Seen[]): Promise<readonly string[]> {
  const lines = messages.map(({ topic, qos, message }) => JSON.stringify({ topic, qos, payload: message }))
  await writeFile(join(directory, 'messages'), lines.map(line => `${line}\n`).join(''))
  await writeFile(join(directory, 'mosquitto_sub'), `#!/bin/sh\ncat ${directory}/messages\n`, { mode: 0o700 })
  const environment = { MQTT_HOST: '-', MQTT_PORT: '-', MQTT_ID: '-', MQTT_PASSWORD: '-' }
  const PATH = `${directory}:${process.env['PATH']}`
  const run = promisify(execFile)('sh', ['examples/actuator/actuator.sh', '#', join(directory, 'last')], {
    cwd: repositoryRoot,
    env: { ...process.env, ...environment, PATH },
  })
  return (await run).stdout.split('\n').filter(line => line !== '')
}

describe('decision cursor', () => {
  it('decision cursor: never goes back, outlives the program, and belongs to one chain', async () => {
    const path = join(directory, 'cursor')
    const options = { path, chainId: alarms.chain.chainId, recordAfterMs: 0 }
    const cursor = await DecisionCursor.open(options)
    expect(cursor.at('a')).toBeUndefined()
    cursor.pass(['a', 'f'], 7 as never)
    cursor.pass(['a'], 3 as never)
    await cursor.record()
    const again = await DecisionCursor.open(options)
    expect(['a', 'f', '0'].map(shard => again.at(shard))).toEqual([7, 7, undefined])
    const other = { ...options, chainId: 'ab'.repeat(32) as ChainId }
    await expect(DecisionCursor.open(other)).rejects.toMatchObject({ code: 'wrong-chain' })
  })

  it('decision cursor: records what was passed so long ago, and no later block', async () => {
    let now = 0
    const path = join(directory, 'cursor')
    const options = { path, chainId: alarms.chain.chainId, recordAfterMs: 100, clock: { steady: () => now } }
    const cursor = await DecisionCursor.open(options)
    const stored = async () => (await DecisionCursor.open(options)).at('a')
    cursor.pass(['a'], 1 as never)
    await cursor.record()
    cursor.pass(['a'], 2 as never)
    now = 99
    await cursor.record()
    expect(await stored()).toBeUndefined()
    now = 100
    await cursor.record()
    expect(await stored()).toBe(1)
    await cursor.record()
    now = 200
    await cursor.record()
    expect(await stored()).toBe(2)
    await rm(path)
    now = 400
    await cursor.record()
    expect(await stored(), 'nothing new is no reason to write').toBeUndefined()
  })
})
