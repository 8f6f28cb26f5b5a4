/** What a gateway and its devices have in common beside a broker that others wrote: topics, passwords, claims, files. */
import { expect, test, vi } from 'vitest'
import type { ChainId, DeviceId, StateKey } from '../../../chain/brands.ts'
import { MoteError } from '../../../chain/result.ts'
import { type EncryptionKeyKind, makeEncryptionKeys } from '../../../client/encryption-keys.ts'
import { type IdentityKeys, makeKeys } from '../../../client/key-directory.ts'
import { nativeVerifier } from '../../../client/native-crypto.ts'
import { accountPassword, gatewaySecret } from '../../../mqtt-gateway/protocol/account-password.ts'
import {
  allShards,
  parsePresence,
  parseShardedTopic,
  parseShards,
  presenceTopic,
  shardedTopic,
} from '../../../mqtt-gateway/protocol/sharded-topics.ts'
import { topics } from '../../../mqtt-gateway/protocol/topics.ts'
import { answerTopic } from '../../../mqtt-gateway/server/answers.ts'
import { AttachedDevices } from '../../../mqtt-gateway/server/attached-devices.ts'
import { accessRules } from '../../../mqtt-gateway/server/mosquitto-files.ts'
import { Sessions } from '../../../mqtt-gateway/server/sessions.ts'
import { type ShardClaim, ShardClaims } from '../../../mqtt-gateway/server/shard-claims.ts'
import { MemoryTrust } from '../../support/memory-trust.ts'
import { permissive } from '../../support/open-broker.ts'

const device = 'a1'.repeat(32) as DeviceId
const other = 'b2'.repeat(32) as DeviceId
const gateway = 'c3'.repeat(32) as DeviceId
const chainId = 'c4'.repeat(32) as ChainId
const group = 'd5'.repeat(32)

test.each([
  topics.send(device),
  topics.ask(device),
  topics.watch(device),
  topics.vote(device),
  topics.check(device),
  topics.got(device),
  topics.record(device),
  topics.report(device, 'forest/north'),
  topics.boxes(group as never),
  'building/7/light',
])('sharded topic: %s comes back with the device that published it', topicName => {
  const sharded = shardedTopic(topicName, device)
  expect(sharded.split('/').slice(3, 5)).toEqual(['a', device])
  expect(parseShardedTopic(sharded)).toEqual({ type: 'published', device, topicName })
})

test.each([
  ['a wrong shard', `mote/1/send/b/${device}`],
  ['no device', 'mote/1/send/a/abc'],
  ['more levels', `mote/1/send/a/${device}/x`],
  ['boxes of no group', `mote/1/boxes/a/${device}`],
  ['a kind that is a gateway’s', `mote/1/verdict/a/${device}`],
  ['a plain topic without a name', `mote/1/plain/a/${device}`],
  ['a plain topic of the broker’s own', `mote/1/plain/a/${device}/$CONTROL/dynamic-security/v1`],
  ['a plain topic that is none', `mote/1/plain/a/${device}/mote/1/send/${other}`],
  ['a report without a topic', `mote/1/report/a/${device}`],
  ['a record with more levels', `mote/1/record/a/${device}/x`],
  ['a report under its name at the embedded broker', `mote/1/plain/${device}/hall`],
  ['a place with other characters', `mote/1/here/a/${device}/x-y`],
  ['another version', `mote/2/send/a/${device}`],
])('sharded topic: %s is nothing', (_, topicName) => {
  expect(parseShardedTopic(topicName)).toBeUndefined()
})

test('presence: what a connection says, and what it does not', () => {
  expect(parseShardedTopic(presenceTopic(device, 'p1'))).toEqual({ type: 'presence', device, place: 'p1' })
  const texts = ['', 'connected', 'listening', 'asleep', 'connectedconnected']
  expect(texts.map(text => parsePresence(Buffer.from(text)))).toEqual([
    'gone',
    'connected',
    'listening',
    undefined,
    undefined,
  ])
})

test('shards: digits, ranges, and nothing else', () => {
  expect(parseShards('0-f')).toEqual(allShards)
  expect(parseShards('c,0-2,1')).toEqual(['0', '1', '2', 'c'])
  expect(['', '0-', 'g', '3-1', '10', '0-3-5', 'A'].map(parseShards)).toEqual(Array(7).fill(undefined))
})

function passwords(gatewayKind: EncryptionKeyKind, deviceKind: EncryptionKeyKind) {
  const [atGateway, atDevice] = [gatewayKind, deviceKind].map((kind, i) =>
    makeEncryptionKeys(kind, new Uint8Array(32).fill(i + 1)),
  ) as [ReturnType<typeof makeEncryptionKeys>, ReturnType<typeof makeEncryptionKeys>]
  const parties = {
    chainId,
    gateway: { id: gateway, key: atGateway.publicKey },
    device: { id: device, key: atDevice.publicKey },
  }
  return {
    parties,
    atDevice,
    both: [atGateway, atDevice].map(own => accountPassword({ ...parties, own })),
  }
}

