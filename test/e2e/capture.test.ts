/**
 * What crosses the link to the broker (Hsu C7): recorded by a proxy on it, and by tcpdump where that is allowed, while a message, a group's,
 * an open topic's and their keys go over it. The recording has the signature of each envelope, and of no text eight bytes in a row. Its
 * control: the same texts in the clear, through this gateway and through Mosquitto, are found by the same search.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import mqtt, { type IClientOptions } from 'mqtt'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { noRights } from '../../chain/rights.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { signerOf } from '../../client/key-directory.ts'
import { DeviceState } from '../../mqtt-gateway/device/device-state.ts'
import type { Recipient } from '../../mqtt-gateway/device/message-sealing.ts'
import { makeCredentials } from '../../mqtt-gateway/device/mqtt-connection.ts'
import { startForeignProgram } from '../support/foreign-program.ts'
import { until } from '../support/gateway-fixture.ts'
import { GatewayOnLedger, type ListeningAgent } from '../support/gateway-on-ledger.ts'
import { hasMosquitto, Mosquitto } from '../support/mosquitto.ts'
import { repositoryRoot } from '../support/source-files.ts'
import { keysOf } from '../support/test-chain.ts'
import { WireTap } from '../support/wire-tap.ts'

const [d1111, d1113] = ['1111', '1113'].map(keysOf) as [IdentityKeys, IdentityKeys]

const texts = {
  device: 'pump 7 of the north basin is to run at 1,450 turns',
  group: 'all valves between mark 12 and mark 19 are open now',
  topic: 'level of the upper tank: 4.217 m and rising slowly',
} as const

const runBytes = 8
/** How many runs of so many bytes of this content are in the recording. */
function runsFound(recording: Buffer, bytes: Uint8Array): number {
  const content = Buffer.from(bytes)
  let found = 0
  for (let at = 0; at + runBytes <= content.length; at++)
    if (recording.includes(content.subarray(at, at + runBytes))) found += 1
  return found
}

/** The command that OPERATIONS gives to users, on this port and into this file. */
function documentedCommand(port: number, file: string): readonly string[] {
  const operations = readFileSync(join(repositoryRoot, 'docs/OPERATIONS.md'), 'utf8')
  const words = /^sudo (tcpdump .*?) +#/m.exec(operations)?.[1]?.split(' ') ?? []
  return words.map(word => ({ PORT: String(port), 'link.pcap': file })[word] ?? word)
}

interface Sniffer {
  readonly file: string
  /** Ends it, with everything in the file. */
  stop(): Promise<void>
}

/** Undefined, or why it records nothing here. */
async function startSniffer(port: number, directory: string): Promise<Sniffer | string> {
  const file = join(directory, 'link.pcap')
  const [command = '', ...args] = documentedCommand(port, file)
  if (spawnSync(command, ['--version']).error) return 'tcpdump is not installed'
  const program = startForeignProgram(command, args)
  await until(() => program.hasEnded || program.stderr.includes('listening on'), 'it records')
  if (program.hasEnded) return `tcpdump may not record here: ${program.stderr.trim()}`
  return {
    file,
    stop: async () => {
      program.stop('SIGINT')
      await program.ended
    },
  }
}

