/**
 * What `mote device send --group` and `mote device listen` print about boxes of epoch keys, and `listen --raw` of what is sealed: commands of this process, on a
 * chain in memory and a real gateway.
 */
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { keyIdOf } from '../../chain/keys.ts'
import { groupIdOf } from '../../chain/records.ts'
import { unwrap } from '../../chain/result.ts'
import { ChainClient } from '../../client/chain-client.ts'
import { signerOf } from '../../client/key-directory.ts'
import { nativeVerifier } from '../../client/native-crypto.ts'
import { agentChain } from '../../mqtt-gateway/device/agent-chain.ts'
import { sealEpochKey } from '../../mqtt-gateway/device/box-sealing.ts'
import { MqttConnection } from '../../mqtt-gateway/device/mqtt-connection.ts'
import { chainTrust } from '../../mqtt-gateway/protocol/chain-trust.ts'
import type { DecisionLine } from '../../mqtt-gateway/protocol/decision-log.ts'
import { boxesHash, epochKeyHash } from '../../mqtt-gateway/protocol/epoch-boxes.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { aedesBroker } from '../../mqtt-gateway/server/aedes-broker.ts'
import { memoryBoxStore } from '../../mqtt-gateway/server/boxes.ts'
import type { BrokerAddress } from '../../mqtt-gateway/server/broker.ts'
import { Gateway } from '../../mqtt-gateway/server/gateway.ts'
import { testLimits, until } from '../support/gateway-fixture.ts'
import { type ServedDevnet, serveDevnet } from '../support/served-devnet.ts'
import { keysOf } from '../support/test-chain.ts'

const [owner, member, keyless] = [keysOf('owner'), keysOf('member'), keysOf('keyless')]
const papers = ['1111', '1112', '1113', '1114'].map(name => keysOf(name))
const everybody = [owner, member, keyless, ...papers]
const group = groupIdOf(owner.id, 'pumps')

let devnet: ServedDevnet
let client: ChainClient
let gateway: Gateway
let decisions: DecisionLine[]
let address: BrokerAddress
let stop: () => Promise<unknown>

beforeEach(async () => {
  // Blocks of the chain are a second apart: some room before its time passes the clock's.
  const startTime = Date.now() - 45_000
  devnet = await serveDevnet({ devices: everybody.map(({ name }) => name), startTime })
  const { chain, sources } = devnet
  client = await ChainClient.open({ sources, checkpoint: chain.checkpoint, waitMs: 500 })
  await client.follower.sync()
  const stopping = new AbortController()
  const run = client.follower.run(stopping.signal)
  stop = () => {
    stopping.abort()
    return run
  }
  decisions = []
  gateway = new Gateway({
    trust: chainTrust(client.records, client.pool),
    verifier: nativeVerifier,
    broker: aedesBroker({ host: '127.0.0.1', port: 0 }, testLimits),
    boxes: memoryBoxStore(),
    log: { write: line => decisions.push(line), close: async () => {} },
    trustTtlMs: 60_000,
    onError: error => {
      throw error
    },
  })
  address = await gateway.start()
  const mqtt = { ...address }
  await devnet.describe({ gateway: { name: 'gateway', id: owner.id, mqtt }, trustTtlMs: 60_000 })
  for (const keys of everybody) await devnet.keep(keys)
})
afterEach(async () => {
  await stop()
  await gateway.stop()
  await devnet[Symbol.asyncDispose]()
})

/** The command that makes the group, with both others as members. */
async function create() {
  const args = ['create', 'pumps', member.name, keyless.name, '--from', owner.name, '--json']
  const { code, stdout, notes } = await devnet.mote('group', ...args)
  expect(code, notes).toBe(0)
  return { epoch: JSON.parse(stdout).epoch as number, notes }
}

async function listening(name: string) {
  const command = devnet.begin('device', 'listen', name)
  await until(() => command.notes.includes('listening'), `${name} listens`)
  return command
}

test('a member without a key to seal to is left out: the command says whom and why, and the member that it cannot read', async () => {
  const record = (await client.records.device(keyless.id)).value!
  const key = keyIdOf(keyless.encryption.publicKey)
  devnet.chain.perform(keyless, {
    type: 'key.revoke',
    subject: keyless.id,
    expectedVersion: record.version,
    key,
  })
  const created = await create()
  expect(created.notes.trimEnd().split('\n')).toEqual([
    `group ${group}: no key of the new epoch for ${keyless.id}: key: expected a valid encryption key to seal to, got none`,
  ])
  const [reads, cannot] = [await listening(member.name), await listening(keyless.name)]
  const sent = await devnet.mote('device', 'send', 'pump 2 off', '--group', 'pumps', '--from', owner.name)
  expect(sent.code, sent.notes).toBe(0)
  expect(sent.stdout).toMatch(/^Check/)
  expect(sent.notes).toBe('')
  await until(() => reads.stdout !== '', 'the other member reads it')
  expect(reads.stdout).toBe('owner → pumps: pump 2 off\n')
  await until(() => cannot.notes.includes('refused'), 'it says so')
  expect(cannot.notes).toMatch(/^refused: cannot-open: /m)
  expect(cannot.stdout).toBe('')
  for (const command of [reads, cannot]) command.interrupt()
  await Promise.all([reads.ended, cannot.ended])
})

