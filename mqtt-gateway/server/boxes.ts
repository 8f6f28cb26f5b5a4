/**
 * Epoch boxes at the gateway (docs/FORMATS.md, "Group keys"): whether published boxes are the ones that the chain agreed
 * on (the group's record has their hash, and the publisher is a member), and the newest of each group, so that members
 * that come later, and a gateway that restarts, find them: one file per group with the encoded `EpochBoxes`.
 *
 * Boxes may arrive a moment before this gateway has the header that names them; then it waits for it, a little. The store
 * is bounded by the groups on the chain: only boxes whose hash the chain holds are stored.
 */

import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type DeviceId, type GroupId, type Height, isDigest } from '../../chain/brands.ts'
import { ok, type Result, refuse } from '../../chain/result.ts'
import { privateDirectory, readFileIfThere, writeFileAtomic } from '../../client/atomic-file.ts'
import { Deadline } from '../../client/deadline.ts'
import { boxesHash, type EpochBoxes, memberBoxes, parseEpochBoxes } from '../protocol/epoch-boxes.ts'
import { topics } from '../protocol/topics.ts'
import type { TrustView } from '../protocol/trust.ts'
import type { OutgoingMessage } from './broker.ts'

export interface BoxesRequest {
  readonly trust: TrustView
  readonly publisher: DeviceId
  readonly group: GroupId
  readonly payload: Uint8Array
  /** How long to wait for the header that names these boxes. */
  readonly catchUpMs: number
}

/**
 * The boxes if they are current. Refuses `malformed`, `unknown-subject`, `not-member`, `epoch-conflict`.
 * Throws `MoteError` when the chain is out of reach.
 */
export async function acceptBoxes(request: BoxesRequest): Promise<Result<EpochBoxes>> {
  const { trust, publisher, group, payload, catchUpMs } = request
  const parsed = parseEpochBoxes(payload)
  if (!parsed.ok) return parsed
  const boxes = parsed.value
  if (boxes.group !== group)
    return refuse('malformed', `boxes.group: expected ${group}, which the topic names, got ${boxes.group}`)
  const hash = boxesHash(payload)
  const deadline = new Deadline(catchUpMs)
  for (;;) {
    const { value, height } = await trust.group(group)
    if (!value) return refuse('unknown-subject', `group ${group} is not on the chain`)
    if (!value.members.includes(publisher)) return refuse('not-member', `${publisher} is not in the group`)
    const { epoch, boxesHash: expected } = value.record
    if (epoch === boxes.epoch && expected === hash) return ok(boxes)
    if (epoch >= boxes.epoch || deadline.isOver)
      return refuse('epoch-conflict', `boxes: expected epoch ${epoch} with hash ${expected}, got ${hash}`)
    await trust.waitForHeight((height + 1) as Height, deadline.remainingMs)
  }
}

/** What to retain: one box for each member, and nothing any more for who had one before. */
export function memberBoxMessages(newest: EpochBoxes, before: EpochBoxes | undefined): OutgoingMessage[] {
  const now = memberBoxes(newest)
  const stay = new Set(now.map(({ member }) => member))
  const gone = (before?.boxes ?? []).map(({ member }) => member).filter(member => !stay.has(member))
  return retainedBoxMessages(newest.group, gone, now)
}

/** The boxes of some members, and nothing any more for others: first what is taken away. */
export function retainedBoxMessages(
  group: GroupId,
  gone: readonly DeviceId[],
  come: ReturnType<typeof memberBoxes>,
): OutgoingMessage[] {
  return [...gone.map(member => ({ member, payload: new Uint8Array(0) })), ...come].map(
    ({ member, payload }) => ({ topicName: topics.box(group, member), payload, retain: true }),
  )
}

export interface BoxStore {
  readonly all: () => readonly EpochBoxes[]
  readonly get: (group: GroupId) => EpochBoxes | undefined
  /** Durable when it resolves. */
  readonly put: (boxes: EpochBoxes, encoded: Uint8Array) => Promise<void>
}

/** For tests, and for a gateway without a data directory. */
export function memoryBoxStore(): BoxStore {
  const boxes = new Map<GroupId, EpochBoxes>()
  return {
    all: () => [...boxes.values()],
    get: group => boxes.get(group),
    put: async newest => {
      boxes.set(newest.group, newest)
    },
  }
}

export async function fileBoxStore(directory: string): Promise<BoxStore> {
  await privateDirectory(directory)
  const memory = memoryBoxStore()
  for (const name of await readdir(directory)) {
    const path = join(directory, name)
    const content = isDigest(name) ? await readFileIfThere(path) : undefined
    const boxes = content && parseEpochBoxes(content)
    // What does not parse is a torn leftover: members re-key when a box is missing.
    if (boxes?.ok) await memory.put(boxes.value, new Uint8Array(0))
    else await rm(path, { force: true })
  }
  return {
    ...memory,
    put: async (boxes, encoded) => {
      await writeFileAtomic(join(directory, boxes.group), encoded)
      await memory.put(boxes, encoded)
    },
  }
}
