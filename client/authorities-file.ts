/** A file with the certificates of authorities, in PEM, to which TLS is to trust. */
import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { MoteError } from '../chain/result.ts'

const certificatePem = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

/** Its text. Throws `config-invalid` with the field that names the file if it cannot be read, or has no certificate, or one that is none. */
export async function readAuthorities(field: string, file: string): Promise<string> {
  const invalid = (what: string, cause?: unknown) =>
    new MoteError('config-invalid', `${field}: ${file}: ${what}`, { cause })
  const text = await readFile(file, 'utf8').catch(cause => {
    throw invalid('cannot be read', cause)
  })
  const certificates = text.match(certificatePem) ?? []
  if (certificates.length === 0) throw invalid('expected certificates in PEM, got none')
  try {
    for (const certificate of certificates) new X509Certificate(certificate)
  } catch (cause) {
    throw invalid('expected certificates in PEM, got one that cannot be read', cause)
  }
  return text
}
