/** MQTT over TLS at a real gateway: the server's certificate, its renewal, strangers in the handshake, and client certificates, whose authority is the chain. */
import { execFile, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { connect as connectSocket, type Socket } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { promisify } from 'node:util'
import type { IClientOptions, MqttClient } from 'mqtt'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Milliseconds } from '../../chain/brands.ts'
import { credentialHash } from '../../chain/credentials.ts'
import { type IdentityKeys, makeKeys } from '../../client/key-directory.ts'
import { parseGatewayUrl } from '../../mqtt-gateway/device/gateway-address.ts'
import { makePassword } from '../../mqtt-gateway/protocol/credential-password.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { readTlsPair } from '../../mqtt-gateway/server/tls-identity.ts'
import { GatewayFixture, listen, sentText, testLimits, until } from '../support/gateway-fixture.ts'
import { TlsFixture } from '../support/tls-fixture.ts'

let tls: TlsFixture
let fixture: GatewayFixture
let d1111: IdentityKeys
let ca: string
beforeAll(async () => {
  tls = await TlsFixture.make()
  ca = tls.authority.certificate.toString()
})
afterAll(() => tls[Symbol.asyncDispose]())
beforeEach(async () => {
  fixture = await GatewayFixture.start({ connectTimeoutMs: 30_000 }, { secure: await tls.listener() })
  d1111 = fixture.device('1111')
})
afterEach(() => fixture.stop())

const securePort = () => fixture.address.secure?.port ?? 0

/** mqtt.js over TLS, which checks the gateway's name against the authority. */
function connect(clientId: string, options: IClientOptions = {}): Promise<MqttClient> {
  const secure = { protocol: 'mqtts', port: securePort(), ca, clientId, connectTimeout: 30_000 } as const
  return fixture.client({}, { ...secure, ...options })
}

const refusal = (client: Promise<unknown>) =>
  client.then(
    () => 'connected',
    (error: { code?: unknown }) => error.code,
  )

/** Resolves when the other end has closed it. */
async function closed(socket: Socket): Promise<void> {
  // What it says of its end is not the matter.
  socket.on('error', () => {}).resume()
  if (!socket.closed) await new Promise(resolve => socket.once('close', resolve))
}

/** The certificate that the listener shows. */
async function serverName(): Promise<string> {
  const socket = connectTls({ port: securePort(), host: '127.0.0.1', ca })
  await once(socket, 'secureConnect')
  const { serialNumber } = socket.getPeerCertificate()
  socket.destroy()
  return serialNumber
}

