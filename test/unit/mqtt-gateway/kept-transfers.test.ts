/** Chunks of kept messages on a recipient's disk: whole through restarts or not at all, and bounded without holding up what is complete. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { DeviceId, Milliseconds } from '../../../chain/brands.ts'
import { unwrap } from '../../../chain/result.ts'
import {
  type ArrivedChunk,
  KeptTransfers,
  maxKeptTransfersBytes,
  maxKeptTransfersPerSender,
} from '../../../mqtt-gateway/device/kept-transfers.ts'
import { contentsOf } from '../../../mqtt-gateway/device/transfers.ts'
import { maxContentBytes, maxTransferBytes } from '../../../mqtt-gateway/protocol/content.ts'

const now = 1_000 as Milliseconds
const until = 2_000 as Milliseconds

let directory: string
let dropped: string[]
let transfers: KeptTransfers
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'mote-chunks-'))
  dropped = []
  await reopen()
})
afterEach(() => rm(directory, { recursive: true }))

async function reopen(): Promise<void> {
  transfers = await KeptTransfers.open(directory, ({ detail }) => dropped.push(detail))
}

/** The whole would be a long line of a report. */
const codeOf = (result: { ok: boolean; error?: { code: string } }) => result.error?.code ?? 'ok'

const files = () => readdir(directory)

/** The chunks of a message of this size, whose bytes after the first ones are zero. */
function chunksOf(
  sender: number,
  size: number,
  message = Uint8Array.from(randomBytes(size)),
): readonly ArrivedChunk[] {
  const source = { sender: `${sender}`.repeat(64) as DeviceId, target: 'bb'.repeat(32) }
  return unwrap(contentsOf(message)).map(({ bytes, place }) => ({ ...source, bytes, place: place!, until }))
}

test('kept transfers: a message is whole with its last chunk, in any order and through restarts, and leaves nothing behind', async () => {
  const message = Uint8Array.from(randomBytes(3 * maxContentBytes + 5))
  const chunks = chunksOf(1, message.length, message)
  for (const i of [2, 0, 3]) {
    expect(unwrap(await transfers.add(chunks[i]!, now))).toBeUndefined()
    await reopen()
    expect(transfers.count).toBe(1)
  }
  expect((await stat(join(directory, (await files())[0]!))).mode & 0o777).toBe(0o600)
  const whole = unwrap(await transfers.add(chunks[1]!, now))
  expect(Buffer.from(whole!.bytes).equals(message)).toBe(true)
  // The recipient ends before it has taken the message: its last chunk comes again.
  await reopen()
  const again = unwrap(await transfers.add(chunks[1]!, now))
  expect(Buffer.from(again!.bytes).equals(message)).toBe(true)
  await again!.forget()
  expect([transfers.count, await files()]).toEqual([0, []])
})

test('kept transfers: chunks of another whole do not mix, and a whole that is not what they name is not given out', async () => {
  const [first, second] = chunksOf(1, maxContentBytes + 1)
  await transfers.add(first!, now)
  const other = { ...second!, place: { ...second!.place, count: 3 } }
  expect(codeOf(await transfers.add(other, now))).toBe('malformed')
  const forged = { ...second!, bytes: Uint8Array.of(1 + second!.bytes[0]!) }
  expect(codeOf(await transfers.add(forged, now))).toBe('malformed')
  expect([transfers.count, await files()]).toEqual([0, []])
})

test('kept transfers: one too many of a sender takes the place of its own oldest, and another sender has its own', async () => {
  const waiting = Array.from({ length: maxKeptTransfersPerSender + 1 }, () =>
    chunksOf(1, maxContentBytes + 1),
  )
  await transfers.add(chunksOf(2, maxContentBytes + 1)[0]!, now)
  for (const [first] of waiting) expect((await transfers.add(first!, now)).ok).toBe(true)
  expect(dropped).toEqual([expect.stringContaining('1 of 2 chunks')])
  expect(transfers.count).toBe(maxKeptTransfersPerSender + 1)
  for (const [, second] of waiting.slice(1)) expect(unwrap(await transfers.add(second!, now))).toBeDefined()
  expect(unwrap(await transfers.add(waiting[0]![1]!, now)), 'its first chunk is gone').toBeUndefined()
})

test('kept transfers: all together will take so many bytes, and the one that was heard of longest ago gives way', async () => {
  const fit = maxKeptTransfersBytes / maxTransferBytes
  const large = (i: number) => chunksOf(i >> 2, maxTransferBytes, new Uint8Array(maxTransferBytes))
  const all = Array.from({ length: fit }, (_, i) => large(i))
  for (const [first] of all) await transfers.add(first!, now)
  expect([transfers.count, dropped]).toEqual([fit, []])
  // The oldest is heard of again, and the one after it is the oldest now.
  await transfers.add(all[0]![1]!, now)
  expect((await transfers.add(chunksOf(9, maxContentBytes + 1)[0]!, now)).ok).toBe(true)
  expect([transfers.count, dropped.length]).toEqual([fit, 1])
  expect((await files()).length).toBe(fit + 1)
})

test('kept transfers: what is past its time goes, and so do files that are none', async () => {
  await transfers.add(chunksOf(1, maxContentBytes + 1)[0]!, now)
  await writeFile(join(directory, `${'a'.repeat(64)}-00`), 'what?')
  await reopen()
  expect([transfers.count, (await files()).length]).toEqual([1, 1])
  const later = { ...chunksOf(2, maxContentBytes + 1)[0]!, until: 9_000 as Milliseconds }
  await transfers.add(later, 2_001 as Milliseconds)
  expect(dropped).toEqual([expect.stringContaining('its time is over')])
  expect([transfers.count, (await files()).length]).toEqual([1, 1])
})
