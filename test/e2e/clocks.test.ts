/**
 * Wrong wall clocks in real processes: one full node's while it follows and while it leads, the gateway's with the chain cut
 * off, a light node's, and that of the machine that a command runs on. `mote chaos clock` sets them, under the running process.
 */
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import mqtt from 'mqtt'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ChainId } from '../../chain/brands.ts'
import { signerFromSeed } from '../../chain/noble-crypto.ts'
import type { ChainClient } from '../../client/chain-client.ts'
import type { NodeStatus } from '../../client/chain-source.ts'
import { pause } from '../../client/deadline.ts'
import { httpContact, joinPatiently } from '../../client/join.ts'
import { type IdentityKeys, makeKeys } from '../../client/key-directory.ts'
import { operatorAccess } from '../../client/operator-access.ts'
import { grant } from '../../client/operator-actions.ts'
import { fullNodesOf, nodeStatusOf, rolesOf } from '../../devnet/chaos/faults.ts'
import { askControl } from '../../devnet/control.ts'
import { apiUrl, layout } from '../../devnet/layout.ts'
import type { ProcessStatus } from '../../devnet/process-status.ts'
import { parseClockOffset } from '../../devnet/shifted-clock.ts'
import type { DeviceAgent } from '../../mqtt-gateway/device/agent.ts'
import { topics } from '../../mqtt-gateway/protocol/topics.ts'
import { DevnetFixture, type PrintedLogin } from '../support/devnet-fixture.ts'
import { sentText } from '../support/gateway-fixture.ts'
import { MoteCommand, runMote } from '../support/mote-command.ts'
import { sealedMessage } from '../support/sealed-message.ts'

/** The same offsets as in test/unit/node/block-time.test.ts. */
const shifts = ['+70s', '-70s', '+1h', '-1h', '+400d'] as const
const deadlineMs = 60_000
/** What the voters' clocks may differ by on one machine, and what a block takes at most on a busy one. */
const aheadMs = 1_000
const behindMs = 30_000
/** The supervisor asks every process for this. */
const askAllMs = 250

let devnet: DevnetFixture
let client: ChainClient
let operator: IdentityKeys
const following = new AbortController()
const agents: DeviceAgent[] = []

beforeAll(async () => {
  devnet = await DevnetFixture.start('clocks', ['--lightweight', '1', '--devices', '2'])
  client = await devnet.client()
  void client.follower.run(following.signal)
  operator = await devnet.operator()
})
afterAll(async () => {
  await Promise.all(agents.map(agent => agent.close()))
  following.abort()
  await devnet.stop()
})

/** Asks until it is so. */
async function until(what: string, holds: () => boolean | Promise<boolean>, everyMs = 20): Promise<void> {
  const deadline = performance.now() + deadlineMs
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not within ${deadlineMs} ms: ${what}`)
    await pause(everyMs)
  }
}

const control = (request: Parameters<typeof askControl>[1]) =>
  askControl(devnet.description.controlSocket, request)
const shift = (node: string, text: string) =>
  control({ command: 'clock', node, offsetMs: parseClockOffset(text) })

async function agentOf(name: string): Promise<DeviceAgent> {
  const agent = await devnet.agent(client, name)
  agents.push(agent)
  return agent
}

/** An mqtt.js client with what `mote device credentials` has printed. */
function connect(login: PrintedLogin): Promise<mqtt.MqttClient> {
  return mqtt.connectAsync({ ...login, protocolVersion: 4, reconnectPeriod: 0 })
}

/** A newcomer joins through the coordination node, by a grant of its own. Returns its id. */
async function joinNewcomer(): Promise<string> {
  const token = signerFromSeed('ed25519', Uint8Array.from(randomBytes(32)))
  await grant(client, operator, { tokenKey: token.publicKey })
  const contacts = devnet.description.nodes
    .filter(({ label }) => label === 'coordination')
    .map(({ api }) => httpContact(apiUrl(api)))
  const profile = { connectionLifetime: 'days', cores: 1, memoryMebibytes: 1, storageMebibytes: 1 } as const
  const newcomer = { keys: makeKeys('newcomer'), label: 'lightweight', profile, token } as const
  return (await joinPatiently(client, newcomer, contacts, AbortSignal.timeout(deadlineMs))).id
}

const fullNodes = () => fullNodesOf(devnet.description)
const apiOf = (name: string) => fullNodes().find(node => node.name === name)!.source.name

/** Hands leadership to this node unless it leads; returns the term. */
async function lead(name: string): Promise<number> {
  const deadline = performance.now() + deadlineMs
  for (;;) {
    const { leader, term } = await rolesOf(fullNodes())
    if (leader === name) return term
    const { id } = devnet.description.nodes.find(node => node.name === name)!
    if (leader !== undefined)
      await fetch(`${apiOf(leader)}/v1/transfer`, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${(await operatorAccess(layout.nodeData(devnet.directory, leader))).token}`,
          'content-type': 'application/json',
        },
        body: JSON.stringify({ to: id }),
      })
    if (performance.now() > deadline) throw new Error(`${name} does not lead: ${leader} in term ${term}`)
  }
}

