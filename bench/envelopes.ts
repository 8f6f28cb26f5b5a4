/**
 * What sealing and opening a message costs, by suite: CPU time of this process for each message, signature and verification included, and
 * bytes on the wire. Light encryption (Qiu A8) beside the suite that agrees on a key for each message.
 */
import type { ChainId, DeviceId, Height, Milliseconds } from '../chain/brands.ts'
import { builtSuites, type EnvelopeSuite, isLight, suiteRow } from '../chain/envelope-suites.ts'
import { unwrap } from '../chain/result.ts'
import { type EncryptionKeyKind, makeEncryptionKeys } from '../client/encryption-keys.ts'
import { nativeSignerFromSeed, nativeVerifier } from '../client/native-crypto.ts'
import type { DecryptionKey } from '../mqtt-gateway/device/decryption-key.ts'
import { openEnvelope, type SealTarget, sealEnvelope } from '../mqtt-gateway/device/envelope-sealing.ts'
import { ReceivedSecrets, SentSecrets } from '../mqtt-gateway/device/light-secrets.ts'
import { parseEnvelope, verifyEnvelope } from '../mqtt-gateway/protocol/envelope.ts'
import { type BenchOption, benchArguments } from './arguments.ts'
import { machineLine } from './machine.ts'

export const envelopesOptions = {
  messages: { default: 2000, meaning: 'messages of each suite' },
  bytes: { default: 100, meaning: 'bytes of content' },
} as const satisfies Record<string, BenchOption>

const chainId = '11'.repeat(32) as ChainId
const sender = 'aa'.repeat(32) as DeviceId
const recipient = 'bb'.repeat(32) as DeviceId
const kinds = { x25519: 'x25519', 'p256-ecdh': 'p256', 'rsa-oaep': 'rsa-3072' } as const satisfies Record<
  string,
  EncryptionKeyKind
>

interface Cost {
  readonly suite: EnvelopeSuite
  readonly sealMicroseconds: number
  readonly openMicroseconds: number
  readonly wireBytes: number
}

export async function benchEnvelopes(args: readonly string[]): Promise<void> {
  const { messages, bytes } = benchArguments(args, envelopesOptions)
  const lines = [machineLine(), `${messages} messages of ${bytes} bytes with each suite; CPU time in µs`]
  lines.push(row('suite', 'seal', 'open', 'bytes'))
  for (const suite of builtSuites) {
    if (suiteRow(suite).key === undefined) continue
    await costOf(suite, Math.ceil(messages / 10), bytes)
    const cost = await costOf(suite, messages, bytes)
    lines.push(
      row(suite, cost.sealMicroseconds.toFixed(0), cost.openMicroseconds.toFixed(0), `${cost.wireBytes}`),
    )
  }
  process.stdout.write(`${lines.join('\n')}\n`)
}

function row(suite: string, ...figures: readonly string[]): string {
  return [suite.padEnd(28), ...figures.map(figure => figure.padStart(8))].join('')
}

async function costOf(suite: EnvelopeSuite, messages: number, bytes: number): Promise<Cost> {
  const signer = nativeSignerFromSeed('ed25519', new Uint8Array(32).fill(1))
  const made = makeEncryptionKeys(kinds[suiteRow(suite).key ?? 'x25519'])
  const key: DecryptionKey = { publicKey: made.publicKey, secret: made.secret.expose() }
  const sent = new SentSecrets(chainId)
  const received = new ReceivedSecrets(chainId, key)
  const content = new Uint8Array(bytes)
  const wires: Uint8Array[] = []
  const sealing = process.cpuUsage()
  for (let counter = 0; counter < messages; counter++) {
    const light = isLight(suite) ? unwrap(await sent.secretFor(key.publicKey)) : undefined
    const target: SealTarget = { type: 'device', id: recipient, key: key.publicKey, ...(light && { light }) }
    const fields = { counter, seenHeight: 1 as Height, expiry: 1 as Milliseconds, channel: '' }
    wires.push(unwrap(await sealEnvelope({ chainId, sender, signer, target, content, ...fields })).bytes)
  }
  const sealMicroseconds = microseconds(process.cpuUsage(sealing)) / messages
  const opening = process.cpuUsage()
  for (const wire of wires) {
    const envelope = unwrap(parseEnvelope(chainId, wire))
    if (!verifyEnvelope(envelope, signer.publicKey, nativeVerifier)) throw new Error('does not verify')
    unwrap(await openEnvelope(chainId, envelope, { type: 'device', key, secrets: received }))
  }
  const openMicroseconds = microseconds(process.cpuUsage(opening)) / messages
  return { suite, sealMicroseconds, openMicroseconds, wireBytes: wires[0]?.length ?? 0 }
}

function microseconds({ user, system }: NodeJS.CpuUsage): number {
  return user + system
}
