/**
 * A device that is not ours: examples/python-device, in Python with Debian's paho-mqtt and cryptography, written against docs/FORMATS.md.
 * It exchanges messages with a `mote` device, and believes nothing that is not proven to it.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { GroupId, Milliseconds } from '../../chain/brands.ts'
import { keyIdOf } from '../../chain/keys.ts'
import { keyPossessionSigningBytes } from '../../chain/transaction.ts'
import { writeGenesisFile } from '../../client/genesis-file.ts'
import { type IdentityKeys, makeKeys, signerOf, writeKeyFile } from '../../client/key-directory.ts'
import { type ForeignProgram, findPython, startForeignProgram } from '../support/foreign-program.ts'
import { sentText, until } from '../support/gateway-fixture.ts'
import { GatewayOnLedger, type ListeningAgent } from '../support/gateway-on-ledger.ts'
import { repositoryRoot } from '../support/source-files.ts'
import { keysOf } from '../support/test-chain.ts'
import { WireTap } from '../support/wire-tap.ts'

const python = findPython('cryptography, paho.mqtt.client')
if (python === undefined)
  console.log('Python device: skipped, no python3 with paho-mqtt and cryptography is installed')

const folder = join(repositoryRoot, 'examples/python-device')
const [d1111, d1113, ours] = ['1111', '1113', 'python-1'].map(keysOf) as [
  IdentityKeys,
  IdentityKeys,
  IdentityKeys,
]

describe.skipIf(python === undefined)('a device in Python, which needs paho-mqtt and cryptography', () => {
  let network: GatewayOnLedger
  let tap: WireTap
  let owner: ListeningAgent
  /** In no group with the others. */
  let outsider: ListeningAgent
  let group: GroupId
  let topic: GroupId

  beforeAll(async () => {
    network = await GatewayOnLedger.start(['1111', '1113', 'python-1'])
    tap = await WireTap.between(network.address)
    await writeGenesisFile(join(network.directory, 'genesis.json'), network.chain.genesis)
    await writeKeyFile(join(network.directory, 'python-1.json'), ours)
    owner = await network.agent(d1113)
    outsider = await network.agent(d1111)
    const members = [ours.id]
    group = await network.makeGroup(owner, 'hsu0001', { members })
    topic = await network.makeGroup(owner, 'b', { members, topic: { publishers: undefined } })
    // A device goes by its own clock; a log-in is judged by the chain's.
    while (network.chain.time < Date.now() - 6_000) network.chain.append()
    await network.followed()
  })
  afterAll(async () => {
    await tap[Symbol.asyncDispose]()
    await network.stop()
  })

  function begin(...args: readonly string[]): ForeignProgram {
    const { host, port } = tap.address
    const options = {
      genesis: join(network.directory, 'genesis.json'),
      keys: join(network.directory, 'python-1.json'),
      state: join(network.directory, 'python-1.state'),
      gateway: `${host}:${port}`,
    }
    const words = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value])
    return startForeignProgram(python ?? '', ['-B', join(folder, 'device.py'), ...words, ...args])
  }
  const run = (...args: readonly string[]) => begin(...args).ended
  const linesOf = ({ stdout }: ForeignProgram) =>
    stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as Record<string, unknown>)

  async function listening(...args: readonly string[]): Promise<ForeignProgram> {
    const program = begin('listen', ...args)
    await until(() => program.stdout.includes('listening'), 'it listens')
    return program
  }

  test('python device: makes what the vectors have, and refuses what differs from them by a bit', async () => {
    const tests = ['-B', '-m', 'unittest', 'discover', '-s', folder, '-p', 'test_*.py']
    const { code, stderr } = await startForeignProgram(python ?? '', tests).ended
    expect(stderr).toMatch(/Ran 1\d tests/)
    expect(code, stderr).toBe(0)
  })

  test('python device: sends to a device, a group and an open topic, after its own check of each key', async () => {
    expect(await run('key', d1113.id)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(keyIdOf(d1113.encryption.publicKey)),
    })
    for (const [command, target] of [
      ['send', d1113.id],
      ['group', group],
      ['publish', topic],
    ] as const) {
      const { code, stdout, stderr } = await run(command, target, `${command} ünder seal`)
      expect(stdout, stderr).toContain('"verdict": "Check"')
      expect(code).toBe(0)
    }
    await until(() => owner.texts.length === 3, '1113 reads them')
    expect(owner.texts).toEqual(['send ünder seal', 'group ünder seal', 'publish ünder seal'])
  })

  test('python device: reads what a `mote` device sends to it, to a group and to an open topic', async () => {
    const program = await listening('--count', '3')
    await owner.agent.send(ours.id, sentText('for you'))
    await owner.agent.sendToGroup(group, sentText('for the group'))
    await outsider.agent.publish(topic, sentText('from outside'))
    expect(await program.ended).toMatchObject({ code: 0, stderr: '' })
    expect(linesOf(program).slice(1)).toEqual([
      { from: d1113.id, device: ours.id, channel: '', text: 'for you' },
      { from: d1113.id, group, channel: '', text: 'for the group' },
      { from: d1111.id, topic, channel: '', text: 'from outside' },
    ])
  })

  test('python device: believes no answer that was bent on the way, nor an altered copy of a key, and sends nothing', async () => {
    // A bit of the last signature, and the last byte of the proof.
    for (const fromTheEnd of [1, 400]) {
      tap.change = packet => {
        if (!packet.includes('mote/1/answer/')) return packet
        const at = packet.length - fromTheEnd
        return Buffer.from(packet.map((byte, i) => (i === at ? byte ^ 1 : byte)))
      }
      const { code, stderr } = await run('send', d1113.id, 'by a wrong key')
      tap.change = packet => packet
      expect(stderr).toMatch(/^(bad-proof|bad-certificate|malformed): /)
      expect(code).toBe(1)
    }
    const state = join(network.directory, 'python-1.state')
    const before = readFileSync(state, 'utf8')
    const [genuine, forged] = [d1113, d1111].map(keys => keyIdOf(keys.encryption.publicKey))
    expect(before).toContain(genuine)
    writeFileSync(state, before.replace(genuine!, forged!))
    expect(await run('send', d1113.id, 'by an altered copy')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^recipient-key-mismatch: /),
    })
    writeFileSync(state, before)
    expect((await run('send', d1113.id, 'after it')).code).toBe(0)
    await until(() => owner.texts.includes('after it'), 'the next one')
    expect(owner.texts.filter(text => text.startsWith('by '))).toEqual([])
  })

  test('python device: takes no message twice, none of a revoked sender, and none that is signed by an old key', async () => {
    const next = makeKeys('1113')
    const kept: Buffer[] = []
    const program = await listening()
    // Held back on the way, to be delivered when it is too late.
    tap.change = packet => {
      if (!packet.includes('mote/1/to/')) return packet
      kept.push(Buffer.from(packet))
      return Buffer.alloc(0)
    }
    await outsider.agent.send(ours.id, sentText('of a revoked one'))
    await owner.agent.send(ours.id, sentText('by an old key'))
    await owner.agent.send(ours.id, sentText('twice'))
    await until(() => kept.length === 3, 'three are held back')
    const [ofRevoked, byOldKey, twice] = kept as [Buffer, Buffer, Buffer]
    tap.change = packet => packet
    for (const bytes of [twice, twice]) tap.inject(bytes)
    await until(() => program.stderr.includes('replayed'), 'the second one is refused')
    network.chain.revoke(d1111.id)
    const key = next.signing.publicKey
    network.chain.perform(d1113, {
      type: 'key.rotate',
      subject: d1113.id,
      expectedVersion: (await owner.client.records.device(d1113.id)).value!.version,
      oldKey: keyIdOf(d1113.signing.publicKey),
      key: {
        purpose: 'sign',
        key,
        possession: signerOf(next).sign(keyPossessionSigningBytes(network.chain.chainId, d1113.id, key)),
        notAfter: undefined,
      },
      overlap: 0 as Milliseconds,
    })
    await network.followed()
    for (const bytes of [ofRevoked, byOldKey]) tap.inject(bytes)
    await until(() => program.stderr.trim().split('\n').length === 3, 'both are refused')
    expect(program.stderr).toMatch(/^replayed: .*\nsigner-not-active: revoked\nkey-not-valid: /)
    expect(linesOf(program).slice(1)).toEqual([expect.objectContaining({ text: 'twice' })])
    program.stop()
    await program.ended
  })
})
