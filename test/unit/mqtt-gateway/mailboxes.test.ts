/** Mail for who is away, over a real directory: what is taken is on the disk, once, in order, bounded; no crash leaves half of it. */
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { DeviceId, Hash, Milliseconds } from '../../../chain/brands.ts'
import { unwrap } from '../../../chain/result.ts'
import { MessageStore } from '../../../client/message-store.ts'
import { Mailboxes, type MailboxLimits, type NewMail } from '../../../mqtt-gateway/server/mailboxes.ts'

const limits: MailboxLimits = { messagesPerDevice: 4, bytesPerDevice: 100, messagesInAll: 6, bytesInAll: 150 }
const a = 'aa'.repeat(32) as DeviceId
const b = 'bb'.repeat(32) as DeviceId
const c = 'cc'.repeat(32) as DeviceId
const idOf = (n: number) => n.toString(16).padStart(64, '0') as Hash

let root: string
let directory: string
let boxes: Mailboxes
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'mote-mail-'))
  directory = join(root, 'mail')
  boxes = await Mailboxes.open(directory, limits)
})
afterEach(async () => {
  await boxes.close()
  await rm(root, { recursive: true })
})

function mail(n: number, to: readonly DeviceId[] = [a], bytes = 10): NewMail {
  return {
    messageId: idOf(n),
    wire: new Uint8Array(bytes).fill(n),
    until: n as Milliseconds,
    isBehind: false,
    recipients: to.map(device => ({ device, box: Uint8Array.of(n, to.indexOf(device)) })),
  }
}

const numbers = (device: DeviceId, from = boxes) => from.waiting(device).map(({ until }) => until)
const codeOf = async (added: ReturnType<Mailboxes['add']>) => {
  const result = await added
  return result.ok || result.error.code
}

/** The directory as a crash leaves it now: a copy, opened while the first one is still there. */
async function afterCrash(): Promise<Mailboxes> {
  const copy = join(root, `copy-${performance.now()}`)
  await cp(directory, copy, { recursive: true, filter: path => !path.endsWith('LOCK') })
  return Mailboxes.open(copy, limits)
}

test('mailboxes: what is taken is there after a crash, in order, with the box of each recipient, until it is removed', async () => {
  await Promise.all([1, 2].map(n => boxes.add(mail(n, [a, b])).then(unwrap)))
  unwrap(await boxes.add(mail(3)))
  const crashed = await afterCrash()
  expect(numbers(a, crashed)).toEqual([1, 2, 3])
  expect(numbers(b, crashed)).toEqual([1, 2])
  expect(crashed.size).toEqual(boxes.size)
  const { wire, box } = await crashed.read(crashed.waiting(b)[1]!)
  expect([...wire, ...box!]).toEqual([...Array(10).fill(2), 2, 1])
  unwrap(await crashed.add(mail(4)))
  expect(numbers(a, crashed), 'numbers go on').toEqual([1, 2, 3, 4])
  await crashed.close()
  expect(await boxes.remove(a, idOf(2))).toBe(true)
  expect(await boxes.remove(a, idOf(2)), 'once').toBe(false)
  const later = await afterCrash()
  expect([numbers(a, later), numbers(b, later)]).toEqual([
    [1, 3],
    [1, 2],
  ])
  await later.close()
})

test('mailboxes: the last recipient takes the envelope off the disk', async () => {
  unwrap(await boxes.add(mail(1, [a, b])))
  await boxes.remove(a, idOf(1))
  expect(boxes.has(idOf(1))).toBe(true)
  await boxes.remove(b, idOf(1))
  expect(boxes.has(idOf(1))).toBe(false)
  expect(boxes.size).toEqual({ messages: 0, bytes: 0 })
  await boxes.close()
  const store = await MessageStore.open(directory)
  expect(await store.all('')).toEqual([])
  await store.close()
  boxes = await Mailboxes.open(directory, limits)
})

test('mailboxes: a write that fails leaves nothing, also not in what is counted', async () => {
  unwrap(await boxes.add(mail(1)))
  await boxes.close()
  await expect(boxes.add(mail(2))).rejects.toMatchObject({ code: 'storage-failed' })
  expect(boxes.size).toEqual({ messages: 1, bytes: 10 })
  boxes = await Mailboxes.open(directory, limits)
  expect(numbers(a)).toEqual([1])
})

test('mailboxes: more messages or bytes than one device or the gateway may have are refused to the sender', async () => {
  const four = await Promise.all([1, 2, 3, 4, 5].map(n => codeOf(boxes.add(mail(n)))))
  expect(four, 'of one device').toEqual([true, true, true, true, 'mailbox-full'])
  expect(await codeOf(boxes.add(mail(6, [b, a]))), 'for all or for none').toBe('mailbox-full')
  expect(numbers(b)).toEqual([])
  expect(await codeOf(boxes.add(mail(7, [b], 101))), 'bytes of one device').toBe('mailbox-full')
  expect(await codeOf(boxes.add(mail(8, [b], 90)))).toBe(true)
  expect(await codeOf(boxes.add(mail(9, [c], 21))), 'bytes in all').toBe('mailbox-full')
  expect(await codeOf(boxes.add(mail(10, [c], 1)))).toBe(true)
  expect(await codeOf(boxes.add(mail(11, [c], 1))), 'messages in all').toBe('mailbox-full')
  await boxes.remove(a, idOf(1))
  expect(await codeOf(boxes.add(mail(12)))).toBe(true)
})