/** Does `work` while this node leads, from beginning to end: elections come when a machine is busy. */
async function whileLeading(name: string, work: () => Promise<void>): Promise<void> {
  for (let attempt = 0; attempt < 5; attempt++) {
    const term = await lead(name)
    await work()
    const after = await rolesOf(fullNodes())
    if (after.leader === name && after.term === term) return
  }
  throw new Error(`${name} did not lead through one attempt of five`)
}

/** Until status, `/readyz` and log of this node name its own clock. */
async function untilNamedByItself(name: string, offsetMs: number, logFrom: number): Promise<void> {
  const { id } = devnet.description.nodes.find(node => node.name === name)!
  const names = (odd: NodeStatus['oddClocks']): boolean =>
    odd?.length === 1 && odd[0]!.id === id && Math.abs(odd[0]!.offsetMs - offsetMs) < 30_000
  const node = fullNodes().find(each => each.name === name)!
  await until('its status names it', async () => names((await nodeStatusOf(node))?.oddClocks))
  const ready = await fetch(`${apiOf(name)}/readyz`)
  expect(ready.status).toBe(200)
  expect(await ready.json()).toMatchObject({ status: 'ready', oddClocks: [{ id }] })
  const line = () =>
    readFileSync(layout.nodeLog(devnet.directory, name), 'utf8')
      .slice(logFrom)
      .split('\n')
      .find(text => text.includes('the clock of a node is wrong') && text.includes(id))
  await until('its log names it', () => line() !== undefined)
}

