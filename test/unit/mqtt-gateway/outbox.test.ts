/** What an agent sends until its recipient has confirmed it. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { DeviceId, Milliseconds } from '../../../chain/brands.ts'
import { type Refusal, unwrap } from '../../../chain/result.ts'
import { MessageStore } from '../../../client/message-store.ts'
import {
  type MessageNumber,
  PendingConfirmations,
  parseChannel,
} from '../../../mqtt-gateway/agent/confirmations.ts'
import { defaultOutboxLimits, Outbox } from '../../../mqtt-gateway/agent/outbox.ts'
import type { DeviceAgent } from '../../../mqtt-gateway/device/agent.ts'

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
  sent: (confirm: () => void) => Promise<void>,
  waiting: (confirm: () => void, reason: Refusal) => void,
): Promise<Outbox> {
  const confirmations = new PendingConfirmations()
  let last: MessageNumber
  const confirm = () => confirmations.arrived(recipient, last)
  const agent = {
    ended: new Promise<never>(() => {}),
    seal: async (_: unknown, { channel }: { readonly channel: string }) => {
      const use = parseChannel(channel)
      if (use?.type === 'ask') last = use.number
      return { type: 'sealed', envelope: { bytes: new Uint8Array(1), messageId: 'b2'.repeat(32) } }
    },
    relay: async () => {
      await sent(confirm)
      return { verdict: 'Check' }
    },
  } as unknown as DeviceAgent
  const outbox = await Outbox.open({
    store,
    prefix: 'a/',
    limits: defaultOutboxLimits,
    link: { agent: async () => agent, renew: async () => {} },
    confirmations,
    confirmationWaitMs: 20,
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
