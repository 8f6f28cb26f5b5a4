/** An authority of its own, the certificate that it signs for a gateway on this machine, and certificates of devices. */
import { createPublicKey, type X509Certificate } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  authorityFiles,
  type CertificateAuthority,
  makeCertificate,
  openAuthority,
  privateKeyPem,
  writeServerCertificate,
} from '../../client/certificate-authority.ts'
import type { IdentityKeys } from '../../client/key-directory.ts'
import { nativePrivateKey } from '../../client/native-crypto.ts'
import type { SecureListener } from '../../mqtt-gateway/server/listeners.ts'
import { readTlsPair } from '../../mqtt-gateway/server/tls-identity.ts'

const hour = 3_600_000

export class TlsFixture implements AsyncDisposable {
  readonly directory: string
  readonly authority: CertificateAuthority
  /** What the listener says of renewed certificates: undefined, or the error. */
  readonly reloads: unknown[] = []

  private constructor(directory: string, authority: CertificateAuthority) {
    this.directory = directory
    this.authority = authority
  }

  static async make(): Promise<TlsFixture> {
    const directory = await mkdtemp(join(tmpdir(), 'mote-tls-'))
    const fixture = new TlsFixture(directory, await openAuthority(directory, Date.now()))
    await fixture.renew()
    return fixture
  }

  get ca(): string {
    return this.path(authorityFiles.certificate)
  }

  get files() {
    return { certificate: this.path('server.crt'), key: this.path('server.key') }
  }

  path(name: string): string {
    return join(this.directory, name)
  }

  /** A new key and certificate of the server, in the places of the old ones. */
  renew(names: readonly string[] = ['localhost', '127.0.0.1']): Promise<X509Certificate> {
    const { authority, files } = this
    const now = Date.now()
    return writeServerCertificate({ authority, names, files, notAfter: new Date(now + hour), now })
  }

  async listener(): Promise<SecureListener> {
    const { files } = this
    const onReload = (error?: unknown) => this.reloads.push(error)
    return { host: '127.0.0.1', port: 0, files, pair: await readTlsPair(files), onReload, checkEveryMs: 20 }
  }

  /** What a client shows for a device: self-signed unless the authority signs it. PEM. */
  client(
    keys: Pick<IdentityKeys, 'id' | 'signing'>,
    { commonName = keys.id as string, from = -hour, to = hour, signed = false } = {},
  ): { readonly cert: string; readonly key: string } {
    const key = nativePrivateKey(keys.signing.publicKey.suite, keys.signing.seed.expose())
    const now = Date.now()
    const certificate = makeCertificate(
      {
        commonName,
        publicKey: createPublicKey(key),
        use: { type: 'client' },
        notBefore: new Date(now + from),
        notAfter: new Date(now + to),
      },
      signed ? this.authority : { key },
    )
    return { cert: certificate.toString(), key: privateKeyPem(key) }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.directory, { recursive: true, force: true })
  }
}