describe('one full node with a wrong clock', () => {
  /** The node that the gateway and the client ask first. */
  const odd = 'full-1'
  let sender: DeviceAgent
  const received: string[] = []

  beforeAll(async () => {
    sender = await agentOf('1111')
    await (await agentOf('1112')).listen({
      message: message => void received.push(new TextDecoder().decode(message.content)),
    })
  })

  const follows = (work: () => Promise<void>) => whileLeading('full-2', work)
  const leads = (work: () => Promise<void>) => whileLeading(odd, work)

  test.each([
    ['follows', follows],
    ['leads', leads],
  ])('that %s: messages and joins go on, block time stays, and it is named', async (role, during) => {
    for (const text of shifts)
      await during(async () => {
        const offsetMs = parseClockOffset(text)
        const logFrom = readFileSync(layout.nodeLog(devnet.directory, odd), 'utf8').length
        await shift(odd, text)
        await untilNamedByItself(odd, offsetMs, logFrom)
        const before = Date.now()
        const id = await joinNewcomer()
        const { time } = client.follower.head.header
        expect(time, `${role}, ${text}`).toBeGreaterThan(before - behindMs)
        expect(time, `${role}, ${text}`).toBeLessThan(Date.now() + aheadMs)
        const message = `${role} ${text} ${id}`
        const verdict = await sender.send((await devnet.keys('1112')).id, sentText(message))
        expect(verdict, message).toMatchObject({ verdict: 'Check' })
        await until('the recipient reads it', () => received.includes(message))
        await shift(odd, '0')
        const node = fullNodes().find(each => each.name === odd)!
        await until('it is right again', async () => (await nodeStatusOf(node))?.oddClocks?.length === 0)
      })
  })

  test('mote chaos clock: devnet status says who names it; it is kept over a restart, and heal sets it right', async () => {
    expect(await devnet.mote('chaos', 'clock', 'full-9', '+1h')).toMatchObject({ code: 3 })
    expect(await devnet.json('chaos', 'clock', odd, '-70s')).toMatchObject({
      code: 0,
      value: { node: odd, pid: expect.any(Number), offsetMs: -70_000 },
    })
    expect((await devnet.mote('chaos', 'restart', odd)).code).toBe(0)
    const rows = async () => ((await control({ command: 'status' })) as ProcessStatus).nodes
    const fullRows = async () => (await rows()).filter(({ label }) => label === 'full')
    const namedByAll = async () =>
      (await fullRows()).every(
        ({ oddClocks }) => oddClocks[0]?.node === odd && oddClocks[0].offsetMs < -60_000,
      )
    await until('every full node names it', namedByAll, askAllMs)
    const { stdout } = await devnet.mote('devnet', 'status')
    expect(stdout).toContain(`clock of ${odd}: shifted by -70 s\n`)
    expect(stdout).toMatch(/clock of full-1: \d+\.\d s behind, says full-1, full-2, full-3\n/)
    expect((await devnet.mote('chaos', 'heal')).code).toBe(0)
    const namedByNone = async () => (await fullRows()).every(({ oddClocks }) => oddClocks.length === 0)
    await until('nobody names it', namedByNone, askAllMs)
    expect((await rows()).every(({ clockOffsetMs }) => clockOffsetMs === 0)).toBe(true)
  })
})