test('a box that does not open is refused aloud by its member', async () => {
  expect(await create()).toMatchObject({ epoch: 1, notes: '' })
  const listens = await listening(member.name)
  const chain = agentChain(client, owner)
  await chain.refresh()
  const { value } = await chain.group(group)
  const name = { chainId: chain.chainId, group, epoch: value!.record.epoch + 1 }
  const epochKey = Uint8Array.from(randomBytes(32))
  // Sealed to another key than the member's.
  const members = [owner, { ...member, encryption: owner.encryption }]
  const { boxes } = unwrap(
    await sealEpochKey(
      name,
      epochKey,
      members.map(({ id, encryption }) => ({ id, key: encryption.publicKey })),
    ),
  )
  await chain.rekey({
    group: value!,
    epochKeyHash: epochKeyHash(name, epochKey),
    boxesHash: boxesHash(boxes),
  })
  const connection = await MqttConnection.open({
    gateway: address,
    chainId: chain.chainId,
    device: owner.id,
    signer: signerOf(owner),
    now: () => chain.now(),
    timeoutMs: 3_000,
  })
  await connection.publish(topics.boxes(group), boxes)
  await until(() => listens.notes.includes('refused'), 'it says so')
  expect(listens.notes).toMatch(
    new RegExp(`^box refused: cannot-open: box of group ${group}, epoch 2: `, 'm'),
  )
  await connection.close()
  listens.interrupt()
  await listens.ended
})

test('listen --raw: without the right to observe a refusal that says so, with it what is delivered, sealed, and an answer to each ballot', async () => {
  await create()
  const refused = await devnet.mote('device', 'listen', 'member', '--raw')
  expect(refused.code).toBe(4)
  expect(refused.stdout).toBe('')
  expect(refused.notes).toContain('has no right to observe')
  expect(refused.notes).toContain('mote device rights member --observe')
  expect((await devnet.mote('device', 'rights', 'member', '--observe')).code).toBe(0)
  const raw = devnet.begin('device', 'listen', 'member', '--raw', '--count', '4')
  await until(() => raw.notes.includes('listening'), 'it listens')
  const secret = 'the pumps are off'
  expect((await devnet.mote('device', 'send', 'keyless', secret, '--from', 'owner')).code).toBe(0)
  expect((await devnet.mote('device', 'send', secret, '--group', 'pumps', '--from', 'member')).code).toBe(0)
  // It has a copy of each key before it is asked, as any device that listens.
  const copies = join(devnet.directory, 'devices', 'member', 'contacts.json')
  await until(() => existsSync(copies) && readFileSync(copies, 'utf8').includes(keyless.id), 'its copies')
  const voted = await devnet.mote(
    ...['device', 'send', 'keyless', secret, '--from', 'owner', '--vote', '--json'],
  )
  expect(JSON.parse(voted.stdout), voted.notes).toMatchObject({
    verdict: 'Check',
    vote: { answers: { member: 'Check', gateway: 'Check', sender: 'Check' }, objections: [] },
  })
  const { code, stdout } = await raw.ended
  expect(code).toBe(0)
  const lines = stdout.trimEnd().split('\n')
  expect(lines[0]).toMatch(/^owner → keyless {2}hpke-x25519-aes128gcm {2}\d+ bytes {2}[0-9a-f]{64}$/)
  expect(lines[1]).toMatch(
    /^member → pumps \((owner|keyless)\) {2}group-hkdf-sha256-aes256gcm {2}\d+ bytes {2}[0-9a-f]{64}$/,
  )
  expect(stdout).not.toContain(Buffer.from(secret).toString('hex'))
})