describe('the listener', () => {
  test('tls: the same gateway takes a password by TLS and over loopback; a client that does not trust or name it stays away', async () => {
    const { bytes, text: password } = makePassword()
    const hash = credentialHash(fixture.trust.chainId, d1111.id, bytes)
    const expiresAt = (Date.now() + 60_000) as Milliseconds
    fixture.trust.setCredentials(d1111.id, [{ hash, expiresAt, scope: 'send' }])
    const login = { username: d1111.id, password }
    const secure = await connect(`${d1111.id}.a`, login)
    await fixture.client({ ...login, clientId: `${d1111.id}.b` })
    await secure.publishAsync(topics.ask(d1111.id), 'no question', { qos: 1 })
    expect(fixture.gateway.status().sessions).toBe(2)
    const stranger = connect(d1111.id, { ...login, ca: '' })
    expect(await refusal(stranger)).toBe('UNABLE_TO_VERIFY_LEAF_SIGNATURE')
    expect(await refusal(connect(d1111.id, { ...login, servername: 'elsewhere.example' }))).toBe(
      'ERR_TLS_CERT_ALTNAME_INVALID',
    )
  })

  test('tls: an agent reaches the gateway by it, if authority and name are right', async () => {
    const d1112 = fixture.device('1112')
    const gateway = parseGatewayUrl(`mqtts://localhost:${securePort()}`, ca)
    const sender = await fixture.agent(d1111, undefined, { gateway })
    const inbox = await listen(await fixture.agent(d1112))
    await sender.send(d1112.id, sentText('by TLS'))
    await until(() => inbox.texts.length > 0, 'the message')
    const wrong = [
      { ...gateway, tls: {} },
      { ...gateway, host: '127.0.0.2' },
    ]
    for (const address of wrong)
      await expect(fixture.agent(d1111, undefined, { gateway: address })).rejects.toMatchObject({
        code: 'unreachable',
      })
    const stranger = fixture.agent(d1111, undefined, { gateway: { ...gateway, tls: {} } })
    await expect(stranger).rejects.toThrow('TLS: ')
  })

  test('tls: 1.1 is refused, 1.2 and 1.3 are not', async () => {
    const handshake = async (version: 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3'): Promise<string | null> => {
      const versions = { minVersion: version, maxVersion: version, ciphers: 'DEFAULT:@SECLEVEL=0' } as const
      const socket: TLSSocket = connectTls({ port: securePort(), host: '127.0.0.1', ca, ...versions })
      await once(socket, 'secureConnect')
      const protocol = socket.getProtocol()
      socket.destroy()
      return protocol
    }
    await expect(handshake('TLSv1.1')).rejects.toThrow('protocol version')
    expect(await handshake('TLSv1.2')).toBe('TLSv1.2')
    expect(await handshake('TLSv1.3')).toBe('TLSv1.3')
  })

  test('tls: who speaks without TLS to its port, and TLS to the other one, is cut, and others are served', async () => {
    const plain = connectSocket(securePort(), '127.0.0.1')
    plain.write(Buffer.from('100d00044d5154540402000a000171', 'hex'))
    await closed(plain)
    await closed(connectTls({ port: fixture.address.port, host: '127.0.0.1', rejectUnauthorized: false }))
    await connect(d1111.id, tls.client(d1111))
    expect(fixture.errors).toEqual([])
  })

  test('tls: a handshake has so much time; silent sockets have the share of their address, and keep nobody out', async () => {
    const { unproven, connectTimeoutMs } = testLimits
    await fixture.stop()
    fixture = await GatewayFixture.start({ connectTimeoutMs: 10_000 }, { secure: await tls.listener() })
    d1111 = fixture.device('1111')
    const open = (count: number) => {
      const sockets = Array.from({ length: count }, () => connectSocket(securePort(), '127.0.0.1'))
      for (const socket of sockets) socket.on('error', () => {}).resume()
      return sockets
    }
    const sockets = open(unproven.perAddress + 5)
    await Promise.all(sockets.slice(0, 5).map(closed))
    expect(sockets.slice(5).some(socket => socket.destroyed)).toBe(false)
    await connect(d1111.id, tls.client(d1111))
    expect(fixture.gateway.status().sessions).toBe(1)
    await fixture.stop()
    fixture = await GatewayFixture.start({ connectTimeoutMs }, { secure: await tls.listener() })
    const startedAt = performance.now()
    await Promise.all(open(2).map(closed))
    expect(performance.now() - startedAt).toBeGreaterThan(connectTimeoutMs - 50)
  })

  test('tls: a renewed certificate is in use without a restart, connections stay; one that cannot be used is reported, and changes nothing', async () => {
    const before = await serverName()
    const client = await connect(d1111.id, tls.client(d1111))
    tls.reloads.length = 0
    const renewed = await tls.renew()
    await until(() => tls.reloads.includes(undefined), 'the new certificate')
    expect(await serverName()).toBe(renewed.serialNumber)
    expect(renewed.serialNumber).not.toBe(before)
    await writeFile(tls.files.certificate, 'no certificate')
    await until(() => tls.reloads.length > 1 && tls.reloads.at(-1), 'a report')
    expect(await serverName()).toBe(renewed.serialNumber)
    await client.publishAsync(topics.ask(d1111.id), 'no question', { qos: 1 })
    await tls.renew()
  })

  test('tls: a key that others may read, or of another certificate, is refused', async () => {
    const { files } = tls
    await expect(readTlsPair({ ...files, key: tls.path('ca.key') })).rejects.toMatchObject({
      code: 'config-invalid',
    })
    const open = tls.path('open.key')
    await writeFile(open, (await readTlsPair(files)).key, { mode: 0o640 })
    await expect(readTlsPair({ ...files, key: open })).rejects.toThrow('expected mode 0600, got 0640')
  })
})