// The values are of Python's cryptography (X25519, ECDH on P-256, HKDF), by docs/FORMATS.md alone.
test.each([
  ['x25519', 'uJzYdPMODl5jfr8DRHkkBWEq33l2VC6stmOj8bDZv7o'],
  ['p256', 'llO6uSrOAbcc0ZQFD9i9ln_4FTk3nKvvJqYcXUdGLRQ'],
] as const)('account password: both ends derive the same 256 bits, by %s', (kind, password) => {
  const { both, parties, atDevice } = passwords(kind, kind)
  expect(both[0]).toEqual(both[1])
  expect(both[0]).toEqual({ ok: true, value: password })
  const elsewhere = accountPassword({ ...parties, device: { ...parties.device, id: other }, own: atDevice })
  expect(elsewhere).not.toEqual(both[0])
})

test.each([
  ['x25519', 'p256'],
  ['x25519', 'rsa-2048'],
  ['rsa-2048', 'rsa-2048'],
] as const)('account password: a gateway with %s and a device with %s have none', (ofGateway, ofDevice) => {
  for (const refused of passwords(ofGateway, ofDevice).both)
    expect(refused).toMatchObject({ ok: false, error: { code: 'key-not-usable' } })
})

test('account password: what the gateway logs in with is another for each name', () => {
  const keys = makeEncryptionKeys('x25519', new Uint8Array(32).fill(1))
  const secrets = ['gateway', 'accounts', 'shards'].map(name => gatewaySecret(chainId, gateway, keys, name))
  expect(new Set(secrets).size).toBe(3)
  expect(secrets).not.toContain(gatewaySecret(chainId, other, keys, 'gateway'))
})

test('answers: go where the device asked, if that is a topic of its own for answers', () => {
  const standard = topics.verdict(device)
  const to = (responseTopic: string | undefined) =>
    answerTopic(device, { responseTopic, correlationData: undefined }, standard)
  expect(to(topics.answer(device))).toBe(topics.answer(device))
  expect([undefined, topics.answer(other), `mote/1/to/${device}`, 'plain'].map(to)).toEqual(
    Array(4).fill(standard),
  )
})

const heardBy = (claims: ShardClaims, ...published: readonly ShardClaim[]) =>
  published.map(({ topicName, payload }) => claims.lostBy(topicName, payload, false))
/** Of what is retained, on another connection. */
const shownTo = (claims: ShardClaims, ...retained: readonly ShardClaim[]) => {
  claims.reconnected()
  return retained.map(({ topicName, payload }) => claims.lostBy(topicName, payload, true))
}
const isHeld = (claims: ShardClaims) => claims.has('3')

test('shard claims: a claim that is not its own and not from before its own takes the shard, once', () => {
  const [first, second] = [new ShardClaims('a'), new ShardClaims('b')]
  const earlier = second.claim('3')
  heardBy(first, earlier)
  const own = first.claim('3')
  expect(heardBy(first, own)).toEqual([undefined])
  // A broker that lost what it had not written yet shows the one before.
  expect(shownTo(first, earlier)).toEqual([undefined])
  expect(isHeld(first)).toBe(true)
  const third = new ShardClaims('b').claim('3')
  expect(heardBy(first, third, third)).toEqual(['3', undefined])
  expect(isHeld(first)).toBe(false)
  expect(first.lostBy('mote/1/shard/x', third.payload, false)).toBeUndefined()
})

test('shard claims: what the broker has lost is said again, and with it who had the shard before knows of it', async () => {
  const [first, second] = [new ShardClaims('a'), new ShardClaims('b')]
  const earlier = first.claim('3')
  heardBy(second, earlier)
  const own = second.claim('3')
  heardBy(second, own)
  for (const lost of [[earlier], []]) {
    shownTo(second, ...lost)
    expect(second.unheard.map(({ payload }) => String(payload))).toEqual([String(own.payload)])
  }
  heardBy(second, own)
  expect(second.unheard).toEqual([])
  shownTo(second, own)
  expect(second.unheard).toEqual([])
  const again = new ShardClaims('a')
  const claim = again.claim('3')
  heardBy(again, own, claim)
  expect(await claim.wasOwn).toBe(false)
})

test('shard claims: one from before its own takes the shard when it is made once more', () => {
  const claims = new ShardClaims('b')
  const earlier = new ShardClaims('a').claim('3')
  heardBy(claims, earlier, claims.claim('3'))
  expect(isHeld(claims)).toBe(true)
  expect(heardBy(claims, earlier)).toEqual(['3'])
})

