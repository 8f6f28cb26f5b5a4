/**
 * Makes X.509 certificates (RFC 5280) for TLS: of an authority, of a server, and of a device, whose key is its signing key.
 *
 * The structures are those of @peculiar/asn1-x509, the signatures node:crypto's. Serial numbers are 16 random bytes. An authority's key
 * is P-256, which every TLS library takes.
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from 'node:crypto'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { AsnConvert, AsnParser, OctetString } from '@peculiar/asn1-schema'
import {
  AlgorithmIdentifier,
  AttributeTypeAndValue,
  AttributeValue,
  AuthorityKeyIdentifier,
  BasicConstraints,
  Certificate,
  ExtendedKeyUsage,
  Extension,
  Extensions,
  GeneralName,
  id_ce_authorityKeyIdentifier,
  id_ce_basicConstraints,
  id_ce_extKeyUsage,
  id_ce_keyUsage,
  id_ce_subjectAltName,
  id_ce_subjectKeyIdentifier,
  id_kp_clientAuth,
  id_kp_serverAuth,
  KeyUsage,
  KeyUsageFlags,
  Name,
  RelativeDistinguishedName,
  SubjectAlternativeName,
  SubjectKeyIdentifier,
  SubjectPublicKeyInfo,
  TBSCertificate,
  Validity,
  Version,
} from '@peculiar/asn1-x509'
import { MoteError } from '../chain/result.ts'
import { privateDirectory, readFileIfThere, withDirectoryLock, writeFileAtomic } from './atomic-file.ts'

/** What a certificate is for, which its key usages say. */
export type CertificateUse =
  | { readonly type: 'authority' }
  /** Names and addresses under which it may be reached. */
  | { readonly type: 'server'; readonly names: readonly string[] }
  | { readonly type: 'client' }

/** Who signs certificates. */
export interface CertificateAuthority {
  readonly certificate: X509Certificate
  readonly key: KeyObject
}

export interface CertificateRequest {
  readonly commonName: string
  readonly publicKey: KeyObject
  readonly use: CertificateUse
  readonly notBefore: Date
  readonly notAfter: Date
}

export interface ServerCertificateRequest {
  readonly authority: CertificateAuthority
  readonly names: readonly string[]
  readonly files: { readonly certificate: string; readonly key: string }
  readonly notAfter: Date
  /** In milliseconds since 1970. */
  readonly now: number
}

const oids = { commonName: '2.5.4.3', ed25519: '1.3.101.112', ecdsaWithSha256: '1.2.840.10045.4.3.2' }
const authorityLifetimeMs = 10 * 365 * 24 * 3600 * 1000
/** How long before it is made a certificate holds, for clocks that are behind. */
export const leewayMs = 5 * 60 * 1000

/** Signs a certificate, with the authority's key or, for one of one's own, with the key that it certifies. */
export function makeCertificate(
  request: CertificateRequest,
  issuer: CertificateAuthority | { readonly key: KeyObject },
): X509Certificate {
  const { key } = issuer
  const issuerCertificate = 'certificate' in issuer ? issuer.certificate : undefined
  const algorithm = new AlgorithmIdentifier({
    algorithm: key.asymmetricKeyType === 'ed25519' ? oids.ed25519 : oids.ecdsaWithSha256,
  })
  const subject = nameOf(request.commonName)
  const contents = new TBSCertificate({
    version: Version.v3,
    serialNumber: serialNumber(),
    signature: algorithm,
    issuer: issuerCertificate ? parsed(issuerCertificate).tbsCertificate.subject : subject,
    validity: new Validity({ notBefore: request.notBefore, notAfter: request.notAfter }),
    subject,
    subjectPublicKeyInfo: AsnParser.parse(spkiOf(request.publicKey), SubjectPublicKeyInfo),
    extensions: extensionsOf(request, createPublicKey(key)),
  })
  const signature = sign(
    key.asymmetricKeyType === 'ed25519' ? null : 'sha256',
    Buffer.from(AsnConvert.serialize(contents)),
    key,
  )
  const certificate = new Certificate({
    tbsCertificate: contents,
    signatureAlgorithm: algorithm,
    signatureValue: arrayBufferOf(signature),
  })
  return new X509Certificate(Buffer.from(AsnConvert.serialize(certificate)))
}

/**
 * The authority of a directory (`ca.crt`, and `ca.key` of mode 0600), made if there is none. Throws `key-invalid` if only one of the files is there, or
 * one does not belong to the other.
 */
export function openAuthority(directory: string, now: number): Promise<CertificateAuthority> {
  return privateDirectory(directory).then(() =>
    withDirectoryLock(
      directory,
      async () => (await readAuthority(directory)) ?? makeAuthority(directory, now),
    ),
  )
}

