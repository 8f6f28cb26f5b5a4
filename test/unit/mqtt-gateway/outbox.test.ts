/** What an agent sends until its recipient has confirmed it. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { DeviceId, Milliseconds } from '../../../chain/brands.ts'
import { type Refusal, unwrap } from '../../../chain/result.ts'
import { MessageStore } from '../../../client/message-store.ts'
import {
  type MessageNumber,
  PendingConfirmations,
  parseChannel,
} from '../../../mqtt-gateway/agent/confirmations.ts'
import { defaultOutboxLimits, Outbox, sendConfirmation } from '../../../mqtt-gateway/agent/outbox.ts'
import type { DeviceAgent } from '../../../mqtt-gateway/device/agent.ts'
import type { Recipient } from '../../../mqtt-gateway/device/message-sealing.ts'

const recipient = 'a1'.repeat(32) as DeviceId
const message = {
  to: { type: 'device', id: recipient },
  content: new Uint8Array(1),
  channel: '',
  delivery: 'received',
} as const

let directory: string
let store: MessageStore
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'mote-outbox-'))
  store = await MessageStore.open(directory)
})
afterEach(async () => {
  await store.close()
  await rm(directory, { recursive: true })
})

/** An outbox whose messages all go out. @param sent told of each attempt @param waiting told after each that was in vain */
async function outboxOf(
  sent: (confirm: () => void, to: string) => Promise<void>,
  waiting: (confirm: () => void, reason: Refusal) => void,
  { confirmationWaitMs = 20, connected = Promise.resolve() } = {},
): Promise<Outbox> {
  const confirmations = new PendingConfirmations()
  let last: MessageNumber
  const confirm = () => confirmations.arrived(recipient, last)
  const agent = {
    ended: new Promise<never>(() => {}),
    seal: async ({ id: messageId }: Recipient, { channel }: { readonly channel: string }) => {
      const use = parseChannel(channel)
      if (use?.type === 'ask') last = use.number
      return { type: 'sealed', envelope: { bytes: new Uint8Array(1), messageId } }
    },
    relay: async ({ messageId }: { readonly messageId: string }) => {
      await sent(confirm, messageId)
      return { verdict: 'Check' }
    },
  } as unknown as DeviceAgent
  const outbox = await Outbox.open({
    store,
    prefix: 'a/',
    limits: defaultOutboxLimits,
    link: { agent: () => connected.then(() => agent), renew: async () => {} },
    confirmations,
    confirmationWaitMs,
    now: () => 1_000 as Milliseconds,
    onOutcome: () => {},
    onWaiting: (_, reason) => waiting(confirm, reason),
  })
  outbox.start()
  return outbox
}

test('outbox: a confirmation that comes between two attempts is one, and nothing is sent again', async () => {
  let attempts = 0
  const outbox = await outboxOf(
    async () => {
      attempts += 1
    },
    confirm => confirm(),
  )
  const { outcome } = unwrap(await outbox.add(message))
  expect(await outcome).toMatchObject({ type: 'received' })
  expect(attempts).toBe(1)
  await outbox.close(100)
})

test('outbox: a confirmation that comes before the verdict is one', async () => {
  const outbox = await outboxOf(
    confirm => {
      confirm()
      return new Promise<never>(() => {})
    },
    () => {},
  )
  const { outcome } = unwrap(await outbox.add(message))
  expect(await outcome).toMatchObject({ type: 'received' })
  await outbox.close(100)
})

test('outbox: a wait that was over is longer the next time, of the next message too', async () => {
  const waits: string[] = []
  const outbox = await outboxOf(
    async () => {},
    (confirm, { detail }) => {
      waits.push(detail.replace(/.* within /, ''))
      if (waits.length > 1) confirm()
    },
  )
  for (let i = 0; i < 2; i++) await unwrap(await outbox.add(message)).outcome
  expect(waits).toEqual(['20 ms', '40 ms', '80 ms'])
  await outbox.close(100)
})

test('outbox: a verdict on another message that takes long lengthens the wait that is under way', async () => {
  const attempts: string[] = []
  const now = performance.now.bind(performance)
  const [connected, decided] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const other = 'c3'.repeat(32) as DeviceId
  const outbox = await outboxOf(
    async (_, to) => {
      attempts.push(to)
      if (to !== other) return
      await new Promise(resolve => setImmediate(resolve))
      vi.spyOn(performance, 'now').mockImplementation(() => now() + 15_000)
      decided.resolve()
    },
    () => {},
    { confirmationWaitMs: 200, connected: connected.promise },
  )
  await outbox.add(message)
  await outbox.add({ ...message, to: { type: 'device', id: other } })
  connected.resolve()
  await decided.promise
  // The wait of before is over, and the pause after it.
  await new Promise(resolve => setTimeout(resolve, 600))
  expect(attempts).toEqual([recipient, other])
  await outbox.close(100)
  vi.restoreAllMocks()
})

test('outbox: a confirmation is good for as long as a message, and not for a minute', async () => {
  const lifetimes: (number | undefined)[] = []
  const agent = {
    send: async (_: DeviceId, { lifetimeMs }: { readonly lifetimeMs?: number }) => {
      lifetimes.push(lifetimeMs)
      return { verdict: 'Check' }
    },
  } as unknown as DeviceAgent
  await sendConfirmation(agent, recipient, { stream: '0a1b2c3d', sequence: 1 })
  expect(lifetimes).toEqual([540_000])
})
