/** A hostile device: it does not read what it subscribed to, sends without end, rotates its keys without end, submits without end. */
import { randomBytes } from 'node:crypto'
import mqtt, { type MqttClient } from 'mqtt'
import type { ChainId, DeviceId, Height, Milliseconds } from '../../../chain/brands.ts'
import { type ErrorCode, errorTable } from '../../../chain/errors.ts'
import { type EncryptionKey, keyIdOf } from '../../../chain/keys.ts'
import { unwrap } from '../../../chain/result.ts'
import type { TransactionBody } from '../../../chain/transaction.ts'
import type { ChainSource, TransactionStatus } from '../../../client/chain-source.ts'
import { pause } from '../../../client/deadline.ts'
import { type IdentityKeys, signerOf } from '../../../client/key-directory.ts'
import { nativeX25519PublicKey } from '../../../client/native-crypto.ts'
import { signedBody } from '../../../client/submission.ts'
import { sealEnvelope } from '../../../mqtt-gateway/device/envelope-sealing.ts'
import { filters, topics } from '../../../mqtt-gateway/protocol/topics.ts'
import type { Address } from '../../layout.ts'
import type { Counts } from './counts.ts'
import { credentialsOf } from './strangers.ts'

export interface DeviceOptions {
  readonly keys: IdentityKeys
  readonly chainId: ChainId
}

/** Submissions under way at once. */
const submissionsAtOnce = 16
const retryMs = 20
const stalledPollMs = 50
const contentBytes = 1_024

/** A connection of this device that comes back by nobody's doing. */
export async function connectDevice({ keys, chainId }: DeviceOptions, gateway: Address): Promise<MqttClient> {
  const { clientId, username, password } = credentialsOf(keys, chainId)
  const suffix = randomBytes(6).toString('hex')
  const login = { ...gateway, clientId: `${clientId}.${suffix}`, username, password }
  const client = await mqtt.connectAsync({ ...login, protocolVersion: 4, reconnectPeriod: 0 })
  return client.on('error', () => {})
}

/** Subscribes to everything that is delivered, and to its own mail, and does not read, again as soon as it is cut off. */
export async function stallReading(
  device: DeviceOptions,
  gateway: Address,
  counts: Counts,
  over: AbortSignal,
): Promise<void> {
  while (!over.aborted) {
    const stalled = await connectDevice(device, gateway).catch(() => undefined)
    if (!stalled) {
      await pause(stalledPollMs, over)
      continue
    }
    const wanted = [filters.anyDelivery, filters.toDevice(device.keys.id)]
    for (const filter of wanted) await stalled.subscribeAsync(filter, { qos: 1 }).catch(() => {})
    stalled.stream.pause()
    counts.add('stalls')
    while (!over.aborted && stalled.connected) {
      // A paused stream does not see that it was closed; one packet that cannot be sent does.
      stalled.publish(topics.ask(device.keys.id), 'no question', { qos: 0 })
      await pause(stalledPollMs, over)
    }
    stalled.end(true)
  }
}

/** Sends messages to a device, each as soon as the one before is acknowledged. */
export async function sendWithoutEnd(
  device: DeviceOptions,
  gateway: Address,
  recipient: { readonly id: DeviceId; readonly key: EncryptionKey },
  counts: Counts,
  over: AbortSignal,
): Promise<void> {
  const { keys, chainId } = device
  let client: MqttClient | undefined
  for (let counter = 1; !over.aborted; counter++) {
    const sealed = await sealEnvelope({
      chainId,
      sender: keys.id,
      signer: signerOf(keys),
      target: { type: 'device', ...recipient },
      counter,
      seenHeight: 1 as Height,
      expiry: (Date.now() + 30_000) as Milliseconds,
      channel: '',
      content: new Uint8Array(contentBytes),
    })
    try {
      client ??= await connectDevice(device, gateway)
      await client.publishAsync(topics.send(keys.id), Buffer.from(unwrap(sealed).bytes), { qos: 1 })
      counts.add('messages')
    } catch {
      client?.end(true)
      client = undefined
      await pause(retryMs, over)
    }
  }
  client?.end(true)
}

/**
 * Puts another encryption key into the device's record, and another one as soon as that is committed, while it may. Resolves
 * to the code by which it may not any more, or undefined at the end.
 */
export async function rotateKeys(
  { keys, chainId }: DeviceOptions,
  source: ChainSource,
  counts: Counts,
  over: AbortSignal,
): Promise<ErrorCode | undefined> {
  let oldKey = keyIdOf(keys.encryption.publicKey)
  for (let version = 1; !over.aborted; version++) {
    const key = { suite: 'x25519', bytes: nativeX25519PublicKey(randomBytes(32)) } as const
    const body: TransactionBody = {
      type: 'key.rotate',
      subject: keys.id,
      expectedVersion: version,
      oldKey,
      key: { purpose: 'encrypt', key, notAfter: undefined },
      overlap: 0 as Milliseconds,
    }
    const final = await finalOf(source, signed({ keys, chainId }, body), over)
    if (!final) return undefined
    if (final.status === 'invalid' || final.status === 'refused') return final.code
    counts.add('rotations')
    oldKey = keyIdOf(key)
  }
  return undefined
}

/** Makes groups by the dozen, and waits for none. */
export async function submitWithoutEnd(
  device: DeviceOptions,
  sources: readonly ChainSource[],
  counts: Counts,
  over: AbortSignal,
): Promise<void> {
  const submit = async (source: ChainSource): Promise<void> => {
    while (!over.aborted) {
      const name = randomBytes(8).toString('hex')
      const bytes = signed(device, { type: 'group.create', name, epochKeyHash: undefined })
      const answer = await source.submit(bytes, 'none').catch(() => undefined)
      const isTaken = answer !== undefined && answer.status !== 'refused'
      counts.add(isTaken ? 'submissions' : 'submissions refused')
      if (!isTaken) await pause(retryMs, over)
    }
  }
  await Promise.all(
    Array.from({ length: submissionsAtOnce }, (_, i) => submit(sources[i % sources.length] as ChainSource)),
  )
}

function signed({ keys, chainId }: DeviceOptions, body: TransactionBody): Uint8Array {
  return signedBody({ chainId, body, keys, time: Date.now() as Milliseconds })
}

/** Sends the same bytes until their outcome is final; undefined at the end. */
async function finalOf(
  source: ChainSource,
  bytes: Uint8Array,
  over: AbortSignal,
): Promise<TransactionStatus | undefined> {
  while (!over.aborted) {
    const answer = await source.submit(bytes, 'committed').catch(() => undefined)
    const { status, code } = answer ?? {}
    const isFinal = status === 'committed' || status === 'certified' || status === 'invalid'
    if (isFinal || (status === 'refused' && code && !errorTable[code].retry)) return answer
    await pause(retryMs, over)
  }
  return undefined
}