test('shard claims: a store that is opened again finds out whether another gateway has had the shard since', async () => {
  const before = new ShardClaims('a').claim('3')
  const others = new ShardClaims('b').claim('3')
  const claimedAfter = async (...published: readonly ShardClaim[]) => {
    const claims = new ShardClaims('a')
    const own = claims.claim('3')
    heardBy(claims, ...published, own)
    return own.wasOwn
  }
  expect(await claimedAfter(before)).toBe(true)
  expect(await claimedAfter()).toBe(false)
  expect(await claimedAfter(before, others)).toBe(false)
  expect(await claimedAfter({ ...before, payload: Buffer.from('ab.cd') })).toBe(false)
})

test('shard claims: of two that claim at once the later one has the shard, and knows of the other', async () => {
  const [first, second] = [new ShardClaims('a'), new ShardClaims('b')]
  const [one, two] = [first.claim('3'), second.claim('3')]
  expect(heardBy(first, one, two)).toEqual([undefined, '3'])
  expect(first.unheard).toEqual([])
  expect(heardBy(second, one)).toEqual([undefined])
  expect(second.unheard.map(({ payload }) => String(payload))).toEqual([String(two.payload)])
  expect(heardBy(second, two)).toEqual([undefined])
  expect([first, second].map(isHeld)).toEqual([false, true])
  expect(await two.wasOwn).toBe(false)
})

test('access rules: an account writes to topics that name it, reads its own, and no account but the gateway’s more', () => {
  const rules = accessRules()
    .split('\n')
    .filter(line => line.startsWith('pattern'))
  expect(rules.length).toBeGreaterThan(15)
  for (const rule of rules) expect(rule).toMatch(/\/%u(?:\/#)?$/)
  expect(rules.filter(rule => rule.startsWith('pattern write')).join()).not.toMatch(
    /\/(?:to|verdict|error|box|answer)\//,
  )
})

test('account: a session from when the chain was out of reach is looked at with the next header, and then as any', async () => {
  const trust = new MemoryTrust()
  const [active, revoked] = [makeKeys('active'), makeKeys('revoked')]
  for (const keys of [active, revoked]) trust.register(keys)
  trust.setStatus(revoked.id, 'revoked')
  const sessions = new Sessions({ trust, verifier: nativeVerifier, trustTtlMs: 15_000 })
  const open = ({ id }: IdentityKeys) =>
    sessions.open({
      clientId: id,
      username: id,
      password: '',
      isPrivate: false,
      address: '',
      isAccount: true,
    })
  const review = async () => {
    const changed = new Set<StateKey>()
    return (await sessions.reviewAfter({ ...trust.head(), changed })).map(({ session }) => session.device)
  }
  trust.reachable = false
  for (const keys of [active, revoked]) expect((await open(keys)).ok).toBe(true)
  trust.reachable = true
  expect(await review()).toEqual([revoked.id])
  const { lookUps } = trust
  expect(await review()).toEqual([])
  expect([trust.lookUps, sessions.count]).toEqual([lookUps, 1])
})

test('account: a record is dropped only if its device may not publish by what the chain has now', async () => {
  const trust = new MemoryTrust()
  const [registered, strange] = [makeKeys('registered'), makeKeys('strange')]
  const sessions = new Sessions({ trust, verifier: nativeVerifier, trustTtlMs: 15_000 })
  const published: string[] = []
  const devices = new AttachedDevices({
    handlers: {
      ...permissive,
      authenticate: login => sessions.open(login),
      published: async ({ device }) => {
        published.push(device)
        return 'acknowledge'
      },
    },
    queuedPerDevice: 8,
    forget: () => {},
    onError: error => expect.unreachable(String(error)),
  })
  const message = { topicName: 't', payload: new Uint8Array(1), qos: 1 } as const
  const record = ({ id }: IdentityKeys) => devices.published(id, { ...message, asOfNow: true })
  // Not known here yet, and nobody says what the chain has now: the broker keeps it.
  const refresh = vi.spyOn(trust, 'refresh').mockRejectedValueOnce(new MoteError('unreachable', 'no node'))
  expect(await record(registered)).toBe('close')
  trust.age(60_000)
  expect(await record(registered)).toBe('close')
  expect(published).toEqual([])
  // The block in which it was registered.
  trust.ahead = () => trust.register(registered)
  expect(await record(registered)).toBe('acknowledge')
  expect(published).toEqual([registered.id])
  // A device that is not on the chain; what its device sends again is not worth a question.
  expect(await record(strange)).toBe('acknowledge')
  const asked = refresh.mock.calls.length
  expect(await devices.published(strange.id, message)).toBe('acknowledge')
  expect(refresh.mock.calls.length).toBe(asked)
  expect(published).toEqual([registered.id])
  await devices.close()
})
