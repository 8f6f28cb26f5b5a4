/**
 * The certificate and the key with which a gateway's TLS listener says who it is, from files. They are looked at again and again, so that a renewed
 * certificate is in use without a restart; what cannot be used then is reported, and the pair from before stays.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { MoteError } from '../../chain/result.ts'

export interface TlsFiles {
  /** PEM: the server's certificate, then those that lead to an authority. */
  readonly certificate: string
  /** PEM, mode 0600. */
  readonly key: string
}

/** As `tls.createServer` takes it. */
export interface TlsPair {
  readonly cert: Buffer
  readonly key: Buffer
}

export interface TlsIdentityOptions {
  /** Told that there is a new pair. */
  readonly onChange: (pair: TlsPair) => void
  /** Told of a new pair that cannot be used. */
  readonly onError: (error: unknown) => void
  readonly checkEveryMs?: number
}

/** How often the files are looked at. */
const certificateCheckMs = 10_000

/** Reads the pair. Throws `config-invalid` for files that are not there, do not belong together, or a key that others may read. */
export async function readTlsPair(files: TlsFiles): Promise<TlsPair> {
  const [cert, key] = await Promise.all([read(files.certificate), read(files.key)])
  const { mode } = await stat(files.key)
  if ((mode & 0o077) !== 0)
    throw new MoteError(
      'config-invalid',
      `${files.key}: expected mode 0600, got 0${(mode & 0o777).toString(8)}: chmod 600 ${files.key}`,
    )
  let belongs: boolean
  try {
    belongs = new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))
  } catch {
    // The message could quote the key.
    throw new MoteError(
      'config-invalid',
      `${files.certificate}, ${files.key}: expected a certificate and a key in PEM`,
    )
  }
  if (!belongs)
    throw new MoteError(
      'config-invalid',
      `${files.key}: expected the key of the certificate ${files.certificate}`,
    )
  return { cert, key }
}

async function read(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (cause) {
    throw new MoteError('config-invalid', `${path}: cannot be read`, { cause })
  }
}

/** Looks at the files until it is stopped; `current` is the pair that is in use. Returns how to stop. */
export function watchTlsPair(files: TlsFiles, current: TlsPair, options: TlsIdentityOptions): () => void {
  let inUse = current
  let failure = ''
  const look = async (): Promise<void> => {
    try {
      const pair = await readTlsPair(files)
      failure = ''
      if (pair.cert.equals(inUse.cert) && pair.key.equals(inUse.key)) return
      inUse = pair
      options.onChange(pair)
    } catch (error) {
      // Said once, and not every ten seconds.
      if (String(error) !== failure) options.onError(error)
      failure = String(error)
    }
  }
  const timer = setInterval(() => void look(), options.checkEveryMs ?? certificateCheckMs)
  timer.unref()
  return () => clearInterval(timer)
}
