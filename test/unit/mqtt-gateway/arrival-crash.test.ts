/** What arrives is on the disk before its counter is used up: a recipient that ends at any step has each message once, when it comes again. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Hash, Milliseconds } from '../../../chain/brands.ts'
import { nobleVerifier } from '../../../chain/noble-crypto.ts'
import { makeKeys } from '../../../client/key-directory.ts'
import { MessageStore } from '../../../client/message-store.ts'
import { Inbox } from '../../../mqtt-gateway/agent/inbox.ts'
import type { EpochKeys } from '../../../mqtt-gateway/device/agent-epochs.ts'
import { arrivals } from '../../../mqtt-gateway/device/arrivals.ts'
import { DecryptionKeys } from '../../../mqtt-gateway/device/decryption-key.ts'
import { KeptTransfers } from '../../../mqtt-gateway/device/kept-transfers.ts'
import { Listener, type TakeMessage } from '../../../mqtt-gateway/device/listener.ts'
import { ListeningPlace } from '../../../mqtt-gateway/device/listening-place.ts'
import { MemoryTrust } from '../../support/memory-trust.ts'
import { sealedMessage } from '../../support/sealed-message.ts'

const alice = makeKeys('alice')
const bob = makeKeys('bob')
const hourMs = 3_600_000

let trust: MemoryTrust
let directory: string
beforeEach(async () => {
  trust = new MemoryTrust()
  for (const keys of [alice, bob]) trust.register(keys)
  directory = await mkdtemp(join(tmpdir(), 'mote-arrival-'))
})
afterEach(() => rm(directory, { recursive: true }))

/** Where a recipient ends. */
type Step = 'before the inbox' | 'after the inbox' | 'after the window' | 'never'

const keptMessage = (counter: number, channel: string): Promise<Uint8Array> =>
  sealedMessage(
    trust.chainId,
    { from: alice, to: bob },
    {
      counter,
      keepUntil: (Date.now() + hourMs) as Milliseconds,
      channel,
      content: new TextEncoder().encode(`${counter}`),
    },
  )

/** One run of the recipient, from its disk: gets what the gateway has, ends at a step, and says what it acknowledged and its application took. */
async function run(
  waiting: readonly Uint8Array[],
  end: Step,
  laterMs = 0,
): Promise<{ readonly acknowledged: readonly Hash[]; readonly taken: readonly string[] }> {
  const store = await MessageStore.open(join(directory, 'queues'))
  const place = await ListeningPlace.take(directory, trust.head().time)
  const inbox = await Inbox.open({
    store,
    prefix: 'bob/',
    limits: { messages: 10, bytes: 1_000_000, ageMs: hourMs },
    now: () => (trust.now() + laterMs) as Milliseconds,
    onDropped: ({ detail }) => expect.unreachable(detail),
  })
  const acknowledged: Hash[] = []
  const taken: string[] = []
  const dies = (step: Step) => {
    if (step === end) throw new Error(`ended ${step}`)
  }
  const take: TakeMessage = async message => {
    dies('before the inbox')
    await inbox.accept(message)
    dies('after the inbox')
  }
  const done = waiting.map(() => Promise.withResolvers<void>())
  const listener = new Listener({
    device: bob.id,
    decryptionKeys: new DecryptionKeys(bob),
    chain: trust,
    place,
    kept: await KeptTransfers.open(place.chunkDirectory),
    epochs: {} as EpochKeys,
    verifier: nobleVerifier,
    trustTtlMs: 60_000,
  })
  const receiving = arrivals({
    chainId: trust.chainId,
    listener: {
      receive: async (...asked: Parameters<Listener['receive']>) => {
        try {
          const received = await listener.receive(...asked)
          dies('after the window')
          return received
        } finally {
          setImmediate(() => done.shift()?.resolve())
        }
      },
    } as Listener,
    handlers: { message: take, settled: message => inbox.settled(message) },
    acknowledge: messageId => acknowledged.push(messageId),
  })
  const all = done.map(({ promise }) => promise)
  for (const each of waiting) receiving(each)
  await Promise.all(all)
  if (end === 'never') {
    inbox.handle(({ content }) => void taken.push(new TextDecoder().decode(content)))
    while (inbox.count > 0) await new Promise(resolve => setImmediate(resolve))
  }
  await inbox.close(1_000)
  await place.release()
  await store.close()
  return { acknowledged, taken }
}

test.each([
  ['before the inbox', ''],
  ['after the inbox', ''],
  ['after the window', ''],
  ['after the inbox', 'mote.ask/0a1b2c3d/1'],
] as const)('arrival: a recipient that ends %s has a message once (channel "%s")', async (end, channel) => {
  const first = await keptMessage(1, channel)
  const ended = await run([first], end)
  expect(ended.acknowledged).toEqual([])
  // It ends there a second time, and the gateway has one more for it.
  await run([first], end)
  const second = await keptMessage(2, channel && 'mote.ask/0a1b2c3d/2')
  const { acknowledged, taken } = await run([first, second], 'never')
  expect(acknowledged).toHaveLength(2)
  expect(taken).toEqual(['1', '2'])
  // A gateway that hands it all out again gets the same acknowledgements, and the application nothing.
  expect(await run([first, second], 'never')).toEqual({ acknowledged, taken: [] })
})

test('arrival: ids of what cannot come again do not stay on the disk', async () => {
  const bytes = await Promise.all([1, 2, 3, 4].map(counter => keptMessage(counter, '')))
  await run(bytes, 'never')
  const store = await MessageStore.open(join(directory, 'queues'))
  expect(await store.all('bob/taken/')).toHaveLength(1)
  await store.close()
  await run([], 'never', 2 * hourMs)
  const later = await MessageStore.open(join(directory, 'queues'))
  expect(await later.all('bob/taken/')).toEqual([])
  await later.close()
})