describe('capture', () => {
  let network: GatewayOnLedger
  let tap: WireTap
  let sniffer: Sniffer | string
  let [sender, member]: readonly ListeningAgent[] = []
  const signatures: Buffer[] = []
  const secrets: Uint8Array[] = []
  const recordings = (): readonly (readonly [name: string, bytes: Buffer])[] => [
    ['proxy', tap.recording],
    ...(typeof sniffer === 'string' ? [] : [['tcpdump', readFileSync(sniffer.file)] as const]),
  ]

  beforeAll(async () => {
    network = await GatewayOnLedger.start(['1111', '1113'])
    tap = await WireTap.between(network.address)
    sniffer = await startSniffer(network.address.port, network.directory)
    ;[sender, member] = [await network.agent(d1111, tap.address), await network.agent(d1113, tap.address)]
    const members = [d1113.id]
    const group = await network.makeGroup(sender, 'hsu0001', { members })
    const topic = await network.makeGroup(sender, 'b', { members, topic: { publishers: undefined } })
    await send({ type: 'device', id: d1113.id }, texts.device)
    await send({ type: 'group', id: group }, texts.group)
    await send({ type: 'topic', id: topic }, texts.topic)
    await until(() => member!.texts.length === 3, '1113 reads them')
    const state = await DeviceState.open(join(network.directory, '1111'))
    for (const id of [group, topic]) secrets.push((await state.epochKey(id, 1))!)
    for (const { signing, encryption } of [d1111, d1113])
      secrets.push(signing.seed.expose(), encryption.secret.expose())
    if (typeof sniffer === 'string') return
    const { file } = sniffer
    await until(() => readFileSync(file).includes(signatures.at(-1)!), 'the last one is in the file')
    await sniffer.stop()
  })
  afterAll(async () => {
    await tap[Symbol.asyncDispose]()
    await network.stop()
  })

  async function send(to: Recipient, text: string): Promise<void> {
    const sealed = await sender!.agent.seal(to, { content: new TextEncoder().encode(text) })
    if (sealed.type !== 'sealed') throw new Error(sealed.verdict.reason)
    // [version, payload, signature]: the signature is what it ends with.
    signatures.push(Buffer.from(sealed.envelope.bytes.slice(-64)))
    expect(await sender!.agent.relay(sealed.envelope)).toMatchObject({ verdict: 'Check' })
  }

  /** Sends the texts in the clear, and gives what the search finds of each in what crossed. */
  async function inTheClear(link: WireTap, options: IClientOptions): Promise<readonly number[]> {
    const before = link.recording.length
    const client = await mqtt.connectAsync({
      ...link.address,
      protocolVersion: 4,
      reconnectPeriod: 0,
      ...options,
    })
    for (const text of Object.values(texts)) await client.publishAsync('plant/1', text, { qos: 1 })
    await client.endAsync(true)
    const recording = link.recording.subarray(before)
    return Object.values(texts).map(text => runsFound(recording, Buffer.from(text)))
  }
  const allRuns = Object.values(texts).map(text => text.length - runBytes + 1)

  test('capture: has the signature of each envelope, and the boxes of each key', () => {
    expect(signatures).toHaveLength(3)
    for (const [name, recording] of recordings()) {
      for (const signature of signatures) expect(recording.includes(signature), name).toBe(true)
      expect(recording.includes('mote/1/boxes/'), name).toBe(true)
    }
  })

  test('capture: has of no text, of no epoch key and of no private key eight bytes in a row', () => {
    for (const [name, recording] of recordings()) {
      for (const text of Object.values(texts)) expect(runsFound(recording, Buffer.from(text)), name).toBe(0)
      for (const secret of secrets) expect(runsFound(recording, secret), name).toBe(0)
    }
  })

  test('capture: tcpdump has recorded it too', context => {
    if (typeof sniffer === 'string') return context.skip(sniffer)
    expect(recordings().map(([name]) => name)).toEqual(['proxy', 'tcpdump'])
    // As OPERATIONS has it: how many lines have the text.
    const grep = spawnSync('grep', ['-acF', texts.device, sniffer.file], { encoding: 'utf8' })
    expect(grep.stdout.trim()).toBe('0')
  })

  test('capture: its control: the same texts on a plain topic of this gateway are found', async () => {
    const { chain } = network
    const rights = { ...noRights, publish: ['plant/1'] }
    const subject = d1111.id
    chain.perform(chain.operator, { type: 'identity.rights', subject, expectedVersion: 0, ...rights })
    await network.followed()
    const { clientId, username, password } = makeCredentials({
      chainId: chain.chainId,
      device: d1111.id,
      signer: signerOf(d1111),
      now: () => chain.time,
    })
    expect(await inTheClear(tap, { clientId: `${clientId}.plain`, username, password })).toEqual(allRuns)
  })

  test.skipIf(!hasMosquitto)(
    'capture: its control: the same texts through Mosquitto are found (needs mosquitto)',
    async () => {
      await using mosquitto = await Mosquitto.startOpen()
      await using link = await WireTap.between(mosquitto.address)
      expect(await inTheClear(link, {})).toEqual(allRuns)
    },
  )
})
