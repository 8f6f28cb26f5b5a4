/** A devnet with a Mosquitto before its gateway, by the command alone: every command of a device works unchanged. */
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import mqtt from 'mqtt'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { pause } from '../../client/deadline.ts'
import { layout } from '../../devnet/layout.ts'
import { beginInProcess } from '../support/command-in-process.ts'
import { DevnetFixture } from '../support/devnet-fixture.ts'
import { runFleet } from '../support/fleet-run.ts'
import { until } from '../support/gateway-fixture.ts'
import { noMosquitto } from '../support/mosquitto.ts'
import { WireTap } from '../support/wire-tap.ts'

const size = ['--broker', 'mosquitto', '--full', '1', '--lightweight', '0', '--devices', '11']

describe.skipIf(noMosquitto)('a devnet with an existing broker, which needs mosquitto', () => {
  let net: DevnetFixture
  beforeAll(async () => {
    net = await DevnetFixture.start('mosquitto', size)
  })
  afterAll(() => net?.stop())

  const begin = (...args: string[]) => beginInProcess(args, { MOTE_DIR: net.directory })
  const mote = (...args: string[]) => begin(...args).ended

  test('mosquitto devnet: status names the broker; a device sends, to a group too, and another listens; a plain client gets its password', async () => {
    const status = JSON.parse((await mote('devnet', 'status', '--json')).stdout)
    expect(status.broker).toMatchObject({ name: 'mosquitto', state: 'running' })
    const listener = begin('device', 'listen', '1113', '--count', '2')
    await until(() => listener.stderr.includes('listening'), 'it listens')
    const sent = await mote('device', 'send', '1113', 'hello', '--from', '1111')
    expect(sent, sent.stderr).toMatchObject({ code: 0, stdout: expect.stringContaining('Check') })
    const toGroup = await mote('device', 'send', '--group', 'hsu0001', 'to all', '--from', '1111')
    expect(toGroup, toGroup.stderr).toMatchObject({ code: 0 })
    const { code, stdout } = await listener.ended
    expect(code).toBe(0)
    expect(stdout).toContain('1111 → hello')
    expect(stdout).toContain('1111 → hsu0001: to all')
    const out = join(net.directory, 'broker-files')
    const config = layout.nodeConfig(net.directory, 'gateway')
    const files = [
      '--certificate',
      's.crt',
      '--key',
      's.key',
      '--client-ca',
      '/ca.crt',
      '--client-port',
      '8885',
    ]
    const setUp = ['gateway', 'mosquitto', '--config', config, '--out', out, '--json']
    const written = await mote(...setUp, ...files)
    // Every identity but the gateway: devices, nodes, operator and observer.
    expect(JSON.parse(written.stdout), written.stderr).toMatchObject({ accounts: 15 })
    const { mode } = await stat(join(out, 'dynamic-security.json'))
    expect(mode & 0o777).toBe(0o600)
    const lines = await readFile(join(out, 'mosquitto.conf'), 'utf8')
    expect(lines).toMatch(
      /^listener 8885 .*\ncertfile .*\nkeyfile .*\ncafile \/ca\.crt\nrequire_certificate true\n/m,
    )
    for (const left of [files.slice(4), files.slice(6)])
      expect(await mote(...setUp, ...left)).toMatchObject({ code: 2 })
    const login = JSON.parse((await mote('device', 'credentials', '1112', '--json')).stdout)
    expect(login).toMatchObject({
      username: net.idOf('1112'),
      password: expect.stringMatching(/^[\w-]{43}$/),
    })
    expect(await mote('device', 'credentials', '1112', '--for', '1d')).toMatchObject({ code: 2 })
  })

  test('mosquitto devnet: the gateway is killed with 100 messages in flight: none is lost, none comes twice, each sender’s keep their order; and when the chain has its records and the broker no acknowledgement of them: each is recorded once', async () => {
    const { directory, description } = net
    const file = layout.nodeConfig(directory, 'gateway')
    const config = JSON.parse(await readFile(file, 'utf8'))
    const { broker } = config
    await using tap = await WireTap.between(broker)
    const puback = 0x40
    let passesPubacks = true
    tap.changeSent = packet => (passesPubacks || packet[0] !== puback ? packet : Buffer.alloc(0))
    const restarted = async () => expect(await mote('chaos', 'restart', 'gateway')).toMatchObject({ code: 0 })
    const status = JSON.parse((await mote('devnet', 'status', '--json')).stdout)
    const fleet = await runFleet({
      directory,
      description,
      fanOut: 10,
      messages: 2,
      // Seconds on a quiet machine.
      withinMs: 150_000,
      victim: status.gateway.pid,
      afterwards: async () => {
        await writeFile(file, JSON.stringify({ ...config, broker: { ...broker, ...tap.address } }))
        await restarted()
      },
    })
    expect(fleet).toMatchObject({ dropped: [], lost: 0, twice: 0, outOfOrder: 0, sent: 222 })
    expect(fleet.inFlight).toBeGreaterThanOrEqual(100)

    passesPubacks = false
    const login = JSON.parse((await mote('device', 'credentials', '1112', '--json')).stdout)
    const { username, password } = login
    const client = await mqtt.connectAsync({ ...broker, username, password, protocolVersion: 5 })
    const report = (reading: number) =>
      client.publishAsync(
        `mote/1/report/${username.slice(0, 1)}/${username}/tank`,
        JSON.stringify({ Payload: reading }),
        { qos: 1 },
      )
    const recorded = async (count: number): Promise<readonly string[]> => {
      for (;;) {
        const { stdout } = await mote('record', 'list', '--device', '1112', '--topic', 'tank', '--json')
        const records = JSON.parse(stdout).records as readonly { readonly payload: string }[]
        if (records.length >= count) return records.map(({ payload }) => payload)
        await pause(100)
      }
    }
    // Some of one content, which their packet identifiers alone tell apart.
    const readings = Array.from({ length: 20 }, (_, i) => i % 15)
    for (const reading of readings) await report(reading)
    await recorded(readings.length)
    expect(await mote('chaos', 'kill', 'gateway')).toMatchObject({ code: 0 })
    passesPubacks = true
    // While it is dead there is no verdict: what comes meanwhile is decided when it is there again, and given out.
    const keep = ['--keep', '1d', '--from', '1111', '--timeout', '60']
    const waiting = begin('device', 'send', '1113', 'kept for later', ...keep)
    await restarted()
    await report(99)
    await client.endAsync()
    expect((await recorded(readings.length + 1)).toSorted()).toEqual([...readings, 99].map(String).toSorted())
    const sent = await waiting.ended
    expect(sent, sent.stderr).toMatchObject({ code: 0 })
    const { stdout } = await mote('device', 'listen', '1113', '--count', '1')
    expect(stdout).toContain('1111 → kept for later')
  }, 240_000)
})