describe('a device with a wrong clock, or without one', () => {
  /** The environment of a command on a machine whose clock is off. */
  const machine = (offsetMs: number) => ({
    MOTE_DIR: devnet.directory,
    NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(
      `const right=Date.now;Date.now=()=>right()+${offsetMs}`,
    )}`,
  })

  test.each(['+70s', '-1h', '+400d'])(
    'credentials made %s off open a connection: they go by the chain',
    async text => {
      const command = ['device', 'credentials', '1111', '--json']
      const { code, stdout, stderr } = await runMote(command, machine(parseClockOffset(text)))
      expect(code, stderr).toBe(0)
      const connection = await connect(JSON.parse(stdout))
      await connection.endAsync(true)
    },
  )

  test('listen: an hour behind every message is refused as stale; with --no-clock it is read', async () => {
    const to1112 = (await devnet.keys('1112')).id
    const listening = async (options: readonly string[], said: (command: MoteCommand) => boolean) => {
      const command = new MoteCommand(['device', 'listen', '1112', ...options], machine(-3_600_000))
      try {
        await command.untilSays('listening')
        expect(await agents[0]!.send(to1112, sentText('still here'))).toMatchObject({ verdict: 'Check' })
        await until('it says so', () => said(command))
      } finally {
        command.process.kill('SIGINT')
        await command.ended
      }
    }
    // The agent of an earlier test listens for this device: one process may.
    await agents.pop()!.close()
    await listening([], ({ stderr }) => stderr.includes('refused: stale: '))
    await listening(['--no-clock'], ({ stdout }) => stdout.includes('1111 → still here'))
  })

  test('a light node 400 days behind is stale; configured without a clock it is ready', async () => {
    const name = 'lightweight-1'
    const { api } = devnet.description.nodes.find(node => node.name === name)!
    const ready = async () => {
      const answer = await fetch(`${apiUrl(api)}/readyz`).catch(() => undefined)
      return answer && ((await answer.json()) as { status: unknown; code?: string })
    }
    await until('it is ready', async () => (await ready())?.status === 'ready')
    await shift(name, '-400d')
    await until('it is stale', async () => (await ready())?.code === 'stale')
    const file = layout.nodeConfig(devnet.directory, name)
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), clock: 'none' }))
    await control({ command: 'restart', node: name })
    await until('it is ready', async () => (await ready())?.status === 'ready')
    expect(((await control({ command: 'status' })) as ProcessStatus).nodes.at(-1)).toMatchObject({
      name,
      clockOffsetMs: parseClockOffset('-400d'),
    })
  })
})

test("the chain cut off: the gateway closes after trustTtl by steady time, whatever the leader's clock and its own were set to, refuses all, and recovers", async () => {
  await Promise.all(agents.splice(0).map(agent => agent.close()))
  const { trustTtlMs, gateway } = devnet.description
  const { leader } = await rolesOf(fullNodes())
  await shift(leader!, '+1h')
  // Within the bound in which a header may be ahead of a clock: by the wall clock alone it would close 4 s too late.
  await shift(gateway.name, '-4s')
  await joinNewcomer()
  const credentials = () => devnet.credentials('1112')
  const [from, to] = [await devnet.keys('1112'), await devnet.keys('1111')]
  const sender = await connect(await credentials())
  const closed = new Promise<void>(resolve => sender.once('close', () => resolve()))
  const verdicts: { readonly verdict: string; readonly code?: string; readonly ageMs: number }[] = []
  sender.on('message', (_topic, payload) => verdicts.push(JSON.parse(payload.toString('utf8'))))
  await sender.subscribeAsync(topics.verdict(from.id), { qos: 1 })
  const send = async () => {
    const counter = verdicts.length
    const bytes = await sealedMessage(devnet.description.chainId as ChainId, { from, to }, { counter })
    sender.publish(topics.send(from.id), Buffer.from(bytes), { qos: 1 }, () => {})
    await until('a verdict', () => verdicts.length > counter)
    return verdicts[counter]!
  }
  expect(await send()).toMatchObject({ verdict: 'Check' })
  const nodes = fullNodes().map(({ name }) => name)
  const paused = await Promise.all(nodes.map(node => devnet.mote('chaos', 'pause', node)))
  expect(paused.map(({ code }) => code)).toEqual([0, 0, 0])
  const cutAt = performance.now()
  try {
    for (;;) {
      const sentAt = performance.now()
      expect(sentAt - cutAt, 'it closes at all').toBeLessThan(deadlineMs)
      const { verdict, code, ageMs } = await send()
      if (verdict === 'Error') {
        expect(code).toBe('stale')
        expect(ageMs).toBeGreaterThan(trustTtlMs)
        break
      }
      expect(sentAt - cutAt, 'it takes nothing after trustTtl').toBeLessThan(trustTtlMs + 1_000)
      // The age is told a moment after it was judged.
      expect(ageMs).toBeLessThan(trustTtlMs + 500)
      await pause(200)
    }
    await closed
    const turnedAway = async (its: string) =>
      expect(connect(await credentials()), its).rejects.toMatchObject({ code: 3 })
    const [sent, trust] = await Promise.all([
      devnet.json('device', 'send', '1112', 'stale', '--from', '1111'),
      devnet.mote('device', 'trust', '1112', '--timeout', '3'),
      turnedAway('server unavailable'),
    ])
    expect(sent).toMatchObject({
      code: 5,
      value: { verdict: 'Error', code: 'stale', reason: expect.any(String), messageId: null },
    })
    expect(trust.code).not.toBe(0)
    for (const text of ['-1h', '+1h', '0']) {
      await shift(gateway.name, text)
      await turnedAway(`its clock set to ${text}`)
    }
  } finally {
    await Promise.all(nodes.map(node => devnet.mote('chaos', 'resume', node)))
  }
  const again = async () =>
    (await devnet.mote('device', 'send', '1112', 'again', '--from', '1111')).code === 0
  await until('it recovers', again, askAllMs)
})
