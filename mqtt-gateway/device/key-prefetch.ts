/**
 * Keys before the first contact (Hsu-Lu B1, Hsu C3): an agent that listens reads the node list and keeps a copy of the key of each
 * device of which it has none. A copy that is there stays as it is, whatever the chain says: only who asks for it replaces it
 * (contacts.ts).
 *
 * It reads the list when it begins, and again from time to time, since devices join. Bounded: copies in all, pages of one reading.
 */
import type { DeviceId, Milliseconds } from '../../chain/brands.ts'
import { currentEncryptionKey } from '../../chain/records.ts'
import { type Refusal, refusalOf } from '../../chain/result.ts'
import { pause } from '../../client/deadline.ts'
import { canSealTo } from '../protocol/envelope.ts'
import type { AgentChain } from './agent-chain.ts'
import type { Contact, DeviceState } from './device-state.ts'

/** Time from one reading of the list to the next. */
const prefetchEveryMs = 300_000
/** Copies that a device fetches beforehand: those of further devices it takes at first contact. */
const maxPrefetched = 4_096
/** Pages of one reading. */
const maxPrefetchPages = 1_024

export interface KeyPrefetchOptions {
  readonly device: DeviceId
  readonly chain: Pick<AgentChain, 'devicePage' | 'device' | 'allowedSuites' | 'now'>
  readonly state: Pick<DeviceState, 'addContacts'>
  /** Told why a reading ended early. */
  readonly onFailure?: ((refusal: Refusal) => void) | undefined
}

/** Reads the list until the signal fires. Never rejects: what fails is tried again with the next reading. */
export async function keepPrefetching(options: KeyPrefetchOptions, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await prefetchKeys(options, signal).catch((error: unknown) => options.onFailure?.(refusalOf(error)))
    await pause(prefetchEveryMs, signal)
  }
}

/** Keeps a copy of each key of which there is none; gives how many those were. */
export async function prefetchKeys(
  { device, chain, state }: KeyPrefetchOptions,
  signal?: AbortSignal,
): Promise<number> {
  const isUsable = canSealTo(await chain.allowedSuites())
  let added = 0
  let seen = 0
  let after: Awaited<ReturnType<AgentChain['devicePage']>>['next']
  for (let pages = 0; pages < maxPrefetchPages && seen < maxPrefetched && !signal?.aborted; pages++) {
    const { ids, next } = await chain.devicePage(after)
    const contacts = new Map<DeviceId, Contact>()
    for (const id of ids.slice(0, maxPrefetched - seen)) {
      const { value, height, time } = await chain.device(id)
      const at = Math.max(time, chain.now()) as Milliseconds
      const entry = value?.status === 'active' ? currentEncryptionKey(value, at, isUsable) : undefined
      if (entry && id !== device) contacts.set(id, { key: entry.key, height })
    }
    added += await state.addContacts(contacts)
    seen += ids.length
    if (next === undefined) break
    after = next
  }
  return added
}