test("open topics, the papers' run (Hsu-Lu B4, B5): 1111 of topic A publishes to B, which 1113 and 1114 read and nobody else; with its copy of B's key altered, and with it absent, nothing is relayed", async () => {
  const run = async (...args: string[]) => {
    const { code, stdout, notes } = await devnet.mote(...args, '--json')
    return { code, notes, value: JSON.parse(stdout) }
  }
  const created = [
    await run('group', 'create', 'a', '1112', '--from', '1111', '--open'),
    await run('group', 'create', 'b', '1114', '--from', '1113', '--open'),
  ]
  const [, b] = created.map(({ value }) => value)
  expect(created).toMatchObject([{ code: 0 }, { code: 0 }])
  expect(b).toMatchObject({ open: true, publishers: 'any', epoch: 1, topicKeyId: expect.any(String) })
  expect((await devnet.mote('device', 'rights', 'owner', '--observe')).code).toBe(0)
  const raw = devnet.begin('device', 'listen', 'owner', '--raw', '--count', '4')
  await until(() => raw.notes.includes('listening'), 'the observer listens')
  const listens = await Promise.all(papers.map(({ name }) => listening(name)))
  const publish = (text: string) => run('device', 'send', text, '--topic', 'b', '--from', '1111')
  const words = 'the tank is full'
  expect(await publish(words)).toMatchObject({ code: 0, value: { verdict: 'Check' } })

  const contacts = join(devnet.directory, 'devices', '1111', 'contacts.json')
  const good = await readFile(contacts, 'utf8')
  const copy = JSON.parse(good).contacts[b.id]
  const other = Buffer.from(owner.encryption.publicKey.bytes).toString('hex')
  for (const [publicKey, shown] of [
    [other, keyIdOf(owner.encryption.publicKey)],
    [undefined, 'there is none'],
  ]) {
    await writeFile(contacts, JSON.stringify({ version: 1, contacts: { [b.id]: { ...copy, publicKey } } }))
    const refused = await publish('to another key')
    expect(refused).toMatchObject({ code: 5, value: { verdict: 'Error', code: 'recipient-key-mismatch' } })
    for (const key of [shown, b.topicKeyId]) expect(refused.value.reason).toContain(key)
    expect(refused.notes).toContain('mote device contact refresh --topic b --from 1111')
  }
  expect(decisions).toContainEqual(
    expect.objectContaining({
      recipient: b.id,
      mismatch: { inEnvelope: keyIdOf(owner.encryption.publicKey), onChain: b.topicKeyId },
    }),
  )
  const log = await readFile(join(devnet.directory, 'devices', '1111', 'decisions.1.log'), 'utf8')
  expect(JSON.parse(log)).toMatchObject({ recipient: b.id, mismatch: { onChain: b.topicKeyId } })
  const refreshed = await run('device', 'contact', 'refresh', '--topic', 'b', '--from', '1111')
  expect(refreshed).toMatchObject({ code: 0, value: { keyId: b.topicKeyId, changed: true } })

  expect(await publish('and now it is not')).toMatchObject({ code: 0 })
  const read = ['1111 → b: the tank is full', '1111 → b: and now it is not', ''].join('\n')
  await until(() => listens.slice(2).every(({ stdout }) => stdout === read), '1113 and 1114 read both')
  expect(listens.slice(0, 2).map(({ stdout }) => stdout)).toEqual(['', ''])
  const { stdout } = await raw.ended
  const lines = stdout.trimEnd().split('\n')
  expect(lines).toHaveLength(4)
  for (const line of lines)
    expect(line).toMatch(/^1111 → b \(111[34]\) {2}hpke-x25519-aes128gcm {2}\d+ bytes {2}[0-9a-f]{64}$/)
  expect(stdout).not.toContain(Buffer.from(words).toString('hex'))
  const listed = (await run('group', 'list')).value.groups
  const holders = ['1113', '1114'].map(name => expect.objectContaining({ name }))
  expect(listed, 'the topic list (Table 2)').toContainEqual(
    expect.objectContaining({
      name: 'b',
      topicKeyId: b.topicKeyId,
      holders: expect.arrayContaining(holders),
    }),
  )
  for (const command of listens) command.interrupt()
  await Promise.all(listens.map(({ ended }) => ended))
})

test('open topics: for the members of a group alone; --publishers without --open, and --topic with --group, are wrong usage', async () => {
  await create()
  const made = await devnet.mote(
    'group',
    'create',
    'b',
    '--from',
    'owner',
    '--open',
    '--publishers',
    'pumps',
    '--json',
  )
  expect(JSON.parse(made.stdout)).toMatchObject({ open: true, publishers: 'pumps' })
  const publish = (from: string) =>
    devnet.mote('device', 'send', 'x', '--topic', 'b', '--from', from, '--json')
  expect((await publish('1111')).stdout).toContain('not-member')
  expect(JSON.parse((await publish('member')).stdout)).toMatchObject({ verdict: 'Check' })
  const usage = [
    ['group', 'create', 'c', '--from', 'owner', '--publishers', 'pumps'],
    ['device', 'send', 'x', '--topic', 'b', '--group', 'b', '--from', 'owner'],
    ['device', 'send', 'x', '--topic', 'b', '--vote', '--from', 'owner'],
    ['device', 'contact', 'refresh', '1112', '--topic', 'b', '--from', 'owner'],
  ]
  for (const args of usage) expect((await devnet.mote(...args)).code, args.join(' ')).toBe(2)
})