describe('client certificates', () => {
  test.each(['ed25519', 'p256'] as const)(
    "certificate: whose key is the chain's opens a session, self-signed or not: %s",
    async suite => {
      const keys = fixture.device('d', makeKeys('d', { suite }))
      for (const signed of [false, true]) {
        const client = await connect(keys.id, tls.client(keys, { signed }))
        await client.publishAsync(topics.ask(keys.id), 'no question', { qos: 1 })
        await client.endAsync()
      }
      expect(fixture.decisions.find(({ event }) => event === 'connect')).toMatchObject({ sender: keys.id })
    },
  )

  test('certificate: one of another name or key, out of its time, or none, is refused', async () => {
    const stranger = makeKeys('stranger')
    const { id } = d1111
    const shown: readonly IClientOptions[] = [
      tls.client(d1111, { commonName: stranger.id }),
      tls.client({ ...stranger, id }),
      tls.client({ ...stranger, id }, { signed: true }),
      tls.client(d1111, { to: -1_000 }),
      tls.client(d1111, { from: 60_000 }),
      {},
    ]
    for (const options of shown) expect([4, 5]).toContain(await refusal(connect(id, options)))
    const codes = fixture.decisions.map(({ code }) => code)
    expect(new Set(codes)).toEqual(new Set(['credential-invalid', 'key-not-valid', 'assertion-invalid']))
    expect(fixture.gateway.status().sessions).toBe(0)
  })

  test('certificate: that of a suspended device, and one whose key was revoked, is refused, and its live session cut', async () => {
    const { trust } = fixture
    const shown = tls.client(d1111)
    const ends: (() => void)[] = [
      () => trust.setStatus(d1111.id, 'suspended'),
      () => {
        trust.setStatus(d1111.id, 'active')
        const record = trust.record(d1111.id)
        trust.put({ ...record, keys: record.keys.map(key => ({ ...key, revokedAt: 1 as Milliseconds })) })
      },
    ]
    for (const end of ends) {
      const client = await connect(d1111.id, shown)
      const gone = new Promise<void>(resolve => client.once('close', () => resolve()))
      end()
      await gone
      expect(await refusal(connect(d1111.id, shown))).toBe(5)
      trust.setStatus(d1111.id, 'active')
    }
    const cuts = fixture.decisions.filter(({ event }) => event === 'cut').map(({ code }) => code)
    expect(cuts).toEqual(['device-revoked', 'key-not-valid'])
  })

  test('certificate: a session ends with the time of its key, and with its own', async () => {
    const { trust } = fixture
    const minute = 60_000
    const startedAt = Date.now()
    const now = vi.spyOn(trust, 'now')
    const gone: string[] = []
    const open = async (name: string, options: IClientOptions) => {
      const client = await connect(`${d1111.id}.${name}`, options)
      client.on('close', () => gone.push(name))
    }
    await open('short', tls.client(d1111, { to: 20 * minute }))
    await open('long', tls.client(d1111))
    const record = trust.record(d1111.id)
    const notAfter = (startedAt + 40 * minute) as Milliseconds
    trust.put({ ...record, keys: record.keys.map(key => ({ ...key, notAfter })) })
    for (const [passed, names] of [
      [19, []],
      [30, ['short']],
      [50, ['short', 'long']],
    ] as const) {
      now.mockReturnValue((startedAt + passed * minute) as Milliseconds)
      trust.heartbeat()
      await until(() => gone.length >= names.length, `${passed} minutes later`)
      expect(gone).toEqual(names)
    }
  })

  const execute = promisify(execFile)
  const run = (file: string, args: readonly string[]) => execute(file, args, { timeout: 60_000 })
  const isInstalled = spawnSync('mosquitto_pub', ['--version']).error === undefined
  test.skipIf(!isInstalled).each(['ed25519', 'p256'] as const)(
    'certificate: mosquitto_pub and mosquitto_sub with a key of %s',
    async suite => {
      const keys = fixture.device('d', makeKeys('d', { suite }))
      fixture.trust.setRights(keys.id, { publish: ['plant/#'], subscribe: ['plant/#'] })
      const { cert, key } = tls.client(keys)
      const [certFile, keyFile] = [tls.path('d.crt'), tls.path('d.key')]
      await writeFile(certFile, cert)
      await writeFile(keyFile, key, { mode: 0o600 })
      const secure = ['--cafile', tls.ca, '--cert', certFile, '--key', keyFile]
      const where = ['-h', 'localhost', '-p', String(securePort()), ...secure]
      const reading = run('mosquitto_sub', [
        ...where,
        '-i',
        `${keys.id}.s`,
        '-t',
        'plant/#',
        '-C',
        '1',
        '-q',
        '1',
      ])
      await until(() => fixture.decisions.some(({ event }) => event === 'subscribe'), 'the subscription')
      await run('mosquitto_pub', [...where, '-i', `${keys.id}.p`, '-t', 'plant/t', '-m', '21.5', '-q', '1'])
      expect((await reading).stdout).toBe('21.5\n')
    },
  )
})