async function readAuthority(directory: string): Promise<CertificateAuthority | undefined> {
  const [certificate, key] = await Promise.all([
    readFileIfThere(join(directory, authorityFiles.certificate)),
    readFileIfThere(join(directory, authorityFiles.key)),
  ])
  if (!certificate && !key) return undefined
  if (!certificate || !key)
    throw new MoteError('key-invalid', `${directory}: expected ca.crt and ca.key, or neither`)
  let authority: CertificateAuthority
  try {
    authority = { certificate: new X509Certificate(certificate), key: createPrivateKey(Buffer.from(key)) }
  } catch {
    // The message could quote the key.
    throw new MoteError('key-invalid', `${directory}: expected a certificate and a key in PEM`)
  }
  if (!authority.certificate.ca || !authority.certificate.checkPrivateKey(authority.key))
    throw new MoteError('key-invalid', `${directory}: expected an authority's certificate, and the key of it`)
  return authority
}

async function makeAuthority(directory: string, now: number): Promise<CertificateAuthority> {
  const { publicKey, privateKey: key } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const commonName = `mote authority ${randomBytes(4).toString('hex')}`
  const certificate = makeCertificate(
    {
      commonName,
      publicKey,
      use: { type: 'authority' },
      notBefore: new Date(now - leewayMs),
      notAfter: new Date(now + authorityLifetimeMs),
    },
    { key },
  )
  await writeFileAtomic(join(directory, authorityFiles.key), privateKeyPem(key))
  await writeFileAtomic(join(directory, authorityFiles.certificate), certificate.toString())
  return { certificate, key }
}

/**
 * A new key, and a certificate for a server that is reached by these names or addresses; written to two files of mode 0600.
 * The first name is its common name.
 */
export async function writeServerCertificate({
  authority,
  names,
  files,
  notAfter,
  now,
}: ServerCertificateRequest): Promise<X509Certificate> {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const [commonName = ''] = names
  const use = { type: 'server', names } as const
  const notBefore = new Date(now - leewayMs)
  const certificate = makeCertificate({ commonName, publicKey, use, notBefore, notAfter }, authority)
  await writeFileAtomic(files.key, privateKeyPem(privateKey))
  await writeFileAtomic(files.certificate, certificate.toString())
  return certificate
}

export const authorityFiles = { certificate: 'ca.crt', key: 'ca.key' } as const

/** PKCS #8 in PEM: a secret. */
export function privateKeyPem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString()
}

function parsed(certificate: X509Certificate): Certificate {
  return AsnParser.parse(certificate.raw, Certificate)
}

function spkiOf(key: KeyObject): Buffer {
  return key.export({ type: 'spki', format: 'der' })
}

function nameOf(commonName: string): Name {
  const value = new AttributeValue({ utf8String: commonName })
  return new Name([
    new RelativeDistinguishedName([new AttributeTypeAndValue({ type: oids.commonName, value })]),
  ])
}

/** Positive, and at most 20 bytes (RFC 5280, section 4.1.2.2). */
function serialNumber(): ArrayBuffer {
  const bytes = randomBytes(16)
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40
  return arrayBufferOf(bytes)
}

function extensionsOf({ publicKey, use }: CertificateRequest, issuerKey: KeyObject): Extensions {
  const isAuthority = use.type === 'authority'
  const usage = isAuthority
    ? KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign
    : KeyUsageFlags.digitalSignature
  const extensions = [
    extension(id_ce_basicConstraints, new BasicConstraints({ cA: isAuthority }), true),
    extension(id_ce_keyUsage, new KeyUsage(usage), true),
    extension(id_ce_subjectKeyIdentifier, new SubjectKeyIdentifier(keyIdentifier(publicKey))),
  ]
  if (isAuthority) return new Extensions(extensions)
  const purpose = use.type === 'server' ? id_kp_serverAuth : id_kp_clientAuth
  extensions.push(
    extension(id_ce_extKeyUsage, new ExtendedKeyUsage([purpose])),
    extension(
      id_ce_authorityKeyIdentifier,
      new AuthorityKeyIdentifier({ keyIdentifier: new SubjectKeyIdentifier(keyIdentifier(issuerKey)) }),
    ),
  )
  if (use.type === 'server')
    extensions.push(
      extension(id_ce_subjectAltName, new SubjectAlternativeName(use.names.map(alternativeName))),
    )
  return new Extensions(extensions)
}

function extension(extnID: string, value: object, critical = false): Extension {
  return new Extension({ extnID, critical, extnValue: new OctetString(AsnConvert.serialize(value)) })
}

function alternativeName(name: string): GeneralName {
  return isIP(name) === 0 ? new GeneralName({ dNSName: name }) : new GeneralName({ iPAddress: name })
}

/** SHA-1 of the key (RFC 5280, section 4.2.1.2): a name, no protection. */
function keyIdentifier(key: KeyObject): ArrayBuffer {
  const { subjectPublicKey } = AsnParser.parse(spkiOf(key), SubjectPublicKeyInfo)
  return arrayBufferOf(createHash('sha1').update(Buffer.from(subjectPublicKey)).digest())
}

function arrayBufferOf(bytes: Uint8Array): ArrayBuffer {
  return Uint8Array.from(bytes).buffer
}
