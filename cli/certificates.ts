/**
 * `mote device credentials NAME --certificate`: a client certificate for any MQTT client, whose key is the device's signing key; and
 * `mote gateway certificate`: a server's, by an authority of one's own.
 */
import { createPublicKey } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import { exitCodes } from '../chain/errors.ts'
import { keyIdOf } from '../chain/keys.ts'
import { findKey, isKeyValidAt } from '../chain/records.ts'
import { MoteError } from '../chain/result.ts'
import { writeFileAtomic } from '../client/atomic-file.ts'
import { openChain } from './chain-access.ts'
import type { AddCommand } from './command.ts'
import { type Context, parseDuration } from './context.ts'
import { authorityOf } from './gateway-option.ts'

const day = 24 * 60 * 60 * 1000
const defaultLifetimeMs = 365 * day

export interface CertificateOptions {
  readonly out: string
  /** Directory of the authority that signs it; the device itself does unless given. */
  readonly ca?: string | undefined
  readonly lifetimeMs?: number | undefined
}

/** Writes the files, and prints how a client uses them. Throws `key-not-valid` for keys that are not the device's any more. */
export async function writeDeviceCertificate(
  context: Context,
  name: string,
  { out, ca, lifetimeMs = defaultLifetimeMs }: CertificateOptions,
): Promise<number> {
  const [{ leewayMs, makeCertificate, openAuthority, privateKeyPem }, { nativePrivateKey }] =
    await Promise.all([import('../client/certificate-authority.ts'), import('../client/native-crypto.ts')])
  const access = await openChain(context)
  const { client, description, directory } = access
  const keys = await access.keys.load(name)
  const { publicKey: signingKey, seed } = keys.signing
  const now = client.records.time()
  const { value: record } = await client.records.device(keys.id)
  const entry = record && findKey(record, keyIdOf(signingKey))
  if (!entry || !isKeyValidAt(entry, now))
    throw new MoteError(
      'key-not-valid',
      `signing key of ${name}: the chain does not have it, or not any more`,
    )
  const key = nativePrivateKey(signingKey.suite, seed.expose())
  const notAfter = Math.min(now + lifetimeMs, entry.notAfter ?? Number.POSITIVE_INFINITY)
  const certificate = makeCertificate(
    {
      commonName: keys.id,
      publicKey: createPublicKey(key),
      use: { type: 'client' },
      notBefore: new Date(now - leewayMs),
      notAfter: new Date(notAfter),
    },
    ca === undefined ? { key } : await openAuthority(ca, now),
  )
  await mkdir(out, { recursive: true, mode: 0o700 })
  const files = { certificate: join(out, `${name}.crt`), key: join(out, `${name}.key`) }
  await writeFileAtomic(files.key, privateKeyPem(key))
  await writeFileAtomic(files.certificate, certificate.toString())
  context.output.note(
    `${files.key} is the signing key of ${name}: who has it is the device until the key is revoked`,
  )
  const { mqtts } = description.gateway
  const answer = {
    ...mqtts,
    clientId: keys.id,
    ...files,
    ...(mqtts && { gatewayCa: authorityOf(directory) }),
    signedBy: ca === undefined ? 'itself' : join(ca, 'ca.crt'),
    expiresAt: new Date(notAfter).toISOString(),
  }
  context.output.data(answer, () => context.output.fields(answer))
  return exitCodes.ok
}

export function gatewayCertificateCommand(family: Command, add: AddCommand): void {
  add<{ out: string; ca: string; for?: number }>({
    parent: family,
    usage: 'certificate <names...>',
    description:
      'a key and a certificate for the TLS port of a gateway or broker, by an authority of your own',
    options: [
      { flags: '--out <dir>', description: 'where server.crt and server.key go', required: true },
      {
        flags: '--ca <dir>',
        description: 'the authority: ca.crt and ca.key, mode 0600, made if they are not there',
        required: true,
      },
      {
        flags: '--for <time>',
        description: 'how long it holds: 90d, 400d (default: 365d)',
        read: parseDuration('for', { min: '1h', max: '400d' }),
      },
    ],
    notes:
      'Names are host names or addresses by which clients reach it. Clients need ca.crt, and nobody ca.key but who signs. A gateway that runs takes renewed files within 10 s.',
    action: async (context, names, options) => {
      const { openAuthority, writeServerCertificate } = await import('../client/certificate-authority.ts')
      const now = Date.now()
      const notAfter = new Date(now + (options.for ?? defaultLifetimeMs))
      const authority = await openAuthority(options.ca, now)
      await mkdir(options.out, { recursive: true, mode: 0o700 })
      const files = { certificate: join(options.out, 'server.crt'), key: join(options.out, 'server.key') }
      await writeServerCertificate({ authority, names, files, notAfter, now })
      const answer = { ...files, ca: join(options.ca, 'ca.crt'), names, expiresAt: notAfter.toISOString() }
      context.output.data(answer, () => context.output.fields({ ...answer, names: names.join(', ') }))
      return exitCodes.ok
    },
  })
}
